"""RPC: answers requests for Fibonacci numbers to wherever each request wants its reply."""

import pika
from connection import connect, run_until_interrupted


def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def on_request(channel, method, properties, body):
    n = int(body)
    print(f"Computing fib({n})", flush=True)
    reply = pika.BasicProperties(correlation_id=properties.correlation_id)
    channel.basic_publish("", properties.reply_to, str(fibonacci(n)).encode(), reply)
    channel.basic_ack(method.delivery_tag)


channel = connect().channel()
channel.queue_declare("example.rpc", durable=True)
channel.basic_qos(prefetch_count=1)
channel.basic_consume("example.rpc", on_request)
print("Waiting for requests", flush=True)
run_until_interrupted(channel)
