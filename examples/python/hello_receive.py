"""Hello: prints the messages of a queue as they come."""

from connection import connect, run_until_interrupted


def on_message(channel, method, properties, body):
    print(f"Received {body.decode()}", flush=True)


channel = connect().channel()
channel.queue_declare("example.hello", durable=True)
channel.basic_consume("example.hello", on_message, auto_ack=True)
print("Waiting for messages", flush=True)
run_until_interrupted(channel)
