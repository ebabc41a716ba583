//! Policies of a vhost: setting, clearing, and putting them in force for the exchanges and queues that are there. What
//! is declared later gets them when it is declared.

use std::sync::Arc;

use hashbrown::HashMap;

use super::Vhost;
use crate::definition::Definition;
use crate::error::BrokerError;
use crate::limits::{POLICIES_MAX, check_arguments, check_name};
use crate::names::ExchangeName;
use crate::policy::{ActivePolicy, AppliedPolicies, Policy, PolicyKind, PolicySet};
use crate::store::JournalPosition;

impl Vhost {
    /// Sets a policy, in the place of one of that name, and puts it in force; where it is safe. Costs a look at the
    /// name of each queue and exchange of the vhost; queues for which other policies are in force now may publish
    /// what gives way by that.
    ///
    /// # Errors
    /// As for [`ActivePolicy::check`], or a name or values that could not be kept.
    pub fn set_policy(&self, kind: PolicyKind, policy: Policy) -> Result<JournalPosition, BrokerError> {
        check_name("policy", &policy.name)?;
        check_arguments("values of a policy are", &policy.definition)?;
        let active = ActivePolicy::check(kind, policy.clone())?;
        let _one_at_a_time = self.policy_changes.lock();
        let mut policies = PolicySet::clone(&self.policies());
        policies.put(kind, active);
        if policies.of_kind(kind).len() > POLICIES_MAX {
            let reason = format!("a vhost has at most {POLICIES_MAX} policies");
            return Err(BrokerError::InvalidPolicy { reason });
        }
        Ok(self.put_in_force(policies, Definition::PutPolicy(self.name.clone(), kind, policy)))
    }

    /// Clears a policy; where that is safe.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn clear_policy(&self, kind: PolicyKind, name: &str) -> Result<JournalPosition, BrokerError> {
        let _one_at_a_time = self.policy_changes.lock();
        let mut policies = PolicySet::clone(&self.policies());
        if !policies.remove(kind, name) {
            return Err(BrokerError::PolicyNotFound {
                policy: name.to_owned(),
                vhost: self.name.to_string(),
            });
        }
        let gone = Definition::DeletePolicy(self.name.clone(), kind, name.to_owned());
        Ok(self.put_in_force(policies, gone))
    }

    /// All policies.
    #[must_use]
    pub fn policies(&self) -> Arc<PolicySet> {
        Arc::clone(self.topology.read().policies())
    }

    /// The policies in force for an exchange; those for a queue are among its settings.
    ///
    /// # Errors
    /// There is no such exchange.
    pub fn exchange_policies(&self, exchange: &str) -> Result<AppliedPolicies, BrokerError> {
        Ok(self.topology.read().exchange(exchange, &self.name)?.policies.clone())
    }

    /// Called with changes of policies locked, so that no older ones are put in force after these.
    fn put_in_force(&self, policies: PolicySet, definition: Definition) -> JournalPosition {
        let policies = Arc::new(policies);
        // PERF: a match may take long, so most of them are made before everybody has to wait.
        let exchanges: Vec<_> =
            self.topology.read().exchanges().map(|exchange| exchange.spec.name.clone()).collect();
        let applied = |name: ExchangeName| {
            let applied = policies.of_exchange(name.as_str());
            (name, applied)
        };
        let of_exchanges = exchanges.into_iter().map(applied).collect();
        let position = {
            let mut topology = self.topology.write();
            topology.set_policies(Arc::clone(&policies), of_exchanges);
            self.topology_moved();
            match &definition {
                Definition::PutPolicy(vhost, kind, policy) => {
                    self.services.events.policy_set(vhost, *kind, policy);
                }
                Definition::DeletePolicy(vhost, kind, name) => {
                    self.services.events.policy_cleared(vhost, *kind, name);
                }
                // There are no others of policies.
                _ => {}
            }
            self.note(vec![definition])
        };
        // Whoever declares a queue holds the topology until the queue is in the directory: it is there by now, or was
        // declared under these policies. The topology is free meanwhile, since what gives way is routed.
        for queue in self.queues() {
            let spec = &queue.spec;
            let applied = policies.of_queue(spec.name.as_str(), spec.arguments.queue_type());
            if !queue.is_under(&applied) {
                queue.apply(applied.settings(&spec.arguments));
            }
        }
        // Routes may remember settings of the queues they lead to.
        self.topology_moved();
        position
    }

    /// Brings a policy back, before the exchanges and queues that it is for.
    ///
    /// # Errors
    /// As for [`ActivePolicy::check`]: an older or newer version had other rules.
    pub fn restore_policy(&self, kind: PolicyKind, policy: Policy) -> Result<(), BrokerError> {
        let active = ActivePolicy::check(kind, policy)?;
        let mut topology = self.topology.write();
        let mut policies = PolicySet::clone(topology.policies());
        policies.put(kind, active);
        topology.set_policies(Arc::new(policies), HashMap::new());
        Ok(())
    }
}
