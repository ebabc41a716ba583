"""Steps that a worker goes through whatever the type of its queue."""

import datetime
import pathlib
import subprocess
import threading
import time

from amqp.exceptions import ChannelError
from celery import uuid

import tasks
from support import FOLDER, WAIT_SECONDS, Worker, celery, equal, true, wait_for


class Crew:
    """The worker at work, another one after a step has killed it."""

    def __init__(self, worker, folder):
        self.worker = worker
        self.folder = pathlib.Path(folder)

    def running(self, name):
        """The traces of a held task, one for each process that has begun it."""
        return wait_for(f"task {name} begins", lambda: list(self.folder.glob(f"{name}.*.started")))

    def release(self, name):
        (self.folder / f"{name}.release").touch()


def ping(crew):
    """The control exchange is a fanout, the answers come by a queue of the asker's."""
    replies = tasks.app.control.ping(timeout=WAIT_SECONDS, limit=1)
    equal("answers to ping", [{crew.worker.name: {"ok": "pong"}}], replies)
    command = celery("inspect", "--timeout", "3", "--destination", crew.worker.name, "ping")
    asked = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=WAIT_SECONDS * 2)
    true(f"`celery inspect ping` says pong: {asked.stdout}{asked.stderr}", "pong" in asked.stdout)


def result(_crew):
    results = [tasks.add.delay(number, 1) for number in range(20)]
    equal("results", list(range(1, 21)), [each.get(timeout=WAIT_SECONDS) for each in results])


def events(_crew):
    """A worker tells what it does, to whoever listens."""
    seen, done, task_id = [], threading.Event(), uuid()

    def on_event(event):
        if event.get("uuid") == task_id:
            seen.append(event["type"])
            if event["type"] == "task-succeeded":
                done.set()
                receiver.should_stop = True

    with tasks.app.connection() as connection:
        receiver = tasks.app.events.Receiver(connection, handlers={"*": on_event}, routing_key="task.#")
        listening = threading.Event()
        receiver.on_consume_ready = lambda *_args, **_kwargs: listening.set()
        thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=WAIT_SECONDS, wakeup=False))
        thread.start()
        true("the receiver of events consumes", listening.wait(WAIT_SECONDS))
        tasks.add.apply_async((1, 1), task_id=task_id)
        true(f"the events of a task within {WAIT_SECONDS} s, got {seen}", done.wait(WAIT_SECONDS))
        thread.join(WAIT_SECONDS)
    # The receiver hears each once; received and started are told before succeeded.
    equal("events of the task", ["task-received", "task-started", "task-succeeded"], seen)


def retry_with_countdown(crew):
    began = time.time()
    equal("retries of a task that fails twice", 2, tasks.flaky.delay(1).get(timeout=WAIT_SECONDS))
    equal("runs of it", ["0", "1", "2"], (crew.folder / "flaky").read_text().split())
    true("two countdowns of a second have passed", time.time() - began >= 2)


def eta(_crew):
    due = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
    ran = tasks.now.apply_async(eta=due).get(timeout=WAIT_SECONDS)
    true(f"not before its time: {ran - due.timestamp():.3f} s", ran >= due.timestamp())


def killed_worker(crew):
    """A task that was being worked on goes to the next worker, since it is acknowledged at its end."""
    held = tasks.hold.delay("killed")
    first_run = crew.running("killed")
    crew.worker.kill()
    crew.worker = Worker("second", crew.folder, "--without-mingle").wait_until_ready()
    wait_for("the task runs again", lambda: len(crew.running("killed")) > len(first_run))
    crew.release("killed")
    told = held.get(timeout=WAIT_SECONDS)
    equal("the task came again marked so", True, told["redelivered"])
    # Quorum queues count how often a message was handed out before, others do not.
    count = 1 if tasks.QUEUE_TYPE == "quorum" else None
    equal("x-delivery-count of the task", count, told["delivery_count"])


def warm_shutdown(crew):
    """What runs ends; what waits stays in the queue."""
    running = tasks.hold.delay("last")
    crew.running("last")
    waiting = tasks.add.delay(2, 3)
    crew.worker.process.terminate()
    wait_for("the worker is told to end", lambda: "Warm shutdown" in crew.worker.log.read_text())
    crew.release("last")
    true("the running task ends with the worker", running.get(timeout=WAIT_SECONDS))
    equal("exit code of the worker", 0, crew.worker.process.wait(WAIT_SECONDS))
    crew.worker = Worker("third", crew.folder, "--without-mingle").wait_until_ready()
    equal("the waiting task", 5, waiting.get(timeout=WAIT_SECONDS))
    equal("exit code of a worker with nothing to do", 0, crew.worker.stop())


def clean_up():
    """Durable things of this run. Those of native delay have names that all applications share."""
    with tasks.app.connection() as connection:
        for queue in (tasks.RUN, tasks.PRIORITY_QUEUE, *delayed("celery_delayed_{}")):
            connection.channel().queue_delete(queue)
        for exchange in (tasks.RUN, f"{tasks.RUN}.control.pidbox", f"reply.{tasks.RUN}.control.pidbox",
                         f"{tasks.RUN}.events", "celery_delayed_delivery", *delayed("celery_delayed_{}")):
            try:
                connection.channel().exchange_delete(exchange)
            except ChannelError:
                pass


def delayed(pattern):
    return [pattern.format(level) for level in range(28)] if tasks.QUEUE_TYPE == "quorum" else []
