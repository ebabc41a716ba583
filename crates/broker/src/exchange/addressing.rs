//! What of a message exchanges route by. Most look at routing keys alone; the properties are decoded only where
//! an exchange asks for them.

use leveret_codec::properties::Properties;
use leveret_codec::table::FieldTableRef;

use crate::message::MessageView;

/// A message on its way through exchanges.
#[derive(Clone, Copy, Debug)]
pub struct Addressing<'a> {
    routing_keys: &'a [&'a str],
    properties: &'a [u8],
    message: Option<&'a MessageView<'a>>,
}

impl<'a> Addressing<'a> {
    /// What a message with these keys (its routing key, then CC and BCC) and these encoded properties would be routed
    /// by; no properties may be given as an empty slice.
    #[must_use]
    pub fn new(routing_keys: &'a [&'a str], properties: &'a [u8]) -> Self {
        Self { routing_keys, properties, message: None }
    }

    /// A message that is being published with these keys: exchanges that keep messages keep it.
    #[must_use]
    pub fn of(routing_keys: &'a [&'a str], message: &'a MessageView<'a>) -> Self {
        Self { routing_keys, properties: message.properties, message: Some(message) }
    }

    /// The message itself, if it is being published.
    #[must_use]
    pub fn message(&self) -> Option<&'a MessageView<'a>> {
        self.message
    }

    /// All keys.
    #[must_use]
    pub fn routing_keys(&self) -> &'a [&'a str] {
        self.routing_keys
    }

    /// The key it was published with.
    #[must_use]
    pub fn routing_key(&self) -> &'a str {
        self.routing_keys.first().copied().unwrap_or_default()
    }

    /// The same message with at most `count` of its keys, from the one at `from` on.
    #[must_use]
    pub(crate) fn portion(&self, from: usize, count: usize) -> Self {
        let left = self.routing_keys.get(from..).unwrap_or_default();
        Self { routing_keys: left.get(..count).unwrap_or(left), ..*self }
    }

    /// The properties as they are on the wire.
    #[must_use]
    pub fn encoded_properties(&self) -> &'a [u8] {
        self.properties
    }

    /// The properties, decoded anew at each call; what cannot be decoded reads as none.
    #[must_use]
    pub fn properties(&self) -> Properties<'a> {
        Properties::decode(self.properties).unwrap_or_default()
    }

    /// The headers, decoded anew at each call.
    #[must_use]
    pub fn headers(&self) -> Option<FieldTableRef<'a>> {
        self.properties().headers
    }
}
