//! The Python client pika: installed into a venv of its own, run through the story, one of
//! retries and delays, and the tutorial.

use std::process::Command;

use crate::support::{
    Broker, PROGRAM_MAX, Running, STORY_MAX, assert_steps, assert_story, python_installed, python_with_pika,
    root_dir,
};

const RETRY_STEPS: [&str; 7] = [
    "dead_letter_headers",
    "rejected_and_retried",
    "retry_ladder",
    "head_of_line",
    "overflow",
    "circle_of_expiry",
    "poison_message",
];

#[test]
fn pika_goes_through_the_story() {
    if !python_installed() {
        return;
    }
    let broker = Broker::start();
    let output = Running::spawn(program(&broker, "story.py")).succeed(STORY_MAX);
    assert_story(&output, &[]);
}

#[test]
fn pika_retries_and_delays_by_dead_letters() {
    if !python_installed() {
        return;
    }
    let broker = Broker::start();
    let mut story = program(&broker, "retry_story.py");
    let mut steps = RETRY_STEPS.to_vec();
    if broker.is_leveret() {
        steps.push("delayed_exchange");
    } else {
        story.arg("--no-delayed");
    }
    assert_steps(&Running::spawn(story).succeed(STORY_MAX), &steps);
}

#[test]
fn the_tutorials_receiver_prints_what_its_sender_sends() {
    if !python_installed() {
        return;
    }
    let broker = Broker::start();
    let mut receiver = Running::spawn(tutorial(&broker, "tutorial_receive.py"));
    receiver.wait_for_line(" [*] Waiting for messages", PROGRAM_MAX);
    let sent = Running::spawn(tutorial(&broker, "tutorial_send.py")).succeed(PROGRAM_MAX);
    assert_eq!(sent, " [x] Sent 'Hello World!'\n");
    receiver.wait_for_line(" [x] Received b'Hello World!'", PROGRAM_MAX);
}

fn program(broker: &Broker, file: &str) -> Command {
    let mut command = broker.command(python_with_pika());
    command.arg("-B").arg(root_dir().join("tests/clients/pika").join(file));
    command
}

/// The tutorial's programs know no port but pika's default, which a `sitecustomize` moves.
fn tutorial(broker: &Broker, file: &str) -> Command {
    let mut command = program(broker, file);
    command.env("PYTHONPATH", root_dir().join("tests/clients/pika/tutorial_port"));
    command
}
