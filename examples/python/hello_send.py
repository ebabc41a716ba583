"""Hello: sends one message to a queue."""

from connection import connect

connection = connect()
channel = connection.channel()
channel.queue_declare("example.hello", durable=True)
channel.basic_publish("", "example.hello", b"Hello World!")
print("Sent Hello World!")
connection.close()
