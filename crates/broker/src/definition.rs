//! What a broker has beside its messages, and has again after a restart: users, vhosts, permissions, policies, global
//! parameters, durable exchanges, durable queues and the bindings between these, as changes in the order in which they
//! happened.

use leveret_codec::table::{FieldTable, FieldValue};

use crate::access::permissions::{Permissions, TopicPermissions};
use crate::access::user::User;
use crate::exchange::{BindingTarget, ExchangeSpec};
use crate::names::{ExchangeName, QueueId, QueueName, UserName, VhostName};
use crate::policy::{Policy, PolicyKind};
use crate::queue::QueueSpec;
use crate::vhost::VhostSettings;
use crate::vhost::hidden::HIDDEN_PREFIX;

impl QueueSpec {
    /// Whether the queue is one of the broker's own, that no client reaches.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.name.as_str().starts_with(HIDDEN_PREFIX)
    }

    /// Whether the queue is one of the definitions. COMPAT: an exclusive queue goes with its connection, whatever
    /// it was declared with.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.durable && self.owner.is_none()
    }
}

/// A change of definitions. Putting what exists replaces it, deleting what is missing changes nothing: a
/// sequence of changes can be applied again to its own result.
#[derive(Clone, Debug)]
pub enum Definition {
    /// Users are kept here from now on, be it that none are left.
    BeginAccess,
    /// A user exists.
    PutUser(User),
    /// A user is gone. Permissions are deleted by changes of their own.
    DeleteUser(UserName),
    /// A global parameter has this value.
    PutGlobalParameter(String, FieldValue),
    /// The global parameter of that name is gone.
    DeleteGlobalParameter(String),
    /// A vhost exists, with these settings.
    PutVhost(VhostName, VhostSettings),
    /// A vhost is gone. What was in it is deleted by changes of its own.
    DeleteVhost(VhostName),
    /// A user has permissions in a vhost.
    PutPermissions(Permissions),
    /// A user has none there.
    DeletePermissions(VhostName, UserName),
    /// A user has permissions for the keys of a topic exchange.
    PutTopicPermissions(TopicPermissions),
    /// A user has none for that exchange.
    DeleteTopicPermissions(VhostName, UserName, ExchangeName),
    /// A durable exchange exists.
    PutExchange(VhostName, ExchangeSpec),
    /// An exchange is gone. Its bindings are deleted by changes of their own.
    DeleteExchange(VhostName, ExchangeName),
    /// A durable queue exists; its vhost is in the specification.
    PutQueue(QueueId, QueueSpec),
    /// A queue is gone. Its bindings are deleted by changes of their own.
    DeleteQueue(VhostName, QueueName),
    /// A binding between durable ends exists.
    Bind(VhostName, BindingSpec),
    /// A binding is gone.
    Unbind(VhostName, BindingSpec),
    /// A policy is set.
    PutPolicy(VhostName, PolicyKind, Policy),
    /// The policy of that name is cleared.
    DeletePolicy(VhostName, PolicyKind, String),
}

impl Definition {
    /// Ids by which the store knows the messages of the queue that exists by this; none if it is none.
    pub fn queue_ids(&self) -> impl Iterator<Item = QueueId> + use<> {
        let queue = match self {
            Self::PutQueue(id, spec) => Some(spec.level_ids(*id)),
            _ => None,
        };
        queue.into_iter().flatten()
    }
}

/// A binding by the names of its ends.
#[derive(Clone, Debug)]
pub struct BindingSpec {
    /// Exchange that messages come from.
    pub source: ExchangeName,
    /// Where they go.
    pub target: BindingTarget,
    /// Key they are bound with.
    pub routing_key: String,
    /// Arguments, sorted by key.
    pub arguments: FieldTable,
}
