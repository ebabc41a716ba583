//! Queues that drop duplicates: a message with the id of another one that is in the queue, ready or unacked, is not
//! taken. Ids lie in the messages themselves; what is here is an index of them in memory, made again at a start. An id
//! is free as soon as its message leaves, whichever way that is: every way ends in `Messages`,
//! which lets go of the id.
//!
//! COMPAT: as LavinMQ and the community plugin for RabbitMQ have it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashSet;
use leveret_codec::properties::Properties;
use parking_lot::Mutex;

use super::{Queue, State};
use crate::deduplication::id_in;
use crate::message::{MessageBatch, MessageView};
use crate::store::JournalPosition;

/// The ids of the messages of a queue, whatever their level.
pub(crate) struct QueueIds {
    /// The header that messages have theirs in.
    header: Box<str>,
    /// Locked with the queue locked, so never waited for: it is there because the levels share the ids.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    ids: HashSet<Arc<[u8]>>,
    /// Where the last message that came with one is safe, and with it all before.
    safe_at: JournalPosition,
}

/// What a queue knows of a message's id.
enum Claim {
    /// It is that of a message in the queue, which is safe at this position.
    Taken(JournalPosition),
    /// No other message has it, from now on this one has.
    New(Arc<[u8]>),
    /// It has none.
    NoId,
}

impl QueueIds {
    pub(super) fn new(header: &str) -> Self {
        Self { header: header.into(), known: Mutex::default() }
    }

    fn claim(&self, message: &MessageView<'_>) -> Claim {
        let headers = Properties::decode(message.properties).ok().and_then(|properties| properties.headers);
        let Some(id) = headers.and_then(|headers| id_in(&headers, &self.header)) else { return Claim::NoId };
        let mut known = self.known.lock();
        if known.ids.contains(id.as_slice()) {
            return Claim::Taken(known.safe_at);
        }
        let id: Arc<[u8]> = id.as_slice().into();
        known.ids.insert(Arc::clone(&id));
        Claim::New(id)
    }

    fn release(&self, id: &[u8]) {
        self.known.lock().ids.remove(id);
    }
}

/// Which messages of a level have which ids.
pub(super) struct LevelIds {
    of_queue: Arc<QueueIds>,
    by_position: BTreeMap<u64, Arc<[u8]>>,
}

impl LevelIds {
    pub(super) fn new(of_queue: &Arc<QueueIds>) -> Self {
        Self { of_queue: Arc::clone(of_queue), by_position: BTreeMap::new() }
    }

    /// The message at a position has this id, which was claimed for it.
    pub(super) fn add(&mut self, position: u64, id: Arc<[u8]>) {
        self.by_position.insert(position, id);
    }

    /// The message at a position leaves the queue.
    pub(super) fn release(&mut self, position: u64) {
        if let Some(id) = self.by_position.remove(&position) {
            self.of_queue.release(&id);
        }
    }

    /// The messages at these positions leave the queue.
    pub(super) fn release_all(&mut self, positions: Range<u64>) {
        let mut left = self.by_position.split_off(&positions.start);
        let mut behind = left.split_off(&positions.end);
        self.by_position.append(&mut behind);
        left.values().for_each(|id| self.of_queue.release(id));
    }
}

impl Queue {
    /// Whether it drops duplicates.
    #[must_use]
    pub fn is_unique(&self) -> bool {
        self.spec.arguments.deduplication_header().is_some()
    }

    /// How many ids it knows.
    #[cfg(test)]
    pub(crate) fn known_ids(&self) -> usize {
        self.state.lock().ids.as_ref().map_or(0, |ids| ids.known.lock().ids.len())
    }

    /// Knows the ids of what a restart found. Waits for the disk.
    pub(crate) fn begin_unique(&self) {
        let Some(ids) = self.state.lock().ids.clone() else { return };
        self.visit_ready(&mut |level, position, message| {
            // Of several with one id the first has it: a crash may leave a dead letter and what it is a copy of.
            if let Claim::New(id) = ids.claim(message) {
                self.state.lock().messages.for_append(level).add_id(position, id);
            }
        });
    }

    /// Appends messages whose ids are not in the queue. A duplicate is as safe as the message that it repeats.
    pub(super) fn append_unique(
        &self,
        state: &mut State,
        ids: &QueueIds,
        batch: &mut MessageBatch,
        refused: &mut Vec<u32>,
    ) -> JournalPosition {
        let may_refuse = state.is_limited && state.settings.refuses();
        let mut safe_at = JournalPosition::SAFE;
        let mut new = MessageBatch::for_level(&self.spec, batch.level());
        let (mut claimed, mut duplicates) = (Vec::new(), Vec::new());
        for (number, view) in (0..).zip(batch.iter()) {
            match ids.claim(&view) {
                Claim::Taken(position) => {
                    safe_at = safe_at.max(position);
                    duplicates.push(number);
                    continue;
                }
                Claim::New(id) if may_refuse => claimed.push((0, id)),
                Claim::New(id) => claimed.push((u64::from(number) - duplicates.len() as u64, id)),
                Claim::NoId => {}
            }
            // Where it may be refused, one by one: then its id is free for the next.
            if may_refuse {
                new.push(&view);
                match self.append_claimed(state, ids, &mut new, &mut claimed) {
                    Some(position) => safe_at = safe_at.max(position),
                    None => refused.push(number),
                }
            }
        }
        state.counters.duplicates += duplicates.len() as u64;
        let appended = match (may_refuse, duplicates.is_empty()) {
            (true, _) => None,
            (false, true) => self.append_claimed(state, ids, batch, &mut claimed),
            (false, false) => {
                let numbered = (0_u32..).zip(batch.iter());
                let left = numbered.filter(|(number, _)| duplicates.binary_search(number).is_err());
                left.for_each(|(_, view)| new.push(&view));
                self.append_claimed(state, ids, &mut new, &mut claimed)
            }
        };
        batch.clear();
        safe_at.max(appended.unwrap_or(JournalPosition::SAFE))
    }

    /// Appends messages with the ids that were claimed for them, by their numbers; nothing if there was no place for
    /// the only one.
    fn append_claimed(
        &self,
        state: &mut State,
        ids: &QueueIds,
        batch: &mut MessageBatch,
        claimed: &mut Vec<(u64, Arc<[u8]>)>,
    ) -> Option<JournalPosition> {
        let level = batch.level();
        let first = state.messages.for_append(level).next_position();
        let mut refused = Vec::new();
        let safe_at = match batch.is_empty() {
            true => JournalPosition::SAFE,
            false => self.append_within_limits(state, batch, &mut refused),
        };
        if !refused.is_empty() {
            claimed.drain(..).for_each(|(_, id)| ids.release(&id));
            return None;
        }
        let messages = state.messages.for_append(level);
        claimed.drain(..).for_each(|(number, id)| messages.add_id(first + number, id));
        let mut known = ids.known.lock();
        known.safe_at = known.safe_at.max(safe_at);
        Some(safe_at)
    }
}
