//! Single messages from those who manage the broker: checked, routed and kept like those of a channel, one at a time.

use bytes::Bytes;
use leveret_broker::limits::LARGE_BODY_BYTES;
use leveret_broker::message::Body;
use leveret_broker::reply_to::REPLY_TO;
use leveret_broker::store::Store;
use leveret_broker::{Access, LargeBody, MessageView, Vhost};
use leveret_codec::method::MethodId;
use leveret_codec::properties::Properties;
use leveret_codec::table::FieldTableRef;
use leveret_management::node::{DirectMessage, Published};

use crate::channel::grants::ChannelAccess;
use crate::channel::publish::{copies, expiration_ms};
use crate::channel::routes::{Publish, Routes};
use crate::error::{AmqpError, ReplyCode};

/// Publishes a message.
///
/// # Errors
/// As for a channel.
pub(crate) fn publish(
    access: &Access,
    vhost: &Vhost,
    message: &DirectMessage<'_>,
) -> Result<Published, AmqpError> {
    let undecodable = |error| AmqpError::undecodable(&error, MethodId::BASIC_PUBLISH);
    let given = Properties::decode(message.properties).map_err(undecodable)?;
    if given.reply_to == Some(REPLY_TO.as_bytes()) {
        let text = "fast reply consumer does not exist";
        return Err(AmqpError::new(ReplyCode::PreconditionFailed, text, MethodId::BASIC_PUBLISH));
    }
    let expiration_ms = given.expiration.map(expiration_ms).transpose()?;
    let mut keys = Vec::new();
    let mut properties = message.properties.to_vec();
    if let Some(headers) = given.headers {
        for header in ["CC", "BCC"] {
            copies(&headers, header, &mut keys)?;
        }
        if headers.get("BCC").is_some() {
            let mut table = headers.to_owned();
            table.remove("BCC");
            let stripped = table.encoded();
            properties.clear();
            Properties { headers: FieldTableRef::parse(&stripped).ok(), ..given }.encode(&mut properties);
        }
    }
    let mut names = Vec::with_capacity(2 + message.exchange.len() + message.routing_key.len());
    for name in [message.exchange, message.routing_key] {
        let Ok(length) = u8::try_from(name.len()) else {
            let text = "a name is longer than 255 octets";
            return Err(AmqpError::new(ReplyCode::PreconditionFailed, text, MethodId::BASIC_PUBLISH));
        };
        names.push(length);
        names.extend_from_slice(name.as_bytes());
    }
    let large = (message.body.len() >= LARGE_BODY_BYTES)
        .then(|| LargeBody::new(vec![Bytes::copy_from_slice(message.body)]));
    let body = large.as_ref().map_or(Body::Small(message.body), Body::Large);
    let publish = Publish {
        message: MessageView {
            names: &names,
            properties: &properties,
            body,
            persistent: given.delivery_mode == Some(2),
            extras: &[],
        },
        copies: &keys,
        same_names: false,
        expiration_ms,
        sequence: 1,
        in_transaction: false,
    };
    let mut access = ChannelAccess::of_user(access, message.user, vhost.name.as_str());
    let mut routes = Routes::default();
    routes.refresh(vhost);
    let routed = routes
        .add(vhost, Some(&mut access), &publish)
        .map_err(|error| AmqpError::refused(&error, MethodId::BASIC_PUBLISH))?;
    let store: &dyn Store = &**vhost.store();
    let safe_at = routes.flush(store);
    let is_refused = routed.refused || !routes.take_refused().is_empty();
    Ok(Published { is_routed: routed.somewhere, is_refused, safe_at })
}
