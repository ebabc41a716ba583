"""pika's whole story with the broker that AMQP_URI names; stops at the first step that fails."""

import sys
import traceback

import error_steps
import message_steps
import topology_steps

STEPS = (
    ("connect", topology_steps.connection_step),
    ("declare_exchanges", topology_steps.declare_exchanges),
    ("declare_queues", topology_steps.declare_queues),
    ("bind_and_route", topology_steps.bind_and_route),
    ("properties", message_steps.properties),
    ("acknowledgements", message_steps.acknowledgements),
    ("prefetch", message_steps.prefetch),
    ("confirms", message_steps.confirms),
    ("mandatory_return", message_steps.mandatory_return),
    ("transactions", message_steps.transactions),
    ("get", message_steps.get),
    ("rpc_direct_reply_to", message_steps.rpc_direct_reply_to),
    ("large_body", message_steps.large_body),
    ("server_sent_cancel", error_steps.server_sent_cancel),
    ("channel_errors", error_steps.channel_errors),
    ("wrong_password", topology_steps.wrong_password),
    ("heartbeats", topology_steps.heartbeats),
    ("alternate_exchange", topology_steps.alternate_exchange),
    ("cc_header", topology_steps.cc_header),
    ("consumer_tags", error_steps.consumer_tags),
    ("purge", topology_steps.purge),
    ("delete_conditions", error_steps.delete_conditions),
    ("exclusive_consumer", error_steps.exclusive_consumer),
    ("recover", message_steps.recover),
)


def main():
    for name, step in STEPS:
        try:
            step()
        except Exception:
            traceback.print_exc()
            sys.exit(f"failed {name}")
        print(f"ok {name}", flush=True)


if __name__ == "__main__":
    main()
