//! Bindings in an order that does not depend on when they were made: by destination, key and arguments. So a
//! hash picks the same one after a restart.

use std::cmp::Ordering;

use super::destination::{BoundDestination, Destination};

/// Bindings, sorted.
#[derive(Debug, Default)]
pub(crate) struct OrderedBindings(Vec<OrderedBinding>);

/// A binding with its key.
#[derive(Debug)]
pub(crate) struct OrderedBinding {
    pub(crate) routing_key: Box<str>,
    pub(crate) bound: BoundDestination,
}

impl OrderedBindings {
    /// `false` if it was there.
    pub(crate) fn insert(&mut self, routing_key: &str, bound: BoundDestination) -> bool {
        match self.search(routing_key, &bound) {
            Ok(_) => false,
            Err(place) => {
                self.0.insert(place, OrderedBinding { routing_key: routing_key.into(), bound });
                true
            }
        }
    }

    /// `false` if it was not there.
    pub(crate) fn remove(&mut self, routing_key: &str, bound: &BoundDestination) -> bool {
        let found = self.search(routing_key, bound);
        found.is_ok_and(|place| {
            self.0.remove(place);
            true
        })
    }

    fn search(&self, routing_key: &str, bound: &BoundDestination) -> Result<usize, usize> {
        self.0.binary_search_by(|binding| {
            by_name(&binding.bound.destination, &bound.destination)
                .then_with(|| (*binding.routing_key).cmp(routing_key))
                .then_with(|| binding.bound.arguments.cmp(&bound.arguments))
        })
    }

    /// The bindings of one destination.
    pub(crate) fn of(&self, destination: &Destination) -> &[OrderedBinding] {
        let order = |binding: &OrderedBinding| by_name(&binding.bound.destination, destination);
        let first = self.0.partition_point(|binding| order(binding) == Ordering::Less);
        let end = self.0.partition_point(|binding| order(binding) != Ordering::Greater);
        self.0.get(first..end).unwrap_or_default()
    }

    /// The destination of the binding that `number` picks, modulo how many there are.
    pub(crate) fn pick(&self, number: u64) -> Option<&Destination> {
        let place = number.checked_rem(self.0.len() as u64)?;
        self.0.get(place as usize).map(|binding| &binding.bound.destination)
    }

    pub(crate) fn for_each(&self, found: &mut dyn FnMut(&str, &BoundDestination)) {
        self.0.iter().for_each(|binding| found(&binding.routing_key, &binding.bound));
    }
}

/// Queues before exchanges, each by name.
fn by_name(one: &Destination, other: &Destination) -> Ordering {
    let key = |destination: &Destination| match destination {
        Destination::Queue(_) => 0,
        Destination::Exchange(_) => 1,
    };
    key(one).cmp(&key(other)).then_with(|| one.name().cmp(other.name()))
}
