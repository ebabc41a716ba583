//! What a broker has after a start, compared with what it must have: definitions by asking for them, bindings by a
//! message that only they let through, messages by consuming all of them.

use std::collections::BTreeSet;
use std::io;

use crate::ledger::{Answer, Definitions, Found, Ledger, PublishLog, Standing, judge};
use crate::load::{DEAD_QUEUE, EXPIRING_QUEUE, SYNC_QUEUE};
use crate::message::{Content, Key};
use crate::random::Random;
use crate::wire::{Incoming, Wire};

/// What becomes of the messages of a queue once they have been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Afterwards {
    /// All are acknowledged.
    Drained,
    /// All go back.
    Kept,
    /// Some are acknowledged here and there, the others go back.
    Thinned,
}

/// Compares everything, and resolves what was uncertain.
pub(crate) fn survey(
    port: u16,
    ledger: &mut Ledger,
    definitions: &mut Definitions,
    random: &mut Random,
) -> Vec<String> {
    let mut faults = Vec::new();
    let done = survey_definitions(port, definitions, &mut faults)
        .and_then(|()| survey_messages(port, ledger, definitions, random, &mut faults));
    faults.extend(done.err().map(|error| format!("the survey ended early: {error}")));
    faults
}

fn survey_definitions(port: u16, definitions: &mut Definitions, faults: &mut Vec<String>) -> io::Result<()> {
    let mut wire = Wire::open_confirming(port)?;
    let standing = |exists| if exists { Standing::There } else { Standing::Gone };
    let known = definitions.clone();
    for (queue, known) in known.queues {
        let exists = wire.count(&queue)?.is_some();
        faults.extend(judge(&format!("queue {queue}"), known, exists));
        definitions.set_queue(&queue, standing(exists));
    }
    for (exchange, known) in known.exchanges {
        let exists = wire.has_exchange(&exchange)?;
        faults.extend(judge(&format!("exchange {exchange}"), known, exists));
        definitions.set_exchange(&exchange, standing(exists));
    }
    wire.close()?;
    // A channel that was closed and opened again has no confirms.
    let mut wire = Wire::open_confirming(port)?;
    for (tag, (name, known)) in (1..).zip(known.bindings) {
        let has_ends = definitions.exchange(&name.exchange) == Standing::There;
        let exists = probe(&mut wire, tag, has_ends.then_some(&name.exchange), &name.routing_key())?;
        faults.extend(judge(&format!("binding {}", name.routing_key()), known, exists));
        definitions.set_binding(&name, standing(exists));
    }
    wire.close()
}

/// Whether an exchange has somewhere to send messages with this key. The message is transient: it is gone after
/// the next crash.
fn probe(wire: &mut Wire, tag: u64, exchange: Option<&String>, routing_key: &str) -> io::Result<bool> {
    let content = Content { key: Key { publisher: 0, sequence: 0 }, size: 0, persistent: false };
    match exchange {
        Some(exchange) => wire.push_mandatory(exchange, routing_key, &content),
        // Nothing is bound under such a name; it keeps the tags in step.
        None => wire.push_mandatory("", "a queue that never was", &content),
    }
    wire.flush()?;
    let (_, returned) = wire.await_confirms(tag..=tag)?;
    Ok(!returned)
}

fn survey_messages(
    port: u16,
    ledger: &mut Ledger,
    definitions: &Definitions,
    random: &mut Random,
    faults: &mut Vec<String>,
) -> io::Result<()> {
    let there = |queue: &str| definitions.queue(queue) == Standing::There;
    let last_letter = match there(EXPIRING_QUEUE) && there(DEAD_QUEUE) {
        true => Some(publish_last_letter(port, ledger)?),
        false => None,
    };
    let publisher = ledger.new_publisher();
    let mut queues = ledger.queues();
    queues.retain(|queue| queue != SYNC_QUEUE);
    // Last, as it grows with each of the others.
    queues.push(SYNC_QUEUE.to_owned());
    for (sequence, queue) in (0..).zip(queues) {
        let mut found = Vec::new();
        let mut settled = BTreeSet::new();
        if definitions.queue(&queue) == Standing::There {
            let afterwards = match random.below(4) {
                // What is there twice is not told apart later.
                _ if queue == SYNC_QUEUE || queue == DEAD_QUEUE => Afterwards::Drained,
                0 | 1 => Afterwards::Drained,
                2 => Afterwards::Kept,
                _ => Afterwards::Thinned,
            };
            let sync = Content { key: Key { publisher, sequence }, size: 1, persistent: true };
            let has_sync = definitions.queue(SYNC_QUEUE) == Standing::There;
            let mut reading =
                Reading { queue: &queue, wire: Wire::open_confirming(port)?, found: Vec::new() };
            let end = last_letter.filter(|_| queue == DEAD_QUEUE);
            let read = reading
                .read(end)
                .and_then(|()| reading.settle(afterwards, random, has_sync.then_some(&sync)));
            found = reading.found;
            match read {
                Ok(acknowledged) => settled = acknowledged,
                Err(error) => faults.push(format!("queue {queue}: after {} messages: {error}", found.len())),
            }
            compare(ledger, &queue, &found, &settled, faults);
            if has_sync {
                let published = vec![(sync, Answer::Confirmed)];
                ledger.record_publishes(&PublishLog { queues: vec![SYNC_QUEUE.to_owned()], published });
            }
        } else {
            compare(ledger, &queue, &found, &settled, faults);
        }
    }
    Ok(())
}

/// Publishes what expires behind all that is there, so that all of that has come where it goes when this has.
fn publish_last_letter(port: u16, ledger: &mut Ledger) -> io::Result<Key> {
    let key = Key { publisher: ledger.new_publisher(), sequence: 0 };
    let content = Content { key, size: 1, persistent: true };
    let mut wire = Wire::open_confirming(port)?;
    wire.push_message("", EXPIRING_QUEUE, &content);
    wire.flush()?;
    wire.await_confirms(1..=1)?;
    let published = vec![(content, Answer::Confirmed)];
    ledger.record_publishes(&PublishLog { queues: vec![DEAD_QUEUE.to_owned()], published });
    wire.close()?;
    Ok(key)
}

fn compare(
    ledger: &mut Ledger,
    queue: &str,
    found: &[Found],
    settled: &BTreeSet<Key>,
    faults: &mut Vec<String>,
) {
    faults.extend(ledger.compare(queue, found).iter().map(ToString::to_string));
    ledger.resolve(queue, found, settled);
}

/// All messages of a queue, delivered and not acknowledged.
struct Reading<'a> {
    queue: &'a str,
    wire: Wire,
    found: Vec<Found>,
}

impl Reading<'_> {
    /// Reads as many as there are, or up to `end`.
    fn read(&mut self, end: Option<Key>) -> io::Result<()> {
        let count = self.wire.count(self.queue)?.unwrap_or_default();
        self.wire.consume(self.queue, 0)?;
        for number in 1.. {
            let is_done = match end {
                None => number > u64::from(count),
                Some(end) => self.found.last().and_then(Found::key) == Some(end),
            };
            if is_done {
                break;
            }
            let Incoming::Delivery(delivery) = self.wire.next()? else {
                return Err(io::Error::other("something came that is no delivery"));
            };
            if delivery.tag != number {
                return Err(io::Error::other(format!("delivery {number} has tag {}", delivery.tag)));
            }
            let content = Content::read(&delivery);
            self.found.push(Found { content, redelivered: delivery.redelivered });
        }
        Ok(())
    }

    /// Acknowledges some, makes that safe, and lets the others go back: which were acknowledged.
    fn settle(
        &mut self,
        afterwards: Afterwards,
        random: &mut Random,
        sync: Option<&Content>,
    ) -> io::Result<BTreeSet<Key>> {
        let mut settled = BTreeSet::new();
        for (tag, found) in (1..).zip(&self.found) {
            let is_chosen = match afterwards {
                Afterwards::Drained => true,
                Afterwards::Kept => false,
                Afterwards::Thinned => random.one_in(3),
            };
            if is_chosen {
                self.wire.push_ack(tag, false);
                settled.extend(found.content.as_ref().ok().map(|content| content.key));
            }
        }
        let left = self.wire.count(self.queue)?;
        if left != Some(0) {
            return Err(io::Error::other(format!("{left:?} messages are left beside those that it counted")));
        }
        if let Some(sync) = sync {
            self.wire.push_message("", SYNC_QUEUE, sync);
            self.wire.flush()?;
            loop {
                match self.wire.next()? {
                    Incoming::Confirm { tag: 1, taken: true, .. } => break,
                    // What the consumer of this queue publishes to it comes to itself.
                    Incoming::Delivery(_) if self.queue == SYNC_QUEUE => {}
                    other => return Err(io::Error::other(format!("instead of a confirm: {other:?}"))),
                }
            }
        }
        Ok(settled)
    }
}
