//! The command line tools of the C library rabbitmq-c: declare, publish, get, consume, delete.

use crate::support::{Broker, Running, STORY_MAX, assert_story, installed, root_dir};

/// What the tools have no option for.
const UNSUPPORTED: [&str; 13] = [
    "declare_exchanges",
    "properties",
    "confirms",
    "mandatory_return",
    "transactions",
    "rpc_direct_reply_to",
    "server_sent_cancel",
    "alternate_exchange",
    "cc_header",
    "consumer_tags",
    "purge",
    "exclusive_consumer",
    "recover",
];

#[test]
fn the_tools_of_rabbitmq_c_go_through_their_part_of_the_story() {
    if !installed("amqp-tools", "amqp-publish", "--help") {
        return;
    }
    let broker = Broker::start();
    let story = broker.command(root_dir().join("tests/clients/rabbitmq_c/story.sh"));
    let output = Running::spawn(story).succeed(STORY_MAX);
    assert_story(&output, &UNSUPPORTED);
}
