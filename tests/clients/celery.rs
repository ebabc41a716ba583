//! The task queue Celery, with workers as real processes: classic queues with priorities, and quorum queues with
//! Celery's own delays, a ladder of 28 queues with TTL and dead letter exchange.

use crate::support::{Broker, Running, STORY_MAX, assert_steps, python_installed, python_venv, root_dir};

#[test]
fn celery_works_with_classic_queues() {
    go_through(
        "classic",
        &[
            "ping",
            "result",
            "events",
            "retry_with_countdown",
            "eta",
            "revoke_waiting",
            "revoke_running",
            "priorities",
            "prefetch_of_one",
            "killed_worker",
            "warm_shutdown",
        ],
    );
}

#[test]
fn celery_works_with_quorum_queues_and_delays_in_the_broker() {
    go_through(
        "quorum",
        &[
            "ping",
            "default_queue_type",
            "result",
            "native_delay",
            "retry_with_countdown",
            "chord",
            "killed_worker",
            "warm_shutdown",
        ],
    );
}

fn go_through(queue_type: &str, steps: &[&str]) {
    if !python_installed() {
        return;
    }
    let broker = Broker::start();
    let mut story = broker.command(python_venv("celery"));
    story.arg("-B").arg(root_dir().join("tests/clients/celery/story.py")).arg(queue_type);
    assert_steps(&Running::spawn(story).succeed(STORY_MAX), steps);
}
