"""The Celery application that workers and the story share: named after the run, so that runs do not meet.

`STORY_RUN` names everything, `STORY_DIR` is where tasks leave traces, `STORY_BACKEND` keeps results and
`STORY_QUEUE_TYPE` is the type of the default queue.
"""

import os
import pathlib
import time

from celery import Celery
from kombu import Exchange, Queue

RUN = os.environ["STORY_RUN"]
TRACES = pathlib.Path(os.environ["STORY_DIR"])
QUEUE_TYPE = os.environ["STORY_QUEUE_TYPE"]
WAIT_SECONDS = 20
#: Where tasks wait for a worker by their priority.
PRIORITY_QUEUE = f"{RUN}.priority"

app = Celery("tasks", broker=os.environ["AMQP_URI"], backend=os.environ["STORY_BACKEND"])
app.conf.update(
    task_default_queue=RUN,
    task_default_exchange=RUN,
    # Native delayed delivery, which Celery uses with quorum queues, needs a topic exchange.
    task_default_exchange_type="topic",
    task_default_routing_key=RUN,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_store_errors_even_if_ignored=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
    control_exchange=f"{RUN}.control",
    event_exchange=f"{RUN}.events",
    event_queue_prefix=f"{RUN}.events",
)
exchange = Exchange(RUN, type="topic")
default = Queue(RUN, exchange, routing_key=RUN, queue_arguments={"x-queue-type": QUEUE_TYPE})
by_priority = Queue(
    PRIORITY_QUEUE, exchange, routing_key=PRIORITY_QUEUE, queue_arguments={"x-max-priority": 9}
)
if QUEUE_TYPE == "quorum":
    # Quorum queues have no x-max-priority.
    app.conf.update(task_default_queue_type="quorum", task_queues=None)
else:
    app.conf.task_queues = [default, by_priority]


@app.task
def add(left, right):
    return left + right


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True)
def hold(self, name):
    """Says that it runs, and ends when it is told to; the time when it began and whether it came again."""
    began = time.time()
    (TRACES / f"{name}.{os.getpid()}.started").touch()
    deadline = time.monotonic() + WAIT_SECONDS
    while not (TRACES / f"{name}.release").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody released {name}")
        time.sleep(0.01)
    return {
        "began": began,
        "redelivered": self.request.delivery_info["redelivered"],
        # The header of quorum queues; Celery makes attributes of all headers.
        "delivery_count": getattr(self.request, "x-delivery-count", None),
    }


@app.task(bind=True, max_retries=3)
def flaky(self, countdown):
    """Fails twice."""
    with (TRACES / "flaky").open("a") as trace:
        trace.write(f"{self.request.retries}\n")
    if self.request.retries < 2:
        raise self.retry(countdown=countdown, exc=ValueError("not yet"))
    return self.request.retries


@app.task
def now():
    return time.time()


@app.task
def note(text):
    with (TRACES / "notes").open("a") as trace:
        trace.write(f"{text}\n")
