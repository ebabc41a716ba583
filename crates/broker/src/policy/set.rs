//! All policies of a vhost, and which of them are in force for a name.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use leveret_codec::table::FieldTable;

use super::{ActivePolicy, PolicyKind, definition};
use crate::names::ExchangeName;
use crate::queue::QueueType;
use crate::queue::arguments::QueueArguments;
use crate::queue::settings::{QueueSettings, RequestedSettings};

/// Policies of a vhost. Replaced as a whole when one of them changes.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    /// INVARIANT: the highest priority first; of equal ones the name that sorts first.
    policies: Vec<Arc<ActivePolicy>>,
    /// Likewise.
    operator: Vec<Arc<ActivePolicy>>,
}

impl PolicySet {
    /// Those of one kind: the highest priority first, of equal ones the name that sorts first.
    #[must_use]
    pub fn of_kind(&self, kind: PolicyKind) -> &[Arc<ActivePolicy>] {
        match kind {
            PolicyKind::Policy => &self.policies,
            PolicyKind::Operator => &self.operator,
        }
    }

    fn of_kind_mut(&mut self, kind: PolicyKind) -> &mut Vec<Arc<ActivePolicy>> {
        match kind {
            PolicyKind::Policy => &mut self.policies,
            PolicyKind::Operator => &mut self.operator,
        }
    }

    /// Adds a policy, in the place of one of that name.
    pub fn put(&mut self, kind: PolicyKind, policy: ActivePolicy) {
        self.remove(kind, &policy.policy.name);
        let policies = self.of_kind_mut(kind);
        policies.push(Arc::new(policy));
        policies.sort_by(|one, other| {
            let rank = |of: &ActivePolicy| Reverse(of.policy.priority);
            rank(one).cmp(&rank(other)).then_with(|| one.policy.name.cmp(&other.policy.name))
        });
    }

    /// Takes a policy out; `false` if there is none of that name.
    pub fn remove(&mut self, kind: PolicyKind, name: &str) -> bool {
        let policies = self.of_kind_mut(kind);
        let before = policies.len();
        policies.retain(|policy| policy.policy.name != name);
        policies.len() < before
    }

    /// What is in force for a queue.
    #[must_use]
    pub fn of_queue(&self, name: &str, queue_type: QueueType) -> AppliedPolicies {
        let first = |policies: &[Arc<ActivePolicy>]| {
            let found =
                policies.iter().find(|one| one.policy.apply_to.is_for(queue_type) && one.matches(name));
            found.map(Arc::clone)
        };
        AppliedPolicies { policy: first(&self.policies), operator: first(&self.operator) }
    }

    /// What is in force for an exchange. COMPAT: operator policies are for queues.
    #[must_use]
    pub fn of_exchange(&self, name: &str) -> AppliedPolicies {
        let mut policies = self.policies.iter();
        let found = policies.find(|one| one.policy.apply_to.is_for_exchanges() && one.matches(name));
        AppliedPolicies { policy: found.map(Arc::clone), operator: None }
    }
}

/// The policies in force for a queue or an exchange.
#[derive(Clone, Debug, Default)]
pub struct AppliedPolicies {
    /// The user's.
    pub policy: Option<Arc<ActivePolicy>>,
    /// The operator's.
    pub operator: Option<Arc<ActivePolicy>>,
}

/// The same policies, not only such as say the same.
impl PartialEq for AppliedPolicies {
    fn eq(&self, other: &Self) -> bool {
        let is_same = |one: &Option<Arc<ActivePolicy>>, other: &Option<Arc<ActivePolicy>>| match (one, other)
        {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        is_same(&self.policy, &other.policy) && is_same(&self.operator, &other.operator)
    }
}

impl Eq for AppliedPolicies {}

impl AppliedPolicies {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policy.is_none() && self.operator.is_none()
    }

    /// Name of the user's policy, as listed.
    #[must_use]
    pub fn policy_name(&self) -> Option<&str> {
        self.policy.as_ref().map(|one| one.policy.name.as_str())
    }

    /// Name of the operator's policy, as listed.
    #[must_use]
    pub fn operator_policy_name(&self) -> Option<&str> {
        self.operator.as_ref().map(|one| one.policy.name.as_str())
    }

    /// What both ask for together, as listed.
    #[must_use]
    pub fn effective_definition(&self) -> Cow<'_, FieldTable> {
        match (&self.policy, &self.operator) {
            (None, None) => Cow::Owned(FieldTable::new()),
            (Some(one), None) | (None, Some(one)) => Cow::Borrowed(&one.policy.definition),
            (Some(policy), Some(operator)) => {
                Cow::Owned(definition::merged(&policy.policy.definition, &operator.policy.definition))
            }
        }
    }

    /// The settings of a queue with these arguments.
    #[must_use]
    pub fn settings(self, arguments: &QueueArguments) -> QueueSettings {
        let settings = match (&self.policy, &self.operator) {
            (None, None) => arguments.settings(&RequestedSettings::NONE),
            (Some(one), None) | (None, Some(one)) => arguments.settings(&one.requested),
            (Some(_), Some(_)) => arguments.settings(&definition::requested(&self.effective_definition())),
        };
        QueueSettings { policies: self, ..settings }
    }

    /// Where messages go that an exchange routes nowhere.
    #[must_use]
    pub fn alternate(&self) -> Option<&ExchangeName> {
        self.policy.as_ref()?.alternate.as_ref()
    }
}
