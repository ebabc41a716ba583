"""Publisher confirms: a message is safe once the broker has confirmed it.

pika's blocking connection waits for each confirm; with many messages its asynchronous connection is faster.
"""

import sys

import pika
from connection import connect
from pika.exceptions import NackError, UnroutableError

COUNT = 100

connection = connect()
channel = connection.channel()
channel.confirm_delivery()
queue = channel.queue_declare("", exclusive=True).method.queue
persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
for number in range(COUNT):
    try:
        channel.basic_publish("", queue, str(number).encode(), persistent, mandatory=True)
    except UnroutableError:
        sys.exit(f"Message {number} reached no queue")
    except NackError:
        sys.exit(f"Message {number} was refused")
print(f"Confirmed {COUNT} messages")
connection.close()
