"""Where the examples find the broker: localhost:5672, or what AMQP_URI says."""

import os

import pika


def connect():
    uri = os.environ.get("AMQP_URI", "amqp://guest:guest@localhost:5672/%2F")
    return pika.BlockingConnection(pika.URLParameters(uri))


def run_until_interrupted(channel):
    try:
        channel.start_consuming()
    except KeyboardInterrupt:
        channel.connection.close()
