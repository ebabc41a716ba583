//! `leveret check` by hand of an operator: what it says of a directory, and the exit code that scripts go by.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use leveret_codec::Properties;

use crate::node::{DataDir, Node, program};
use crate::support::{Ended, PROGRAM_MAX, Running};
use crate::wire::{Wire, durable_queue};

/// Messages in each queue.
const MESSAGES: u64 = 200;

fn check_of(data_dir: &Path) -> Command {
    let mut command = program();
    command.args(["check", "--data-dir"]).arg(data_dir);
    command
}

fn check(data_dir: &Path) -> Ended {
    Running::spawn(check_of(data_dir)).wait(PROGRAM_MAX)
}

/// What the check says of a directory that is not sound.
pub(crate) fn unsound(data_dir: &Path) -> Option<String> {
    let ended = check(data_dir);
    (ended.status.code() != Some(0)).then(|| format!("not sound: {}{}", ended.stdout, ended.stderr))
}

/// Publishes persistent messages, one confirmed after the other.
fn fill(port: u16, queue: &str) {
    let mut wire = Wire::open_confirming(port).expect("the broker takes connections");
    wire.declare(durable_queue(queue)).expect("a queue");
    let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
    for _ in 0..MESSAGES {
        wire.push_octets("", queue, false, &properties, &[b'x'; 500]);
        wire.flush().expect("the broker takes it");
        let last = wire.published();
        wire.await_confirms(last..=last).expect("it is confirmed");
    }
}

/// A directory with two queues: one's messages in blocks, the other's in the journal.
fn data_dir(name: &str) -> DataDir {
    let data_dir = DataDir::new(name);
    let node = Node::start(data_dir.path(), &[]);
    fill(node.port, "in blocks");
    node.stop();
    let mut node = Node::start(data_dir.path(), &[]);
    fill(node.port, "in the journal");
    node.kill();
    data_dir
}

/// Changes an octet in the newest file that ends in `extension` and has `marker` in it, within the first one there.
fn damage(folder: &Path, extension: &str, marker: &[u8]) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    for path in paths.into_iter().rev() {
        let mut octets = fs::read(&path).expect("a file that can be read");
        if let Some(at) = octets.windows(marker.len()).position(|window| window == marker) {
            octets[at + marker.len() / 2] ^= 1;
            fs::write(&path, octets).expect("a file that can be written");
            return;
        }
    }
    panic!("no file in {} holds what is looked for", folder.display());
}

#[test]
fn a_sound_directory_is_told_and_exits_with_0() {
    let data_dir = data_dir("check-sound");
    let ended = check(data_dir.path());
    assert_eq!(ended.status.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    for line in [
        "queue 'in blocks' in vhost '/': 200 messages in blocks, 0 in the journal",
        "queue 'in the journal' in vhost '/': 0 messages in blocks, 200 in the journal",
        "2 queues with 400 messages; damages: 0",
        &format!("{}: sound", data_dir.path().display()),
    ] {
        assert!(ended.stdout.lines().any(|told| told == line), "no line {line:?} in {}", ended.stdout);
    }
    let node = Node::start(data_dir.path(), &[]);
    let mut wire = node.connect();
    assert_eq!(wire.count("in blocks").expect("an answer"), Some(200));
    assert_eq!(wire.count("in the journal").expect("an answer"), Some(200));
    wire.close().expect("an orderly end");
    node.stop();
}

#[test]
fn a_terminal_shows_a_bar_and_the_report_stays_as_it_is() {
    let data_dir = data_dir("check-terminal");
    let wanted = check(data_dir.path());
    let ended = Running::spawn_on_terminal(check_of(data_dir.path())).wait(PROGRAM_MAX);
    assert_eq!((ended.status.code(), ended.stdout), (Some(0), wanted.stdout));
    for shown in ["reading the journal", "reading blocks"] {
        assert!(ended.stderr.contains(shown), "no {shown} in {:?}", ended.stderr);
    }
}

#[test]
fn damage_is_told_with_its_queue_and_exits_with_1() {
    for (folder, extension, queue) in
        [("blocks/durable", "blocks", "in blocks"), ("journal", "journal", "in the journal")]
    {
        let data_dir = data_dir("check-damaged");
        damage(&data_dir.path().join(folder), extension, &[b'x'; 400]);
        let ended = check(data_dir.path());
        assert_eq!(ended.status.code(), Some(1), "{}{}", ended.stdout, ended.stderr);
        let told = ended.stdout.lines().find(|line| line.ends_with(", DAMAGED")).unwrap_or_default();
        assert!(told.starts_with(&format!("queue '{queue}' in vhost '/'")), "{}", ended.stdout);
        let last = ended.stdout.lines().last().unwrap_or_default();
        assert_eq!(last, format!("{}: damaged", data_dir.path().display()));
    }
}

#[test]
fn a_directory_in_use_missing_or_of_nobody_exits_with_2() {
    let data_dir = DataDir::new("check-not");
    let ended = check(data_dir.path());
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("there is no such directory"), "{}", ended.stderr);
    fs::create_dir_all(data_dir.path()).expect("a folder can be made");
    let ended = check(data_dir.path());
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("nothing of a broker"), "{}", ended.stderr);
    let node = Node::start(data_dir.path(), &[]);
    let ended = check(data_dir.path());
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("in use by another process"), "{}", ended.stderr);
    // The broker has not noticed.
    node.connect().declare(durable_queue("q")).expect("a queue");
    node.stop();
}

/// The whole way: the database is garbage, the check says what a start will do, and the start does it.
#[test]
fn a_broker_whose_database_is_garbage_comes_back_with_all_messages() {
    let data_dir = data_dir("check-garbage");
    let database = data_dir.path().join("catalog/db");
    let size = fs::metadata(&database).expect("there is a database").len();
    fs::write(&database, vec![0xa5; usize::try_from(size).expect("a small file")])
        .expect("it can be written");
    let ended = check(data_dir.path());
    assert_eq!(ended.status.code(), Some(1), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("makes the catalog anew"), "{}", ended.stdout);
    let mut node = Node::start(data_dir.path(), &[]);
    let mut wire = node.connect();
    assert_eq!(wire.count("in blocks").expect("an answer"), Some(200));
    assert_eq!(wire.count("in the journal").expect("an answer"), Some(200));
    wire.close().expect("an orderly end");
    let log = node.process.stderr_so_far();
    assert!(log.contains("these messages came back, be they settled or not"), "{log}");
    node.kill();
    let node = Node::start(data_dir.path(), &[]);
    assert_eq!(node.connect().count("in blocks").expect("an answer"), Some(200));
    node.stop();
    assert_eq!(check(data_dir.path()).status.code(), Some(0));
}
