//! What an administrator says of a vhost: description, tags, the type of queues that do not say theirs, limits,
//! and whether it may be deleted.

use std::sync::Arc;

use leveret_codec::table::{FieldTable, FieldValue};

use super::Vhost;
use crate::access::user::{VhostLimits, limit_reached};
use crate::access::{Access, Actor};
use crate::definition::Definition;
use crate::error::BrokerError;
use crate::limits::NAME_BYTES_MAX;
use crate::queue::QueueType;
use crate::store::JournalPosition;

/// What can be changed of a vhost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VhostSettings {
    /// For people.
    pub description: String,
    /// For people and tools.
    pub tags: Vec<String>,
    /// Type of queues that are declared without one, where it has the properties they ask for.
    pub default_queue_type: Option<QueueType>,
    /// How much there may be of what.
    pub limits: VhostLimits,
    /// It is not deleted.
    pub is_protected: bool,
}

impl VhostSettings {
    /// The type that a queue with these properties is given if it does not say one; none if it stays without.
    #[must_use]
    pub fn queue_type_for(&self, durable: bool, exclusive: bool, auto_delete: bool) -> Option<QueueType> {
        let is_possible = |queue_type: &QueueType| {
            // COMPAT: otherwise the queue is a classic one.
            *queue_type == QueueType::Classic || (durable && !exclusive && !auto_delete)
        };
        self.default_queue_type.filter(is_possible)
    }

    /// Checks what a vhost is to be.
    ///
    /// # Errors
    /// The name is empty, or something is too long for what it is.
    pub(crate) fn check(&self, name: &str) -> Result<(), BrokerError> {
        let refuse = |reason: String| Err(BrokerError::InvalidVhost { reason });
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
            return refuse(format!("a vhost's name has 1 to {NAME_BYTES_MAX} octets"));
        }
        if self.tags.iter().any(|tag| !(1..=NAME_BYTES_MAX).contains(&tag.len())) {
            return refuse(format!("a tag has 1 to {NAME_BYTES_MAX} octets"));
        }
        Ok(())
    }
}

impl Vhost {
    /// What is said of it now.
    #[must_use]
    pub fn settings(&self) -> Arc<VhostSettings> {
        Arc::clone(&self.settings.read())
    }

    /// Changes what is said of it; where that is safe.
    pub(crate) fn set_settings(
        &self,
        access: &Access,
        by: Actor<'_>,
        settings: VhostSettings,
    ) -> JournalPosition {
        let limits = settings.limits;
        let position = {
            let mut current = self.settings.write();
            *current = Arc::new(settings.clone());
            self.note(vec![Definition::PutVhost(self.name.clone(), settings)])
        };
        let fields = FieldTable::new().with("name", self.name.as_str()).with("limits", format!("{limits:?}"));
        access.tell(by, "vhost.limits.set", fields);
        position
    }

    pub(crate) fn restore_settings(&self, settings: VhostSettings) {
        *self.settings.write() = Arc::new(settings);
    }

    /// Gives a queue that does not say its type the vhost's, where that type can have what is asked for.
    pub(super) fn with_default_type(
        &self,
        mut arguments: FieldTable,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
    ) -> FieldTable {
        let key = "x-queue-type";
        let known = self.settings.read().queue_type_for(durable, exclusive, auto_delete);
        if let Some(queue_type) = known
            && !arguments.contains_key(key)
        {
            arguments.insert(key, FieldValue::from(queue_type.as_str()));
        }
        arguments
    }

    /// Checks that there may be one more queue. Two that are declared at the same moment may both find room for the
    /// last one.
    pub(super) fn queue_limit(&self) -> Option<u64> {
        let limit = self.settings.read().limits.max_queues;
        limit.and_then(|limit| limit_reached(Some(limit), self.queues.len()))
    }
}
