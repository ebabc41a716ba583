"""Topics: sends a line under a key of words, such as kern.critical.

Usage: emit_log_topic.py kern.critical The disk is full
"""

import sys

from connection import connect

key = sys.argv[1] if len(sys.argv) > 1 else "anonymous.info"
line = " ".join(sys.argv[2:]) or "Hello World!"
connection = connect()
channel = connection.channel()
channel.exchange_declare("example.topic_logs", "topic", durable=True)
channel.basic_publish("example.topic_logs", key, line.encode())
print(f"Sent {key}: {line}")
connection.close()
