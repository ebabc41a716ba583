//! How long messages wait in a queue until they are handed out, by a sample: now and then a position is watched until
//! it is delivered, one at a time. The queue tells it of batches that came and of positions that were read.
//!
//! PERF: a batch costs a step of a counter, a turn of a consumer a branch; the clock is read when a position is chosen
//! and when it is delivered.

use std::ops::Range;
use std::time::Duration;

use super::messages::Messages;
use crate::services::Services;

/// One of so many batches is watched.
const BATCHES_PER_SAMPLE: u32 = 64;

/// What is watched in one queue.
#[derive(Debug, Default)]
pub(super) struct Probe {
    batches: u32,
    watched: Option<Watched>,
}

#[derive(Debug)]
struct Watched {
    level: u8,
    position: u64,
    /// When it came.
    since: Duration,
}

impl Probe {
    /// A batch is about to be appended.
    #[inline]
    pub(super) fn batch_comes(&mut self, messages: &Messages, services: &Services) {
        let is_chosen = self.batches.is_multiple_of(BATCHES_PER_SAMPLE);
        self.batches = self.batches.wrapping_add(1);
        if is_chosen && self.watched.is_none() {
            self.watch(messages, services);
        }
    }

    #[cold]
    fn watch(&mut self, messages: &Messages, services: &Services) {
        let (level, position) = (messages.level_number(), messages.next_position());
        self.watched = Some(Watched { level, position, since: services.clock.steady() });
    }

    /// Where a turn begins to read, if it may reach what is watched.
    #[inline]
    pub(super) fn begin_turn(&self, messages: &Messages) -> Option<u64> {
        let watched = self.watched.as_ref()?;
        (watched.level == messages.level_number()).then(|| messages.read_position())
    }

    /// A turn that may have reached what is watched has read these.
    #[cold]
    pub(super) fn end_turn(&mut self, read: &Range<u64>, services: &Services) {
        let Some(watched) = self.watched.take_if(|watched| watched.position < read.end) else { return };
        // What has expired or was purged was passed before, and never delivered.
        if read.contains(&watched.position) {
            services.waiting_times.record(services.clock.steady().saturating_sub(watched.since));
        }
    }
}
