//! What the queues of a broker must hold after a crash, from what clients were told before it.
//!
//! A message that was confirmed and not acknowledged must be there. One whose confirm had not come, or whose ack
//! was on its way, may be there. One that was transient, never committed, or acknowledged before something that
//! was confirmed to the same connection, must not. Whatever is there is there once, whole, in the order of each
//! publisher, and marked as redelivered if a client has seen it.

mod definitions;
mod findings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(crate) use definitions::{BindingName, Definitions, Standing, judge};
pub(crate) use findings::{Finding, Found};

use crate::load::{DEAD_QUEUE, PRIORITY_MAX, PRIORITY_QUEUE, QUORUM_QUEUE};
use crate::message::{Content, Key};

/// What is known of a publish when the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Rolled back, or part of a transaction that was never told to commit.
    Withdrawn,
    /// The confirm, or the commit-ok, had not come.
    Awaited,
    /// Confirmed or committed.
    Confirmed,
}

/// All that one publisher did, in order.
#[derive(Debug)]
pub(crate) struct PublishLog {
    /// Every message went to all of these.
    pub(crate) queues: Vec<String>,
    pub(crate) published: Vec<(Content, Answer)>,
}

/// What a consumer did with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Held, or put back.
    No,
    /// The ack was written, or may have been.
    Sent,
    /// The ack was written, and something published after it was confirmed.
    Safe,
}

/// All deliveries to one consumer, in order.
#[derive(Debug)]
pub(crate) struct ConsumeLog {
    pub(crate) queue: String,
    pub(crate) deliveries: Vec<(Content, bool, Settled)>,
}

/// What happened to a queue as a whole, in order.
#[derive(Debug)]
pub(crate) enum QueueEvent {
    Published(PublishLog),
    /// It is about to be purged or deleted.
    Dropping,
    /// It was, and that is safe.
    Dropped,
}

/// Where a message of a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// There for certain.
    Kept { delivered: bool },
    /// There or not.
    Perhaps { delivered: bool },
    /// There until the next crash.
    Transient,
    /// Nowhere any more, and why.
    Gone(&'static str),
}

/// What is known of all messages of a broker.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    queues: BTreeMap<String, HashMap<Key, Fate>>,
    /// Queues whose messages have been delivered to anybody.
    consumed: BTreeSet<String>,
    publishers: u32,
}

/// The level of a queue that a message is in; 0 in queues without priorities.
fn level_in(queue: &str, content: &Content) -> u8 {
    match queue {
        PRIORITY_QUEUE => content.priority().min(PRIORITY_MAX),
        QUORUM_QUEUE => content.priority(),
        _ => 0,
    }
}

impl Ledger {
    /// A number for a publisher that no other has.
    pub(crate) fn new_publisher(&mut self) -> u32 {
        self.publishers += 1;
        self.publishers
    }

    /// Queues that may hold something.
    pub(crate) fn queues(&self) -> Vec<String> {
        self.queues.keys().cloned().collect()
    }

    /// Takes note of what was published.
    pub(crate) fn record_publishes(&mut self, log: &PublishLog) {
        for queue in &log.queues {
            let fates = self.queues.entry(queue.clone()).or_default();
            let keeps_all = queue == QUORUM_QUEUE;
            for (content, answer) in &log.published {
                let fate = match (content.persistent || keeps_all, answer) {
                    (_, Answer::Withdrawn) => Fate::Gone("it was never committed"),
                    (false, _) => Fate::Transient,
                    (true, Answer::Awaited) => Fate::Perhaps { delivered: false },
                    (true, Answer::Confirmed) => Fate::Kept { delivered: false },
                };
                fates.insert(content.key, fate);
            }
        }
    }

    /// Takes note of what was delivered and settled, and says what should not have been. What was published
    /// meanwhile has to be known already.
    pub(crate) fn record_deliveries(&mut self, log: &ConsumeLog) -> Vec<Finding> {
        let fates = self.queues.entry(log.queue.clone()).or_default();
        self.consumed.insert(log.queue.clone());
        let mut kinds = Vec::new();
        let mut last: HashMap<u32, u32> = HashMap::new();
        for &(content, redelivered, settled) in &log.deliveries {
            let key = content.key;
            if !redelivered
                && last.insert(key.publisher, key.sequence).is_some_and(|before| before >= key.sequence)
            {
                kinds.push(findings::Kind::OutOfOrder(key));
            }
            let Some(fate) = fates.get_mut(&key) else {
                kinds.push(findings::Kind::NeverPublished(key));
                continue;
            };
            match *fate {
                Fate::Gone(why) => kinds.push(findings::Kind::Back(key, why)),
                Fate::Kept { delivered: true } | Fate::Perhaps { delivered: true } if !redelivered => {
                    kinds.push(findings::Kind::NotMarked(key));
                }
                _ => {}
            }
            *fate = match (*fate, settled) {
                (Fate::Perhaps { .. }, Settled::No) => Fate::Perhaps { delivered: true },
                (Fate::Kept { .. }, Settled::No) => Fate::Kept { delivered: true },
                (same, Settled::No) => same,
                (Fate::Transient, _) => Fate::Gone("it was transient"),
                (_, Settled::Sent) => Fate::Perhaps { delivered: true },
                (_, Settled::Safe) => Fate::Gone("its ack was safe"),
            };
        }
        Finding::all(&log.queue, kinds)
    }

    /// Takes note of what happened to a queue that comes and goes.
    pub(crate) fn record_queue(&mut self, queue: &str, events: &[QueueEvent]) {
        for event in events {
            let fates = self.queues.entry(queue.to_owned()).or_default();
            match event {
                QueueEvent::Published(log) => self.record_publishes(log),
                QueueEvent::Dropping => fates.values_mut().for_each(|fate| {
                    if let Fate::Kept { delivered } = *fate {
                        *fate = Fate::Perhaps { delivered };
                    }
                }),
                QueueEvent::Dropped => {
                    fates.values_mut().for_each(|fate| *fate = Fate::Gone("its queue was emptied"));
                }
            }
        }
    }

    /// The broker is gone, and with it what was transient.
    pub(crate) fn crash(&mut self) {
        for fate in self.queues.values_mut().flat_map(HashMap::values_mut) {
            if *fate == Fate::Transient {
                *fate = Fate::Gone("it was transient");
            }
        }
    }

    /// Compares a queue with what it must hold.
    pub(crate) fn compare(&self, queue: &str, found: &[Found]) -> Vec<Finding> {
        let none = HashMap::new();
        let fates = self.queues.get(queue).unwrap_or(&none);
        let mut kinds = Vec::new();
        let mut seen = BTreeSet::new();
        let mut last: HashMap<u32, u32> = HashMap::new();
        let mut lowest = u8::MAX;
        for one in found {
            let key = match &one.content {
                Ok(content) => {
                    let level = level_in(queue, content);
                    if level > lowest {
                        kinds.push(findings::Kind::BehindLower(content.key));
                    }
                    lowest = level;
                    content.key
                }
                Err(text) => {
                    kinds.push(findings::Kind::Damaged(text.clone()));
                    continue;
                }
            };
            if !seen.insert(key) {
                if queue != DEAD_QUEUE {
                    kinds.push(findings::Kind::Twice(key));
                }
                continue;
            }
            if last.insert(key.publisher, key.sequence).is_some_and(|before| before > key.sequence) {
                kinds.push(findings::Kind::OutOfOrder(key));
            }
            match fates.get(&key) {
                None => kinds.push(findings::Kind::NeverPublished(key)),
                Some(Fate::Gone(why)) => kinds.push(findings::Kind::Back(key, why)),
                Some(Fate::Transient) => kinds.push(findings::Kind::Back(key, "it was transient")),
                Some(Fate::Kept { delivered } | Fate::Perhaps { delivered }) => {
                    if *delivered && !one.redelivered {
                        kinds.push(findings::Kind::NotMarked(key));
                    }
                    if one.redelivered && !self.consumed.contains(queue) {
                        kinds.push(findings::Kind::Marked(key));
                    }
                }
            }
        }
        let is_lost = |(key, fate): &(&Key, &Fate)| matches!(fate, Fate::Kept { .. }) && !seen.contains(*key);
        let lost: BTreeSet<Key> = fates.iter().filter(is_lost).map(|(key, _)| *key).collect();
        kinds.extend(lost.into_iter().map(findings::Kind::Lost));
        Finding::all(queue, kinds)
    }

    /// What was uncertain is certain now: the queue held what was found. Of that `settled` was taken out for good.
    pub(crate) fn resolve(&mut self, queue: &str, found: &[Found], settled: &BTreeSet<Key>) {
        let fates = self.queues.entry(queue.to_owned()).or_default();
        let there: BTreeSet<Key> = found.iter().filter_map(Found::key).collect();
        if !there.is_empty() {
            self.consumed.insert(queue.to_owned());
        }
        for (key, fate) in fates.iter_mut() {
            *fate = match *fate {
                _ if settled.contains(key) => Fate::Gone("its ack was safe"),
                _ if there.contains(key) => Fate::Kept { delivered: true },
                Fate::Gone(why) => Fate::Gone(why),
                _ => Fate::Gone("it was missing after an earlier crash"),
            };
        }
    }

    /// How many messages must be there, and how many may.
    pub(crate) fn totals(&self) -> (usize, usize) {
        let count = |is: fn(&Fate) -> bool| {
            self.queues.values().flat_map(HashMap::values).filter(|fate| is(fate)).count()
        };
        (count(|fate| matches!(fate, Fate::Kept { .. })), count(|fate| matches!(fate, Fate::Perhaps { .. })))
    }
}
