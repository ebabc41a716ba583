//! What sets quorum queues apart from classic ones, on the one node there is: they keep all messages, count how often
//! each came back, and give up one that came back too often. Replication will come here as well.

use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTableRef, FieldValue};

use super::{DeathReason, Queue, QueueSpec, QueueType, State};
use crate::error::BrokerError;
use crate::message::MessageRef;

/// COMPAT: the highest priority of a message, and that of one that has none.
pub(super) const PRIORITY_MAX: u8 = 31;
pub(super) const PRIORITY_USUAL: u8 = 4;

impl QueueSpec {
    /// Whether it is a quorum queue.
    #[must_use]
    pub fn is_quorum(&self) -> bool {
        self.arguments.queue_type() == QueueType::Quorum
    }
}

impl Queue {
    /// Messages come back to a quorum queue: those that came back too often die.
    pub(super) fn take_back(&self, state: &mut State, messages: &[MessageRef]) {
        let limit = state.settings.delivery_limit;
        let mut dead = Vec::new();
        for &message in messages {
            let message = MessageRef { returns: message.returns.saturating_add(1), ..message };
            if limit.is_some_and(|limit| u32::from(message.returns) > limit) {
                dead.push(message);
            } else {
                state.messages.put_back(message);
            }
        }
        // Where it is safe matters to nobody: what came back was promised nothing.
        self.kill(state, &dead, DeathReason::DeliveryLimit);
    }

    /// Refuses what a quorum queue cannot be asked for when it is deleted.
    ///
    /// # Errors
    /// COMPAT: a condition.
    pub(crate) fn check_conditions(&self, if_unused: bool, if_empty: bool) -> Result<(), BrokerError> {
        let condition = match (if_unused, if_empty) {
            _ if !self.spec.is_quorum() => return Ok(()),
            (true, _) => "if-unused",
            (_, true) => "if-empty",
            _ => return Ok(()),
        };
        Err(BrokerError::ConditionOfQuorumQueue {
            queue: self.spec.name.to_string(),
            vhost: self.spec.vhost.to_string(),
            condition,
        })
    }
}

/// The properties of a message that came back so often, with the header that says so.
#[must_use]
pub fn with_delivery_count(properties: &[u8], count: u16) -> Vec<u8> {
    // INVARIANT: they were decoded when the message was published.
    let mut properties = Properties::decode(properties).unwrap_or_default();
    let mut headers = properties.headers.map(|headers| headers.to_owned()).unwrap_or_default();
    headers.set("x-delivery-count", FieldValue::I64(i64::from(count)));
    let octets = headers.encoded();
    properties.headers = FieldTableRef::parse(&octets).ok();
    let mut changed = Vec::with_capacity(octets.len() + 64);
    properties.encode(&mut changed);
    changed
}
