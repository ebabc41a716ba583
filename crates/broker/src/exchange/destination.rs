//! Where bindings lead. Most binding keys have one destination, so a set of one takes no allocation.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use indexmap::IndexSet;
use leveret_codec::table::{FieldTable, FieldTableRef};

use crate::names::ExchangeName;
use crate::queue::Queue;

/// The receiving end of a binding.
#[derive(Clone)]
pub enum Destination {
    /// A queue.
    Queue(Arc<Queue>),
    /// Another exchange.
    Exchange(ExchangeName),
}

impl Destination {
    /// Name of the queue or exchange.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(queue) => queue.spec.name.as_str(),
            Self::Exchange(name) => name.as_str(),
        }
    }
}

impl PartialEq for Destination {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Queue(one), Self::Queue(other)) => one.id == other.id,
            (Self::Exchange(one), Self::Exchange(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Destination {}

impl Hash for Destination {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Queue(queue) => queue.id.hash(state),
            Self::Exchange(name) => name.hash(state),
        }
    }
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Queue(queue) => write!(f, "queue {}", queue.spec.name),
            Self::Exchange(name) => write!(f, "exchange {name}"),
        }
    }
}

/// Arguments of a binding in the form that makes two bindings the same one: sorted by key, encoded.
/// `None` for no arguments, as nearly all bindings have.
pub type BindingArguments = Option<Arc<[u8]>>;

/// The canonical form of `arguments`.
#[must_use]
pub fn canonical(arguments: &FieldTable) -> BindingArguments {
    if arguments.is_empty() {
        return None;
    }
    let mut fields: Vec<_> = arguments.iter().collect();
    fields.sort_by(|one, other| one.0.as_bytes().cmp(other.0.as_bytes()));
    let sorted: FieldTable = fields.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    Some(sorted.encoded().into())
}

/// The table that has this canonical form, sorted by key.
#[must_use]
pub fn table_of(arguments: &BindingArguments) -> FieldTable {
    let encoded = arguments.as_deref().and_then(|octets| FieldTableRef::parse(octets).ok());
    encoded.map(|table| table.to_owned()).unwrap_or_default()
}

/// A destination with the arguments it was bound with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BoundDestination {
    /// Where to.
    pub destination: Destination,
    /// With what.
    pub arguments: BindingArguments,
}

/// The destinations of one binding key, in no promised order.
#[derive(Debug, Default)]
pub(crate) enum DestinationSet {
    #[default]
    Empty,
    One(BoundDestination),
    Many(Box<IndexSet<BoundDestination>>),
}

impl DestinationSet {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::One(_) => false,
            Self::Many(set) => set.is_empty(),
        }
    }

    /// `false` if it was there.
    pub(crate) fn insert(&mut self, bound: BoundDestination) -> bool {
        match std::mem::take(self) {
            Self::Empty => *self = Self::One(bound),
            Self::One(first) if first == bound => {
                *self = Self::One(first);
                return false;
            }
            Self::One(first) => *self = Self::Many(Box::new(IndexSet::from([first, bound]))),
            Self::Many(mut set) => {
                let added = set.insert(bound);
                *self = Self::Many(set);
                return added;
            }
        }
        true
    }

    /// `false` if it was not there.
    pub(crate) fn remove(&mut self, bound: &BoundDestination) -> bool {
        match self {
            Self::Empty => false,
            Self::One(only) => {
                let found = only == bound;
                if found {
                    *self = Self::Empty;
                }
                found
            }
            Self::Many(set) => {
                let found = set.swap_remove(bound);
                if set.is_empty() {
                    *self = Self::Empty;
                }
                found
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &BoundDestination> {
        let (one, many) = match self {
            Self::Empty => (None, None),
            Self::One(bound) => (Some(bound), None),
            Self::Many(set) => (None, Some(set.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}
