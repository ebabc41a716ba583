//! What can go wrong in the routing core, as facts with names in them. Display is the explanation that
//! RabbitMQ puts behind the reply code's name; which code and scope a fact has is the server's to say.

use leveret_codec::table::FIELD_NESTING_MAX;
use thiserror::Error;

use crate::access::permissions::{Permission, Resource, Whose};
use crate::limits::{ARGUMENTS_BYTES_MAX, ARGUMENTS_MAX, NAME_BYTES_MAX, TIME_MS_MAX};
use crate::queue::QueueType;

/// A refused operation.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BrokerError {
    /// No such vhost.
    #[error("vhost {vhost} not found")]
    VhostNotFound {
        /// Name asked for.
        vhost: String,
    },
    /// No such queue.
    #[error("no queue '{queue}' in vhost '{vhost}'")]
    QueueNotFound {
        /// Name asked for.
        queue: String,
        /// Where.
        vhost: String,
    },
    /// The queue met damage on disk and takes and gives nothing any more; it can be deleted.
    #[error("queue '{queue}' in vhost '{vhost}' is stopped: {reason}")]
    QueueStopped {
        /// The queue.
        queue: String,
        /// Where.
        vhost: String,
        /// What happened.
        reason: String,
    },
    /// No such exchange.
    #[error("no exchange '{exchange}' in vhost '{vhost}'")]
    ExchangeNotFound {
        /// Name asked for.
        exchange: String,
        /// Where.
        vhost: String,
    },
    /// Another connection's exclusive queue, or an exclusive flag that differs.
    #[error(
        "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally \
         declared on another connection or the exclusive property value does not match that of the original \
         declaration."
    )]
    QueueLocked {
        /// The queue.
        queue: String,
        /// Where.
        vhost: String,
    },
    /// An exclusive consumer is there, or is asked for beside others.
    #[error("queue '{queue}' in vhost '{vhost}' in exclusive use")]
    QueueInExclusiveUse {
        /// The queue.
        queue: String,
        /// Where.
        vhost: String,
    },
    /// A quorum queue is to be deleted under a condition.
    #[error(
        "cannot delete queue '{queue}' in vhost '{vhost}'. queue.delete operations with {condition} flag set are not \
         supported by quorum queues"
    )]
    ConditionOfQuorumQueue {
        /// Queue asked for.
        queue: String,
        /// Vhost it is in.
        vhost: String,
        /// The flag.
        condition: &'static str,
    },
    /// basic.get on a quorum queue with a single active consumer.
    #[error(
        "cannot obtain access to locked queue '{queue}' in vhost '{vhost}'. basic.get operations are not supported by \
         quorum queues with single active consumer"
    )]
    GetFromSingleActive {
        /// Queue asked for.
        queue: String,
        /// Vhost it is in.
        vhost: String,
    },
    /// Delete with if-unused, and there are consumers.
    #[error("queue '{queue}' in vhost '{vhost}' in use")]
    QueueInUse {
        /// The queue.
        queue: String,
        /// Where.
        vhost: String,
    },
    /// Delete with if-empty, and there are messages.
    #[error("queue '{queue}' in vhost '{vhost}' not empty")]
    QueueNotEmpty {
        /// The queue.
        queue: String,
        /// Where.
        vhost: String,
    },
    /// Delete with if-unused, and there are bindings.
    #[error("exchange '{exchange}' in vhost '{vhost}' in use")]
    ExchangeInUse {
        /// The exchange.
        exchange: String,
        /// Where.
        vhost: String,
    },
    /// Declared again with another property.
    #[error("inequivalent arg '{argument}' for {kind} '{name}' in vhost '{vhost}': {detail}")]
    Inequivalent {
        /// Property or argument that differs.
        argument: String,
        /// `queue` or `exchange`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where.
        vhost: String,
        /// What was received and what is current.
        detail: String,
    },
    /// An argument with a value that is not possible or not supported.
    #[error("invalid arg '{argument}' for {kind} '{name}' in vhost '{vhost}': {reason}")]
    InvalidArgument {
        /// The argument.
        argument: String,
        /// `queue` or `exchange`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where.
        vhost: String,
        /// Why.
        reason: String,
    },
    /// An argument whose value has the wrong type.
    #[error("invalid type '{type_name}' for arg '{argument}' in {kind} '{name}' in vhost '{vhost}'")]
    InvalidArgumentType {
        /// The argument.
        argument: String,
        /// RabbitMQ's name of the type it has.
        type_name: &'static str,
        /// `queue` or `exchange`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where.
        vhost: String,
    },
    /// An argument that RabbitMQ refuses in words of its own.
    #[error("{text}")]
    ImpossibleArgument {
        /// All of them.
        text: &'static str,
    },
    /// An argument that only queues of another type have.
    #[error("invalid arg '{argument}' for queue '{queue}' in vhost '{vhost}' of queue type {queue_type}")]
    ArgumentOfOtherType {
        /// The argument.
        argument: String,
        /// The queue.
        queue: String,
        /// Where.
        vhost: String,
        /// RabbitMQ's name of the type that the queue has.
        queue_type: &'static str,
    },
    /// A property that queues of this type cannot have.
    #[error("invalid property '{property}' for queue '{queue}' in vhost '{vhost}'")]
    ImpossibleProperty {
        /// Which one.
        property: &'static str,
        /// The queue.
        queue: String,
        /// Where.
        vhost: String,
    },
    /// A queue without a name whose type cannot do without.
    #[error("Cannot declare a server-named queue for type {}", queue_type.module())]
    ServerNamedQueue {
        /// Its type.
        queue_type: QueueType,
    },
    /// Too long a beginning that was wished for a name made by the broker.
    #[error("Queue name prefix '{prefix}' exceeds the 64-byte limit")]
    NamePrefixTooLong {
        /// The prefix.
        prefix: String,
    },
    /// A name that no short string holds.
    #[error("{kind} should be less than {NAME_BYTES_MAX} bytes, actually was {length}")]
    NameTooLong {
        /// What has the name.
        kind: &'static str,
        /// Its octets.
        length: usize,
    },
    /// Arguments or the like that could not be read again where they are kept.
    #[error("{what} nested deeper than {FIELD_NESTING_MAX} levels")]
    NestedTooDeeply {
        /// What is: a plural.
        what: &'static str,
    },
    /// Arguments or the like that would take too much memory.
    #[error("{what} more than {ARGUMENTS_MAX} values, or longer than {ARGUMENTS_BYTES_MAX} octets")]
    TooManyArguments {
        /// What is: a plural.
        what: &'static str,
    },
    /// A policy that is not possible.
    #[error("{reason}")]
    InvalidPolicy {
        /// All of the text.
        reason: String,
    },
    /// No policy of that name.
    #[error("no policy '{policy}' in vhost '{vhost}'")]
    PolicyNotFound {
        /// Name asked for.
        policy: String,
        /// Where.
        vhost: String,
    },
    /// A name that begins with `amq.`.
    #[error("{kind} name '{name}' contains reserved prefix 'amq.*'")]
    ReservedName {
        /// `queue` or `exchange`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// Declare, delete, bind or unbind of the default exchange.
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// Deletion of an exchange that each vhost has.
    #[error("deletion of system exchange '{exchange}' in vhost '{vhost}' not allowed")]
    SystemExchange {
        /// The exchange.
        exchange: String,
        /// Where.
        vhost: String,
    },
    /// Publish to an internal exchange.
    #[error("cannot publish to internal exchange '{exchange}' in vhost '{vhost}'")]
    InternalExchange {
        /// The exchange.
        exchange: String,
        /// Where.
        vhost: String,
    },
    /// An exchange type that does not exist or is not supported.
    #[error("unknown exchange type '{exchange_type}'")]
    UnknownExchangeType {
        /// The type asked for.
        exchange_type: String,
    },
    /// An exchange type that RabbitMQ has and Leveret has not.
    #[error("exchange type '{exchange_type}' is not supported by this version of Leveret")]
    UnsupportedExchangeType {
        /// The type asked for.
        exchange_type: String,
    },
    /// A delayed exchange without the type that it routes by.
    #[error("Invalid argument, 'x-delayed-type' must be an existing exchange type")]
    DelayedTypeMissing,
    /// A delayed exchange that is to route by the delayed type.
    #[error("Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'")]
    DelayedTwice,
    /// A message that is to be delayed for more than ten years.
    #[error("invalid delay of {delay_ms} ms: more than {TIME_MS_MAX}")]
    DelayTooLong {
        /// How long.
        delay_ms: u64,
    },
    /// A bound of the ids that an exchange remembers that is none.
    #[error(
        "{}nvalid argument, '{argument}' must be an integer greater than 0",
        if *missing { "Missing or i" } else { "I" }
    )]
    CacheArgument {
        /// The argument.
        argument: &'static str,
        /// It is not there and has to be.
        missing: bool,
    },
    /// More ids to be remembered than an exchange may.
    #[error("invalid argument 'x-cache-size': more than {max}")]
    CacheTooLarge {
        /// How many there may be.
        max: u64,
    },
    /// x-match of a headers binding that is none of the four.
    #[error("Invalid x-match field value <<\"{value}\">>; expected all, any, all-with-x, or any-with-x")]
    InvalidXMatch {
        /// Value found.
        value: String,
    },
    /// x-match that is not a string.
    #[error("Invalid x-match field type {type_name} (value {value}); expected longstr")]
    InvalidXMatchType {
        /// RabbitMQ's name of the type it has.
        type_name: &'static str,
        /// Value found.
        value: String,
    },
    /// A consistent hash exchange that would hash two things.
    #[error("hash-header and hash-property are mutually exclusive")]
    TwoHashSources,
    /// hash-property that is none of the three.
    #[error("Unsupported property: {property}")]
    UnsupportedHashProperty {
        /// Property asked for.
        property: String,
    },
    /// hash-header or hash-property that is not a string.
    #[error("Invalid argument, '{argument}' must be a string")]
    HashArgumentType {
        /// The argument.
        argument: &'static str,
    },
    /// A length of a history that is no number above zero.
    #[error("Invalid argument {value}, 'x-recent-history-length' must be a positive integer")]
    InvalidHistoryLength {
        /// Value found.
        value: String,
    },
    /// A binding key of a consistent hash exchange that is no number.
    #[error("The binding key must be an integer: <<{}>>", .routing_key.is_empty().then(String::new)
        .unwrap_or_else(|| format!("\"{}\"", .routing_key)))]
    WeightNotInteger {
        /// Key found.
        routing_key: String,
    },
    /// A weight of a consistent hash exchange below one.
    #[error("The binding key must be greater than 0")]
    WeightNotPositive,
    /// A weight of a consistent hash exchange that is too large.
    #[error("The binding key must not be greater than {max}")]
    WeightTooLarge {
        /// The largest one.
        max: u16,
    },
    /// A binding key where none can be.
    #[error("Non empty binding '{routing_key}' key not permitted")]
    BindingKeyNotEmpty {
        /// Key found.
        routing_key: String,
    },
    /// A binding to an exchange where only queues can be bound.
    #[error("Destination not found")]
    OnlyQueuesCanBeBound,
    /// The user has not this permission.
    #[error("{permission} access to {resource} '{name}' in vhost '{}' refused for user '{}'", whose.vhost, whose.user)]
    AccessRefused {
        /// Which one.
        permission: Permission,
        /// What for.
        resource: Resource,
        /// Its name.
        name: String,
        /// Who, and where.
        whose: Whose,
    },
    /// The user has not this permission for a routing key.
    #[error(
        "{permission} access to topic '{routing_key}' in exchange '{exchange}' in vhost '{}' refused for user '{}'",
        whose.vhost, whose.user
    )]
    TopicAccessRefused {
        /// Which one.
        permission: Permission,
        /// The key.
        routing_key: String,
        /// The exchange.
        exchange: String,
        /// Who, and where.
        whose: Whose,
    },
    /// No such user.
    #[error("user '{user}' not found")]
    UserNotFound {
        /// Name asked for.
        user: String,
    },
    /// A user that is not possible.
    #[error("{reason}")]
    InvalidUser {
        /// All of the text.
        reason: String,
    },
    /// A pattern of permissions that is none.
    #[error("{reason}")]
    InvalidPermission {
        /// All of the text.
        reason: String,
    },
    /// A password without an octet.
    #[error("a password must not be blank")]
    BlankPassword,
    /// The system gives no random numbers, or there is no memory.
    #[error("the password cannot be hashed: {reason}")]
    PasswordNotHashed {
        /// What it says.
        reason: String,
    },
    /// Something else than a hash of that algorithm.
    #[error("the password hash has not the form of its hashing algorithm")]
    InvalidPasswordHash,
    /// A vhost that is not possible.
    #[error("{reason}")]
    InvalidVhost {
        /// All of the text.
        reason: String,
    },
    /// Delete of a vhost that is protected from it.
    #[error("Refusing to delete virtual host '{vhost}' because it is protected from deletion")]
    VhostProtected {
        /// The vhost.
        vhost: String,
    },
    /// A global parameter that is not possible.
    #[error("{reason}")]
    InvalidParameter {
        /// All of the text.
        reason: String,
    },
    /// As many queues as the vhost may have.
    #[error("cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limit}) is reached")]
    QueueLimitReached {
        /// The queue.
        queue: String,
        /// Where.
        vhost: String,
        /// How many there may be.
        limit: u64,
    },
    /// Bind or unbind of a direct reply-to name.
    #[error("cannot bind or unbind to a volatile (direct reply-to) queue")]
    BindReplyTo,
}
