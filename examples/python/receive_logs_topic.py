"""Topics: prints the lines whose key matches a pattern; * stands for one word, # for any number of words.

Usage: receive_logs_topic.py 'kern.*' '#.critical'
"""

import sys

from connection import connect, run_until_interrupted


def on_line(channel, method, properties, body):
    print(f"Received {method.routing_key}: {body.decode()}", flush=True)


patterns = sys.argv[1:]
if not patterns:
    sys.exit(f"Usage: {sys.argv[0]} pattern...")

channel = connect().channel()
channel.exchange_declare("example.topic_logs", "topic", durable=True)
queue = channel.queue_declare("", exclusive=True).method.queue
for pattern in patterns:
    channel.queue_bind(queue, "example.topic_logs", pattern)
channel.basic_consume(queue, on_line, auto_ack=True)
print("Waiting for logs", flush=True)
run_until_interrupted(channel)
