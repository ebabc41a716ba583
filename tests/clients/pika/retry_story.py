"""pika's story of retries and delays with the broker that AMQP_URI names; all steps are tried.
`retry_story.py --no-delayed` leaves out what RabbitMQ does not ship a plugin for."""

import sys
import traceback

import retry_steps

STEPS = (
    ("dead_letter_headers", retry_steps.dead_letter_headers),
    ("rejected_and_retried", retry_steps.rejected_and_retried),
    ("retry_ladder", retry_steps.retry_ladder),
    ("head_of_line", retry_steps.head_of_line),
    ("overflow", retry_steps.overflow),
    ("circle_of_expiry", retry_steps.circle_of_expiry),
    ("poison_message", retry_steps.poison_message),
    ("delayed_exchange", retry_steps.delayed_exchange),
)


def main():
    failed = []
    for name, step in STEPS:
        if name == "delayed_exchange" and "--no-delayed" in sys.argv:
            continue
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
