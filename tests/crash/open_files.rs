//! A limit of open files that clients reach: what is connected goes on, what is durable stays so, and others wait.

use std::net::TcpStream;
use std::process::Command;

use leveret_codec::Properties;

use crate::node::{DataDir, Node, command};
use crate::wire::{Wire, durable_queue};

/// Open files that the broker may have.
const LIMIT: usize = 300;

fn publish_confirmed(wire: &mut Wire, messages: usize) {
    let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
    for _ in 0..messages {
        wire.push_octets("", "q", false, &properties, &[b'x'; 100_000]);
        wire.flush().expect("the broker takes it");
        let last = wire.published();
        wire.await_confirms(last..=last).expect("it is confirmed");
    }
}

#[test]
fn clients_that_take_all_open_files_do_not_stop_the_journal() {
    let dir = DataDir::new("open-files");
    let broker = command(dir.path(), &["--journal-bytes-max", "16MiB"]);
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("ulimit -n {LIMIT} && exec \"$0\" \"$@\"")).arg(broker.get_program());
    limited.args(broker.get_args());
    for (name, value) in broker.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let mut node = Node::start_as(limited);
    let mut wire = Wire::open_confirming(node.port).expect("the broker takes connections");
    wire.declare(durable_queue("q")).expect("a queue");
    let idle: Vec<_> =
        (0..LIMIT + 100).map(|_| TcpStream::connect(("127.0.0.1", node.port)).expect("a place")).collect();
    node.process.wait_for_line("as many clients are connected", crate::support::PROGRAM_MAX);
    // Enough for the journal to go on in other files.
    publish_confirmed(&mut wire, 400);
    drop(idle);
    Wire::open(node.port).expect("there are places again").close().expect("an orderly end");
    wire.close().expect("an orderly end");
    node.stop();
}
