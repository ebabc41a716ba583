"""Steps about queues and what becomes of messages in them."""

import time

from amqp.exceptions import NotFound
from kombu import Exchange, Queue
from kombu.common import Broadcast

from support import WAIT_SECONDS, connect, equal, raises, true, unique, wait_for


def simple_queue():
    """The interface of Python's own queue, over the broker."""
    name = unique("simple")
    with connect() as connection:
        queue = connection.SimpleQueue(name)
        try:
            for number in range(3):
                queue.put({"number": number}, serializer="json", compression="zlib")
            equal("length", 3, queue.qsize())
            first = queue.get(timeout=WAIT_SECONDS)
            equal("first message", {"number": 0}, first.payload)
            first.requeue()
            # The other two were on their way already.
            rest = [queue.get(timeout=WAIT_SECONDS) for _ in range(3)]
            equal("what follows", [1, 2, 0], [message.payload["number"] for message in rest])
            equal("marked redelivered", [False, False, True], [m.delivery_info["redelivered"] for m in rest])
            for message in rest:
                message.ack()
            raises("an empty queue", queue.Empty, lambda: queue.get(timeout=0.05))
        finally:
            queue.close()
            connection.channel().queue_delete(name)
            connection.channel().exchange_delete(name)


def priorities():
    name = unique("priority")
    with connect() as connection:
        queue = Queue(name, max_priority=5, durable=False, auto_delete=True).bind(connection.channel())
        queue.declare()
        producer = connection.Producer()
        for priority in (1, 9, 3, None, 5):
            producer.publish(priority, routing_key=name, priority=priority)
        # Above the queue's highest is the queue's highest; none is zero.
        equal("order", [9, 5, 3, 1, None], [queue.get(no_ack=True).payload for _ in range(5)])
        queue.delete()


def delay_by_ttl():
    """A queue that nobody consumes, and the queue to which it hands on what has waited there."""
    target, delay, exchange = unique("work"), unique("delay"), Exchange(unique("dead"), auto_delete=True)
    with connect() as connection:
        channel = connection.channel()
        work = Queue(target, exchange, routing_key="due", durable=False).bind(channel)
        work.declare()
        waiting = Queue(
            delay, durable=False, message_ttl=0.4,
            queue_arguments={"x-dead-letter-exchange": exchange.name, "x-dead-letter-routing-key": "due"},
        ).bind(channel)
        waiting.declare()
        began = time.monotonic()
        connection.Producer().publish({"task": 1}, routing_key=delay, headers={"attempt": 1})
        message = wait_for("the message that has waited", lambda: work.get(no_ack=True))
        true("not before its time", time.monotonic() - began >= 0.4)
        equal("its routing key", "due", message.delivery_info["routing_key"])
        equal("its exchange", exchange.name, message.delivery_info["exchange"])
        equal("its own header", 1, message.headers["attempt"])
        [death] = message.headers["x-death"]
        equal("why and where it died", ("expired", delay, 1), (death["reason"], death["queue"], death["count"]))
        equal("where it had been sent", ("", [delay]), (death["exchange"], death["routing-keys"]))
        work.delete()
        waiting.delete()


def expiration_in_seconds():
    """kombu's seconds are the broker's milliseconds; what expired is not handed out."""
    name = unique("expiration")
    with connect() as connection:
        queue = Queue(name, durable=False).bind(connection.channel())
        queue.declare()
        producer = connection.Producer()
        producer.publish("short", routing_key=name, expiration=0.1)
        producer.publish("long", routing_key=name, expiration=60)
        wait_for("the short one expires", lambda: queue.queue_declare(passive=True).message_count == 1)
        message = queue.get(no_ack=True)
        equal("what is left", "long", message.payload)
        equal("its expiration", "60000", message.properties["expiration"])
        queue.delete()


def queue_expires():
    name = unique("expires")
    with connect() as connection:
        Queue(name, expires=0.3, durable=False).bind(connection.channel()).declare()
        # Each look at it would let it live on, so there is one look, after a time that is long enough.
        time.sleep(1.5)
        raises(
            "a queue that nobody used", NotFound,
            lambda: connection.channel().queue_declare(name, passive=True),
        )


def max_length():
    """The oldest ones go."""
    name = unique("length")
    with connect() as connection:
        queue = Queue(name, max_length=2, durable=False).bind(connection.channel())
        queue.declare()
        for number in range(5):
            connection.Producer().publish(number, routing_key=name)
        equal("what is left", [3, 4], [queue.get(no_ack=True).payload for _ in range(2)])
        equal("no more than that", None, queue.get(no_ack=True))
        queue.delete()


def broadcast():
    """A queue of each one's own on a fanout exchange."""
    name = unique("broadcast")
    with connect() as connection:
        exchange = Exchange(name, type="fanout", durable=False, auto_delete=True)
        queues = [
            Broadcast(name, exchange=exchange, unique=True).bind(connection.channel()) for _ in range(3)
        ]
        for queue in queues:
            queue.declare()
        connection.Producer().publish("to all", exchange=name, routing_key="")
        for queue in queues:
            equal("each one's copy", "to all", queue.get(no_ack=True).payload)
            queue.delete()
