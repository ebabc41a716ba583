//! The PHP client php-amqplib of the system packages, run through the story.

use crate::support::{Broker, Running, STORY_MAX, assert_story, php_amqplib_installed, root_dir};

#[test]
fn php_amqplib_goes_through_the_story() {
    if !php_amqplib_installed() {
        return;
    }
    let broker = Broker::start();
    let mut story = broker.command("php");
    story.arg(root_dir().join("tests/clients/php/story.php"));
    let output = Running::spawn(story).succeed(STORY_MAX);
    assert_story(&output, &[]);
}
