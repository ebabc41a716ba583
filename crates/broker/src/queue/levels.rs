//! The messages of a queue by priority: one [`Messages`] per level, the highest that has any first. Each level has an
//! id of its own towards the store, the queue's and those behind it, so that journal, blocks and marks know nothing of
//! priorities. A level that was never used takes no memory.
//!
//! A quorum queue serves what came back before anything else, whatever its level, in the order in which it came back.
//!
//! PERF: a queue without priorities has the lowest level alone, and pays one predictable branch per call.

mod turns;

use std::ops::Range;
use std::sync::Arc;

use super::messages::{Incoming, Messages, Next, Outgoing, PageOut, Peeked, RETURNED_AHEAD, Rewrite};
use super::quorum::Returns;
use super::unique::QueueIds;
use crate::delivery::Deadline;
use crate::limits::READ_AHEAD_BYTES;
use crate::message::{Contents, MessageRef, MessageView};
use crate::names::QueueId;
use crate::services::Services;
use crate::store::{BlockLocation, BlockState, JournalPosition};
use turns::{Turn, Turns};

/// What a message takes in memory beside its body, about.
const RECORD_BYTES: u64 = 64;

/// All levels of a queue.
pub(crate) struct Levels {
    lowest: Messages,
    higher: Option<Box<Higher>>,
    /// Those of the messages that came back, in a quorum queue.
    turns: Option<Box<Turns>>,
}

/// The levels above the lowest.
struct Higher {
    services: Services,
    /// Where the queue drops duplicates.
    ids: Option<Arc<QueueIds>>,
    /// The highest level there may be.
    max: u8,
    /// From level 1 on, as far as they were used.
    levels: Vec<Option<Box<Messages>>>,
    /// A bit for each level that may have ready messages, the lowest one left out.
    occupied: [u64; 4],
}

impl Higher {
    fn get(&self, level: u8) -> Option<&Messages> {
        self.levels.get(usize::from(level).checked_sub(1)?)?.as_deref()
    }

    fn get_mut(&mut self, level: u8) -> Option<&mut Messages> {
        self.levels.get_mut(usize::from(level).checked_sub(1)?)?.as_deref_mut()
    }

    /// Levels that may have ready messages, the highest first.
    fn occupied(&self) -> impl Iterator<Item = &Messages> {
        let words = self.occupied.iter().enumerate().rev();
        let levels = words.flat_map(|(index, &word)| {
            let next = |&rest: &u64| Some(rest & !(1 << highest_bit(rest)?));
            let rests = std::iter::successors(Some(word), next);
            rests.filter_map(move |rest| Some(index as u8 * 64 + highest_bit(rest)?))
        });
        levels.filter_map(|level| self.get(level))
    }

    fn occupy(&mut self, level: u8) {
        if let Some(word) = self.occupied.get_mut(usize::from(level / 64)) {
            *word |= 1 << (level % 64);
        }
    }

    /// The highest level with ready messages, unless the lowest one is all there is.
    fn next(&self) -> Option<&Messages> {
        self.occupied().find(|messages| messages.ready() > 0)
    }

    /// Forgets levels that have become empty.
    fn settle_down(&mut self) {
        for index in 0..self.occupied.len() {
            while let Some(bit) = self.occupied.get(index).copied().and_then(highest_bit) {
                let level = index as u8 * 64 + bit;
                if self.get(level).is_some_and(|messages| messages.ready() > 0) {
                    break;
                }
                if let Some(word) = self.occupied.get_mut(index) {
                    *word &= !(1 << bit);
                }
            }
        }
    }
}

/// About how many octets the ready messages of a level take in memory, be they there or not.
fn ready_octets(messages: &Messages) -> u64 {
    messages.ready_bytes().saturating_add(messages.ready() as u64 * RECORD_BYTES)
}

fn highest_bit(word: u64) -> Option<u8> {
    word.checked_ilog2().map(|bit| bit as u8)
}

impl Levels {
    /// Empty ones, `max` above the lowest. With `in_turn`, what came back is served first and in that order.
    pub(crate) fn new(queue: QueueId, durable: bool, services: &Services, max: u8, in_turn: bool) -> Self {
        let lowest = Messages::new(queue, 0, durable, services);
        let higher = (max > 0).then(|| {
            let (levels, occupied) = (Vec::new(), [0; 4]);
            Box::new(Higher { services: services.clone(), ids: None, max, levels, occupied })
        });
        Self { lowest, higher, turns: in_turn.then(Box::default) }
    }

    /// Takes over what a restart found in a level.
    pub(crate) fn restore(&mut self, messages: Messages) {
        let level = messages.level_number();
        let Some(index) = usize::from(level).checked_sub(1) else {
            self.lowest = messages;
            return;
        };
        if let Some(higher) = &mut self.higher {
            higher.levels.resize_with(higher.levels.len().max(index + 1), || None);
            if let Some(place) = higher.levels.get_mut(index) {
                *place = Some(Box::new(messages));
                higher.occupy(level);
            }
        }
    }

    /// Has the messages of all levels let go of their ids when they leave.
    pub(super) fn keep_ids(&mut self, ids: &Arc<QueueIds>) {
        self.each_mut().for_each(|messages| messages.keep_ids(ids));
        self.higher.iter_mut().for_each(|higher| higher.ids = Some(Arc::clone(ids)));
    }

    /// The id of a message is free, though it is still somewhere.
    pub(super) fn release_id(&mut self, reference: MessageRef) {
        self.get_mut(reference.level).release_id(reference.position);
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = &Messages> {
        let higher = self.higher.iter().flat_map(|higher| higher.levels.iter().flatten());
        std::iter::once(&self.lowest).chain(higher.map(|messages| &**messages))
    }

    fn each_mut(&mut self) -> impl Iterator<Item = &mut Messages> {
        let higher = self.higher.iter_mut().flat_map(|higher| higher.levels.iter_mut().flatten());
        std::iter::once(&mut self.lowest).chain(higher.map(|messages| &mut **messages))
    }

    /// Those that may have ready messages, the highest first, and the lowest.
    fn occupied(&self) -> impl Iterator<Item = &Messages> {
        let higher = self.higher.iter().flat_map(|higher| higher.occupied());
        higher.chain(std::iter::once(&self.lowest))
    }

    /// Those with ready messages, the highest first.
    fn waiting(&self) -> impl Iterator<Item = &Messages> {
        self.occupied().filter(|messages| messages.ready() > 0)
    }

    fn get(&self, level: u8) -> &Messages {
        match &self.higher {
            Some(higher) => higher.get(level).unwrap_or(&self.lowest),
            None => &self.lowest,
        }
    }

    /// A level; the lowest one for one that was not used.
    pub(crate) fn get_mut(&mut self, level: u8) -> &mut Messages {
        match &mut self.higher {
            Some(higher) => higher.get_mut(level).unwrap_or(&mut self.lowest),
            None => &mut self.lowest,
        }
    }

    /// The levels with ready messages, the highest first, and where in each the next message will lie.
    pub(crate) fn ends(&self) -> Vec<(u8, u64)> {
        self.occupied().map(|messages| (messages.level_number(), messages.next_position())).collect()
    }

    /// The level that messages of this priority go to; made if it was not used yet.
    pub(crate) fn for_append(&mut self, priority: u8) -> &mut Messages {
        let Some(higher) = &mut self.higher else { return &mut self.lowest };
        let level = priority.min(higher.max);
        let Some(index) = usize::from(level).checked_sub(1) else { return &mut self.lowest };
        higher.occupy(level);
        higher.levels.resize_with(higher.levels.len().max(index + 1), || None);
        let (id, durable) = (self.lowest.id(), self.lowest.is_durable());
        let (services, ids) = (&higher.services, &higher.ids);
        match higher.levels.get_mut(index) {
            Some(place) => place.get_or_insert_with(|| {
                let mut messages = Messages::new(id, level, durable, services);
                ids.iter().for_each(|ids| messages.keep_ids(ids));
                Box::new(messages)
            }),
            None => &mut self.lowest,
        }
    }

    /// The message of a turn, if it still waits.
    fn returned_at(&self, turn: &Turn) -> Option<MessageRef> {
        self.get(turn.level).returned_at(turn.position, turn.number)
    }

    /// The messages that came back, in turn.
    fn returned(&self) -> impl Iterator<Item = MessageRef> + Clone {
        let turns = self.turns.iter().flat_map(|turns| turns.iter());
        turns.filter_map(|turn| self.returned_at(turn))
    }

    /// The level that the next message comes from, and from which position on it is taken there.
    fn next(&self) -> (&Messages, u64) {
        if let Some(reference) = self.returned().next() {
            return (self.get(reference.level), reference.position);
        }
        let level = self.higher.as_ref().and_then(|higher| higher.next());
        (level.unwrap_or(&self.lowest), 0)
    }

    /// The same, to take it: of a message that came back its position, since the one behind it may come from elsewhere.
    pub(crate) fn next_mut(&mut self) -> (&mut Messages, Option<u64>) {
        if self.turns.is_some()
            && let Some(reference) = self.next_returned()
        {
            return (self.get_mut(reference.level), Some(reference.position));
        }
        if let Some(higher) = &mut self.higher {
            higher.settle_down();
            let words = higher.occupied.iter().enumerate().rev();
            let highest =
                words.filter_map(|(index, &word)| Some(index as u8 * 64 + highest_bit(word)?)).next();
            if let Some(level) = highest {
                return (higher.get_mut(level).unwrap_or(&mut self.lowest), None);
            }
        }
        (&mut self.lowest, None)
    }

    /// Turns that are kept, those left behind included.
    #[cfg(test)]
    pub(crate) fn turns(&self) -> usize {
        self.turns.iter().flat_map(|turns| turns.iter()).count()
    }

    /// The message whose turn it is, without the turns that were left behind.
    fn next_returned(&mut self) -> Option<MessageRef> {
        let mut turns = self.turns.take()?;
        turns.skip(|turn| self.returned_at(turn).is_some());
        self.turns = Some(turns);
        self.returned().next()
    }

    /// Messages that can be delivered.
    pub(crate) fn ready(&self) -> usize {
        match &self.higher {
            Some(higher) => higher.occupied().map(Messages::ready).sum::<usize>() + self.lowest.ready(),
            None => self.lowest.ready(),
        }
    }

    /// Octets of the bodies of messages that can be delivered.
    pub(crate) fn ready_bytes(&self) -> u64 {
        self.occupied().map(Messages::ready_bytes).sum()
    }

    /// Octets of memory held for messages, ready or unacked.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.each().map(Messages::memory_bytes).sum()
    }

    /// Whether a message may be there that expires.
    pub(crate) fn may_expire(&self) -> bool {
        match &self.higher {
            Some(_) => self.each().any(Messages::may_expire),
            None => self.lowest.may_expire(),
        }
    }

    /// Whether messages are on disk alone.
    pub(crate) fn has_absent(&self) -> bool {
        match &self.higher {
            Some(_) => self.each().any(Messages::has_absent),
            None => self.lowest.has_absent(),
        }
    }

    /// Takes the next message out of the ready ones.
    pub(crate) fn take_next(&mut self) -> Next<'_> {
        let (messages, from) = self.next_mut();
        messages.take_from(from.unwrap_or(0))
    }

    /// The message that would be taken next.
    pub(crate) fn peek(&self) -> Peeked<'_> {
        let (messages, from) = self.next();
        messages.peek(from)
    }

    /// Whether the message that would be taken next has expired. COMPAT: those of lower levels wait behind it.
    pub(crate) fn is_next_expired(&self, deadline: Deadline) -> bool {
        let (messages, from) = self.next();
        messages.is_next_expired(from, deadline)
    }

    /// Whether the next message, which is on disk, may be one that expires.
    pub(crate) fn may_next_expire(&self) -> bool {
        let (messages, from) = self.next();
        messages.may_next_expire(from)
    }

    /// Whether the next message has to be brought into memory before it can be taken.
    pub(crate) fn is_next_absent(&self) -> bool {
        let (messages, from) = self.next();
        messages.is_next_absent(from)
    }

    /// The message at `reference`, which must not be settled yet.
    pub(crate) fn view(&self, reference: MessageRef) -> Option<MessageView<'_>> {
        self.get(reference.level).view(reference)
    }

    /// Makes a message that was taken ready again, at its old place in its level or behind those that came back before.
    pub(crate) fn put_back(&mut self, reference: MessageRef) {
        if let Some(higher) = &mut self.higher
            && reference.level > 0
        {
            higher.occupy(reference.level);
        }
        let mut number = 0;
        if let Some(mut turns) = self.turns.take() {
            let is_due = |turn: &Turn| self.returned_at(turn).is_some();
            number = turns.push(reference.level, reference.position, is_due);
            self.turns = Some(turns);
        }
        self.get_mut(reference.level).put_back(reference, number);
    }

    /// Counts that a message that was taken comes back; how often it did by now.
    pub(crate) fn count_return(&mut self, reference: MessageRef, failed: bool) -> Returns {
        self.get_mut(reference.level).count_return(reference, failed)
    }

    /// Lets go of a message that was taken.
    pub(crate) fn settle(&mut self, reference: MessageRef) {
        self.get_mut(reference.level).settle(reference);
    }

    /// Lets go of all ready messages; how many there were. `purged` is told where they were, level by level.
    pub(crate) fn purge(&mut self, mut purged: impl FnMut(QueueId, &[Range<u64>])) -> usize {
        self.turns.iter_mut().for_each(|turns| turns.clear());
        let mut ready = 0;
        for messages in self.each_mut().filter(|messages| messages.ready() > 0) {
            let (count, positions) = messages.purge();
            ready += count;
            purged(messages.id(), &positions);
        }
        ready
    }

    /// What the store knows the levels by that were used.
    pub(crate) fn ids(&self) -> impl Iterator<Item = QueueId> {
        self.each().map(Messages::id)
    }

    /// Lets go of everything, of what is handed out as well.
    pub(crate) fn forget(&mut self) {
        self.turns.iter_mut().for_each(|turns| turns.clear());
        self.each_mut().for_each(Messages::forget);
    }
}

/// What leaves memory, and what comes back.
impl Levels {
    /// Chunks that should be brought into memory: those of `dying` messages, what is delivered next, some behind it.
    pub(crate) fn wanted(&self, dying: impl Iterator<Item = MessageRef> + Clone) -> Vec<Incoming> {
        if self.higher.is_none() {
            return self.lowest.wanted(dying);
        }
        let dying = dying.chain(self.returned().take(RETURNED_AHEAD));
        let mut wanted: Vec<Incoming> = Vec::new();
        for messages in self.each() {
            let own = dying.clone().filter(|reference| reference.level == messages.level_number());
            if own.clone().next().is_some() {
                wanted.append(&mut messages.wanted(own));
            }
        }
        let mut ahead = 0;
        for messages in self.waiting() {
            if ahead >= READ_AHEAD_BYTES as u64 {
                break;
            }
            if wanted.iter().all(|incoming| incoming.queue != messages.id()) {
                wanted.append(&mut messages.wanted(std::iter::empty()));
            }
            ahead += ready_octets(messages);
        }
        wanted
    }

    /// A message that was taken is needed soon: its chunk is kept in memory, and awaited if it is not there.
    pub(crate) fn expect(&mut self, reference: MessageRef) {
        self.get_mut(reference.level).expect(reference);
    }

    /// Whether the chunk of a message that was taken is not in memory.
    pub(crate) fn is_absent(&self, reference: MessageRef) -> bool {
        self.get(reference.level).is_absent(reference)
    }

    /// Has the chunk of a message brought into memory.
    pub(crate) fn await_chunk(&mut self, reference: MessageRef) {
        self.get_mut(reference.level).await_chunk(reference);
    }

    /// Whether a chunk is awaited that nobody brings yet.
    pub(crate) fn has_awaited(&self) -> bool {
        self.each().any(Messages::has_awaited)
    }

    /// The chunks that are awaited, for whoever brings them.
    pub(crate) fn take_awaited(&mut self) -> Vec<Incoming> {
        self.each_mut().flat_map(Messages::take_awaited).collect()
    }

    /// Whether chunks should be asked for now: the next one is missing, or what is ahead of it runs short.
    pub(crate) fn is_short(&self) -> bool {
        if self.turns.is_some() && self.is_next_absent() {
            return true;
        }
        let mut ahead = 0;
        for messages in self.waiting() {
            if messages.is_short() {
                return true;
            }
            ahead += ready_octets(messages);
            if ahead >= READ_AHEAD_BYTES as u64 / 2 {
                return false;
            }
        }
        false
    }

    /// Brings a chunk back, unless it has gone elsewhere meanwhile.
    pub(crate) fn install(&mut self, incoming: Incoming, contents: Contents) {
        self.get_mut(incoming.level).install(incoming, contents);
    }

    /// Whether it is not known for sure how many octets are ready.
    pub(crate) fn has_estimates(&self) -> bool {
        self.each().any(Messages::has_estimates)
    }

    /// A chunk whose octets are to be counted.
    pub(crate) fn next_estimate(&self) -> Option<Incoming> {
        self.each().find_map(Messages::next_estimate)
    }

    /// Counts the octets of a chunk that stays where it is.
    pub(crate) fn count_octets(&mut self, counted: Incoming, contents: &Contents) {
        self.get_mut(counted.level).count_octets(counted, contents);
    }

    /// Whether a chunk is still to be brought back.
    pub(crate) fn is_wanted(&self, incoming: Incoming) -> bool {
        self.get(incoming.level).is_wanted(incoming)
    }

    /// Lets chunks leave memory that lie on disk already, and names those to be written first, up to `bytes`, from the
    /// lowest level on.
    pub(crate) fn page_out(&mut self, which: PageOut, bytes: usize) -> Vec<Outgoing> {
        let next = self.next().0.level_number();
        let mut left = bytes;
        let mut outgoing = Vec::new();
        for messages in self.each_mut() {
            let which = match which {
                // Nothing of a level below is delivered soon; but it is not worth a block of its own for what is
                // little.
                PageOut::Far if messages.level_number() != next => PageOut::Near,
                PageOut::Near if messages.level_number() != next => PageOut::All,
                which => which,
            };
            outgoing.append(&mut messages.page_out(which, &mut left));
        }
        outgoing
    }

    /// Chunks that still need the journal below `position`, to be written as blocks.
    pub(crate) fn leave_journal(&mut self, position: JournalPosition) -> Vec<Outgoing> {
        self.each_mut().flat_map(|messages| messages.leave_journal(position)).collect()
    }

    /// The oldest position of the journal that a chunk still needs.
    pub(crate) fn needs_journal_from(&self) -> Option<JournalPosition> {
        self.each().filter_map(Messages::needs_journal_from).min()
    }

    /// Notes where an outgoing chunk was written, or that it could not be. With `leave` it leaves memory.
    pub(crate) fn written(&mut self, outgoing: Outgoing, location: Option<BlockLocation>, leave: bool) {
        self.get_mut(outgoing.level).written(outgoing, location, leave);
    }

    /// Begins to write the block at `location` again, if a chunk of the level with this id still has it.
    pub(crate) fn begin_rewrite(
        &mut self,
        id: QueueId,
        first_position: u64,
        location: BlockLocation,
    ) -> Option<Rewrite> {
        let mut levels = self.each_mut();
        levels.find(|messages| messages.id() == id)?.begin_rewrite(first_position, location)
    }

    /// Notes where the block lies now, or that it could not be written.
    pub(crate) fn end_rewrite(&mut self, rewrite: &Rewrite, location: Option<BlockLocation>) {
        self.get_mut(rewrite.level).end_rewrite(rewrite, location);
    }

    /// What the store does not know yet of durable blocks.
    pub(crate) fn changed_blocks(&mut self, states: &mut Vec<BlockState>) {
        self.each_mut().for_each(|messages| messages.changed_blocks(states));
    }
}
