//! Exchanges: what each type does with a routing key, and the bindings it holds. A vhost keeps its
//! exchanges under one lock; a route, once found, is cached by the channels until a binding changes.

pub mod addressing;
pub(crate) mod consistent_hash;
pub mod destination;
pub(crate) mod distinct;
pub(crate) mod hashing;
pub mod headers;
pub(crate) mod ordered;
pub(crate) mod recent_history;
pub mod topic;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hashbrown::HashMap;
use leveret_codec::table::{FieldTable, FieldValue};

use crate::counters::ExchangeCounters;
use crate::deduplication::Deduplication;
use crate::delayed::DelayedMessages;
use crate::error::BrokerError;
use crate::limits::TOPIC_KEYS_AT_ONCE;
use crate::message::MessageBatch;
use crate::names::{ExchangeName, QueueName};
use crate::policy::AppliedPolicies;
use crate::queue::memory::MemoryGauge;
use addressing::Addressing;
use consistent_hash::{HashBindings, HashSource};
use destination::{BoundDestination, Destination, DestinationSet};
use hashing::{hash, mix};
use headers::HeadersBindings;
use ordered::OrderedBindings;
use recent_history::RecentHistory;
use topic::TopicTrie;

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeType {
    /// By equal key.
    Direct,
    /// To all.
    Fanout,
    /// By words of the key, with wildcards.
    Topic,
    /// By the message's headers.
    Headers,
    /// To one destination, chosen by a hash such that a change of destinations moves little.
    ConsistentHash,
    /// To one destination, chosen by a hash of the routing keys modulo the number of bindings.
    ModulusHash,
    /// To one destination, chosen by chance.
    Random,
    /// To one queue, chosen by chance among those of this node; which all are.
    LocalRandom,
    /// As the type that its argument x-delayed-type names, once a message is due.
    Delayed,
    /// To all; a destination that is bound gets the last messages.
    RecentHistory,
    /// To all, each message once.
    Deduplicating,
}

impl ExchangeType {
    /// The name in exchange.declare.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::ModulusHash => "x-modulus-hash",
            Self::Random => "x-random",
            Self::LocalRandom => "x-local-random",
            Self::Delayed => "x-delayed-message",
            Self::RecentHistory => "x-recent-history",
            Self::Deduplicating => "x-message-deduplication",
        }
    }
}

impl fmt::Display for ExchangeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ExchangeType {
    type Err = BrokerError;

    fn from_str(name: &str) -> Result<Self, BrokerError> {
        match name {
            "direct" => Ok(Self::Direct),
            "fanout" => Ok(Self::Fanout),
            "topic" => Ok(Self::Topic),
            "headers" => Ok(Self::Headers),
            "x-consistent-hash" => Ok(Self::ConsistentHash),
            "x-modulus-hash" => Ok(Self::ModulusHash),
            "x-random" => Ok(Self::Random),
            "x-local-random" => Ok(Self::LocalRandom),
            "x-delayed-message" => Ok(Self::Delayed),
            "x-recent-history" => Ok(Self::RecentHistory),
            "x-message-deduplication" => Ok(Self::Deduplicating),
            // What subscribers of a JMS client select is a program in Erlang's terms.
            "x-jms-topic" => Err(BrokerError::UnsupportedExchangeType { exchange_type: name.to_owned() }),
            _ => Err(BrokerError::UnknownExchangeType { exchange_type: name.to_owned() }),
        }
    }
}

/// What an exchange is declared with.
#[derive(Clone, Debug)]
pub struct ExchangeSpec {
    /// Name.
    pub name: ExchangeName,
    /// How it routes.
    pub exchange_type: ExchangeType,
    /// Survives a restart of the broker.
    pub durable: bool,
    /// Goes when its last binding goes.
    pub auto_delete: bool,
    /// Takes messages from other exchanges only.
    pub internal: bool,
    /// Where messages go that it routes nowhere, by its own arguments.
    pub alternate: Option<ExchangeName>,
    /// Arguments as declared.
    pub arguments: FieldTable,
}

/// An exchange with its bindings.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) spec: ExchangeSpec,
    /// What it keeps until it is due, if it is of that type.
    pub(crate) delayed: Option<Arc<DelayedMessages>>,
    /// What was published to it before, if it drops duplicates.
    pub(crate) deduplication: Option<Arc<Deduplication>>,
    /// Those in force for it.
    pub(crate) policies: AppliedPolicies,
    /// What clients published to it.
    pub(crate) counters: Arc<ExchangeCounters>,
    bindings: Bindings,
    binding_count: usize,
}

#[derive(Debug)]
enum Bindings {
    Direct(HashMap<Box<str>, DestinationSet>),
    /// Keyed as well, since a binding is known by its key though routing ignores it.
    Fanout(HashMap<Box<str>, DestinationSet>),
    Topic(TopicTrie),
    Headers(HeadersBindings),
    ConsistentHash(HashBindings),
    ModulusHash(OrderedBindings),
    Random(OrderedBindings),
    /// Random, with queues bound with an empty key only.
    LocalRandom(OrderedBindings),
    RecentHistory(OrderedBindings, RecentHistory),
}

impl Exchange {
    /// # Errors
    /// An argument is not possible for the type.
    pub(crate) fn new(spec: ExchangeSpec, gauge: &Arc<MemoryGauge>) -> Result<Self, BrokerError> {
        let bindings = match routing_type(&spec)? {
            ExchangeType::Direct => Bindings::Direct(HashMap::new()),
            ExchangeType::Fanout | ExchangeType::Deduplicating => Bindings::Fanout(HashMap::new()),
            ExchangeType::Topic => Bindings::Topic(TopicTrie::default()),
            ExchangeType::Headers => Bindings::Headers(HeadersBindings::default()),
            ExchangeType::ConsistentHash => {
                Bindings::ConsistentHash(HashBindings::new(HashSource::parse(&spec.arguments)?))
            }
            ExchangeType::ModulusHash => Bindings::ModulusHash(OrderedBindings::default()),
            ExchangeType::Random => Bindings::Random(OrderedBindings::default()),
            ExchangeType::LocalRandom => Bindings::LocalRandom(OrderedBindings::default()),
            ExchangeType::Delayed => return Err(BrokerError::DelayedTwice),
            ExchangeType::RecentHistory => {
                let history = RecentHistory::new(&spec.arguments, gauge)?;
                Bindings::RecentHistory(OrderedBindings::default(), history)
            }
        };
        Ok(Self {
            spec,
            delayed: None,
            deduplication: None,
            policies: AppliedPolicies::default(),
            counters: Arc::default(),
            bindings,
            binding_count: 0,
        })
    }

    /// Where messages go that it routes nowhere. COMPAT: the argument comes before the policy.
    pub(crate) fn alternate(&self) -> Option<&ExchangeName> {
        self.spec.alternate.as_ref().or_else(|| self.policies.alternate())
    }

    /// Bindings of which this exchange is the source.
    pub(crate) fn binding_count(&self) -> usize {
        self.binding_count
    }

    /// Whether the routing key alone decides where a message goes.
    pub(crate) fn routes_by_key(&self) -> bool {
        match &self.bindings {
            Bindings::Direct(_) | Bindings::Fanout(_) | Bindings::Topic(_) | Bindings::ModulusHash(_) => true,
            Bindings::ConsistentHash(bindings) => bindings.is_by_key(),
            Bindings::Headers(_)
            | Bindings::Random(_)
            | Bindings::LocalRandom(_)
            | Bindings::RecentHistory(..) => false,
        }
    }

    /// Routing keys of a message that are looked for before others may have the topology.
    pub(crate) fn keys_at_once(&self) -> usize {
        match &self.bindings {
            Bindings::Topic(_) => TOPIC_KEYS_AT_ONCE,
            _ => usize::MAX,
        }
    }

    /// What a destination gets that is bound now.
    pub(crate) fn history(&self) -> Option<MessageBatch> {
        match &self.bindings {
            Bindings::RecentHistory(_, history) => Some(history.messages()),
            _ => None,
        }
    }

    /// Adds a binding; `false` if it was there.
    pub(crate) fn bind(
        &mut self,
        routing_key: &str,
        bound: BoundDestination,
        arguments: &FieldTable,
    ) -> Result<bool, BrokerError> {
        let added = match &mut self.bindings {
            Bindings::Direct(by_key) | Bindings::Fanout(by_key) => {
                by_key.entry_ref(routing_key).or_default().insert(bound)
            }
            Bindings::Topic(trie) => trie.insert(routing_key, bound),
            Bindings::Headers(bindings) => bindings.insert(routing_key, bound, arguments)?,
            Bindings::ConsistentHash(bindings) => bindings.insert(routing_key, bound)?,
            Bindings::ModulusHash(bindings)
            | Bindings::Random(bindings)
            | Bindings::RecentHistory(bindings, _) => bindings.insert(routing_key, bound),
            Bindings::LocalRandom(bindings) => {
                check_local(routing_key, &bound.destination)?;
                bindings.insert(routing_key, bound)
            }
        };
        self.binding_count += usize::from(added);
        Ok(added)
    }

    /// Removes a binding; `false` if it was not there.
    pub(crate) fn unbind(&mut self, routing_key: &str, bound: &BoundDestination) -> bool {
        let removed = match &mut self.bindings {
            Bindings::Direct(by_key) | Bindings::Fanout(by_key) => {
                let Some(set) = by_key.get_mut(routing_key) else { return false };
                let removed = set.remove(bound);
                if set.is_empty() {
                    by_key.remove(routing_key);
                }
                removed
            }
            Bindings::Topic(trie) => trie.remove(routing_key, bound),
            Bindings::Headers(bindings) => bindings.remove(routing_key, bound),
            Bindings::ConsistentHash(bindings) => bindings.remove(routing_key, bound),
            Bindings::ModulusHash(bindings)
            | Bindings::Random(bindings)
            | Bindings::LocalRandom(bindings)
            | Bindings::RecentHistory(bindings, _) => bindings.remove(routing_key, bound),
        };
        self.binding_count -= usize::from(removed);
        removed
    }

    /// Calls `found` for each destination of a message; a destination may come more than once.
    pub(crate) fn route(&self, message: &Addressing<'_>, found: &mut dyn FnMut(&Destination)) {
        match &self.bindings {
            Bindings::Direct(by_key) => {
                let sets = message.routing_keys().iter().filter_map(|key| by_key.get(*key));
                sets.flat_map(DestinationSet::iter).for_each(|bound| found(&bound.destination));
            }
            Bindings::Fanout(by_key) => {
                by_key.values().flat_map(DestinationSet::iter).for_each(|bound| found(&bound.destination));
            }
            Bindings::Topic(trie) => message.routing_keys().iter().for_each(|key| trie.route(key, found)),
            Bindings::Headers(bindings) => bindings.route(message.headers(), found),
            Bindings::ConsistentHash(bindings) => bindings.route(message, found),
            Bindings::ModulusHash(bindings) => {
                let keys = message.routing_keys().iter();
                let number = keys.fold(0, |number, key| mix(number, hash(key.as_bytes())));
                bindings.pick(number).into_iter().for_each(found);
            }
            Bindings::Random(bindings) | Bindings::LocalRandom(bindings) => {
                bindings.pick(fastrand::u64(..)).into_iter().for_each(found);
            }
            Bindings::RecentHistory(bindings, history) => {
                history.note(message);
                bindings.for_each(&mut |_, bound| found(&bound.destination));
            }
        }
    }

    /// Every binding of which this exchange is the source.
    pub(crate) fn for_each_binding(&self, found: &mut dyn FnMut(&str, &BoundDestination)) {
        match &self.bindings {
            Bindings::Direct(by_key) | Bindings::Fanout(by_key) => {
                for (key, set) in by_key {
                    set.iter().for_each(|bound| found(key, bound));
                }
            }
            Bindings::Topic(trie) => trie.for_each(found),
            Bindings::Headers(bindings) => bindings.for_each(found),
            Bindings::ConsistentHash(bindings) => bindings.for_each(found),
            Bindings::ModulusHash(bindings)
            | Bindings::Random(bindings)
            | Bindings::LocalRandom(bindings)
            | Bindings::RecentHistory(bindings, _) => bindings.for_each(found),
        }
    }
}

/// The type whose bindings an exchange has.
fn routing_type(spec: &ExchangeSpec) -> Result<ExchangeType, BrokerError> {
    if spec.exchange_type != ExchangeType::Delayed {
        return Ok(spec.exchange_type);
    }
    let name = spec.arguments.get("x-delayed-type").and_then(FieldValue::as_str);
    name.ok_or(BrokerError::DelayedTypeMissing)?.parse()
}

/// COMPAT: x-local-random takes queues alone, with an empty key.
fn check_local(routing_key: &str, destination: &Destination) -> Result<(), BrokerError> {
    match destination {
        _ if !routing_key.is_empty() => {
            Err(BrokerError::BindingKeyNotEmpty { routing_key: routing_key.to_owned() })
        }
        Destination::Queue(_) => Ok(()),
        Destination::Exchange(_) => Err(BrokerError::OnlyQueuesCanBeBound),
    }
}

/// Which end of a binding receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindingTarget {
    /// queue.bind.
    Queue(QueueName),
    /// exchange.bind.
    Exchange(ExchangeName),
}
