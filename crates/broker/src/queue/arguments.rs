//! Arguments of queue.declare, parsed once, with RabbitMQ's checks and texts. What is fixed for a queue's life is in
//! typed fields; what policies can narrow or supply is a [`RequestedSettings`]. Those that nobody knows are kept and
//! ignored, as RabbitMQ does; those whose effect is not there yet are refused.

mod consumer;
mod known;
mod text;

use leveret_codec::table::{FieldTable, FieldValue};

use super::queue_type::QueueType;
use super::settings::{QueueSettings, RequestedSettings};
use crate::deduplication;
use crate::error::BrokerError;
use crate::names::generated;
pub use consumer::ConsumerArguments;
pub(crate) use known::name_fault;
use known::{Fault, KNOWN, Known};
pub use text::type_name;
pub(crate) use text::{difference, value_text};

/// Queue types that are not there yet.
const UNSUPPORTED_TYPES: &[QueueType] = &[QueueType::Stream];

/// COMPAT: octets of the name that a client wishes the broker's name for a queue to begin with.
const NAME_PREFIX_BYTES_MAX: usize = 64;

/// What a queue was declared with, beyond its flags.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueArguments {
    table: FieldTable,
    queue_type: QueueType,
    max_priority: Option<u8>,
    single_active_consumer: bool,
    /// Most queues take duplicates.
    deduplication_header: Option<Box<str>>,
    /// Most queues ask for nothing.
    requested: Option<Box<RequestedSettings>>,
}

impl QueueArguments {
    /// Checks the arguments of a new queue. COMPAT: in RabbitMQ's order, so that the same one of several mistakes is
    /// named.
    ///
    /// # Errors
    /// An argument that is not supported, or not for this type of queue, or whose value is of the wrong type or not
    /// possible.
    pub fn parse(table: FieldTable, queue: &str, vhost: &str) -> Result<Self, BrokerError> {
        let names = Names { queue, vhost };
        if let Some(exchange) = table.get("x-dead-letter-exchange")
            && !matches!(exchange, FieldValue::LongString(_))
        {
            return Err(names.wrong_type("x-dead-letter-exchange", exchange));
        }
        let queue_type = queue_type(&table).map_err(|reason| names.invalid("x-queue-type", reason))?;
        let (own, of_others): (Vec<_>, Vec<_>) = KNOWN
            .iter()
            .filter_map(|known| Some((known, table.get(known.name)?)))
            .partition(|(known, _)| known.is_for(queue_type));
        for (known, value) in &own {
            (known.check)(value, &table).map_err(|fault| match fault {
                Fault::Reason(reason) => names.invalid(known.name, reason),
                Fault::Text(text) => BrokerError::ImpossibleArgument { text },
            })?;
        }
        if let Some((known, _)) = of_others.first() {
            return Err(names.not_for(known.name, queue_type));
        }
        if UNSUPPORTED_TYPES.contains(&queue_type) {
            let reason = format!("queue type '{queue_type}' is not supported by this version of Leveret");
            return Err(names.invalid("x-queue-type", reason));
        }
        Ok(Self::checked(table, queue_type))
    }

    /// Refuses names in the arguments of a queue that is declared which are none. Those of a queue that was kept are
    /// not looked at, since it would be lost.
    ///
    /// # Errors
    /// An exchange or a routing key is no UTF-8, or longer than a short string.
    pub(crate) fn check_names(table: &FieldTable, names: Names<'_>) -> Result<(), BrokerError> {
        let fault = |known: &Known| Some((known.name, known.refuse_name(table.get(known.name)?)?));
        match KNOWN.iter().find_map(fault) {
            None => Ok(()),
            Some((argument, reason)) => Err(names.invalid(argument, reason.to_owned())),
        }
    }

    /// Takes the values of arguments that were checked.
    fn checked(table: FieldTable, queue_type: QueueType) -> Self {
        let number = |key: &str| table.get(key).and_then(FieldValue::as_integer);
        let flag = |key: &str| table.get(key).and_then(FieldValue::as_bool).unwrap_or_default();
        let requested = RequestedSettings::read(|argument| table.get(argument));
        let header = table.get(deduplication::HEADER).and_then(FieldValue::as_str);
        let deduplication_header =
            flag(deduplication::ENABLED).then(|| header.unwrap_or(deduplication::HEADER).into());
        Self {
            queue_type,
            max_priority: number("x-max-priority").and_then(|number| u8::try_from(number).ok()),
            single_active_consumer: flag("x-single-active-consumer"),
            deduplication_header,
            requested: (requested != RequestedSettings::NONE).then(|| Box::new(requested)),
            table,
        }
    }

    /// The table as it was declared.
    #[must_use]
    pub fn table(&self) -> &FieldTable {
        &self.table
    }

    /// The table as it is shown: with the queue's type, whether it was said or not. COMPAT: as RabbitMQ does from 4.0
    /// on. Not kept this way, since it would cost each queue that does not say it an allocation.
    #[must_use]
    pub fn shown(&self) -> FieldTable {
        let mut table = self.table.clone();
        table.set("x-queue-type", self.queue_type.as_str());
        table
    }

    /// Which type of queue it is.
    #[must_use]
    pub fn queue_type(&self) -> QueueType {
        self.queue_type
    }

    /// The highest priority that messages can have, if they can have any.
    #[must_use]
    pub fn max_priority(&self) -> Option<u8> {
        self.max_priority
    }

    /// Whether one consumer gets all messages for as long as it is there.
    #[must_use]
    pub fn single_active_consumer(&self) -> bool {
        self.single_active_consumer
    }

    /// The header with the id of a message, if one is dropped whose id another one in the queue has.
    #[must_use]
    pub fn deduplication_header(&self) -> Option<&str> {
        self.deduplication_header.as_deref()
    }

    /// What they ask for of what policies can change.
    #[must_use]
    pub fn requested(&self) -> &RequestedSettings {
        const NONE: &RequestedSettings = &RequestedSettings::NONE;
        self.requested.as_deref().unwrap_or(NONE)
    }

    /// What is in force for the queue where policies ask for this.
    #[must_use]
    pub fn settings(&self, policy: &RequestedSettings) -> QueueSettings {
        QueueSettings::merged(self.queue_type, self.requested(), policy)
    }

    /// How a declaration with `other` differs: the argument, and what was received and is current. Compared is what
    /// RabbitMQ knows for this type of queue.
    #[must_use]
    pub fn inequivalent(&self, other: &FieldTable) -> Option<(&'static str, String)> {
        let classic = FieldValue::from(QueueType::Classic.as_str());
        // COMPAT: a queue that does not say its type is classic, from 4.0 on.
        let queue_type = |table: &FieldTable| table.get("x-queue-type").unwrap_or(&classic).clone();
        KNOWN
            .iter()
            .filter(|known| known.is_compared && known.is_for(self.queue_type))
            .find_map(|known| {
                let detail = difference(other.get(known.name), self.table.get(known.name))?;
                Some((known.name, detail))
            })
            .or_else(|| {
                let detail = difference(Some(&queue_type(other)), Some(&queue_type(&self.table)))?;
                Some(("x-queue-type", detail))
            })
    }
}

/// The name that the broker gives a queue declared without one.
///
/// # Errors
/// COMPAT: queues of this type cannot do without, or the wished prefix is too long, reserved or no text.
pub(crate) fn server_name(arguments: &FieldTable, vhost: &str) -> Result<String, BrokerError> {
    // COMPAT: a type that cannot be read is told of later.
    let queue_type = queue_type(arguments).unwrap_or_default();
    if queue_type != QueueType::Classic {
        return Err(BrokerError::ServerNamedQueue { queue_type });
    }
    match arguments.get("x-name-prefix") {
        None => Ok(generated("amq.gen-")),
        Some(value) => match value.as_str() {
            None => Err(Names { queue: "", vhost }.wrong_type("x-name-prefix", value)),
            Some(prefix) if prefix.len() > NAME_PREFIX_BYTES_MAX => {
                Err(BrokerError::NamePrefixTooLong { prefix: prefix.to_owned() })
            }
            Some(prefix) if prefix.starts_with("amq.") => {
                Err(BrokerError::ReservedName { kind: "queue", name: prefix.to_owned() })
            }
            Some(prefix) => Ok(generated(&format!("{prefix}-"))),
        },
    }
}

fn queue_type(table: &FieldTable) -> Result<QueueType, String> {
    match table.get("x-queue-type") {
        None => Ok(QueueType::default()),
        Some(FieldValue::LongString(name)) => QueueType::named(name)
            .ok_or_else(|| format!("\"unsupported queue type '{}'\"", String::from_utf8_lossy(name))),
        Some(other) => Err(format!("{{unacceptable_type,{}}}", type_name(other))),
    }
}

/// Whose arguments are looked at, for the refusals.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) queue: &'a str,
    pub(crate) vhost: &'a str,
}

impl Names<'_> {
    fn invalid(&self, argument: &str, reason: String) -> BrokerError {
        BrokerError::InvalidArgument {
            argument: argument.to_owned(),
            kind: "queue",
            name: self.queue.to_owned(),
            vhost: self.vhost.to_owned(),
            reason,
        }
    }

    fn wrong_type(&self, argument: &str, value: &FieldValue) -> BrokerError {
        BrokerError::InvalidArgumentType {
            argument: argument.to_owned(),
            type_name: type_name(value),
            kind: "queue",
            name: self.queue.to_owned(),
            vhost: self.vhost.to_owned(),
        }
    }

    fn not_for(&self, argument: &str, queue_type: QueueType) -> BrokerError {
        BrokerError::ArgumentOfOtherType {
            argument: argument.to_owned(),
            queue: self.queue.to_owned(),
            vhost: self.vhost.to_owned(),
            queue_type: queue_type.module(),
        }
    }

    /// A property that queues of a type cannot have.
    pub(crate) fn impossible(&self, property: &'static str) -> BrokerError {
        BrokerError::ImpossibleProperty {
            property,
            queue: self.queue.to_owned(),
            vhost: self.vhost.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
