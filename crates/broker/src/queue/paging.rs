//! A queue's messages on their way to the disk and back. The store's threads call this; they wait for the disk
//! with no lock held, and the queue's lock is taken before and after for a moment.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tracing::{error, warn};

use super::messages::{Incoming, Messages, Outgoing, PageOut};
use super::{Queue, State};
use crate::message::{Contents, MessageView};
use crate::names::QueueId;
use crate::store::{Block, BlockError, BlockLocation, BlockState, JournalPosition};

/// When messages that could not be read are tried again.
const LOADED_AGAIN_AFTER_MS: u64 = 1000;

impl Queue {
    /// Calls `listener` once the next message is in memory, or there is none; at once if that is so already.
    pub fn when_loaded(&self, listener: Box<dyn FnOnce() + Send>) {
        let mut state = self.state.lock();
        if state.deleted || state.stopped.is_some() || !state.messages.is_next_absent() {
            drop(state);
            return listener();
        }
        state.load_waiters.push(listener);
        self.load_if_short(&mut state);
    }

    /// Asks for messages to be brought back, if they are needed soon and that was not asked yet.
    pub(super) fn load_if_short(&self, state: &mut State) {
        if state.messages.is_short() {
            self.load_soon(state);
        }
    }

    /// Asks for messages to be brought back, if that was not asked yet.
    pub(super) fn load_soon(&self, state: &mut State) {
        if !state.is_loading && state.stopped.is_none() {
            state.is_loading = true;
            self.this.upgrade().into_iter().for_each(|queue| self.store.request_load(queue));
        }
    }

    /// Brings the messages back into memory that are to be delivered next, and delivers them. Waits for the disk.
    pub fn load(&self) {
        let mut state = self.state.lock();
        let mut wanted = state.messages.wanted(state.dying.iter().map(|dying| dying.message));
        loop {
            wanted.extend(state.messages.take_awaited());
            if wanted.is_empty() {
                break;
            }
            drop(state);
            for incoming in wanted.drain(..) {
                if !self.load_chunk(incoming) {
                    return;
                }
            }
            state = self.state.lock();
        }
        while let Some(estimated) = state.messages.next_estimate().filter(|_| state.needs_octets()) {
            drop(state);
            match self.read(estimated) {
                Ok(contents) => self.state.lock().messages.count_octets(estimated, &contents),
                Err(error) => {
                    if !self.fail_to_load(estimated, error) {
                        return;
                    }
                }
            }
            state = self.state.lock();
        }
        state.is_loading = false;
        let waiters = std::mem::take(&mut state.load_waiters);
        self.dispatch(&mut state);
        self.settle_down(state);
        waiters.into_iter().for_each(|waiter| waiter());
    }

    /// Shows all messages that are ready with level and position, from the disk as well, where they stay. For a start,
    /// before anybody takes any. Waits for the disk.
    pub(crate) fn visit_ready(&self, visit: &mut dyn FnMut(u8, u64, &MessageView<'_>)) {
        let chunks: Vec<_> = self.state.lock().messages.each().flat_map(Messages::unread_chunks).collect();
        for chunk in chunks {
            match (&chunk.contents, chunk.incoming) {
                (Some(contents), _) => chunk.visit(contents, visit),
                (None, Some(incoming)) => {
                    let first_position = incoming.first_position;
                    match self.read(incoming) {
                        Ok(contents) => chunk.visit(&contents, visit),
                        Err(error) => {
                            let reason = format!("messages from {first_position} on cannot be read: {error}");
                            return self.stop(reason);
                        }
                    }
                }
                (None, None) => {}
            }
        }
    }

    /// Shows the messages that are ready and in memory.
    pub(crate) fn visit_loaded(&self, visit: &mut dyn FnMut(u8, u64, &MessageView<'_>)) {
        let state = self.state.lock();
        for chunk in state.messages.each().flat_map(Messages::unread_chunks) {
            chunk.contents.iter().for_each(|contents| chunk.visit(contents, visit));
        }
    }

    fn read(&self, incoming: Incoming) -> Result<Contents, BlockError> {
        let read = self.store.read_block(incoming.location, incoming.queue, incoming.first_position);
        read.and_then(|payload| decoded(&payload))
    }

    /// `false` if that has to end here.
    fn load_chunk(&self, incoming: Incoming) -> bool {
        match self.read(incoming) {
            Ok(contents) => {
                let mut state = self.state.lock();
                state.messages.install(incoming, contents);
                self.dispatch(&mut state);
                true
            }
            Err(error) => self.fail_to_load(incoming, error),
        }
    }

    /// What is damaged stops the queue; what the system refuses, as without a free file descriptor, is tried again.
    /// `true` if that means nothing, since the messages were settled and freed while they were read.
    fn fail_to_load(&self, incoming: Incoming, error: BlockError) -> bool {
        let mut state = self.state.lock();
        if !state.messages.is_wanted(incoming) {
            return true;
        }
        let (name, vhost) = (&self.spec.name, &self.spec.vhost);
        let what = format!("messages from {} on cannot be read: {error}", incoming.first_position);
        match error {
            BlockError::Io(_) => {
                warn!(queue = %name, %vhost, "{what}; trying again");
                state.is_loading = false;
                state.loads_again = true;
                let again_at = self.services.clock.now().after_ms(LOADED_AGAIN_AFTER_MS);
                self.arm(&mut state, again_at);
            }
            BlockError::Damaged(_) => {
                drop(state);
                error!(queue = %name, %vhost, "queue stopped: {what}");
                self.stop(what);
            }
        }
        false
    }

    /// Ends all use of the queue but its deletion: going on would lose or invent messages. What it has on disk
    /// stays there.
    pub fn stop(&self, reason: String) {
        let mut state = self.state.lock();
        self.is_stopped.store(true, Ordering::Release);
        state.stopped.get_or_insert(reason);
        state.is_loading = false;
        let waiters = std::mem::take(&mut state.load_waiters);
        let consumers = state.consumers.drain();
        drop(state);
        waiters.into_iter().for_each(|waiter| waiter());
        consumers.iter().for_each(|sink| sink.cancel());
    }

    /// Why it is stopped, if it is.
    pub fn stopped(&self) -> Option<String> {
        self.state.lock().stopped.clone()
    }

    /// Moves messages out of memory, about `bytes` of them. Waits for the disk.
    pub(crate) fn page_out(&self, which: PageOut, bytes: usize) -> io::Result<()> {
        let mut state = self.state.lock();
        let which = if which == PageOut::Near && state.consumers.is_empty() { PageOut::All } else { which };
        let outgoing = state.messages.page_out(which, bytes);
        drop(state);
        self.write_out(outgoing, true)
    }

    /// Writes messages as blocks that would otherwise need the journal below `position`. Waits for the disk.
    pub(crate) fn leave_journal(&self, position: JournalPosition) -> io::Result<()> {
        let outgoing = self.state.lock().messages.leave_journal(position);
        self.write_out(outgoing, false)
    }

    /// The oldest part of the journal that holds a message of which there is no block.
    pub(crate) fn needs_journal_from(&self) -> Option<JournalPosition> {
        self.state.lock().messages.needs_journal_from()
    }

    fn write_out(&self, outgoing: Vec<Outgoing>, leave: bool) -> io::Result<()> {
        let mut result = Ok(());
        for chunk in outgoing {
            let location = match result {
                Ok(()) => {
                    self.write(chunk.queue, chunk.first_position, chunk.span, chunk.durable, &chunk.contents)
                }
                Err(_) => Err(io::ErrorKind::Interrupted.into()),
            };
            let (location, error) = match location {
                Ok(location) => (Some(location), None),
                Err(error) => (None, Some(error)),
            };
            self.state.lock().messages.written(chunk, location, leave);
            result = result.and(error.map_or(Ok(()), Err));
        }
        result
    }

    fn write(
        &self,
        queue: QueueId,
        first_position: u64,
        count: u32,
        durable: bool,
        contents: &Contents,
    ) -> io::Result<BlockLocation> {
        let stored = contents.stored();
        let payload: Vec<&[u8]> =
            stored.small_parts().into_iter().chain(stored.bodies().map(|body| &**body)).collect();
        self.store.write_block(&Block { queue, first_position, count, durable, payload: &payload })
    }

    /// What the store is to keep beside the queue's blocks and does not know yet.
    pub(crate) fn changed_blocks(&self, states: &mut Vec<BlockState>) {
        self.state.lock().messages.changed_blocks(states);
    }

    /// Writes a block of the queue, or of the level of it with this id, again with only the messages that are left of
    /// it, so that the file it lies in can go. Waits for the disk.
    ///
    /// # Errors
    /// There is no room, or the disk fails: the block is still where it was.
    pub fn rewrite_block(
        &self,
        level: QueueId,
        first_position: u64,
        location: BlockLocation,
    ) -> Result<(), BlockError> {
        let found = self.state.lock().messages.begin_rewrite(level, first_position, location);
        let Some(rewrite) = found else { return Ok(()) };
        let contents = match &rewrite.contents {
            Some(contents) => Ok(Arc::clone(contents)),
            None => {
                let read = self.store.read_block(location, rewrite.queue, first_position);
                read.and_then(|payload| decoded(&payload)).map(Arc::new)
            }
        };
        let written = contents.and_then(|contents| {
            let left = rewrite.left_of(&contents);
            let left = left.as_ref().unwrap_or(&contents);
            Ok(self.write(rewrite.queue, first_position, rewrite.covers, rewrite.durable, left)?)
        });
        let (location, result) = match written {
            Ok(location) => (Some(location), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.state.lock().messages.end_rewrite(&rewrite, location);
        result
    }
}

fn decoded(payload: &Bytes) -> Result<Contents, BlockError> {
    Contents::from_stored(payload)
        .ok_or_else(|| BlockError::Damaged("the messages in it do not read".to_owned()))
}
