"""kombu's whole story with the broker that AMQP_URI names; all steps are tried, those that fail are told at the end."""

import sys
import traceback

import connection_steps
import queue_steps

STEPS = (
    ("simple_queue", queue_steps.simple_queue),
    ("priorities", queue_steps.priorities),
    ("delay_by_ttl", queue_steps.delay_by_ttl),
    ("expiration_in_seconds", queue_steps.expiration_in_seconds),
    ("queue_expires", queue_steps.queue_expires),
    ("max_length", queue_steps.max_length),
    ("broadcast", queue_steps.broadcast),
    ("heartbeats", connection_steps.heartbeats),
    ("missed_heartbeats", connection_steps.missed_heartbeats),
    ("ensure", connection_steps.ensure),
    ("consumer_mixin", connection_steps.consumer_mixin),
)


def main():
    failed = []
    for name, step in STEPS:
        try:
            step()
            print(f"ok {name}", flush=True)
        except Exception:
            failed.append(name)
            traceback.print_exc()
    if failed:
        sys.exit(f"failed: {' '.join(failed)}")


if __name__ == "__main__":
    main()
