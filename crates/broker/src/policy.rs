//! Policies: settings that an operator gives to all queues and exchanges whose names match a pattern. A [`Policy`] is
//! what is asked for; checked and compiled it is an [`ActivePolicy`], of which a vhost has a [`PolicySet`]. One policy
//! and one operator policy at most are in force for a queue: [`AppliedPolicies`].
//!
//! Values come as field values, whatever language they were written in.

mod definition;
mod set;

use std::fmt;

use fancy_regex::{Regex, RegexBuilder};
use leveret_codec::table::FieldTable;

use crate::error::BrokerError;
use crate::limits::{PATTERN_BYTES_MAX, PATTERN_COMPILED_BYTES_MAX, PATTERN_STEPS_MAX};
use crate::names::ExchangeName;
use crate::queue::QueueType;
use crate::queue::settings::RequestedSettings;
pub(crate) use definition::is_age;
pub use set::{AppliedPolicies, PolicySet};

/// Whose policy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// A user's, for the queues and exchanges of a vhost.
    Policy,
    /// The operator's, which narrows what a user may have.
    Operator,
}

/// What a policy is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApplyTo {
    /// Queues and exchanges.
    #[default]
    All,
    /// Queues of any type.
    Queues,
    /// Exchanges.
    Exchanges,
    /// Classic queues.
    ClassicQueues,
    /// Quorum queues.
    QuorumQueues,
    /// Streams.
    Streams,
}

impl ApplyTo {
    const ALL: [Self; 6] =
        [Self::All, Self::Queues, Self::Exchanges, Self::ClassicQueues, Self::QuorumQueues, Self::Streams];

    /// The one with this name in a policy's `apply-to`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|apply_to| apply_to.as_str() == name)
    }

    /// Its name in `apply-to`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Queues => "queues",
            Self::Exchanges => "exchanges",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Streams => "streams",
        }
    }

    fn is_for_exchanges(self) -> bool {
        matches!(self, Self::All | Self::Exchanges)
    }

    fn is_for(self, queue_type: QueueType) -> bool {
        match self {
            Self::All | Self::Queues => true,
            Self::Exchanges => false,
            Self::ClassicQueues => queue_type == QueueType::Classic,
            Self::QuorumQueues => queue_type == QueueType::Quorum,
            Self::Streams => queue_type == QueueType::Stream,
        }
    }
}

/// A policy as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Name, unique in its vhost among its kind.
    pub name: String,
    /// Regular expression, found anywhere in a name unless it is anchored.
    pub pattern: String,
    /// What it is for.
    pub apply_to: ApplyTo,
    /// Of those that match, the one with the highest is in force.
    pub priority: i64,
    /// What it asks for, in any order.
    pub definition: FieldTable,
}

/// A policy that was checked.
pub struct ActivePolicy {
    /// What was asked for.
    pub policy: Policy,
    pattern: Regex,
    requested: RequestedSettings,
    alternate: Option<ExchangeName>,
}

impl fmt::Debug for ActivePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.policy.fmt(f)
    }
}

impl ActivePolicy {
    /// Checks a policy.
    ///
    /// # Errors
    /// The pattern is no regular expression or too large, the definition has keys that are unknown or not for this
    /// kind, or values that are not possible.
    pub fn check(kind: PolicyKind, policy: Policy) -> Result<Self, BrokerError> {
        definition::check(kind, &policy.definition)
            .map_err(|reason| BrokerError::InvalidPolicy { reason })?;
        let pattern = compiled(&policy.pattern).map_err(|reason| BrokerError::InvalidPolicy { reason })?;
        Ok(Self {
            pattern,
            requested: definition::requested(&policy.definition),
            alternate: definition::alternate(&policy.definition),
            policy,
        })
    }

    /// COMPAT: a pattern that takes too long over a name does not match it.
    fn matches(&self, name: &str) -> bool {
        self.pattern.is_match(name).unwrap_or(false)
    }
}

/// Compiles a pattern within bounds of size and steps.
pub(crate) fn compiled(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("pattern is longer than {PATTERN_BYTES_MAX} octets"));
    }
    let regex = RegexBuilder::new(pattern)
        .delegate_size_limit(PATTERN_COMPILED_BYTES_MAX)
        .backtrack_limit(PATTERN_STEPS_MAX)
        .build();
    regex.map_err(|error| {
        let words = error.to_string();
        let words: Vec<_> = words.split_whitespace().collect();
        format!("pattern should be regular expression but is invalid: {}", words.join(" "))
    })
}

#[cfg(test)]
mod tests;
