//! What one operation changes among a vhost's durable definitions, in the order in which it happens. The vhost
//! hands it to the store before it lets go of its topology; what is not durable is not noted.

use crate::definition::{BindingSpec, Definition};
use crate::exchange::destination::{BindingArguments, table_of};
use crate::exchange::{BindingTarget, ExchangeSpec};
use crate::names::{QueueId, VhostName};
use crate::queue::QueueSpec;

/// Changes of definitions that take effect together.
pub(crate) struct Changes {
    vhost: VhostName,
    noted: Vec<Definition>,
}

impl Changes {
    /// None yet.
    pub(crate) fn of(vhost: &VhostName) -> Self {
        Self { vhost: vhost.clone(), noted: Vec::new() }
    }

    pub(crate) fn exchange_added(&mut self, spec: &ExchangeSpec) {
        if spec.durable {
            self.noted.push(Definition::PutExchange(self.vhost.clone(), spec.clone()));
        }
    }

    pub(crate) fn exchange_removed(&mut self, spec: &ExchangeSpec) {
        if spec.durable {
            self.noted.push(Definition::DeleteExchange(self.vhost.clone(), spec.name.clone()));
        }
    }

    pub(crate) fn queue_added(&mut self, id: QueueId, spec: &QueueSpec) {
        if spec.is_kept() {
            self.noted.push(Definition::PutQueue(id, spec.clone()));
        }
    }

    pub(crate) fn queue_removed(&mut self, spec: &QueueSpec) {
        if spec.is_kept() {
            self.noted.push(Definition::DeleteQueue(self.vhost.clone(), spec.name.clone()));
        }
    }

    /// A binding between durable ends was added.
    pub(crate) fn bound(&mut self, source: &str, target: BindingTarget, key: &str, with: &BindingArguments) {
        self.noted.push(Definition::Bind(self.vhost.clone(), binding(source, target, key, with)));
    }

    /// A binding between durable ends was removed.
    pub(crate) fn unbound(
        &mut self,
        source: &str,
        target: BindingTarget,
        key: &str,
        with: &BindingArguments,
    ) {
        self.noted.push(Definition::Unbind(self.vhost.clone(), binding(source, target, key, with)));
    }

    /// What was noted.
    pub(crate) fn into_noted(self) -> Vec<Definition> {
        self.noted
    }
}

fn binding(source: &str, target: BindingTarget, key: &str, arguments: &BindingArguments) -> BindingSpec {
    BindingSpec { source: source.into(), target, routing_key: key.to_owned(), arguments: table_of(arguments) }
}
