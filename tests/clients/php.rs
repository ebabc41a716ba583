//! The PHP client php-amqplib of the system packages, run through the story, and as a job queue in the manner of
//! Laravel's with workers as processes of their own.

use std::process::Command;

use crate::support::{
    Broker, Running, STORY_MAX, assert_steps, assert_story, php_amqplib_installed, root_dir,
};

const QUEUE_STEPS: [&str; 7] = [
    "push_and_work",
    "priorities_of_jobs",
    "later_in_a_queue_that_goes",
    "release_with_backoff",
    "failed_jobs",
    "killed_worker",
    "bulk_size_and_clear",
];

#[test]
fn php_amqplib_goes_through_the_story() {
    if !php_amqplib_installed() {
        return;
    }
    let broker = Broker::start();
    assert_story(&Running::spawn(program(&broker, "story.php")).succeed(STORY_MAX), &[]);
}

#[test]
fn a_job_queue_in_php_delays_retries_and_buries_its_jobs() {
    if !php_amqplib_installed() {
        return;
    }
    let broker = Broker::start();
    assert_steps(&Running::spawn(program(&broker, "queue_story.php")).succeed(STORY_MAX), &QUEUE_STEPS);
}

fn program(broker: &Broker, file: &str) -> Command {
    let mut command = broker.command("php");
    command.arg(root_dir().join("tests/clients/php").join(file));
    command
}
