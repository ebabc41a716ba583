//! What an administrator says of a vhost: description, tags, the type of queues that do not say theirs, limits,
//! and whether it may be deleted.

use std::sync::Arc;

use leveret_codec::table::{FieldTable, FieldValue};
use parking_lot::MutexGuard;

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
        let (position, before) = {
            let mut current = self.settings.write();
            let before = std::mem::replace(&mut *current, Arc::new(settings.clone()));
            (self.note(vec![Definition::PutVhost(self.name.clone(), settings.clone())]), before)
        };
        let name = FieldTable::new().with("name", self.name.as_str());
        if before.limits != settings.limits {
            let fields = name.clone().with("limits", format!("{:?}", settings.limits));
            access.tell(by, "vhost.limits.set", fields);
        }
        if *before != (VhostSettings { limits: before.limits, ..settings.clone() }) {
            let VhostSettings { description, tags, default_queue_type, is_protected, .. } = settings;
            let default_queue_type = default_queue_type.map_or("", |queue_type| queue_type.as_str());
            let fields = name
                .with("description", description.as_str())
                .with("tags", tags.join(" "))
                .with("default_queue_type", default_queue_type)
                .with("protected_from_deletion", is_protected);
            by.note("vhost.changed", &fields);
        }
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

    /// Room for one more queue: the limit, if there is none. Where there is a limit, nobody else declares a queue as
    /// long as this lives.
    pub(super) fn room_for_queue(&self) -> RoomForQueue<'_> {
        let limit = self.settings.read().limits.max_queues;
        let one_at_a_time = limit.map(|_| self.limited_declarations.lock());
        let reached = limit.and_then(|limit| limit_reached(Some(limit), self.queues.len()));
        RoomForQueue { reached, _one_at_a_time: one_at_a_time }
    }
}

/// Whether there may be one more queue.
pub(super) struct RoomForQueue<'a> {
    /// The limit, if there are as many.
    pub(super) reached: Option<u64>,
    _one_at_a_time: Option<MutexGuard<'a, ()>>,
}
