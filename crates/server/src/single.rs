//! Single messages from those who manage the broker: checked, routed and kept like those of a channel, one at a time.

use bytes::Bytes;
use leveret_broker::limits::{LARGE_BODY_BYTES, NAME_BYTES_MAX};
use leveret_broker::message::{self, Body};
use leveret_broker::store::Store;
use leveret_broker::{LargeBody, MessageView, Vhost};
use leveret_codec::method::MethodId;
use leveret_management::node::{Published, SingleMessage};

use crate::channel::content::Content;
use crate::channel::grants::ChannelAccess;
use crate::channel::properties::Publisher;
use crate::channel::routes::{Publish, Routes};
use crate::error::{AmqpError, ReplyCode};
use crate::server::Server;

/// Publishes a message.
///
/// # Errors
/// As for a channel.
pub(crate) fn publish(
    server: &Server,
    vhost: &Vhost,
    message: &SingleMessage<'_>,
) -> Result<Published, AmqpError> {
    let access = server.broker.access();
    let message_bytes_max = server.config.message_bytes_max;
    let publisher = Publisher { access, user: message.user, message_bytes_max, reply_queue: None };
    publisher.check_size(message.body.len() as u64)?;
    let mut content = Content::default();
    publisher.take(message.properties, &mut content)?;
    if message.exchange.len().max(message.routing_key.len()) > NAME_BYTES_MAX {
        let text = "a name is longer than 255 octets";
        return Err(AmqpError::new(ReplyCode::PreconditionFailed, text, MethodId::BASIC_PUBLISH));
    }
    let large = (message.body.len() >= LARGE_BODY_BYTES)
        .then(|| LargeBody::new(vec![Bytes::copy_from_slice(message.body)]));
    let publish = Publish {
        message: MessageView {
            names: &message::names(message.exchange.as_bytes(), message.routing_key.as_bytes()),
            properties: &content.properties,
            body: large.as_ref().map_or(Body::Small(message.body), Body::Large),
            persistent: content.persistent,
            extras: &[],
        },
        copies: &content.copies,
        same_names: false,
        expiration_ms: content.expiration_ms,
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
