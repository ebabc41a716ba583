//! The last messages of an exchange, for destinations that are bound later. They are kept in memory alone, and
//! counted as the messages of queues are.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_codec::table::{FieldTable, FieldValue, FieldValueRef};
use parking_lot::Mutex;

use super::addressing::Addressing;
use crate::error::BrokerError;
use crate::message::{Body, MessageBatch, MessageView};
use crate::queue::arguments::value_text;
use crate::queue::memory::MemoryGauge;

/// COMPAT: how many messages are kept where nobody says.
const LENGTH_DEFAULT: usize = 20;

const LENGTH: &str = "x-recent-history-length";
const NO_STORE: &str = "x-recent-history-no-store";

/// Messages, oldest first.
#[derive(Debug)]
pub(crate) struct RecentHistory {
    length: usize,
    gauge: Arc<MemoryGauge>,
    /// A batch of one for each. Locked with the topology read, nothing is locked behind it.
    messages: Mutex<VecDeque<MessageBatch>>,
}

impl RecentHistory {
    /// # Errors
    /// The length that the arguments ask for is no positive integer.
    pub(crate) fn new(arguments: &FieldTable, gauge: &Arc<MemoryGauge>) -> Result<Self, BrokerError> {
        let length = match arguments.get(LENGTH) {
            None => LENGTH_DEFAULT,
            Some(value) => {
                let length = value.as_integer().filter(|length| *length > 0);
                let length = length.and_then(|length| usize::try_from(length).ok());
                length.ok_or_else(|| BrokerError::InvalidHistoryLength { value: printed(value) })?
            }
        };
        Ok(Self { length, gauge: Arc::clone(gauge), messages: Mutex::default() })
    }

    /// Keeps a message, in the place of the oldest if there is no other. COMPAT: unless a header says not to.
    pub(crate) fn note(&self, message: &Addressing<'_>) {
        let Some(view) = message.message() else { return };
        let no_store = message.headers().and_then(|headers| headers.get(NO_STORE));
        if matches!(no_store, Some(FieldValueRef::Boolean(true))) {
            return;
        }
        let mut batch = MessageBatch::default();
        batch.push(view);
        self.gauge.add(memory_bytes(&batch));
        let mut messages = self.messages.lock();
        messages.push_back(batch);
        let oldest = if messages.len() > self.length { messages.pop_front() } else { None };
        drop(messages);
        if let Some(oldest) = oldest {
            self.gauge.subtract(memory_bytes(&oldest));
        }
    }

    /// What is kept.
    pub(crate) fn messages(&self) -> MessageBatch {
        let mut all = MessageBatch::default();
        for batch in &*self.messages.lock() {
            batch.iter().for_each(|message| all.push(&message));
        }
        all
    }
}

impl Drop for RecentHistory {
    fn drop(&mut self) {
        self.gauge.subtract(self.messages.get_mut().iter().map(memory_bytes).sum());
    }
}

fn memory_bytes(batch: &MessageBatch) -> usize {
    let body = |message: MessageView<'_>| match message.body {
        // In the record.
        Body::Small(_) => 0,
        Body::Large(body) => body.len(),
    };
    size_of::<MessageBatch>() + batch.record_bytes() + batch.iter().map(body).sum::<usize>()
}

/// COMPAT: as Erlang prints it.
fn printed(value: &FieldValue) -> String {
    match value {
        FieldValue::LongString(_) => format!("<<{:?}>>", value_text(value)),
        other => value_text(other),
    }
}
