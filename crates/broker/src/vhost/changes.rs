//! What one operation changes among a vhost's definitions, in the order in which it happens. Each change is raised
//! as an event; the durable ones are noted, and the vhost hands them to the store before it lets go of its topology.

use std::sync::Arc;

use crate::definition::{BindingSpec, Definition};
use crate::exchange::destination::{BindingArguments, table_of};
use crate::exchange::{BindingTarget, ExchangeSpec};
use crate::names::{QueueId, VhostName};
use crate::queue::{Queue, QueueSpec};
use crate::services::Services;

/// Changes of definitions that take effect together.
pub(crate) struct Changes<'a> {
    vhost: VhostName,
    services: &'a Services,
    noted: Vec<Definition>,
    removed: Vec<Arc<Queue>>,
}

impl<'a> Changes<'a> {
    /// None yet.
    pub(crate) fn of(vhost: &VhostName, services: &'a Services) -> Self {
        Self { vhost: vhost.clone(), services, noted: Vec::new(), removed: Vec::new() }
    }

    pub(crate) fn exchange_added(&mut self, spec: &ExchangeSpec) {
        self.services.events.exchange_created(&self.vhost, spec);
        if spec.durable {
            self.noted.push(Definition::PutExchange(self.vhost.clone(), spec.clone()));
        }
    }

    pub(crate) fn exchange_removed(&mut self, spec: &ExchangeSpec) {
        self.services.events.exchange_deleted(&self.vhost, spec);
        if spec.durable {
            self.noted.push(Definition::DeleteExchange(self.vhost.clone(), spec.name.clone()));
        }
    }

    pub(crate) fn queue_added(&mut self, id: QueueId, spec: &QueueSpec) {
        if !spec.is_hidden() {
            self.services.events.queue_created(spec);
            self.services.counters.queue_created();
        }
        if spec.is_kept() {
            self.noted.push(Definition::PutQueue(id, spec.clone()));
        }
    }

    /// A queue was deleted. It lets go of what it holds, and the directory of it, once the store knows.
    pub(crate) fn queue_removed(&mut self, queue: &Arc<Queue>) {
        let spec = &queue.spec;
        if !spec.is_hidden() {
            self.services.events.queue_deleted(spec);
        }
        if spec.is_kept() {
            self.noted.push(Definition::DeleteQueue(self.vhost.clone(), spec.name.clone()));
        }
        self.removed.push(Arc::clone(queue));
    }

    /// A binding was added, which is kept if both its ends are durable.
    pub(crate) fn bound(
        &mut self,
        is_kept: bool,
        source: &str,
        target: BindingTarget,
        key: &str,
        with: &BindingArguments,
    ) {
        self.services.events.binding("binding.created", &self.vhost, source, &target, key, with);
        if is_kept {
            self.noted.push(Definition::Bind(self.vhost.clone(), binding(source, target, key, with)));
        }
    }

    /// A binding was removed.
    pub(crate) fn unbound(
        &mut self,
        is_kept: bool,
        source: &str,
        target: BindingTarget,
        key: &str,
        with: &BindingArguments,
    ) {
        self.services.events.binding("binding.deleted", &self.vhost, source, &target, key, with);
        if is_kept {
            self.noted.push(Definition::Unbind(self.vhost.clone(), binding(source, target, key, with)));
        }
    }

    /// Notes changes of things that have no event here.
    pub(crate) fn and(&mut self, changes: impl IntoIterator<Item = Definition>) {
        self.noted.extend(changes);
    }

    /// What was noted, and the queues that were deleted.
    pub(crate) fn into_parts(self) -> (Vec<Definition>, Vec<Arc<Queue>>) {
        (self.noted, self.removed)
    }
}

fn binding(source: &str, target: BindingTarget, key: &str, arguments: &BindingArguments) -> BindingSpec {
    BindingSpec { source: source.into(), target, routing_key: key.to_owned(), arguments: table_of(arguments) }
}
