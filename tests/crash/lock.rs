//! The data directory itself: one broker at a time, for its owner alone, and nothing in it that should have gone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use leveret_codec::Properties;
use leveret_codec::method::queue;

use crate::node::{DataDir, Node, command};
use crate::support::{PROGRAM_MAX, Running};
use crate::wire::{Wire, durable_queue};

const MIB: u64 = 1024 * 1024;

#[test]
fn a_second_broker_on_a_data_directory_is_refused_in_one_line() {
    let data_dir = DataDir::new("second");
    let mut first = Node::start(data_dir.path(), &[]);
    first.connect().declare(durable_queue("q")).expect("a queue");
    let ended = Running::spawn(command(data_dir.path(), &[])).wait(PROGRAM_MAX);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let last = ended.stderr.lines().last().unwrap_or_default();
    let path = data_dir.path().display().to_string();
    assert!(last.contains(&path) && last.contains("another"), "{}", ended.stderr);
    // The first has not noticed.
    assert_eq!(first.connect().count("q").expect("an answer"), Some(0));
    first.assert_sane_log();
    // A lock that outlives its owner would be worse than none.
    first.kill();
    let third = Node::start(data_dir.path(), &[]);
    assert_eq!(third.connect().count("q").expect("an answer"), Some(0));
    third.stop();
}

#[test]
fn the_data_directory_is_for_its_owner_alone() {
    let data_dir = DataDir::new("mode");
    let node = Node::start(data_dir.path(), &[]);
    node.connect().declare(durable_queue("q")).expect("a queue");
    let mode = fs::metadata(data_dir.path()).expect("the directory is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(fs::read_dir(data_dir.path()).expect("it can be read").next().is_some(), "something is kept");
    node.stop();
}

#[test]
fn what_was_transient_leaves_no_octets_behind() {
    let data_dir = DataDir::new("transient");
    let flags = ["--message-cache-bytes", "4MiB", "--journal-bytes-max", "16MiB"];
    let mut node = Node::start(data_dir.path(), &flags);
    let mut owner = node.connect();
    owner.declare(queue::Declare { durable: false, ..durable_queue("transient") }).expect("a queue");
    owner.declare(queue::Declare { exclusive: true, ..durable_queue("exclusive") }).expect("a queue");
    owner.declare(durable_queue("durable")).expect("a queue");
    let mut wire = Wire::open_confirming(node.port).expect("the broker takes connections");
    for (queue, delivery_mode) in [("transient", 2), ("exclusive", 2), ("durable", 1)] {
        fill(&mut wire, queue, delivery_mode);
    }
    // Most of 48 MiB has to leave memory, in the broker's own time.
    let deadline = Instant::now() + PROGRAM_MAX;
    while kept_bytes(data_dir.path()) < 32 * MIB {
        assert!(Instant::now() < deadline, "{} octets are on the disk", kept_bytes(data_dir.path()));
        thread::sleep(Duration::from_millis(10));
    }
    node.kill();
    let node = Node::start(data_dir.path(), &flags);
    let mut wire = node.connect();
    assert_eq!(wire.count("transient").expect("an answer"), None);
    assert_eq!(wire.count("exclusive").expect("an answer"), None);
    assert_eq!(wire.count("durable").expect("an answer"), Some(0));
    wire.close().expect("an orderly end");
    let left = kept_bytes(data_dir.path());
    assert!(left < 8 * MIB, "{left} octets of what nobody can ever get");
    node.stop();
}

/// Publishes 16 MiB in messages of 16 KiB; the publishes are confirmed.
fn fill(wire: &mut Wire, queue: &str, delivery_mode: u8) {
    let properties = Properties { delivery_mode: Some(delivery_mode), ..Properties::default() };
    let first = wire.published() + 1;
    for _ in 0..16 {
        for _ in 0..64 {
            wire.push_octets("", queue, false, &properties, &[b'x'; 16 * 1024]);
        }
        wire.flush().expect("the broker takes it");
    }
    wire.await_confirms(first..=wire.published()).expect("all are confirmed");
}

/// Octets under a data directory without the journal, whose files are made longer than what is in them, and without
/// what is kept for a full disk.
fn kept_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("the directory can be read").flatten();
    let sizes = entries.map(|entry| {
        let is_journal = entry.file_name() == "journal";
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() && !is_journal => kept_bytes(&entry.path()),
            Ok(metadata) if metadata.is_file() && entry.file_name() != "reserve" => metadata.len(),
            // It was deleted meanwhile.
            _ => 0,
        }
    });
    sizes.sum()
}
