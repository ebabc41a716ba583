"""Publishing, consuming, settling."""

import datetime
import decimal
import os

import pika
from pika.exceptions import UnroutableError

from pipelined_confirms import confirm_pipelined
from support import Inbox, connect, equal, get_all, new_queue, ready_count, true, unique, wait_for


def properties():
    # Every type that pika writes: it has no floating point numbers.
    table = {
        "bool": True,
        "string": "Grüße",
        "bytes": b"\x00\xff",
        "int": -2_000_000_000,
        "long": 2**40,
        "negative long": -(2**40),
        "decimal": decimal.Decimal("12.34"),
        "timestamp": datetime.datetime(2024, 2, 29, 12, 30, 1, tzinfo=datetime.timezone.utc),
        "void": None,
        "table": {"inner": {"deep": [1, "two", None, {"three": 3}]}},
        "array": [True, 2**33, "x", [[1]], b"\x01"],
    }
    sent = pika.BasicProperties(
        content_type="text/plain",
        content_encoding="utf-8",
        headers=table,
        delivery_mode=2,
        priority=7,
        correlation_id="correlation",
        reply_to="reply.queue",
        expiration="60000",
        message_id="message",
        timestamp=1_700_000_000,
        type="kind",
        user_id="guest",
        app_id="app",
        cluster_id="cluster",
    )
    with connect() as connection:
        channel = connection.channel()
        queue = new_queue(channel, "properties")
        channel.basic_publish("", queue, b"body", sent)
        inbox = Inbox(channel, queue, auto_ack=True)
        method, received, body = inbox.wait(1)[0]
        equal("body", b"body", body)
        equal("exchange and routing key", ("", queue), (method.exchange, method.routing_key))
        equal("redelivered", False, method.redelivered)
        for name in vars(sent):
            equal(name, getattr(sent, name), getattr(received, name))
        for key, value in table.items():
            equal(f"header {key}", value, received.headers[key])


def publish_numbered(channel, queue, count):
    for number in range(1, count + 1):
        channel.basic_publish("", queue, str(number).encode())


def acknowledgements():
    with connect() as connection:
        channel = connection.channel()
        queue = new_queue(channel, "acks")
        publish_numbered(channel, queue, 5)
        inbox = Inbox(channel, queue)
        inbox.wait(5)
        channel.basic_cancel(inbox.tag)
        tags = [method.delivery_tag for method, _, _ in inbox.deliveries]
        equal("delivery tags", [1, 2, 3, 4, 5], tags)

        channel.basic_nack(tags[1], requeue=True)
        channel.basic_reject(tags[2], requeue=False)
        method, _, body = channel.basic_get(queue)
        equal("the requeued one", b"2", body)
        equal("redelivered", True, method.redelivered)
        channel.basic_ack(tags[0])
        # 4, 5 and the second delivery of 2.
        channel.basic_ack(method.delivery_tag, multiple=True)
        equal("all are settled", [], get_all(channel, queue))
    requeued_in_place()


def requeued_in_place():
    with connect() as connection:
        channel = connection.channel()
        queue = new_queue(channel, "in.place")
        publish_numbered(channel, queue, 4)
        first, _, _ = channel.basic_get(queue)
        channel.basic_get(queue)
        channel.basic_nack(first.delivery_tag + 1, multiple=True, requeue=True)
        equal("order after a requeue", ["1", "2", "3", "4"], get_all(channel, queue))


def prefetch():
    for limit in (1, 3):
        with connect() as connection:
            channel = connection.channel()
            queue = new_queue(channel, "prefetch")
            publish_numbered(channel, queue, 6)
            channel.basic_qos(prefetch_count=limit)
            inbox = Inbox(channel, queue)
            for handed_out in range(limit, 7):
                inbox.wait(handed_out)
                # A round trip: what the broker would have sent too much is here by then.
                equal(f"ready with prefetch {limit}", 6 - handed_out, ready_count(channel, queue))
                equal("delivered", handed_out, len(inbox.deliveries))
                channel.basic_ack(inbox.deliveries[handed_out - limit][0].delivery_tag)
            equal("in order", ["1", "2", "3", "4", "5", "6"], inbox.bodies())


def confirms():
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queue = new_queue(channel, "confirms", durable=True)
        # Raises unless the broker confirms.
        channel.basic_publish("", queue, b"1", pika.BasicProperties(delivery_mode=2))
        equal("confirmed and there", 1, ready_count(channel, queue))
    confirm_pipelined(1000)


def mandatory_return():
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        nowhere = unique("nowhere")
        try:
            channel.basic_publish("", nowhere, b"lost", mandatory=True)
        except UnroutableError as unroutable:
            # pika raises this only if the return came before the confirm.
            returned = unroutable.messages[0]
        else:
            true("UnroutableError", False)
        equal("code", 312, returned.method.reply_code)
        equal("text", "NO_ROUTE", returned.method.reply_text)
        equal("routing key", nowhere, returned.method.routing_key)
        equal("body", b"lost", returned.body)


def transactions():
    with connect() as connection:
        channel = connection.channel()
        queue = new_queue(channel, "tx")
        channel.tx_select()
        channel.basic_publish("", queue, b"rolled back")
        channel.tx_rollback()
        channel.basic_publish("", queue, b"committed")
        equal("ready before the commit", 0, ready_count(channel, queue))
        channel.tx_commit()
        equal("ready after the commit", 1, ready_count(channel, queue))

        method, _, _ = channel.basic_get(queue)
        channel.basic_ack(method.delivery_tag)
        channel.tx_rollback()
        # The ack was rolled back: it can be given again.
        channel.basic_ack(method.delivery_tag)
        channel.tx_commit()
        equal("settled", [], get_all(channel, queue))


def get():
    with connect() as connection:
        channel = connection.channel()
        queue = new_queue(channel, "get")
        equal("empty", (None, None, None), channel.basic_get(queue))
        publish_numbered(channel, queue, 3)
        for left in (2, 1, 0):
            method, _, body = channel.basic_get(queue, auto_ack=True)
            equal("body", str(3 - left).encode(), body)
            equal("message count", left, method.message_count)


def rpc_direct_reply_to():
    with connect() as client, connect() as server:
        requests, served = client.channel(), server.channel()
        queue = served.queue_declare(unique("rpc"), durable=True, auto_delete=True).method.queue

        def answer(channel, method, request, body):
            true("a rewritten reply-to", request.reply_to.startswith("amq.rabbitmq.reply-to."))
            reply = pika.BasicProperties(correlation_id=request.correlation_id)
            channel.basic_publish("", request.reply_to, body.upper(), reply)
            channel.basic_ack(method.delivery_tag)

        served.basic_consume(queue, answer)
        inbox = Inbox(requests, "amq.rabbitmq.reply-to", auto_ack=True)
        request = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="42")
        requests.basic_publish("", queue, b"hello", request)
        wait_for("the request is served", server, lambda: answered(client, inbox))
        _, reply, body = inbox.deliveries[0]
        equal("reply", (b"HELLO", "42"), (body, reply.correlation_id))
        served.queue_delete(queue)


def answered(client, inbox):
    client.process_data_events(time_limit=0.05)
    return bool(inbox.deliveries)


def large_body():
    body = os.urandom(5 * 1024 * 1024)
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queue = new_queue(channel, "large")
        channel.basic_publish("", queue, body)
        _, _, received = Inbox(channel, queue, auto_ack=True).wait(1)[0]
        true("5 MiB come back unchanged", received == body)


def recover():
    with connect() as connection:
        channel = connection.channel()
        queue = new_queue(channel, "recover")
        publish_numbered(channel, queue, 2)
        inbox = Inbox(channel, queue)
        inbox.wait(2)
        channel.basic_recover(requeue=True)
        inbox.wait(4)
        equal("bodies", ["1", "2", "1", "2"], inbox.bodies())
        equal("redelivered", [False, False, True, True], [m.redelivered for m, _, _ in inbox.deliveries])
