//! Messages that came back to a quorum queue and wait before they are delivered again. They are neither ready nor
//! unacked, and count towards the queue's limits. A restart finds them ready.

use std::collections::BTreeMap;

use super::quorum::Returns;
use super::settings::{DelayedRetry, DelayedRetryType};
use super::{Queue, State};
use crate::message::MessageRef;
use crate::time::Timestamp;

/// Those that wait, in the order in which they are due. Takes memory for what waits alone.
#[derive(Default)]
pub(super) struct Retries {
    /// Messages due at the same time come in the order in which they came back.
    by_time: BTreeMap<(Timestamp, u64), MessageRef>,
    next: u64,
    body_bytes: u64,
}

impl Retries {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Octets of their bodies.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// When the first one is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.by_time.first_key_value().map(|(&(due, _), _)| due)
    }

    pub(super) fn add(&mut self, due: Timestamp, message: MessageRef) {
        self.body_bytes += u64::from(message.body_bytes);
        self.by_time.insert((due, self.next), message);
        self.next += 1;
    }

    fn take_due(&mut self, now: Timestamp) -> Option<MessageRef> {
        let first = self.by_time.first_entry().filter(|first| first.key().0 <= now)?;
        let message = first.remove();
        self.body_bytes = self.body_bytes.saturating_sub(u64::from(message.body_bytes));
        Some(message)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl DelayedRetry {
    /// How many milliseconds a message waits that came back so often, this time because it failed or not. COMPAT: one
    /// that never failed waits as long as one that failed once.
    pub(super) fn delay_ms(&self, returns: Returns, failed: bool) -> Option<u64> {
        let waits = match self.which {
            DelayedRetryType::All => true,
            DelayedRetryType::Failed => failed,
            DelayedRetryType::Returned => !failed,
            DelayedRetryType::Disabled => false,
        };
        let delay_ms = self.min_ms.saturating_mul(u64::from(returns.failed.max(1)));
        let delay_ms = delay_ms.min(self.max_ms.unwrap_or(u64::MAX));
        (waits && delay_ms > 0).then_some(delay_ms)
    }
}

impl Queue {
    /// Makes messages ready again whose time has come; whether there were any.
    pub(super) fn end_waiting(&self, state: &mut State, now: Timestamp) -> bool {
        let mut any = false;
        while let Some(message) = state.retries.take_due(now) {
            state.messages.put_back(message);
            any = true;
        }
        any
    }
}
