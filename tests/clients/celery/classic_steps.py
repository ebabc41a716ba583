"""Steps that need what only classic queues have: priorities, and one prefetch for the whole channel."""

from celery.exceptions import TaskRevokedError

import tasks
from support import WAIT_SECONDS, equal, raises, wait_for


def revoke_waiting(crew):
    """Told to all workers by the control exchange, before the task has begun."""
    tasks.hold.delay("blocker")
    crew.running("blocker")
    waiting = tasks.add.delay(1, 1)
    waiting.revoke()
    inspect = tasks.app.control.inspect(destination=[crew.worker.name], timeout=WAIT_SECONDS, limit=1)
    wait_for("the worker knows what is revoked", lambda: waiting.id in str(inspect.revoked()))
    crew.release("blocker")
    raises("a revoked task", TaskRevokedError, lambda: waiting.get(timeout=WAIT_SECONDS))


def revoke_running(crew):
    """The process that runs it is ended."""
    running = tasks.hold.delay("doomed")
    crew.running("doomed")
    running.revoke(terminate=True, signal="SIGKILL")
    raises("a task that was terminated", TaskRevokedError, lambda: running.get(timeout=WAIT_SECONDS))


def priorities(crew):
    """The higher one first, whatever the order in which they were sent."""
    order = [0, 9, 3, 7, 5, 3]
    control = {"destination": [crew.worker.name], "reply": True, "timeout": WAIT_SECONDS, "limit": 1}
    tasks.app.control.cancel_consumer(tasks.PRIORITY_QUEUE, **control)
    # The worker answers that it will; when it has, the broker knows.
    wait_for("nobody consumes the queue", lambda: consumers(tasks.PRIORITY_QUEUE) == 0)
    results = [
        tasks.note.apply_async((f"{priority}",), queue=tasks.PRIORITY_QUEUE, priority=priority)
        for priority in order
    ]
    tasks.app.control.add_consumer(tasks.PRIORITY_QUEUE, **control)
    for each in results:
        each.get(timeout=WAIT_SECONDS)
    notes = (crew.folder / "notes").read_text().split()
    equal("order of the tasks", sorted(map(str, order), reverse=True), notes)


def consumers(queue):
    with tasks.app.connection() as connection:
        return connection.channel().queue_declare(queue, passive=True).consumer_count


def prefetch_of_one(crew):
    """With a prefetch of one and late acknowledgement, all but the running task wait in the broker."""
    running = tasks.hold.delay("only")
    crew.running("only")
    for number in range(5):
        tasks.add.delay(number, 1)
    with tasks.app.connection() as connection:
        channel = connection.channel()
        ready = channel.queue_declare(tasks.RUN, passive=True).message_count
        equal("tasks that wait in the queue", 5, ready)
    crew.release("only")
    running.get(timeout=WAIT_SECONDS)
