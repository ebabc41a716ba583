//! What the broker itself does with messages that it took out of a queue as a consumer: it reads them again when it
//! needs them, and says beforehand which it will need, so that they are in memory then.

use std::ops::Range;

use super::Queue;
use super::messages::Next;
use crate::error::BrokerError;
use crate::message::{MessageRef, MessageView};

/// What became of reading messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakenRead {
    /// So many were read, as many as were wanted.
    Read(usize),
    /// So many were read. The next one has to be brought into memory first, which is under way.
    Loading(usize),
    /// The queue was deleted or is stopped.
    Gone,
}

/// Why no more messages were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakenFrom {
    /// So many were wanted.
    Enough,
    /// The next one has to be brought into memory first, which is under way.
    Loading,
    /// There are no more.
    End,
}

impl Queue {
    /// Where messages lie that are there now: by priority, the highest first, the positions of each.
    pub(crate) fn places(&self) -> Vec<(u8, Range<u64>)> {
        self.state.lock().messages.ends().into_iter().map(|(level, end)| (level, 0..end)).collect()
    }

    /// Takes up to `count` ready messages of a level at these positions, the oldest first, as basic.get does; all
    /// before them were taken once. If the next one is not in memory, `when_loaded` is called once it is, or never
    /// will be.
    ///
    /// # Errors
    /// The queue was deleted or is stopped.
    pub(crate) fn take_from(
        &self,
        (level, positions): (u8, Range<u64>),
        count: usize,
        when_loaded: Box<dyn FnOnce() + Send>,
        mut take: impl FnMut(MessageRef, &MessageView<'_>),
    ) -> Result<TakenFrom, BrokerError> {
        let mut state = self.state.lock();
        self.check_usable(&state)?;
        let mut from = positions.start;
        for _ in 0..count {
            if state.messages.get_mut(level).next_from(from).is_none_or(|next| next >= positions.end) {
                return Ok(TakenFrom::End);
            }
            let body_bytes = match state.messages.get_mut(level).take_from(from) {
                Next::Message(reference, returns, view) => {
                    take(MessageRef { is_fresh: returns.is_none(), ..reference }, &view);
                    from = reference.position + 1;
                    u64::from(reference.body_bytes)
                }
                Next::Absent => {
                    state.load_waiters.push(when_loaded);
                    self.load_soon(&mut state);
                    return Ok(TakenFrom::Loading);
                }
                Next::None => return Ok(TakenFrom::End),
            };
            state.unacked += 1;
            state.unacked_bytes += body_bytes;
        }
        Ok(TakenFrom::Enough)
    }

    /// Has messages brought into memory that were taken and not settled, and keeps them there until they are settled.
    pub(crate) fn expect(&self, messages: &[MessageRef]) {
        let mut state = self.state.lock();
        if state.deleted || state.stopped.is_some() {
            return;
        }
        messages.iter().for_each(|&message| state.messages.expect(message));
        if state.messages.has_awaited() {
            self.load_soon(&mut state);
        }
    }

    /// Reads messages that were taken and not settled, in order, until `read` has enough. If one is not in memory,
    /// `when_loaded` is called once it is, or never will be.
    pub(crate) fn read_taken(
        &self,
        messages: &[MessageRef],
        when_loaded: Box<dyn FnOnce() + Send>,
        mut read: impl FnMut(&MessageView<'_>) -> bool,
    ) -> TakenRead {
        let mut state = self.state.lock();
        if state.deleted || state.stopped.is_some() {
            return TakenRead::Gone;
        }
        let mut count = 0;
        for &message in messages {
            match state.messages.view(message) {
                Some(view) => {
                    count += 1;
                    if !read(&view) {
                        break;
                    }
                }
                None if state.messages.is_absent(message) => {
                    state.messages.await_chunk(message);
                    state.load_waiters.push(when_loaded);
                    self.load_soon(&mut state);
                    return TakenRead::Loading(count);
                }
                // Settled meanwhile, as by a purge.
                None => count += 1,
            }
        }
        TakenRead::Read(count)
    }
}
