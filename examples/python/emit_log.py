"""Publish/subscribe: sends a line to every receiver that is there now.

Usage: emit_log.py A line for all
"""

import sys

from connection import connect

line = " ".join(sys.argv[1:]) or "info: Hello World!"
connection = connect()
channel = connection.channel()
channel.exchange_declare("example.logs", "fanout", durable=True)
channel.basic_publish("example.logs", "", line.encode())
print(f"Sent {line}")
connection.close()
