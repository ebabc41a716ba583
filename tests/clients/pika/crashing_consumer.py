"""Consumes the queue that its argument names, and crashes on a message that says so. Prints what it got."""

import os
import sys

from support import connect


def received(channel, method, properties, body):
    headers = properties.headers or {}
    print(body.decode(), method.redelivered, headers.get("x-delivery-count", 0), flush=True)
    if body == b"poison":
        # No goodbye: the kernel closes the socket.
        os._exit(13)
    channel.basic_ack(method.delivery_tag)


def main():
    channel = connect().channel()
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(sys.argv[1], received)
    channel.start_consuming()


if __name__ == "__main__":
    main()
