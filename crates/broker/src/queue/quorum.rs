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

/// How often a message was handed out and came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returns {
    /// In whatever way. After a restart it is known of a message only that it may have been handed out: that counts
    /// once, if it never came back before.
    pub acquired: u32,
    /// Because it was rejected, or its consumer's channel ended: what counts towards the delivery limit.
    pub failed: u32,
}

impl QueueSpec {
    /// Whether it is a quorum queue.
    #[must_use]
    pub fn is_quorum(&self) -> bool {
        self.arguments.queue_type() == QueueType::Quorum
    }
}

impl Queue {
    /// Messages come back to a quorum queue: those that failed too often die, the others are ready again at once or
    /// after a while.
    pub(super) fn take_back(&self, state: &mut State, messages: &[MessageRef], failed: bool) {
        let limit = state.settings.delivery_limit;
        let mut dead = Vec::new();
        for of_level in messages.chunk_by(|one, other| one.level == other.level) {
            let mut counted = Vec::with_capacity(of_level.len());
            for &message in of_level {
                let returns = state.messages.count_return(message, failed);
                if failed && limit.is_some_and(|limit| returns.failed > limit) {
                    dead.push(message);
                    continue;
                }
                counted.push((message.position, returns));
                let retry = state.settings.delayed_retry;
                match retry.and_then(|retry| retry.delay_ms(returns, failed)) {
                    Some(delay_ms) => {
                        state.retries.add(self.services.clock.now().after_ms(delay_ms), message)
                    }
                    None => state.messages.put_back(message),
                }
            }
            let level = of_level.first().map_or(0, |message| message.level);
            if !counted.is_empty() {
                self.store.returned(self.id.of_level(level), &counted);
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

/// The properties of a message that came back so often, with the headers that say so. COMPAT: 4.3 has both on each
/// message that is handed out again.
#[must_use]
pub fn with_counts(properties: &[u8], returns: Returns) -> Vec<u8> {
    // INVARIANT: they were decoded when the message was published.
    let mut properties = Properties::decode(properties).unwrap_or_default();
    let mut headers = properties.headers.map(|headers| headers.to_owned()).unwrap_or_default();
    headers.set("x-delivery-count", FieldValue::I64(i64::from(returns.failed)));
    headers.set("x-acquired-count", FieldValue::I64(i64::from(returns.acquired)));
    let octets = headers.encoded();
    properties.headers = FieldTableRef::parse(&octets).ok();
    let mut changed = Vec::with_capacity(octets.len() + 64);
    properties.encode(&mut changed);
    changed
}
