"""Celery's whole story with the broker that AMQP_URI names. `story.py classic` or `story.py quorum` is the type of the
default queue; all steps are tried, those that fail are told at the end."""

import os
import pathlib
import shutil
import sys
import tempfile
import traceback
import uuid

QUEUE_TYPE = sys.argv[1]
FOLDER = tempfile.mkdtemp(prefix="celery-story-")
os.environ["STORY_DIR"] = FOLDER
os.environ["STORY_RUN"] = f"celery.{uuid.uuid4().hex[:12]}"
os.environ["STORY_QUEUE_TYPE"] = QUEUE_TYPE
# The result backend rpc:// answers over the broker but knows no chords; a folder does.
os.environ["STORY_BACKEND"] = "rpc://" if QUEUE_TYPE == "classic" else f"file://{FOLDER}/results"
pathlib.Path(FOLDER, "results").mkdir()

import classic_steps
import quorum_steps
import worker_steps
from support import Worker

STEPS = {
    "classic": (
        ("ping", worker_steps.ping),
        ("result", worker_steps.result),
        ("events", worker_steps.events),
        ("retry_with_countdown", worker_steps.retry_with_countdown),
        ("eta", worker_steps.eta),
        ("revoke_waiting", classic_steps.revoke_waiting),
        ("revoke_running", classic_steps.revoke_running),
        ("priorities", classic_steps.priorities),
        ("prefetch_of_one", classic_steps.prefetch_of_one),
        ("killed_worker", worker_steps.killed_worker),
        ("warm_shutdown", worker_steps.warm_shutdown),
    ),
    "quorum": (
        ("ping", worker_steps.ping),
        ("default_queue_type", quorum_steps.default_queue_type),
        ("result", worker_steps.result),
        ("native_delay", quorum_steps.native_delay),
        ("retry_with_countdown", worker_steps.retry_with_countdown),
        ("chord", quorum_steps.chord_of_ten),
        ("killed_worker", worker_steps.killed_worker),
        ("warm_shutdown", worker_steps.warm_shutdown),
    ),
}


def main():
    failed = []
    crew = worker_steps.Crew(Worker("first", FOLDER), FOLDER)
    try:
        crew.worker.wait_until_ready()
        for name, step in STEPS[QUEUE_TYPE]:
            try:
                step(crew)
                print(f"ok {name}", flush=True)
            except Exception:
                failed.append(name)
                traceback.print_exc()
    finally:
        crew.worker.end()
        worker_steps.clean_up()
        if failed:
            for log in sorted(pathlib.Path(FOLDER).glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()}", file=sys.stderr)
        shutil.rmtree(FOLDER, ignore_errors=True)
    if failed:
        sys.exit(f"failed: {' '.join(failed)}")


if __name__ == "__main__":
    main()
