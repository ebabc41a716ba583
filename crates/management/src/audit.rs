//! What the audit log is told of here: changes that the broker itself does not know an administrator for.

use leveret_broker::access::Actor;
use leveret_broker::policy::{Policy, PolicyKind};
use leveret_codec::table::FieldTable;

use crate::json;

/// A policy was set.
pub(crate) fn policy_set(by: Actor<'_>, vhost: &str, kind: PolicyKind, policy: &Policy) {
    let name = match kind {
        PolicyKind::Policy => "policy.set",
        PolicyKind::Operator => "operator_policy.set",
    };
    let fields = named(vhost, &policy.name)
        .with("pattern", policy.pattern.as_str())
        .with("apply-to", policy.apply_to.as_str())
        .with("priority", policy.priority)
        .with("definition", json::object(&policy.definition).to_string());
    by.note(name, &fields);
}

/// A policy was cleared.
pub(crate) fn policy_cleared(by: Actor<'_>, vhost: &str, kind: PolicyKind, policy: &str) {
    let name = match kind {
        PolicyKind::Policy => "policy.cleared",
        PolicyKind::Operator => "operator_policy.cleared",
    };
    by.note(name, &named(vhost, policy));
}

/// Something in a vhost, by its name.
pub(crate) fn named(vhost: &str, name: &str) -> FieldTable {
    FieldTable::new().with("vhost", vhost).with("name", name)
}
