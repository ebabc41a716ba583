"""What the steps need: a connection to the broker under test, unique names, checks that explain themselves."""

import os
import time
import uuid

from kombu import Connection

WAIT_SECONDS = 15


class StepFailed(Exception):
    pass


def connect(**options):
    return Connection(os.environ["AMQP_URI"], transport_options={"confirm_publish": True}, **options)


def unique(name):
    return f"kombu.{name}.{uuid.uuid4().hex[:12]}"


def equal(what, expected, actual):
    if expected != actual:
        raise StepFailed(f"{what}: expected {expected!r}, got {actual!r}")


def true(what, condition):
    if not condition:
        raise StepFailed(f"expected: {what}")


def raises(what, exception, action):
    try:
        result = action()
    except exception as error:
        return error
    raise StepFailed(f"{what}: expected an error, got {result!r}")


def wait_for(what, condition):
    """What the condition gives once that is true in Python's sense."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (value := condition()):
        true(f"{what} within {WAIT_SECONDS} s", time.monotonic() < deadline)
        time.sleep(0.02)
    return value
