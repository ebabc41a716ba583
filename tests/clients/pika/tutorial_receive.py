"""The second program a pika user writes: prints what arrives in the queue `hello`, until it is stopped."""

import pika


def on_message(channel, method, properties, body):
    print(f" [x] Received {body}", flush=True)


connection = pika.BlockingConnection(pika.ConnectionParameters("localhost"))
channel = connection.channel()
channel.queue_declare("hello")
channel.basic_consume(queue="hello", on_message_callback=on_message, auto_ack=True)
print(" [*] Waiting for messages", flush=True)
channel.start_consuming()
