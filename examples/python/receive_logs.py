"""Publish/subscribe: every receiver has a queue of its own, which goes when it goes."""

from connection import connect, run_until_interrupted


def on_line(channel, method, properties, body):
    print(f"Received {body.decode()}", flush=True)


channel = connect().channel()
channel.exchange_declare("example.logs", "fanout", durable=True)
queue = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(queue, "example.logs")
channel.basic_consume(queue, on_line, auto_ack=True)
print("Waiting for logs", flush=True)
run_until_interrupted(channel)
