"""RPC: asks for a Fibonacci number and waits for the reply, without a reply queue (direct reply-to).

Usage: rpc_client.py 30
"""

import sys
import time
import uuid

import pika
from connection import connect

REPLY_TO = "amq.rabbitmq.reply-to"
TIMEOUT_SECONDS = 10

n = int(sys.argv[1]) if len(sys.argv) > 1 else 30
correlation_id = str(uuid.uuid4())
replies = []


def on_reply(channel, method, properties, body):
    if properties.correlation_id == correlation_id:
        replies.append(body.decode())


connection = connect()
channel = connection.channel()
# Replies come to the channel that asks, so it consumes before it publishes.
channel.basic_consume(REPLY_TO, on_reply, auto_ack=True)
request = pika.BasicProperties(reply_to=REPLY_TO, correlation_id=correlation_id)
channel.basic_publish("", "example.rpc", str(n).encode(), request)

deadline = time.monotonic() + TIMEOUT_SECONDS
while not replies:
    if time.monotonic() > deadline:
        sys.exit(f"No reply within {TIMEOUT_SECONDS} s")
    connection.process_data_events(time_limit=1)
print(f"fib({n}) = {replies[0]}")
connection.close()
