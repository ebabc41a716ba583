"""Work queue: does one task at a time. A task whose worker dies before it is done goes to another one."""

from connection import connect, run_until_interrupted


def on_task(channel, method, properties, body):
    task = body.decode()
    print(f"Received {task}", flush=True)
    # Unlike time.sleep, this keeps the connection's heartbeats going.
    channel.connection.sleep(task.count("."))
    channel.basic_ack(method.delivery_tag)
    print(f"Done {task}", flush=True)


channel = connect().channel()
channel.queue_declare("example.tasks", durable=True)
channel.basic_qos(prefetch_count=1)
channel.basic_consume("example.tasks", on_task)
print("Waiting for tasks", flush=True)
run_until_interrupted(channel)
