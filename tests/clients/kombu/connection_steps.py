"""Steps about connections that idle, break and come back."""

import socket
import threading
import time

from kombu import Queue
from kombu.mixins import ConsumerMixin

from support import WAIT_SECONDS, connect, equal, raises, true, unique, wait_for


def sever(connection):
    """What a cut cable looks like from here."""
    connection.connection.transport.sock.shutdown(socket.SHUT_RDWR)


def heartbeats():
    """Kept alive by both sides for three times the interval."""
    with connect(heartbeat=1) as connection:
        channel = connection.channel()
        equal("the interval agreed on", 1, connection.connection.heartbeat)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            connection.heartbeat_check(rate=4)
            try:
                connection.drain_events(timeout=0.25)
            except TimeoutError:
                pass
        channel.queue_declare(unique("alive"), exclusive=True)


def missed_heartbeats():
    """A client that says nothing is cut off."""
    with connect(heartbeat=1) as connection:
        connection.connect()
        sock = connection.connection.transport.sock
        sock.settimeout(WAIT_SECONDS)

        def read_until_the_end():
            try:
                while sock.recv(4096):
                    pass
            except ConnectionResetError:
                pass
            return True

        true("the broker hangs up", read_until_the_end())
        raises(
            "the next method", connection.connection_errors,
            lambda: connection.channel().queue_declare(unique("gone"), exclusive=True),
        )
        connection.collect()


def ensure():
    """What is ensured is done again over a new connection, its queue declared anew."""
    name, breaks = unique("ensure"), []
    with connect() as connection:
        queue = Queue(name, durable=True, expires=60)
        producer = connection.Producer()
        publish = {"routing_key": name, "declare": [queue], "retry": True, "retry_policy": {"interval_start": 0}}
        producer.publish("before", **publish)
        sever(connection)

        def on_break(error, _interval):
            breaks.append(error)

        again = connection.ensure(producer, producer.publish, errback=on_break, max_retries=3, interval_start=0)
        again("after", routing_key=name, declare=[queue])
        equal("breaks that were noticed", 1, len(breaks))
        bound = queue.bind(connection.channel())
        equal("both messages", ["before", "after"], [bound.get(no_ack=True).payload for _ in range(2)])
        bound.delete()


class Worker(ConsumerMixin):
    def __init__(self, connection, queue):
        self.connection, self.queue, self.open_connection = connection, queue, None
        self.bodies, self.consuming = [], threading.Semaphore(0)

    def get_consumers(self, Consumer, channel):
        return [Consumer([self.queue], callbacks=[self.on_message], prefetch_count=1)]

    def on_consume_ready(self, connection, channel, consumers, **_options):
        # A clone of the one that it was given, and another one after each break.
        self.open_connection = connection
        self.consuming.release()

    def on_message(self, body, message):
        message.ack()
        self.bodies.append(body)


def consumer_mixin():
    """A consumer that comes back by itself after its connection was cut."""
    name = unique("mixin")
    queue = Queue(name, durable=True, expires=60)
    with connect() as connection, connect() as publishing:
        worker = Worker(connection, queue)
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        for body in ("first", "second"):
            true("the worker consumes", worker.consuming.acquire(timeout=WAIT_SECONDS))
            publishing.Producer().publish(body, routing_key=name)
            wait_for(f"the {body} message", lambda: body in worker.bodies)
            if body == "first":
                sever(worker.open_connection)
        worker.should_stop = True
        thread.join(WAIT_SECONDS)
        equal("what the worker got", ["first", "second"], worker.bodies)
        queue.bind(publishing.channel()).delete()
