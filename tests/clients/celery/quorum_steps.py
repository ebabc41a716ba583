"""Steps with `task_default_queue_type="quorum"`: delays are then a ladder of 28 quorum queues in the broker, each
with a TTL of a power of two seconds and the next one as its dead letter exchange."""

import time

from amqp.exceptions import PreconditionFailed
from celery import chord

import tasks
from support import WAIT_SECONDS, equal, raises, true


def default_queue_type(_crew):
    with tasks.app.connection() as connection:
        error = raises(
            "declaring the queue as a classic one", PreconditionFailed,
            lambda: connection.channel().queue_declare(tasks.RUN, durable=True, auto_delete=False),
        )
        true(f"the broker names the argument: {error}", "x-queue-type" in str(error))


def native_delay(_crew):
    """Three seconds are one message's way through the queues of two seconds and of one."""
    began = time.time()
    ran = tasks.now.apply_async(countdown=3).get(timeout=WAIT_SECONDS)
    true(f"not before three seconds: {ran - began:.3f}", ran - began >= 3)
    true(f"not much later: {ran - began:.3f}", ran - began < 10)


def chord_of_ten(_crew):
    """The body runs when all ten are done; a task that comes again every second looks for that."""
    body = chord(tasks.add.s(number, number) for number in range(10))(tasks.total.s())
    equal("total of ten", 90, body.get(timeout=WAIT_SECONDS))
