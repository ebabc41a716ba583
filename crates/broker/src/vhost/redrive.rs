//! Redriving: messages of a dead-letter queue go back to where they died, or elsewhere, in order and in steps, so that
//! neither the queue nor the memory notices how many there are. A message leaves its queue only when the place it goes
//! to has it safe; whoever consumes from the queue meanwhile gets what was not moved yet.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTableRef, FieldValue, FieldValueRef};
use parking_lot::{Condvar, Mutex};

use super::{PublishedBy, Vhost};
use crate::deduplication::{NewId, remember};
use crate::error::BrokerError;
use crate::exchange::addressing::Addressing;
use crate::message::{Extras, MessageBatch, MessageRef, MessageView, names};
use crate::queue::taken::TakenFrom;
use crate::queue::{Queue, Settlement};
use crate::store::JournalPosition;

/// Messages moved at a time: the queue is locked while they are copied.
const STEP: usize = 256;

/// How often somebody who waits looks whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Where redriven messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedriveTo {
    /// The queue that each died in last.
    LastQueue,
    /// The queue that each died in first.
    FirstQueue,
    /// An exchange, with a key; the empty name is the default exchange.
    Exchange {
        /// Its name.
        exchange: String,
        /// The key.
        routing_key: String,
    },
}

/// Which messages are redriven, and where to.
#[derive(Clone, Debug)]
pub struct Redrive {
    /// How many at most.
    pub limit: Option<u64>,
    /// Only those with this value in this header.
    pub matching: Option<(String, FieldValue)>,
    /// Where to.
    pub to: RedriveTo,
}

/// Why a message stayed where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RedriveFailure {
    /// It does not say where it died.
    NoDeath,
    /// The queue it died in is gone, or is the one it lies in.
    QueueGone,
    /// The exchange leads nowhere with that key.
    NotRouted,
    /// The queue it was to go to took it not, or met damage.
    Refused,
}

/// What a redrive has done so far, for others to watch, and their way to stop it.
#[derive(Debug, Default)]
pub struct RedriveProgress {
    moved: AtomicU64,
    looked_at: AtomicU64,
    is_stopping: AtomicBool,
}

impl RedriveProgress {
    /// Messages moved.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Messages looked at.
    #[must_use]
    pub fn looked_at(&self) -> u64 {
        self.looked_at.load(Ordering::Relaxed)
    }

    /// Has it end after the step that it is at.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
}

/// What a redrive has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Messages moved.
    pub moved: u64,
    /// Messages that were not meant.
    pub skipped: u64,
    /// Messages that could not be moved, by reason.
    pub failed: BTreeMap<RedriveFailure, u64>,
    /// It was stopped before it had seen all.
    pub is_stopped: bool,
}

/// Messages on their way to one queue.
struct Target {
    queue: Arc<Queue>,
    batch: MessageBatch,
    /// Which messages of the step these are.
    numbers: Vec<usize>,
}

/// One step of a redrive.
#[derive(Default)]
struct Step {
    messages: Vec<MessageRef>,
    /// What became of each; `None`: not meant.
    outcomes: Vec<Option<Result<(), RedriveFailure>>>,
    targets: Vec<Target>,
    /// What exchanges on the way are to remember of which message, once it was moved.
    new_ids: Vec<(usize, Vec<NewId>)>,
}

impl Vhost {
    /// Moves messages of a queue that are there now. A message that cannot be moved stays in its place. Waits for the
    /// disk: to be called on a thread that may.
    ///
    /// # Errors
    /// The queue or the exchange is missing, or the queue is stopped or deleted meanwhile.
    pub fn redrive(
        &self,
        queue: &str,
        redrive: &Redrive,
        progress: &RedriveProgress,
    ) -> Result<Redriven, BrokerError> {
        let queue = self.queues.get(queue).map(|queue| Arc::clone(&queue)).ok_or_else(|| {
            BrokerError::QueueNotFound { queue: queue.to_owned(), vhost: self.name.to_string() }
        })?;
        if let RedriveTo::Exchange { exchange, .. } = &redrive.to
            && !exchange.is_empty()
        {
            self.find_exchange(exchange)?;
        }
        let mut result = Redriven::default();
        // What comes from now on, as what dies again at once, is not looked at: there would be no end.
        let mut places = queue.places().into_iter();
        let Some(mut left) = places.next() else { return Ok(result) };
        while !progress.is_stopping() && redrive.limit.is_none_or(|limit| result.moved < limit) {
            let at_once = redrive.limit.map_or(STEP as u64, |limit| (limit - result.moved).min(STEP as u64));
            let taken = self.take_step(&queue, &mut left, at_once as usize, redrive, progress)?;
            let Some(mut step) = taken else {
                match places.next() {
                    Some(place) => left = place,
                    None => break,
                }
                continue;
            };
            self.move_step(&queue, &mut step, progress);
            step.count(&mut result);
            progress.moved.store(result.moved, Ordering::Relaxed);
            progress.looked_at.fetch_add(step.messages.len() as u64, Ordering::Relaxed);
        }
        result.is_stopped = progress.is_stopping();
        Ok(result)
    }

    /// Takes the next messages and looks where they go; nothing if there are no more.
    fn take_step(
        &self,
        queue: &Arc<Queue>,
        left: &mut (u8, Range<u64>),
        at_once: usize,
        redrive: &Redrive,
        progress: &RedriveProgress,
    ) -> Result<Option<Step>, BrokerError> {
        loop {
            let mut copies = MessageBatch::default();
            let mut messages = Vec::new();
            let signal = Arc::new(Signal::default());
            let loaded = Arc::clone(&signal);
            let taken = queue.take_from(
                left.clone(),
                at_once,
                Box::new(move || loaded.set()),
                |reference, view| {
                    copies.push(view);
                    messages.push(reference);
                },
            )?;
            if let Some(last) = messages.last() {
                left.1.start = last.position + 1;
                let mut step = Step::default();
                for (&message, view) in messages.iter().zip(copies.iter()) {
                    self.add_to_step(&mut step, queue, message, &view, redrive);
                }
                return Ok(Some(step));
            }
            if taken == TakenFrom::End || progress.is_stopping() {
                return Ok(None);
            }
            signal.wait();
        }
    }

    fn add_to_step(
        &self,
        step: &mut Step,
        source: &Arc<Queue>,
        message: MessageRef,
        view: &MessageView<'_>,
        redrive: &Redrive,
    ) {
        let number = step.messages.len();
        step.messages.push(message);
        let properties = Properties::decode(view.properties).unwrap_or_default();
        if !redrive.matching.as_ref().is_none_or(|(header, value)| has(properties.headers, header, value)) {
            return step.outcomes.push(None);
        }
        let outcome = match &redrive.to {
            RedriveTo::LastQueue => {
                self.to_grave(step, number, source, view, newest_death(properties.headers))
            }
            RedriveTo::FirstQueue => {
                self.to_grave(step, number, source, view, first_death(properties.headers))
            }
            RedriveTo::Exchange { exchange, routing_key } => {
                self.to_exchange(step, number, view, exchange, routing_key)
            }
        };
        step.outcomes.push(Some(outcome));
    }

    /// Sends a message to the queue it died in, as it was when it came there.
    fn to_grave(
        &self,
        step: &mut Step,
        number: usize,
        source: &Arc<Queue>,
        view: &MessageView<'_>,
        death: Option<Death<'_>>,
    ) -> Result<(), RedriveFailure> {
        // What a client has written there would lead anywhere.
        let is_own = Extras::decode(view.extras).has_deaths;
        let death = death.filter(|_| is_own).ok_or(RedriveFailure::NoDeath)?;
        let target = self.queues.get(death.queue).map(|queue| Arc::clone(&queue));
        let target = target.filter(|target| target.id != source.id).ok_or(RedriveFailure::QueueGone)?;
        let names = match (death.exchange, death.routing_key) {
            (Some(exchange), Some(key)) => names(exchange, key),
            _ => view.names.to_vec(),
        };
        step.push(target, number, &MessageView { names: &names, ..*view }, self);
        Ok(())
    }

    fn to_exchange(
        &self,
        step: &mut Step,
        number: usize,
        view: &MessageView<'_>,
        exchange: &str,
        routing_key: &str,
    ) -> Result<(), RedriveFailure> {
        let keys = [routing_key];
        let addressing = Addressing::of(&keys, view);
        let route = self.walk(&mut self.topology.read(), exchange, &addressing, PublishedBy::Again);
        let mut route =
            route.ok().filter(|route| !route.queues.is_empty()).ok_or(RedriveFailure::NotRouted)?;
        let names = names(exchange.as_bytes(), routing_key.as_bytes());
        let view = MessageView { names: &names, ..*view };
        step.new_ids.push((number, route.take_new_ids(view.persistent)));
        for queue in route.queues {
            match route.deliver_at.filter(|_| queue.is_hidden()) {
                Some(at) => step.target(queue, 0).push_delayed(number, &view, at),
                None => step.push(queue, number, &view, self),
            }
        }
        Ok(())
    }

    /// Hands the messages over, waits until they are safe, and lets go of them; the others go back to their places.
    fn move_step(&self, source: &Arc<Queue>, step: &mut Step, progress: &RedriveProgress) {
        for mut target in std::mem::take(&mut step.targets) {
            let mut refused = Vec::new();
            let safe_at = target.queue.publish_or_refuse(&mut target.batch, &mut refused);
            let is_safe = safe_at < JournalPosition::NEVER && self.wait_until_safe(safe_at, progress);
            for (index, &number) in (0_u32..).zip(&target.numbers) {
                if (!is_safe || refused.contains(&index))
                    && let Some(outcome) = step.outcomes.get_mut(number)
                {
                    *outcome = Some(Err(RedriveFailure::Refused));
                }
            }
        }
        for (number, ids) in &step.new_ids {
            if let Some(Some(Ok(()))) = step.outcomes.get(*number) {
                remember(ids, JournalPosition::SAFE);
            }
        }
        let is_moved = |outcome: &Option<Result<(), RedriveFailure>>| matches!(outcome, Some(Ok(())));
        let with = step.messages.iter().zip(&step.outcomes);
        let (moved, kept): (Vec<_>, Vec<_>) = with.partition(|(_, outcome)| is_moved(outcome));
        let only =
            |pairs: Vec<(&MessageRef, _)>| pairs.into_iter().map(|(message, _)| *message).collect::<Vec<_>>();
        source.settle(None, Settlement::Settled, &only(moved));
        source.settle(None, Settlement::Kept, &only(kept));
    }

    /// Whether it is safe; not if it was to stop before.
    fn wait_until_safe(&self, position: JournalPosition, progress: &RedriveProgress) -> bool {
        let store = &self.services.store;
        if store.safe() >= position {
            return true;
        }
        let signal = Arc::new(Signal::default());
        let safe = Arc::clone(&signal);
        store.when_safe(position, Box::new(move || safe.set()));
        while store.safe() < position {
            if progress.is_stopping() {
                return false;
            }
            signal.wait();
        }
        true
    }
}

impl Step {
    fn target(&mut self, queue: Arc<Queue>, level: u8) -> &mut Target {
        let is_it = |target: &Target| target.queue.id == queue.id && target.batch.level() == level;
        let known = self.targets.iter().position(is_it);
        let index = known.unwrap_or_else(|| {
            let batch = MessageBatch::for_level(&queue.spec, level);
            self.targets.push(Target { queue, batch, numbers: Vec::new() });
            self.targets.len() - 1
        });
        // INVARIANT: it was found or has just been added.
        &mut self.targets[index]
    }

    fn push(&mut self, queue: Arc<Queue>, number: usize, view: &MessageView<'_>, vhost: &Vhost) {
        let (ttl_ms, _) = queue.publish_rules();
        let expires_at = ttl_ms.map(|ttl| vhost.clock().now().after_ms(ttl));
        let level = queue.spec.level_of(view.properties);
        let target = self.target(queue, level);
        target.numbers.push(number);
        // What it died of stays in its headers, as what a publisher put there.
        let extras = Extras { expires_at, ..Extras::default() }.encode();
        target.batch.push(&MessageView { extras: extras.as_slice(), ..*view });
    }

    fn count(&self, result: &mut Redriven) {
        for outcome in &self.outcomes {
            match outcome {
                None => result.skipped += 1,
                Some(Ok(())) => result.moved += 1,
                Some(Err(failure)) => *result.failed.entry(*failure).or_default() += 1,
            }
        }
    }
}

impl Target {
    fn push_delayed(&mut self, number: usize, view: &MessageView<'_>, at: crate::time::Timestamp) {
        self.numbers.push(number);
        self.batch.push_delayed(&MessageView { extras: &[], ..*view }, at);
    }
}

/// Something that is waited for.
#[derive(Default)]
struct Signal {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn set(&self) {
        *self.is_set.lock() = true;
        self.changed.notify_one();
    }

    /// Waits for it, not longer than until somebody should look whether it is to stop.
    fn wait(&self) {
        let mut is_set = self.is_set.lock();
        if !*is_set {
            self.changed.wait_for(&mut is_set, PATIENCE);
        }
    }
}

/// Where a message died.
struct Death<'a> {
    queue: &'a str,
    exchange: Option<&'a [u8]>,
    routing_key: Option<&'a [u8]>,
}

fn deaths(headers: Option<FieldTableRef<'_>>) -> impl Iterator<Item = Death<'_>> {
    let deaths = match headers.and_then(|headers| headers.get("x-death")) {
        Some(FieldValueRef::Array(deaths)) => Some(deaths),
        _ => None,
    };
    deaths.into_iter().flat_map(|deaths| deaths.iter()).filter_map(|death| {
        let FieldValueRef::Table(death) = death else { return None };
        let octets = |value| match value {
            FieldValueRef::LongString(octets) => Some(octets),
            _ => None,
        };
        let routing_key = match death.get("routing-keys") {
            Some(FieldValueRef::Array(keys)) => keys.iter().next().and_then(octets),
            _ => None,
        };
        Some(Death {
            queue: death.get("queue")?.as_str()?,
            exchange: death.get("exchange").and_then(octets),
            routing_key,
        })
    })
}

fn newest_death(headers: Option<FieldTableRef<'_>>) -> Option<Death<'_>> {
    deaths(headers).next()
}

/// The death that the headers call the first, with what its entry knows.
fn first_death(headers: Option<FieldTableRef<'_>>) -> Option<Death<'_>> {
    let queue = headers?.get("x-first-death-queue")?.as_str()?;
    let known = deaths(headers).filter(|death| death.queue == queue).last();
    Some(known.unwrap_or(Death { queue, exchange: None, routing_key: None }))
}

fn has(headers: Option<FieldTableRef<'_>>, header: &str, wanted: &FieldValue) -> bool {
    let Some(value) = headers.and_then(|headers| headers.get(header)) else { return false };
    match (value.as_integer(), wanted.as_integer()) {
        // Integers of all widths are alike.
        (Some(value), Some(wanted)) => value == wanted,
        _ => value.to_owned() == *wanted,
    }
}

#[cfg(test)]
mod tests;
