//! Which queues, exchanges and bindings a broker was told to have, and how certain that is. Written by the load
//! around each declaration, compared by the survey after a crash.

use std::collections::BTreeMap;

/// Whether something exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its declaration was answered.
    There,
    /// Its deletion was answered.
    Gone,
    /// Something about it was under way.
    Unsure,
}

/// A binding; its key is its own, so that a message with this key says whether it exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BindingName {
    pub(crate) exchange: String,
    pub(crate) queue: String,
}

impl BindingName {
    pub(crate) fn new(exchange: &str, queue: &str) -> Self {
        Self { exchange: exchange.to_owned(), queue: queue.to_owned() }
    }

    pub(crate) fn routing_key(&self) -> String {
        format!("{}.{}", self.exchange, self.queue)
    }
}

/// What is known of all definitions; what is not named has never existed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Definitions {
    pub(crate) queues: BTreeMap<String, Standing>,
    pub(crate) exchanges: BTreeMap<String, Standing>,
    pub(crate) bindings: BTreeMap<BindingName, Standing>,
}

impl Definitions {
    pub(crate) fn queue(&self, name: &str) -> Standing {
        self.queues.get(name).copied().unwrap_or(Standing::Gone)
    }

    pub(crate) fn exchange(&self, name: &str) -> Standing {
        self.exchanges.get(name).copied().unwrap_or(Standing::Gone)
    }

    pub(crate) fn binding(&self, name: &BindingName) -> Standing {
        self.bindings.get(name).copied().unwrap_or(Standing::Gone)
    }

    pub(crate) fn set_queue(&mut self, name: &str, standing: Standing) {
        self.queues.insert(name.to_owned(), standing);
    }

    pub(crate) fn set_exchange(&mut self, name: &str, standing: Standing) {
        self.exchanges.insert(name.to_owned(), standing);
    }

    pub(crate) fn set_binding(&mut self, name: &BindingName, standing: Standing) {
        self.bindings.insert(name.clone(), standing);
    }

    /// What ends one end of a binding ends the binding, in the same moment.
    pub(crate) fn set_bindings_of(&mut self, end: &str, standing: Standing) {
        for (name, known) in &mut self.bindings {
            if (name.exchange == end || name.queue == end) && *known != Standing::Gone {
                *known = standing;
            }
        }
    }

    /// Takes over what another knows.
    pub(crate) fn update(&mut self, other: Self) {
        self.queues.extend(other.queues);
        self.exchanges.extend(other.exchanges);
        self.bindings.extend(other.bindings);
    }
}

/// What is wrong if something is found to exist, or not to.
pub(crate) fn judge(what: &str, standing: Standing, exists: bool) -> Option<String> {
    match (standing, exists) {
        (Standing::There, false) => Some(format!("{what} was declared and is lost")),
        (Standing::Gone, true) => Some(format!("{what} was deleted and is back")),
        _ => None,
    }
}

#[test]
fn an_answered_definition_is_certain_and_one_under_way_is_not() {
    assert!(judge("x", Standing::There, false).is_some());
    assert!(judge("x", Standing::Gone, true).is_some());
    for (standing, exists) in [
        (Standing::There, true),
        (Standing::Gone, false),
        (Standing::Unsure, true),
        (Standing::Unsure, false),
    ] {
        assert_eq!(judge("x", standing, exists), None);
    }
}

#[test]
fn a_binding_goes_with_its_ends() {
    let mut definitions = Definitions::default();
    let [one, other] = ["q", "p"].map(|queue| BindingName::new("x", queue));
    definitions.set_binding(&one, Standing::There);
    definitions.set_binding(&other, Standing::There);
    definitions.set_bindings_of("q", Standing::Gone);
    assert_eq!([definitions.binding(&one), definitions.binding(&other)], [Standing::Gone, Standing::There]);
    definitions.set_bindings_of("x", Standing::Unsure);
    assert_eq!([definitions.binding(&one), definitions.binding(&other)], [Standing::Gone, Standing::Unsure]);
}
