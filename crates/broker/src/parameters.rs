//! Global parameters: values by name that administrators keep in the broker, for tools and for people. The broker
//! itself reads one of them, its name.

use std::collections::BTreeMap;

use leveret_codec::table::{FieldTable, FieldValue};
use parking_lot::Mutex;

use crate::access::Actor;
use crate::broker::Broker;
use crate::definition::Definition;
use crate::error::BrokerError;
use crate::limits::{NAME_BYTES_MAX, PARAMETER_BYTES_MAX};
use crate::store::JournalPosition;

/// COMPAT: the parameter that names the broker, or a cluster where there is one.
pub const CLUSTER_NAME: &str = "cluster_name";

/// Values by name. Locked alone, while the store is given a change as well, so that it has changes in their order.
#[derive(Debug, Default)]
pub(crate) struct GlobalParameters(Mutex<BTreeMap<String, FieldValue>>);

impl Broker {
    /// All global parameters, by name.
    #[must_use]
    pub fn global_parameters(&self) -> Vec<(String, FieldValue)> {
        let parameters = self.parameters.0.lock();
        parameters.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// A global parameter.
    #[must_use]
    pub fn global_parameter(&self, name: &str) -> Option<FieldValue> {
        self.parameters.0.lock().get(name).cloned()
    }

    /// The name that the broker was given, if it was.
    #[must_use]
    pub fn cluster_name(&self) -> Option<String> {
        self.global_parameter(CLUSTER_NAME)?.as_str().map(str::to_owned)
    }

    /// Sets a global parameter; where that is safe, and whether it is new.
    ///
    /// # Errors
    /// A name or value that is not possible.
    pub fn set_global_parameter(
        &self,
        by: Actor<'_>,
        name: &str,
        value: FieldValue,
    ) -> Result<(JournalPosition, bool), BrokerError> {
        check(name, &value)?;
        let (position, is_new) = {
            let mut parameters = self.parameters.0.lock();
            let before = parameters.insert(name.to_owned(), value.clone());
            let change = Definition::PutGlobalParameter(name.to_owned(), value.clone());
            (self.store().define(vec![change]), before.is_none())
        };
        let fields = FieldTable::new().with("component", "global").with("name", name).with("value", value);
        self.access().tell(by, "parameter.set", fields);
        Ok((position, is_new))
    }

    /// Deletes a global parameter; where that is safe, nothing if there is none of that name.
    pub fn delete_global_parameter(&self, by: Actor<'_>, name: &str) -> Option<JournalPosition> {
        let position = {
            let mut parameters = self.parameters.0.lock();
            parameters.remove(name)?;
            self.store().define(vec![Definition::DeleteGlobalParameter(name.to_owned())])
        };
        let fields = FieldTable::new().with("component", "global").with("name", name);
        self.access().tell(by, "parameter.cleared", fields);
        Some(position)
    }

    pub(crate) fn restore_global_parameter(&self, name: String, value: FieldValue) {
        self.parameters.0.lock().insert(name, value);
    }
}

fn check(name: &str, value: &FieldValue) -> Result<(), BrokerError> {
    let refuse = |reason: String| Err(BrokerError::InvalidParameter { reason });
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
        return refuse(format!("a parameter's name has 1 to {NAME_BYTES_MAX} octets"));
    }
    if name == CLUSTER_NAME && value.as_str().is_none_or(|text| !(1..=NAME_BYTES_MAX).contains(&text.len())) {
        return refuse(format!("{CLUSTER_NAME} is a text of 1 to {NAME_BYTES_MAX} octets"));
    }
    if FieldTable::new().with("value", value.clone()).encoded().len() > PARAMETER_BYTES_MAX {
        return refuse(format!("a parameter's value has at most {PARAMETER_BYTES_MAX} octets"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::MemoryStore;

    const BY: Actor<'_> = Actor { user: "admin", from: "test" };

    #[test]
    fn parameters_are_set_changed_and_deleted() {
        let broker = Broker::new(Arc::new(MemoryStore::default()));
        let set =
            |name: &str, value: &str| broker.set_global_parameter(BY, name, value.into()).map(|(_, new)| new);
        assert_eq!(broker.cluster_name(), None);
        assert!(set("b", "1").unwrap() && !set("b", "2").unwrap() && set(CLUSTER_NAME, "mine").unwrap());
        assert_eq!(
            broker.global_parameters(),
            [("b".into(), "2".into()), (CLUSTER_NAME.into(), "mine".into())]
        );
        assert_eq!(broker.cluster_name().as_deref(), Some("mine"));
        assert!(broker.delete_global_parameter(BY, "b").is_some());
        assert!(broker.delete_global_parameter(BY, "b").is_none());
        for (name, value) in [("", "x"), (CLUSTER_NAME, ""), ("a", "x".repeat(PARAMETER_BYTES_MAX).as_str())]
        {
            assert!(matches!(set(name, value), Err(BrokerError::InvalidParameter { .. })), "{name}");
        }
        let number = broker.set_global_parameter(BY, CLUSTER_NAME, 5.into());
        assert!(number.is_err() && broker.cluster_name().as_deref() == Some("mine"));
    }
}
