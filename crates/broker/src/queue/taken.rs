//! What the broker itself does with messages that it took out of a queue as a consumer: it reads them again when it
//! needs them, and says beforehand which it will need, so that they are in memory then.

use super::Queue;
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

impl Queue {
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
