//! A small file system of the test's own, filled to its end: nothing confirmed is lost, nothing unsafe is confirmed,
//! consumers are served, and when there is room again publishers go on.
//!
//! It is a tmpfs in a mount namespace, which needs no privileges where user namespaces are allowed. A process holds
//! the namespace, so that the file system outlives the broker.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::ledger::{Answer, ConsumeLog, Ledger, PublishLog, Settled};
use crate::message::{Content, Key};
use crate::node::{DataDir, Node, command};
use crate::support::{PROGRAM_MAX, Running, possible};
use crate::wire::{Incoming, PATIENCE, Wire, durable_queue};

/// Size of the file system.
const DISK: &str = "size=96m,mode=0700";

/// Room that is not the broker's at first, and is given to it later, in two parts.
const BALLAST_MIB: [u32; 2] = [6, 6];

/// Octets of a message where the disk is to be full soon, ...
const SIZE: usize = 20_000;

/// ... and where the broker is to see it coming: it looks ten times in a second.
const SMALL_SIZE: usize = 3_000;

/// What has to be free, if anything.
const FREE_LIMIT: &str = "24MiB";

/// Publishes without an answer.
const WINDOW: usize = 25;

/// More than fits.
const MESSAGES_MAX: usize = 100_000;

/// What a broker on the small disk keeps in memory and in its journal.
const SMALL: [&str; 4] = ["--message-cache-bytes", "4MiB", "--journal-bytes-max", "16MiB"];

/// For so long nothing has to come before it counts as withheld.
const SILENCE: Duration = Duration::from_secs(3);

/// A mounted file system, and the process that holds it.
struct SmallDisk {
    holder: Running,
    mount_point: DataDir,
    /// Flags of `nsenter` for its namespaces.
    namespaces: &'static [&'static str],
}

impl SmallDisk {
    /// Mounts it, or says that the test is skipped.
    fn mount() -> Option<Self> {
        let mount_point = DataDir::new("small-disk");
        std::fs::create_dir_all(mount_point.path()).expect("a folder can be made");
        let ways: [(&[&str], &[&str]); 2] = [
            (&["--user", "--map-root-user", "--mount"], &["--user", "--preserve-credentials", "--mount"]),
            (&["--mount"], &["--mount"]),
        ];
        let way = ways.into_iter().find(|(unshare, _)| {
            let mut trial = Command::new("unshare");
            trial.args(*unshare).args(["mount", "-t", "tmpfs", "-o", DISK, "small"]).arg(mount_point.path());
            trial.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            trial.status().is_ok_and(|status| status.success())
        });
        if !possible("mounting in a namespace of one's own", way.is_some()) {
            return None;
        }
        let (unshare, namespaces) = way?;
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs -o \"$1\" small \"$0\" && echo mounted && exec sleep 3600";
        command.args(unshare).args(["sh", "-c", script]).arg(mount_point.path()).arg(DISK);
        let mut holder = Running::spawn(command);
        holder.wait_for_line("mounted", PROGRAM_MAX);
        Some(Self { holder, mount_point, namespaces })
    }

    /// A program that sees it.
    fn inside(&self, program: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.pid().to_string()]).args(self.namespaces).arg("--");
        command.arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(program);
        command.args(arguments);
        Running::spawn(self.inside(&command)).succeed(PROGRAM_MAX);
    }

    fn ballast(&self, part: usize) -> String {
        self.mount_point.path().join(format!("ballast-{part}")).display().to_string()
    }

    fn fill_with_ballast(&self) {
        for (part, mib) in BALLAST_MIB.into_iter().enumerate() {
            self.run("fallocate", &["--length", &format!("{mib}MiB"), &self.ballast(part)]);
        }
    }

    fn drop_ballast(&self, part: usize) {
        self.run("rm", &[&self.ballast(part)]);
    }

    fn start(&self, free_limit: &str) -> Node {
        let data_dir = self.mount_point.path().join("data");
        let flags = [SMALL.as_slice(), &["--disk-free-limit-bytes", free_limit]].concat();
        Node::start_as(self.inside(&command(Path::new(&data_dir), &flags)))
    }
}

/// Publishes to one queue and counts what is confirmed.
struct Filler {
    wire: Wire,
    publisher: u32,
    size: usize,
    published: Vec<(Content, Answer)>,
    awaited: BTreeSet<u64>,
    /// How often it was told to go on.
    unblocked: u32,
}

/// Why a filler stopped.
#[derive(Debug, PartialEq, Eq)]
enum Stopped {
    Blocked(String),
    Nacked,
    Withheld,
}

impl Filler {
    fn open(node: &Node, publisher: u32, size: usize) -> Self {
        let wire = Wire::open_confirming(node.port).expect("the broker takes connections");
        Self { wire, publisher, size, published: Vec::new(), awaited: BTreeSet::new(), unblocked: 0 }
    }

    fn publish(&mut self) {
        let sequence = u32::try_from(self.published.len()).expect("few messages");
        let content =
            Content { key: Key { publisher: self.publisher, sequence }, size: self.size, persistent: true };
        self.published.push((content, Answer::Awaited));
        self.awaited.insert(self.published.len() as u64);
        self.wire.push_message("", "q", &content);
    }

    /// Publishes until the broker does not want more.
    fn fill(&mut self) -> Stopped {
        loop {
            assert!(self.published.len() < MESSAGES_MAX, "the disk does not get full");
            while self.awaited.len() < WINDOW {
                self.publish();
            }
            self.wire.flush().expect("the broker takes it");
            if let Err(stopped) = self.take_answer(SILENCE) {
                return stopped;
            }
        }
    }

    /// The same until the broker says so.
    fn fill_until_blocked(&mut self) {
        loop {
            match self.fill() {
                Stopped::Blocked(reason) => return assert_eq!(reason, "low on disk"),
                // It tells those who publish, and this one waits for confirms.
                Stopped::Withheld => self.publish(),
                Stopped::Nacked => panic!("a publish was refused"),
            }
        }
    }

    /// Waits for one answer.
    fn take_answer(&mut self, patience: Duration) -> Result<(), Stopped> {
        match self.wire.next_before(Instant::now() + patience) {
            Ok(Incoming::Confirm { tag, multiple, taken }) => {
                let settled: Vec<u64> =
                    self.awaited.iter().copied().filter(|&one| one == tag || multiple && one < tag).collect();
                for one in settled {
                    self.awaited.remove(&one);
                    if taken {
                        self.published[usize::try_from(one).expect("a count") - 1].1 = Answer::Confirmed;
                    }
                }
                if taken { Ok(()) } else { Err(Stopped::Nacked) }
            }
            Ok(Incoming::Blocked(reason)) => Err(Stopped::Blocked(reason)),
            Ok(Incoming::Unblocked) => {
                self.unblocked += 1;
                Ok(())
            }
            Ok(other) => panic!("a publisher got {other:?}"),
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(Stopped::Withheld),
            Err(error) => panic!("the publisher's connection ended: {error}"),
        }
    }

    /// Waits until all is confirmed; what the broker has to say meanwhile is of no interest.
    fn await_all(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.awaited.is_empty() {
            assert!(Instant::now() < deadline, "{} publishes are not confirmed", self.awaited.len());
            if self.take_answer(PATIENCE) == Err(Stopped::Withheld) {
                panic!("{} publishes are not confirmed", self.awaited.len());
            }
        }
    }

    fn confirmed(&self) -> usize {
        self.published.iter().filter(|(_, answer)| *answer == Answer::Confirmed).count()
    }

    fn into_log(self) -> PublishLog {
        PublishLog { queues: vec!["q".to_owned()], published: self.published }
    }
}

/// Consumes and acknowledges `count` messages.
fn drain(node: &Node, count: usize) -> ConsumeLog {
    let mut wire = node.connect();
    wire.consume("q", 100).expect("the queue is there");
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        match wire.next() {
            Ok(Incoming::Delivery(delivery)) => {
                let content = Content::read(&delivery).unwrap_or_else(|text| panic!("{text}"));
                deliveries.push((content, delivery.redelivered, Settled::Sent));
                wire.push_ack(delivery.tag, false);
                wire.flush().expect("the broker takes acks");
            }
            other => panic!("after {} of {count} messages: {other:?}", deliveries.len()),
        }
    }
    wire.close().expect("an orderly end");
    ConsumeLog { queue: "q".to_owned(), deliveries }
}

/// Whether all that was confirmed has been delivered, once and in order.
fn assert_complete<const N: usize>(logs: [PublishLog; N], consumed: &ConsumeLog) {
    let mut ledger = Ledger::default();
    let delivered: BTreeSet<Key> = consumed.deliveries.iter().map(|(content, ..)| content.key).collect();
    let published = logs.iter().flat_map(|log| &log.published);
    let is_missing = |(content, answer): &&(Content, Answer)| {
        *answer == Answer::Confirmed && !delivered.contains(&content.key)
    };
    let missing: Vec<_> = published.filter(is_missing).map(|(content, _)| content.key).collect();
    assert!(missing.is_empty(), "{} confirmed messages are lost: {missing:?}", missing.len());
    assert_eq!(delivered.len(), consumed.deliveries.len(), "something came twice");
    logs.iter().for_each(|log| ledger.record_publishes(log));
    assert_eq!(ledger.record_deliveries(consumed), []);
}

/// Waits for a warning in the log that names the disk.
fn assert_log_says_why(node: &mut Node) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = node.process.stderr_so_far();
        let is_reason = |line: &str| {
            let line = line.to_lowercase();
            (line.contains("warn") || line.contains("error"))
                && (line.contains("disk") || line.contains("no space") || line.contains("storage full"))
        };
        if log.lines().any(is_reason) {
            return;
        }
        assert!(Instant::now() < deadline, "the log does not say why:\n{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn count(node: &Node) -> usize {
    node.connect().count("q").expect("an answer").expect("the queue is there") as usize
}

#[test]
fn a_disk_below_its_limit_blocks_publishers_until_consumers_made_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut node = disk.start(FREE_LIMIT);
    node.connect().declare(durable_queue("q")).expect("a queue");
    let mut filler = Filler::open(&node, 1, SMALL_SIZE);
    filler.fill_until_blocked();
    println!("blocked with {} of {} messages confirmed", filler.confirmed(), filler.published.len());
    assert!(filler.confirmed() > 100, "{} messages fit", filler.confirmed());
    assert_log_says_why(&mut node);
    node.kill();
    let first = filler.into_log();

    let mut node = disk.start(FREE_LIMIT);
    let mut late = Filler::open(&node, 2, SMALL_SIZE);
    // What was in the journal may have been written elsewhere since, so that there is some room again.
    late.fill_until_blocked();
    let mut consumed = drain(&node, count(&node));
    late.await_all();
    assert!(late.unblocked > 0, "it was told that it may go on");
    for _ in 0..100 {
        late.publish();
    }
    late.wire.flush().expect("the broker takes it");
    late.await_all();
    node.kill();

    let node = disk.start(FREE_LIMIT);
    let again = drain(&node, count(&node));
    assert!(again.deliveries.len() >= 100, "{} messages", again.deliveries.len());
    // An ack that was not safe at the end may bring a message back, marked as redelivered.
    let seen: BTreeSet<Key> = consumed.deliveries.iter().map(|(content, ..)| content.key).collect();
    let is_back =
        |(content, redelivered, _): &(Content, bool, Settled)| *redelivered && seen.contains(&content.key);
    consumed.deliveries.extend(again.deliveries.into_iter().filter(|delivery| !is_back(delivery)));
    assert_complete([first, late.into_log()], &consumed);
    node.stop();
}

#[test]
fn a_full_disk_withholds_confirms_until_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    disk.fill_with_ballast();
    let mut node = disk.start("0");
    node.connect().declare(durable_queue("q")).expect("a queue");
    let mut filler = Filler::open(&node, 1, SIZE);
    let stopped = filler.fill();
    println!("{stopped:?} with {} of {} messages confirmed", filler.confirmed(), filler.published.len());
    assert!(filler.confirmed() > 100, "{} messages fit", filler.confirmed());
    assert_log_says_why(&mut node);
    // Others are served meanwhile.
    assert!(count(&node) >= filler.confirmed());
    disk.drop_ballast(0);
    // What the broker writes elsewhere to shorten its journal may take the room before the journal does: it is
    // consumers who make it.
    let mut consumed = drain(&node, count(&node));
    filler.await_all();
    consumed.deliveries.extend(drain(&node, count(&node)).deliveries);
    assert_complete([filler.into_log()], &consumed);
    // All that was taken has room again.
    let mut late = Filler::open(&node, 2, SIZE);
    for _ in 0..WINDOW {
        late.publish();
    }
    late.wire.flush().expect("the broker takes it");
    late.await_all();
    assert_eq!(late.confirmed(), WINDOW);
    node.kill();
    // A start needs a little room too.
    disk.drop_ballast(1);
    let mut node = disk.start("0");
    let consumed = drain(&node, count(&node));
    assert_complete([late.into_log()], &consumed);
    // It has met the end of the disk, and said so.
    node.end();
}

#[test]
fn a_broker_killed_on_a_full_disk_has_all_it_confirmed() {
    let Some(disk) = SmallDisk::mount() else { return };
    disk.fill_with_ballast();
    let mut node = disk.start("0");
    node.connect().declare(durable_queue("q")).expect("a queue");
    let mut filler = Filler::open(&node, 1, SIZE);
    let stopped = filler.fill();
    println!("{stopped:?} with {} of {} messages confirmed", filler.confirmed(), filler.published.len());
    assert!(filler.confirmed() > 100, "{} messages fit", filler.confirmed());
    node.kill();
    disk.drop_ballast(0);
    let mut node = disk.start("0");
    let consumed = drain(&node, count(&node));
    assert_complete([filler.into_log()], &consumed);
    // It has met the end of the disk, and said so.
    node.end();
}
