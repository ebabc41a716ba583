"""Routing: prints the lines of the severities asked for.

Usage: receive_logs_direct.py warning error
"""

import sys

from connection import connect, run_until_interrupted


def on_line(channel, method, properties, body):
    print(f"Received {method.routing_key}: {body.decode()}", flush=True)


severities = sys.argv[1:]
if not severities:
    sys.exit(f"Usage: {sys.argv[0]} severity...")

channel = connect().channel()
channel.exchange_declare("example.direct_logs", "direct", durable=True)
queue = channel.queue_declare("", exclusive=True).method.queue
for severity in severities:
    channel.queue_bind(queue, "example.direct_logs", severity)
channel.basic_consume(queue, on_line, auto_ack=True)
print("Waiting for logs", flush=True)
run_until_interrupted(channel)
