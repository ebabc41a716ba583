"""Steps that retry later by queues with TTL and dead letters, as workers do that have nothing but the broker."""

import functools
import subprocess
import sys
import time
from pathlib import Path

import pika

from support import WAIT_SECONDS, Inbox, connect, equal, true, unique, wait_for

#: Milliseconds that each further attempt waits.
LADDER = (100, 300, 600)


def new_durable(channel, name, **arguments):
    """A durable queue; with an expiry of a minute, should the step not come to its end."""
    queue = unique(name)
    arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
    channel.queue_declare(queue, durable=True, arguments={"x-expires": 60_000, **arguments})
    return queue


def deaths(properties):
    """(queue, reason, count) of each entry, the newest first."""
    entries = (properties.headers or {}).get("x-death", [])
    return [(entry["queue"], entry["reason"], entry["count"]) for entry in entries]


def dead_letter_headers():
    """Everything that is told about a death, with a fixed key and with the message's own."""
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        exchange, dead = unique("dead"), new_durable(channel, "morgue")
        channel.exchange_declare(exchange, "topic", auto_delete=True)
        channel.queue_bind(dead, exchange, "#")
        source = new_durable(channel, "source", x_dead_letter_exchange=exchange)
        before = int(time.time())
        properties = pika.BasicProperties(
            delivery_mode=2, expiration="60000", message_id="m1", headers={"own": 7, "CC": ["also"]}
        )
        channel.basic_publish("", source, b"body", properties)
        method, _, _ = channel.basic_get(source)
        channel.basic_reject(method.delivery_tag, requeue=False)
        wait_for("the dead letter", connection, lambda: count(channel, dead) == 1)
        method, properties, body = channel.basic_get(dead, auto_ack=True)
        equal("body", b"body", body)
        equal("exchange it came by", exchange, method.exchange)
        equal("its key", source, method.routing_key)
        equal("message id", "m1", properties.message_id)
        equal("delivery mode", 2, properties.delivery_mode)
        equal("expiration, which would kill it again", None, properties.expiration)
        equal("own header", 7, properties.headers["own"])
        [death] = properties.headers["x-death"]
        equal("reason", "rejected", death["reason"])
        equal("queue", source, death["queue"])
        equal("exchange it had been sent to", "", death["exchange"])
        equal("keys", [source, "also"], death["routing-keys"])
        equal("count", 1, death["count"])
        equal("original expiration", "60000", death["original-expiration"])
        died_at = int(death["time"].timestamp())
        # The clock of this machine, which is the broker's as well.
        true(f"time of death: {died_at}, not before {before}", before <= died_at <= time.time() + 1)
        for name, value in (("reason", "rejected"), ("queue", source), ("exchange", "")):
            equal(f"first death's {name}", value, properties.headers[f"x-first-death-{name}"])
        for queue in (source, dead):
            channel.queue_delete(queue)


def rejected_and_retried():
    """Rejected into a queue that gives it back after a while: the counts say how often."""
    with connect() as connection:
        channel = connection.channel()
        work, retry = unique("work"), unique("retry")
        channel.queue_declare(work, durable=True, arguments={
            "x-expires": 60_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": retry,
        })
        channel.queue_declare(retry, durable=True, arguments={
            "x-expires": 60_000, "x-message-ttl": 100,
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work,
        })
        inbox = Inbox(channel, work)
        channel.basic_publish("", work, b"again and again")
        for attempt in range(4):
            method, properties, _ = inbox.wait(attempt + 1)[attempt]
            expected = [(retry, "expired", attempt), (work, "rejected", attempt)] if attempt else []
            equal(f"deaths before attempt {attempt + 1}", expected, deaths(properties))
            equal("redelivered, of a message that was published anew", False, method.redelivered)
            if attempt < 3:
                channel.basic_reject(method.delivery_tag, requeue=False)
            else:
                channel.basic_ack(method.delivery_tag)
        channel.queue_delete(work)
        channel.queue_delete(retry)


def retry_ladder():
    """Each attempt waits longer; what has failed too often is parked, with its whole history."""
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        retries = unique("retries")
        channel.exchange_declare(retries, "direct", auto_delete=True)
        parking = new_durable(channel, "parking")
        work = new_durable(channel, "work", x_dead_letter_exchange="", x_dead_letter_routing_key=parking)
        rungs = []
        for milliseconds in LADDER:
            rung = new_durable(
                channel, f"retry.{milliseconds}", x_message_ttl=milliseconds,
                x_dead_letter_exchange="", x_dead_letter_routing_key=work,
            )
            channel.queue_bind(rung, retries, str(milliseconds))
            rungs.append(rung)
        began, times = time.monotonic(), []
        worker = connection.channel()
        worker.basic_qos(prefetch_count=1)
        worker.basic_consume(work, functools.partial(fail, channel, retries, times))
        channel.basic_publish("", work, b"order 1", pika.BasicProperties(delivery_mode=2))
        wait_for("the message is parked", connection, lambda: count(channel, parking) == 1)
        _, properties, body = channel.basic_get(parking, auto_ack=True)
        equal("parked body", b"order 1", body)
        equal("attempts in all", len(LADDER) + 1, len(times))
        earliest = 0
        for milliseconds, at in zip((0, *LADDER), times):
            earliest += milliseconds / 1000
            true(f"not before {earliest:.1f} s: {at - began:.3f} s", at - began >= earliest)
        equal("newest death", (work, "rejected", 1), deaths(properties)[0])
        equal("attempt counted by the worker", len(LADDER), properties.headers["attempt"])
        worker.close()
        for queue in (work, parking, *rungs):
            channel.queue_delete(queue)


def fail(publishing, retries, times, channel, method, properties, body):
    """A worker that never succeeds: it counts its attempts in a header, which is safe from the broker's own."""
    times.append(time.monotonic())
    attempt = (properties.headers or {}).get("attempt", 0)
    if attempt == len(LADDER):
        channel.basic_reject(method.delivery_tag, requeue=False)
        return
    again = pika.BasicProperties(delivery_mode=2, headers={"attempt": attempt + 1})
    publishing.basic_publish(retries, str(LADDER[attempt]), body, again)
    channel.basic_ack(method.delivery_tag)


def head_of_line():
    """What expires waits for what is before it; a TTL of the queue's own keeps their order."""
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        dead = new_durable(channel, "dead")
        waiting = new_durable(channel, "waiting", x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
        for body, expiration in ((b"first", "700"), (b"second", "50")):
            channel.basic_publish("", waiting, body, pika.BasicProperties(expiration=expiration))
        began = time.monotonic()
        inbox = Inbox(channel, dead, auto_ack=True)
        inbox.wait(2)
        equal("order of the dead", ["first", "second"], inbox.bodies())
        true("after the time of the first", time.monotonic() - began >= 0.6)
        for queue in (waiting, dead):
            channel.queue_delete(queue)


def overflow():
    """Too long a queue hands on its oldest messages, with the reason."""
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        dead = new_durable(channel, "dead")
        short = new_durable(
            channel, "short", x_max_length=2, x_dead_letter_exchange="", x_dead_letter_routing_key=dead
        )
        for number in range(5):
            channel.basic_publish("", short, b"%d" % number)
        inbox = Inbox(channel, dead, auto_ack=True)
        inbox.wait(3)
        equal("those that had to go", ["0", "1", "2"], inbox.bodies())
        equal("why", [(short, "maxlen", 1)], deaths(inbox.deliveries[0][1]))
        equal("those that stay", 2, count(channel, short))
        for queue in (short, dead):
            channel.queue_delete(queue)


def circle_of_expiry():
    """A message that would go round with nobody rejecting it ends on its return; other targets have their copies."""
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        first, second, first_left, second_left = (unique(name) for name in ("first", "second", "left1", "left2"))
        for queue, exchange in ((first, first_left), (second, second_left)):
            channel.exchange_declare(exchange, "fanout", auto_delete=True)
            channel.queue_declare(queue, durable=True, arguments={
                "x-expires": 60_000, "x-message-ttl": 100, "x-dead-letter-exchange": exchange,
            })
        channel.queue_bind(second, first_left)
        channel.queue_bind(first, second_left)
        witnesses = []
        for exchange in (first_left, second_left):
            witness = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(witness, exchange)
            witnesses.append(Inbox(channel, witness, auto_ack=True))
        for number, body in enumerate((b"round", b"after it"), 1):
            channel.basic_publish("", first, body)
            witnesses[1].wait(number)
        # Whatever had gone round a second time would have come before the message that was sent after it.
        for witness in witnesses:
            equal("what left the queue", ["round", "after it"], witness.bodies())
        for queue in (first, second):
            channel.queue_delete(queue)


def poison_message():
    """A message that crashes each consumer ends in the dead-letter queue, and the others are not kept from anybody."""
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        dead = new_durable(channel, "poison.dead")
        queue = new_durable(
            channel, "poison", x_queue_type="quorum", x_delivery_limit=2, x_dead_letter_exchange="",
            x_dead_letter_routing_key=dead,
        )
        for body in (b"good 1", b"poison", b"good 2"):
            channel.basic_publish("", queue, body)
        seen = []
        for _ in range(3):
            seen += crashed_consumer(queue).splitlines()
        equal(
            "what the consumers got",
            ["good 1 False 0", "poison False 0", "poison True 1", "poison True 2"],
            seen,
        )
        wait_for("the dead letter", connection, lambda: count(channel, dead) == 1)
        _, properties, body = channel.basic_get(dead, auto_ack=True)
        equal("dead", b"poison", body)
        equal("its death", [(queue, "delivery_limit", 1)], deaths(properties))
        equal("the next one", b"good 2", Inbox(channel, queue, auto_ack=True).wait(1)[0][2])


def crashed_consumer(queue):
    """Lets a consumer run in a process of its own until it has crashed; what it printed."""
    program = Path(__file__).with_name("crashing_consumer.py")
    command = [sys.executable, "-B", str(program), queue]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=2 * WAIT_SECONDS)
    equal("how it ended", 13, ended.returncode)
    return ended.stdout


def count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def delayed_exchange():
    """Not before its time, routed by what is bound then. RabbitMQ needs a plugin for it that it does not ship."""
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        exchange = unique("delayed")
        channel.exchange_declare(
            exchange, "x-delayed-message", durable=True, arguments={"x-delayed-type": "topic"}
        )
        queue = channel.queue_declare("", exclusive=True).method.queue
        inbox = Inbox(channel, queue, auto_ack=True)
        began = time.monotonic()
        for body, delay in ((b"third", 600), (b"second", 300), (b"first", None), (b"never bound", 150)):
            headers = {} if delay is None else {"x-delay": delay}
            key = "lost.order" if body == b"never bound" else "kept.order"
            if body == b"first":
                channel.queue_bind(queue, exchange, "kept.#")
            channel.basic_publish(exchange, key, body, pika.BasicProperties(headers=headers, delivery_mode=2))
        times = []
        for number in (1, 2, 3):
            inbox.wait(number)
            times.append(time.monotonic() - began)
        equal("order", ["first", "second", "third"], inbox.bodies())
        true(f"not before their time: {times}", times[1] >= 0.3 and times[2] >= 0.6)
        true(f"within {WAIT_SECONDS} s", times[2] < WAIT_SECONDS)
        method, properties, _ = inbox.deliveries[2]
        equal("exchange", exchange, method.exchange)
        equal("key", "kept.order", method.routing_key)
        equal("its delay, which is over", -600, properties.headers["x-delay"])
        channel.exchange_delete(exchange)
