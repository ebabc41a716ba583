"""What every step needs: a connection to the broker under test, unique names, checks that explain themselves."""

import os
import time
import uuid

import pika

WAIT_SECONDS = 10


def parameters(**overrides):
    params = pika.URLParameters(os.environ["AMQP_URI"])
    for name, value in overrides.items():
        setattr(params, name, value)
    return params


def connect(**overrides):
    return pika.BlockingConnection(parameters(**overrides))


def unique(name):
    return f"pika.{name}.{uuid.uuid4().hex[:12]}"


class StepFailed(Exception):
    pass


def equal(what, expected, actual):
    if expected != actual or not isinstance(actual, type(expected)):
        raise StepFailed(f"{what}: expected {expected!r}, got {actual!r}")


def true(what, condition):
    if not condition:
        raise StepFailed(f"expected: {what}")


def raises(what, exception, action):
    try:
        action()
    except exception as error:
        return error
    raise StepFailed(f"{what}: expected {exception.__name__}, nothing was raised")


def wait_for(what, connection, condition):
    """Lets the connection work until the condition holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        true(f"{what} within {WAIT_SECONDS} s", time.monotonic() < deadline)
        connection.process_data_events(time_limit=0.1)


def ready_count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def new_queue(channel, name, **flags):
    """A queue of this connection's own; it goes with the connection."""
    return channel.queue_declare(unique(name), exclusive=True, **flags).method.queue


def get_all(channel, queue):
    bodies = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return bodies
        bodies.append(body.decode())


class Inbox:
    """A consumer that keeps what it gets as (method, properties, body)."""

    def __init__(self, channel, queue, **options):
        self.channel = channel
        self.deliveries = []
        self.tag = channel.basic_consume(queue, self._received, **options)

    def _received(self, _channel, method, properties, body):
        self.deliveries.append((method, properties, body))

    def wait(self, count):
        wait_for(f"{count} deliveries", self.channel.connection, lambda: len(self.deliveries) >= count)
        return self.deliveries

    def bodies(self):
        return [body.decode() for _, _, body in self.deliveries]
