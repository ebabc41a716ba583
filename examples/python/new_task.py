"""Work queue: adds a task that survives a restart of the broker. Each dot in it is a second of work.

Usage: new_task.py First task...
"""

import sys

import pika
from connection import connect

task = " ".join(sys.argv[1:]) or "Hello..."
connection = connect()
channel = connection.channel()
# With confirms basic_publish returns once the task is on disk, and raises if that failed.
channel.confirm_delivery()
channel.queue_declare("example.tasks", durable=True)
persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
channel.basic_publish("", "example.tasks", task.encode(), persistent)
print(f"Sent {task}")
connection.close()
