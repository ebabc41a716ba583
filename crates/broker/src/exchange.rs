//! Exchanges: what each type does with a routing key, and the bindings it holds. A vhost keeps its
//! exchanges under one lock; a route, once found, is cached by the channels until a binding changes.

pub mod destination;
pub(crate) mod distinct;
pub mod headers;
pub mod topic;

use std::fmt;
use std::str::FromStr;

use hashbrown::HashMap;
use leveret_codec::table::{FieldTable, FieldTableRef};

use crate::error::BrokerError;
use crate::names::{ExchangeName, QueueName};
use destination::{BoundDestination, Destination, DestinationSet};
use headers::HeadersBindings;
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
    /// Where messages go that it routes nowhere.
    pub alternate: Option<ExchangeName>,
    /// Arguments as declared.
    pub arguments: FieldTable,
}

/// An exchange with its bindings.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) spec: ExchangeSpec,
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
}

impl Exchange {
    pub(crate) fn new(spec: ExchangeSpec) -> Self {
        let bindings = match spec.exchange_type {
            ExchangeType::Direct => Bindings::Direct(HashMap::new()),
            ExchangeType::Fanout => Bindings::Fanout(HashMap::new()),
            ExchangeType::Topic => Bindings::Topic(TopicTrie::default()),
            ExchangeType::Headers => Bindings::Headers(HeadersBindings::default()),
        };
        Self { spec, bindings, binding_count: 0 }
    }

    /// Bindings of which this exchange is the source.
    pub(crate) fn binding_count(&self) -> usize {
        self.binding_count
    }

    /// Whether routes depend on more than the routing key.
    pub(crate) fn routes_by_headers(&self) -> bool {
        matches!(self.bindings, Bindings::Headers(_))
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
        };
        self.binding_count -= usize::from(removed);
        removed
    }

    /// Calls `found` for each destination of a message; a destination may come more than once.
    pub(crate) fn route(
        &self,
        routing_key: &str,
        headers: Option<FieldTableRef<'_>>,
        found: &mut dyn FnMut(&Destination),
    ) {
        match &self.bindings {
            Bindings::Direct(by_key) => {
                if let Some(set) = by_key.get(routing_key) {
                    set.iter().for_each(|bound| found(&bound.destination));
                }
            }
            Bindings::Fanout(by_key) => {
                by_key.values().flat_map(DestinationSet::iter).for_each(|bound| found(&bound.destination));
            }
            Bindings::Topic(trie) => trie.route(routing_key, found),
            Bindings::Headers(bindings) => bindings.route(headers, found),
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
        }
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
