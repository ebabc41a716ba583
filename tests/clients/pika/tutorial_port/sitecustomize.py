"""Makes AMQP_PORT pika's default port, so that the tutorial's programs need not know that they are tested."""

import os

import pika.connection

pika.connection.Parameters.DEFAULT_PORT = int(os.environ["AMQP_PORT"])
