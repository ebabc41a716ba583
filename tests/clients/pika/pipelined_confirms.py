"""Publisher confirms without waiting for each: pika's asynchronous connection."""

import pika

from support import WAIT_SECONDS, equal, parameters, unique


class PipelinedPublisher:
    """Publishes `count` messages in one go, keeps which are not confirmed yet."""

    def __init__(self, count):
        self.count = count
        self.queue = unique("pipelined")
        self.unconfirmed = set(range(1, count + 1))
        self.nacked = []
        self.channel = None
        self.left_in_queue = None
        self.connection = pika.SelectConnection(
            parameters(), on_open_callback=self.opened, on_close_callback=lambda c, _: c.ioloop.stop()
        )

    def run(self):
        self.connection.ioloop.call_later(WAIT_SECONDS, self.connection.close)
        self.connection.ioloop.start()

    def opened(self, connection):
        connection.channel(on_open_callback=self.channel_opened)

    def channel_opened(self, channel):
        self.channel = channel
        channel.confirm_delivery(self.confirmed)
        channel.queue_declare(self.queue, durable=True, exclusive=True, callback=self.publish)

    def publish(self, _declared):
        for number in range(self.count):
            self.channel.basic_publish("", self.queue, str(number).encode(), pika.BasicProperties(delivery_mode=2))

    def confirmed(self, frame):
        method = frame.method
        if isinstance(method, pika.spec.Basic.Nack):
            self.nacked.append(method.delivery_tag)
        if method.multiple:
            self.unconfirmed = {number for number in self.unconfirmed if number > method.delivery_tag}
        else:
            self.unconfirmed.discard(method.delivery_tag)
        if not self.unconfirmed:
            self.channel.queue_declare(self.queue, passive=True, callback=self.counted)

    def counted(self, declared):
        self.left_in_queue = declared.method.message_count
        self.connection.close()


def confirm_pipelined(count):
    publisher = PipelinedPublisher(count)
    publisher.run()
    equal("unconfirmed", set(), publisher.unconfirmed)
    equal("refused", [], publisher.nacked)
    equal("messages in the queue", count, publisher.left_in_queue)
