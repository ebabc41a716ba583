//! The messaging library kombu by itself, below Celery: from the same venv, run through a story of its own.

use crate::support::{Broker, Running, STORY_MAX, assert_steps, python_installed, python_venv, root_dir};

const STEPS: [&str; 11] = [
    "simple_queue",
    "priorities",
    "delay_by_ttl",
    "expiration_in_seconds",
    "queue_expires",
    "max_length",
    "broadcast",
    "heartbeats",
    "missed_heartbeats",
    "ensure",
    "consumer_mixin",
];

#[test]
fn kombu_goes_through_its_story() {
    if !python_installed() {
        return;
    }
    let broker = Broker::start();
    let mut story = broker.command(python_venv("celery"));
    story.arg("-B").arg(root_dir().join("tests/clients/kombu/story.py"));
    assert_steps(&Running::spawn(story).succeed(STORY_MAX), &STEPS);
}
