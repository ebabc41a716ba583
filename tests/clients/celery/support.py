"""What the steps need: workers as real processes, and checks that explain themselves."""

import os
import pathlib
import signal
import subprocess
import sys
import time

WAIT_SECONDS = 20
FOLDER = pathlib.Path(__file__).parent


class StepFailed(Exception):
    pass


def equal(what, expected, actual):
    if expected != actual:
        raise StepFailed(f"{what}: expected {expected!r}, got {actual!r}")


def true(what, condition):
    if not condition:
        raise StepFailed(f"expected: {what}")


def raises(what, exception, action):
    try:
        result = action()
    except exception as error:
        return error
    raise StepFailed(f"{what}: expected {exception.__name__}, got {result!r}")


def wait_for(what, condition, seconds=WAIT_SECONDS):
    """What the condition gives once that is true in Python's sense."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        true(f"{what} within {seconds} s", time.monotonic() < deadline)
        time.sleep(0.02)
    return value


def celery(*arguments):
    return [sys.executable, "-B", "-m", "celery", "--app", "tasks", *arguments]


class Worker:
    """`celery worker` with one child process, in a process group of its own."""

    def __init__(self, name, log_folder, *options):
        self.name = f"{name}@story"
        self.log = pathlib.Path(log_folder) / f"{name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                celery("worker", "--hostname", self.name, "--concurrency", "1", "--loglevel", "INFO", *options),
                cwd=FOLDER, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )

    def wait_until_ready(self):
        wait_for(f"{self.name} ready", self.is_ready)
        return self

    def is_ready(self):
        true(f"{self.name} runs; its log:\n{self.log.read_text()}", self.process.poll() is None)
        return f"{self.name} ready." in self.log.read_text()

    def kill(self):
        """As the kernel does when memory runs out: no goodbye from any of its processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(WAIT_SECONDS)

    def stop(self):
        """A warm shutdown: what runs ends, then the worker does."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_SECONDS)

    def end(self):
        if self.process.poll() is None:
            self.kill()
