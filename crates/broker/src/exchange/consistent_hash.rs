//! Consistent hashing by weighted rendezvous: each destination draws a number for the message's hash, and the
//! best draw gets it. So a destination that comes takes its share from the others and moves nothing else, one
//! that goes leaves its share to the others, and nothing depends on the order in which they came.
//!
//! A draw is a multiplication. Destinations of one weight compare their draws as they are; only the best of
//! each weight is weighted, with a logarithm: -ln(u)/w is the smallest with probability w / sum of w.

use leveret_codec::table::{FieldTable, FieldValue};

use super::addressing::Addressing;
use super::destination::{BoundDestination, Destination};
use super::hashing::{hash, hash_value, mix};
use super::ordered::OrderedBindings;
use crate::error::BrokerError;
use crate::limits::HASH_WEIGHT_MAX;

/// What is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HashSource {
    RoutingKey,
    Header(Box<str>),
    CorrelationId,
    MessageId,
    Timestamp,
}

impl HashSource {
    /// What the exchange's arguments ask for.
    ///
    /// # Errors
    /// Two sources, or a property that cannot be one.
    pub(crate) fn parse(arguments: &FieldTable) -> Result<Self, BrokerError> {
        let text = |argument: &'static str| match arguments.get(argument) {
            None => Ok(None),
            Some(FieldValue::LongString(text)) => Ok(Some(String::from_utf8_lossy(text))),
            Some(_) => Err(BrokerError::HashArgumentType { argument }),
        };
        match (text("hash-header")?, text("hash-property")?) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(_), Some(_)) => Err(BrokerError::TwoHashSources),
            (Some(header), None) => Ok(Self::Header(header.as_ref().into())),
            (None, Some(property)) => match property.as_ref() {
                "correlation_id" => Ok(Self::CorrelationId),
                "message_id" => Ok(Self::MessageId),
                "timestamp" => Ok(Self::Timestamp),
                other => Err(BrokerError::UnsupportedHashProperty { property: other.to_owned() }),
            },
        }
    }

    /// COMPAT: messages without the header or property all have the same hash.
    fn hash(&self, message: &Addressing<'_>) -> u64 {
        let octets = |property: Option<&[u8]>| hash(property.unwrap_or_default());
        match self {
            // COMPAT: CC and BCC have no say.
            Self::RoutingKey => hash(message.routing_key().as_bytes()),
            Self::Header(name) => {
                let value = message.headers().and_then(|headers| headers.get(name));
                value.map_or_else(|| octets(None), |value| hash_value(&value))
            }
            Self::CorrelationId => octets(message.properties().correlation_id),
            Self::MessageId => octets(message.properties().message_id),
            Self::Timestamp => match message.properties().timestamp {
                Some(timestamp) => hash(&timestamp.to_le_bytes()),
                None => octets(None),
            },
        }
    }
}

/// The bindings of a consistent hash exchange.
#[derive(Debug)]
pub(crate) struct HashBindings {
    source: HashSource,
    bindings: OrderedBindings,
    /// Destinations by weight, the lightest first.
    classes: Vec<WeightClass>,
}

/// Destinations of one weight.
#[derive(Debug)]
struct WeightClass {
    weight: u16,
    /// Seed of each destination's draws. PERF: beside each other, so that a hundred draws are one walk
    /// through 800 octets.
    seeds: Vec<u64>,
    destinations: Vec<Destination>,
}

impl HashBindings {
    pub(crate) fn new(source: HashSource) -> Self {
        Self { source, bindings: OrderedBindings::default(), classes: Vec::new() }
    }

    /// Whether the routing key alone decides.
    pub(crate) fn is_by_key(&self) -> bool {
        self.source == HashSource::RoutingKey
    }

    /// `false` if it was there.
    pub(crate) fn insert(&mut self, routing_key: &str, bound: BoundDestination) -> Result<bool, BrokerError> {
        parse_weight(routing_key)?;
        let destination = bound.destination.clone();
        let before = self.weight_of(&destination);
        let added = self.bindings.insert(routing_key, bound);
        self.weigh(&destination, before);
        Ok(added)
    }

    /// `false` if it was not there.
    pub(crate) fn remove(&mut self, routing_key: &str, bound: &BoundDestination) -> bool {
        let before = self.weight_of(&bound.destination);
        let removed = self.bindings.remove(routing_key, bound);
        self.weigh(&bound.destination, before);
        removed
    }

    /// COMPAT: one binding of a destination counts. Which one must not depend on what was first, since a restart
    /// does not know that: it is the lightest.
    fn weight_of(&self, destination: &Destination) -> Option<u16> {
        let bindings = self.bindings.of(destination).iter();
        bindings.filter_map(|binding| parse_weight(&binding.routing_key).ok()).min()
    }

    /// Moves a destination to the class of the weight it has now.
    fn weigh(&mut self, destination: &Destination, before: Option<u16>) {
        let now = self.weight_of(destination);
        if now == before {
            return;
        }
        if let Some(place) = before.and_then(|weight| self.class(weight).ok()) {
            let class = &mut self.classes[place];
            if let Some(member) = class.destinations.iter().position(|member| member == destination) {
                class.seeds.swap_remove(member);
                class.destinations.swap_remove(member);
            }
            if class.seeds.is_empty() {
                self.classes.remove(place);
            }
        }
        if let Some(weight) = now {
            let place = self.class(weight).unwrap_or_else(|place| {
                self.classes
                    .insert(place, WeightClass { weight, seeds: Vec::new(), destinations: Vec::new() });
                place
            });
            let class = &mut self.classes[place];
            class.seeds.push(seed(destination));
            class.destinations.push(destination.clone());
        }
    }

    fn class(&self, weight: u16) -> Result<usize, usize> {
        self.classes.binary_search_by_key(&weight, |class| class.weight)
    }

    pub(crate) fn route(&self, message: &Addressing<'_>, found: &mut dyn FnMut(&Destination)) {
        if !self.classes.is_empty() {
            self.choose(self.source.hash(message)).into_iter().for_each(found);
        }
    }

    /// The destination of what has this hash.
    fn choose(&self, hash: u64) -> Option<&Destination> {
        let mut winners = self.classes.iter().filter_map(|class| {
            let draws = class.seeds.iter().map(|seed| mix(hash, *seed)).enumerate();
            let (place, draw) = draws.max_by_key(|(_, draw)| *draw)?;
            Some((class, place, draw))
        });
        if self.classes.len() == 1 {
            return winners.next().and_then(|(class, place, _)| class.destinations.get(place));
        }
        let time = |class: &WeightClass, draw: u64| -unit(draw).ln() / f64::from(class.weight);
        let (_, class, place) = winners
            .map(|(class, place, draw)| (time(class, draw), class, place))
            .min_by(|(one, ..), (other, ..)| one.total_cmp(other))?;
        class.destinations.get(place)
    }

    pub(crate) fn for_each(&self, found: &mut dyn FnMut(&str, &BoundDestination)) {
        self.bindings.for_each(found);
    }
}

/// A number between zero and one, both excluded.
fn unit(draw: u64) -> f64 {
    ((draw >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

/// The same for a queue or exchange of this name in every process.
fn seed(destination: &Destination) -> u64 {
    match destination {
        Destination::Queue(queue) => mix(0, hash(queue.spec.name.as_str().as_bytes())),
        Destination::Exchange(name) => mix(1, hash(name.as_str().as_bytes())),
    }
}

/// The weight that a binding key is.
fn parse_weight(routing_key: &str) -> Result<u16, BrokerError> {
    let digits = routing_key.strip_prefix(['+', '-']).unwrap_or(routing_key);
    if digits.is_empty() || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(BrokerError::WeightNotInteger { routing_key: routing_key.to_owned() });
    }
    if routing_key.starts_with('-') || digits.bytes().all(|octet| octet == b'0') {
        return Err(BrokerError::WeightNotPositive);
    }
    let weight = digits.parse().ok().filter(|weight| *weight <= HASH_WEIGHT_MAX);
    weight.ok_or(BrokerError::WeightTooLarge { max: HASH_WEIGHT_MAX })
}

#[cfg(test)]
mod tests;
