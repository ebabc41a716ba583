"""What goes wrong, and what the client is told."""

from pika.exceptions import ChannelClosedByBroker

from support import Inbox, connect, equal, get_all, new_queue, raises, true, unique, wait_for


def refused(action, code, text):
    closed = raises(text, ChannelClosedByBroker, action)
    equal("reply code and text", (code, text), (closed.reply_code, closed.reply_text))


def server_sent_cancel():
    with connect() as connection:
        channel = connection.channel()
        queue = unique("cancel")
        channel.queue_declare(queue, durable=True)
        inbox = Inbox(channel, queue)
        cancelled = []
        channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        connection.channel().queue_delete(queue)
        wait_for("basic.cancel from the server", connection, lambda: cancelled)
        equal("cancelled", [inbox.tag], cancelled)
        true("the channel is open", channel.is_open)


def channel_errors():
    with connect() as connection:
        missing = unique("missing")
        refused(
            lambda: connection.channel().queue_declare(missing, passive=True),
            404, f"NOT_FOUND - no queue '{missing}' in vhost '/'",
        )
        refused(
            lambda: connection.channel().exchange_declare(missing, passive=True),
            404, f"NOT_FOUND - no exchange '{missing}' in vhost '/'",
        )
        durable = unique("durable")
        connection.channel().queue_declare(durable, durable=True)
        refused(
            lambda: connection.channel().queue_declare(durable, durable=False),
            406, f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{durable}' in vhost '/': "
            "received 'false' but current is 'true'",
        )
        channel = connection.channel()
        channel.queue_delete(durable)
        queue = new_queue(channel, "survives")
        channel.basic_publish("", queue, b"still here")
        equal("the connection goes on", ["still here"], get_all(channel, queue))


def consumer_tags():
    with connect() as connection:
        channel = connection.channel()
        queue = new_queue(channel, "tags")
        own = Inbox(channel, queue, consumer_tag="my-tag", auto_ack=True)
        equal("own tag", "my-tag", own.tag)
        channel.basic_publish("", queue, b"x")
        equal("tag in the delivery", "my-tag", own.wait(1)[0][0].consumer_tag)
        # pika makes a tag itself where others leave it to the server (amq.ctag-).
        made = Inbox(channel, queue, auto_ack=True)
        true(f"a tag made by pika, got {made.tag}", made.tag.startswith("ctag"))
        equal("consumers", 2, channel.queue_declare(queue, passive=True).method.consumer_count)
        channel.basic_cancel(own.tag)
        channel.basic_publish("", queue, b"y")
        made.wait(1)
        equal("only the one left gets it", (["x"], ["y"]), (own.bodies(), made.bodies()))


def delete_conditions():
    with connect() as connection:
        channel = connection.channel()
        queue, exchange = unique("delete"), unique("delete")
        channel.queue_declare(queue, durable=True)
        channel.exchange_declare(exchange, "fanout", durable=True)
        channel.queue_bind(queue, exchange)
        channel.basic_publish("", queue, b"x")
        # Channels are not ordered among each other: the message is there before another one asks.
        channel.queue_declare(queue, passive=True)
        refused(
            lambda: connection.channel().queue_delete(queue, if_empty=True),
            406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty",
        )
        Inbox(channel, queue)
        refused(
            lambda: connection.channel().queue_delete(queue, if_unused=True),
            406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use",
        )
        refused(
            lambda: connection.channel().exchange_delete(exchange, if_unused=True),
            406, f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use",
        )
        channel.queue_delete(queue)
        channel.exchange_delete(exchange, if_unused=True)


def exclusive_consumer():
    with connect() as connection:
        channel = connection.channel()
        queue = unique("exclusive")
        channel.queue_declare(queue, durable=True)
        Inbox(channel, queue, exclusive=True)
        refused(
            lambda: Inbox(connection.channel(), queue),
            403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use",
        )
        channel.queue_delete(queue)
