//! The rows of the table. Most are flags of `run`, so that each can be repeated by hand; what takes several steps is
//! in `steps`.

use crate::error::Error;
use crate::probe::Figure;
use crate::suite::steps::{self, Steps};
use crate::uri::Uri;

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// What it is chosen by.
    pub(super) name: &'static str,
    /// What it is chosen by together with others.
    pub(super) group: Group,
    /// Broker CPU per message that Leveret is to reach, in microseconds.
    pub(super) goal_us: Option<f64>,
    /// What is done.
    pub(super) work: Work,
}

/// Rows that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Group {
    /// Plain queues and exchanges; what runs when nothing is chosen.
    Base,
    /// Queues, exchanges and messages with arguments.
    Features,
}

/// Says whether a broker has something.
pub(super) type Check = fn(&Uri) -> Result<(), Error>;

/// What is done for a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// One load.
    Load {
        /// As for `leveret-perf run`.
        flags: &'static str,
        /// Says whether a broker has what it does not refuse.
        check: Option<Check>,
    },
    /// Several steps, with figures of their own.
    Steps(fn(&Steps<'_>) -> Result<Vec<Figure>, Error>),
}

/// A row about something that has a goal.
const fn base(name: &'static str, goal_us: f64, flags: &'static str) -> Row {
    Row { goal_us: Some(goal_us), ..ungoaled(name, flags) }
}

/// A row about something that the disk or the clock decides.
const fn ungoaled(name: &'static str, flags: &'static str) -> Row {
    Row { name, group: Group::Base, goal_us: None, work: Work::Load { flags, check: None } }
}

/// A row about a feature that a broker without it refuses.
const fn feature(name: &'static str, flags: &'static str) -> Row {
    Row { group: Group::Features, ..ungoaled(name, flags) }
}

/// A row about a feature that a broker without it may not refuse: whether it is there is looked at first.
const fn checked(name: &'static str, check: Check, flags: &'static str) -> Row {
    Row { work: Work::Load { flags, check: Some(check) }, ..feature(name, flags) }
}

const fn in_steps(name: &'static str, work: fn(&Steps<'_>) -> Result<Vec<Figure>, Error>) -> Row {
    Row { name, group: Group::Features, goal_us: None, work: Work::Steps(work) }
}

/// All rows, in the order of the table.
pub(super) const ROWS: [Row; 31] = [
    base("base16", 0.25, "-s 16"),
    base("base1k", 0.8, "-s 1024"),
    base("publish-only", 0.15, "-y 0"),
    base("ack", 0.4, "-q 1000 -A 100"),
    base("confirms", 0.5, "-c 1000"),
    base("persistent", 0.8, "-f persistent -c 1000 -q 1000 -A 100"),
    // One synced publish at a time, and a hundred of those beside each other: `disk` says what the disk can do.
    ungoaled("sync1", "-y 0 -f persistent -c 1"),
    ungoaled(
        "sync100",
        "-x 100 -y 0 -f persistent -c 1 \
         --queue-pattern leveret-perf-%d --queue-pattern-from 1 --queue-pattern-to 100",
    ),
    base("8x8", 0.3, "-x 8 -y 8"),
    base(
        "16x16",
        0.3,
        "-x 16 -y 16 --queue-pattern leveret-perf-%d --queue-pattern-from 1 --queue-pattern-to 16",
    ),
    base(
        "fanout",
        0.2,
        "-y 4 -e leveret-perf-fanout -t fanout \
         --queue-pattern leveret-perf-%d --queue-pattern-from 1 --queue-pattern-to 4",
    ),
    base("tx", 1.0, "--tx 100"),
    base(
        "stream",
        0.4,
        "-f persistent -q 1000 -A 100 --auto-delete false \
         --queue-args x-queue-type=stream --consumer-args x-stream-offset=first",
    ),
    base("body100k", 40.0, "-s 100000"),
    ungoaled("latency5k", "-r 5000"),
    // Nothing expires: what it costs that something could. Compare with base16.
    feature("ttl-queue", "--queue-args x-message-ttl=3600000"),
    feature("ttl-message", "--expiration 3600000"),
    feature("max-length", "--queue-args x-max-length=1000000000"),
    feature("max-length-drop", "-y 0 --queue-args x-max-length=1000"),
    feature("max-length-reject", "-y 0 -c 1000 --queue-args x-max-length=1000,x-overflow=reject-publish"),
    // Compare with priority-plain: the same queue, and messages that are all alike.
    checked(
        "priority",
        steps::check_priorities,
        "-q 1000 -A 100 --queue-args x-max-priority=9 --priority 0-9",
    ),
    checked("priority-plain", steps::check_priorities, "-q 1000 -A 100 --queue-args x-max-priority=9"),
    // The same thousand keys to the same hundred queues.
    feature(
        "direct100",
        "-y 4 --queues-per-consumer 25 \
         --queue-pattern leveret-perf-%d --queue-pattern-from 1 --queue-pattern-to 100 \
         -e leveret-perf-direct -t direct -k key-%d --routing-keys 1000",
    ),
    feature(
        "hash100",
        "-y 4 --queues-per-consumer 25 \
         --queue-pattern leveret-perf-%d --queue-pattern-from 1 --queue-pattern-to 100 \
         -e leveret-perf-hash -t x-consistent-hash -k key-%d --routing-keys 1000 --binding-key 1",
    ),
    checked(
        "dedup-miss",
        steps::check_deduplication,
        "-e leveret-perf-dedup --exchange-args x-message-deduplication=true,x-cache-size=100000 \
         --unique-header x-deduplication-header",
    ),
    checked(
        "dedup-hit",
        steps::check_deduplication,
        "-y 0 -e leveret-perf-dedup --exchange-args x-message-deduplication=true,x-cache-size=100000 \
         --headers x-deduplication-header=same",
    ),
    // The warm-up is longer than the delay, see `load`.
    feature(
        "delayed50k",
        "-r 50000 -e leveret-perf-delayed -t x-delayed-message --exchange-args x-delayed-type=direct \
         --headers x-delay=2000 --expected-delay 2000 --warmup 3",
    ),
    feature(
        "delayed1k",
        "-r 1000 -e leveret-perf-delayed -t x-delayed-message --exchange-args x-delayed-type=direct \
         --headers x-delay=2000 --expected-delay 2000 --warmup 3",
    ),
    in_steps("delayed-waiting", steps::delayed_waiting),
    in_steps("dead-letter", steps::dead_letter_transient),
    in_steps("dead-letter-persistent", steps::dead_letter_persistent),
];
