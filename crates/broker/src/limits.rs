//! Bounds of the routing core, each with its reason.

use leveret_codec::table::FieldTable;

use crate::error::BrokerError;

/// Longest name of a queue, exchange or routing key in octets: what a short string holds.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest time to live, delay or timeout in milliseconds: ten years. COMPAT: RabbitMQ's bound.
pub const TIME_MS_MAX: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// Refuses a name that no short string holds: no method could say it.
pub(crate) fn check_name(kind: &'static str, name: &str) -> Result<(), BrokerError> {
    let length = name.len();
    if length > NAME_BYTES_MAX { Err(BrokerError::NameTooLong { kind, length }) } else { Ok(()) }
}

/// Refuses a table that could not be read again: the broker would not start with it.
pub(crate) fn check_nesting(what: &'static str, table: &FieldTable) -> Result<(), BrokerError> {
    if table.is_too_deep() { Err(BrokerError::NestedTooDeeply { what }) } else { Ok(()) }
}

/// Values in the arguments of a queue, an exchange or a binding, those in nested tables and arrays counted: some 64
/// octets of memory each, however short they were when they were sent.
pub const ARGUMENTS_MAX: usize = 1024;

/// Octets of such arguments as they are sent.
pub const ARGUMENTS_BYTES_MAX: usize = 64 * 1024;

/// Refuses a table that could not be read again, or takes more memory than whatever has arguments may take.
pub(crate) fn check_arguments(what: &'static str, table: &FieldTable) -> Result<(), BrokerError> {
    if table.is_empty() {
        return Ok(());
    }
    check_nesting(what, table)?;
    let is_too_large = table.count_values() > ARGUMENTS_MAX || table.encoded().len() > ARGUMENTS_BYTES_MAX;
    if is_too_large { Err(BrokerError::TooManyArguments { what }) } else { Ok(()) }
}

/// Longest value of a global parameter in octets: more than any tool keeps there, and little enough for the audit log.
pub const PARAMETER_BYTES_MAX: usize = 64 * 1024;

/// Bodies of this size and more are kept as reference-counted slices instead of being copied into a
/// queue's chunks. Below, one copy (0.02 to 0.05 ns per octet) costs less than the two atomic
/// operations, the allocation and the write vector entry that a shared slice takes.
pub const LARGE_BODY_BYTES: usize = 16 * 1024;

/// A batch of this many octets goes to its queue at once, so that a queue's memory is made of chunks of
/// about this size: small enough to be given back early, large enough that an allocation is rare.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// First chunk of a queue; later ones double until [`CHUNK_BYTES`], so that an idle or slow queue stays small.
pub const FIRST_CHUNK_BYTES: usize = 1024;

/// How many exchanges one publish may walk through by exchange-to-exchange bindings and alternate
/// exchanges. Each is visited once, so this only bounds the memory of one walk.
pub const ROUTE_EXCHANGES_MAX: usize = 4096;

/// Routing keys that are matched with the patterns of a topic exchange while nobody can change the topology: the
/// longest against thousands of patterns made for it take milliseconds each, and a message may have a thousand.
pub const TOPIC_KEYS_AT_ONCE: usize = 8;

/// Greatest weight of a destination of a consistent hash exchange, as RabbitMQ documents it.
pub const HASH_WEIGHT_MAX: u16 = 10_000;

/// A queue's messages are brought back from the disk this many octets ahead of its consumers: a few reads that
/// overlap with delivering, and little enough for thousands of queues that are read at a time.
pub const READ_AHEAD_BYTES: usize = 1024 * 1024;

/// A chunk that lies in a block and is smaller than this still grows, and is written again as a whole; a larger
/// one is left as it is. So a queue that gets little is not scattered over tiny blocks, and no octet is written
/// often.
pub const RESEALED_BYTES_MAX: usize = 4 * 1024;

/// Longest pattern of a policy, in octets: some tens of names may well be listed in one.
pub const PATTERN_BYTES_MAX: usize = 16 * 1024;

/// Memory that the program compiled from a pattern may take, in octets: `(.{1000}){1000}` is a short text.
pub const PATTERN_COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// Steps back that looking for a pattern in one name may take; patterns without look-around and back references need
/// none. Names have 255 octets at most, and all queues of a vhost are looked at when a policy changes.
pub const PATTERN_STEPS_MAX: usize = 10_000;

/// Policies of a vhost, and as many of its operator: the name of whatever is declared is looked for in each of them,
/// and some patterns take a tenth of a millisecond.
pub const POLICIES_MAX: usize = 1024;

/// Tags of a user: as many as RabbitMQ takes.
pub const USER_TAGS_MAX: usize = 32;
