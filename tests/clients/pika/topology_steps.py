"""Connecting, declaring, binding and routing."""

import pika
from pika.exceptions import ProbableAuthenticationError

from support import connect, equal, get_all, new_queue, parameters, raises, true, unique


def connection_step():
    seen = []

    def opened(connection):
        seen.append(connection.server_properties)
        connection.close()

    # Only the asynchronous connections show what the server said about itself.
    connection = pika.SelectConnection(
        parameters(), on_open_callback=opened, on_close_callback=lambda c, _: c.ioloop.stop()
    )
    connection.ioloop.start()
    true("the connection opened", len(seen) == 1)
    equal("product", "RabbitMQ", seen[0]["product"])
    true("a version such as 4.2.0", seen[0]["version"].count(".") == 2)
    for capability in (
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ):
        equal(f"capability {capability}", True, seen[0]["capabilities"].get(capability))


def declare_exchanges():
    with connect() as connection:
        channel = connection.channel()
        for kind in ("direct", "fanout", "topic", "headers"):
            name = unique(kind)
            for _ in range(2):  # Declaring the same again is fine.
                channel.exchange_declare(name, kind, durable=True)
            channel.exchange_declare(name, passive=True)
            channel.exchange_delete(name)
            channel.exchange_declare(f"amq.{kind}", kind, durable=True)


def declare_queues():
    with connect() as connection:
        channel = connection.channel()
        named = unique("named")
        declared = channel.queue_declare(named, durable=True).method
        equal("named queue", (named, 0, 0), (declared.queue, declared.message_count, declared.consumer_count))
        channel.queue_delete(named)

        generated = channel.queue_declare("", exclusive=True).method.queue
        true(f"a name that starts with amq.gen-, got {generated}", generated.startswith("amq.gen-"))

        exclusive = channel.queue_declare(unique("exclusive"), exclusive=True).method.queue
        with connect() as other:
            closed = raises(
                "passive declare of another connection's exclusive queue",
                pika.exceptions.ChannelClosedByBroker,
                lambda: other.channel().queue_declare(exclusive, passive=True),
            )
            equal("reply code", 405, closed.reply_code)
            true("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue", closed.reply_text.startswith(
                f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{exclusive}' in vhost '/'"))

        auto_delete = channel.queue_declare(unique("auto"), durable=True, auto_delete=True).method.queue
        tag = channel.basic_consume(auto_delete, lambda *_: None)
        channel.basic_cancel(tag)
        closed = raises(
            "passive declare of an auto-delete queue after its last consumer",
            pika.exceptions.ChannelClosedByBroker,
            lambda: channel.queue_declare(auto_delete, passive=True),
        )
        equal("reply code", 404, closed.reply_code)


def bind_and_route():
    with connect() as connection:
        channel = connection.channel()
        direct_fanout_topic(channel)
        headers(channel)
        exchange_to_exchange(channel)


def direct_fanout_topic(channel):
    queue = new_queue(channel, "routed")
    cases = (
        ("direct", "key", ("key",), ("Key", "key.x", "")),
        ("topic", "a.*.c", ("a.b.c", "a..c"), ("a.c", "a.b.b.c", "b.b.c")),
        ("topic", "a.#", ("a", "a.b", "a.b.c"), ("ab", "b.a")),
        ("topic", "#.z", ("z", "x.y.z"), ("z.a",)),
        ("fanout", "ignored", ("anything", ""), ()),
    )
    for kind, binding, matching, others in cases:
        exchange = unique(kind)
        channel.exchange_declare(exchange, kind, durable=True)
        channel.queue_bind(queue, exchange, binding)
        for key in matching + others:
            channel.basic_publish(exchange, key, key.encode())
        equal(f"{kind} with {binding}", list(matching), get_all(channel, queue))
        channel.queue_unbind(queue, exchange, binding)
        for key in matching:
            channel.basic_publish(exchange, key, b"unbound")
        equal(f"{kind} after unbind", [], get_all(channel, queue))
        channel.exchange_delete(exchange)


def headers(channel):
    exchange = unique("headers")
    channel.exchange_declare(exchange, "headers", durable=True, auto_delete=True)
    for match, expected in (("all", ["both"]), ("any", ["both", "colour only"])):
        queue = new_queue(channel, match)
        channel.queue_bind(queue, exchange, arguments={"x-match": match, "colour": "red", "size": 3})
        for body, table in (
            ("both", {"colour": "red", "size": 3, "more": True}),
            ("colour only", {"colour": "red", "size": 4}),
            ("none", {"colour": "blue"}),
        ):
            channel.basic_publish(exchange, "", body.encode(), pika.BasicProperties(headers=table))
        equal(f"x-match {match}", expected, get_all(channel, queue))
    channel.exchange_delete(exchange)


def exchange_to_exchange(channel):
    source, destination, queue = unique("source"), unique("destination"), new_queue(channel, "e2e")
    channel.exchange_declare(source, "topic", durable=True)
    channel.exchange_declare(destination, "fanout", durable=True)
    channel.exchange_bind(destination, source, "a.#")
    channel.queue_bind(queue, destination)
    channel.basic_publish(source, "a.b", b"through two")
    channel.basic_publish(source, "b", b"lost")
    equal("exchange to exchange", ["through two"], get_all(channel, queue))
    channel.exchange_unbind(destination, source, "a.#")
    channel.basic_publish(source, "a.b", b"lost")
    equal("after unbind", [], get_all(channel, queue))
    channel.exchange_delete(source)
    channel.exchange_delete(destination)


def wrong_password():
    refused = raises(
        "login with a wrong password",
        ProbableAuthenticationError,
        lambda: connect(credentials=pika.PlainCredentials("guest", "wrong")),
    )
    text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. " \
        "For details see the broker logfile."
    true(f"403 and `{text}` in {refused}", "403" in str(refused) and text in str(refused))


def heartbeats():
    with connect(heartbeat=1) as connection:
        channel = connection.channel()
        queue = new_queue(channel, "heartbeat")
        connection.sleep(3.5)
        channel.basic_publish("", queue, b"alive")
        equal("after three idle intervals", ["alive"], get_all(channel, queue))


def alternate_exchange():
    with connect() as connection:
        channel = connection.channel()
        alternate, main = unique("alternate"), unique("main")
        unrouted, routed = new_queue(channel, "unrouted"), new_queue(channel, "routed")
        channel.exchange_declare(alternate, "fanout", durable=True)
        channel.exchange_declare(main, "direct", durable=True, arguments={"alternate-exchange": alternate})
        channel.queue_bind(unrouted, alternate)
        channel.queue_bind(routed, main, "known")
        channel.basic_publish(main, "known", b"known")
        channel.basic_publish(main, "unknown", b"unknown")
        equal("routed", ["known"], get_all(channel, routed))
        equal("took the alternate exchange", ["unknown"], get_all(channel, unrouted))
        channel.exchange_delete(main)
        channel.exchange_delete(alternate)


def cc_header():
    with connect() as connection:
        channel = connection.channel()
        to, copy, blind = (new_queue(channel, name) for name in ("to", "cc", "bcc"))
        properties = pika.BasicProperties(headers={"CC": [copy], "BCC": [blind]})
        channel.basic_publish("", to, b"letter", properties)
        for queue in (to, copy, blind):
            _, received, body = channel.basic_get(queue, auto_ack=True)
            equal(f"{queue} body", b"letter", body)
            equal(f"{queue} headers, BCC taken out", {"CC": [copy]}, received.headers)


def purge():
    with connect() as connection:
        channel = connection.channel()
        queue = new_queue(channel, "purge")
        for _ in range(3):
            channel.basic_publish("", queue, b"x")
        equal("purged", 3, channel.queue_purge(queue).method.message_count)
        equal("left", [], get_all(channel, queue))
