//! Changes of users and permissions while a client is connected.

use leveret_broker::Actor;
use leveret_broker::access::permissions::Permissions;
use leveret_codec::method::{Method, channel, connection};

use super::*;
use crate::held::Client;

const BY: Actor<'_> = Actor { user: "admin", from: "test" };

async fn client() -> Client {
    let mut client = Client::open().await;
    client.store.release(u64::MAX);
    client.declare("q").await;
    assert_eq!(client.declared().await, "q");
    client
}

fn close_text(payload: &[u8]) -> (u16, String) {
    match Method::decode(payload).unwrap() {
        Method::ConnectionClose(connection::Close { reply_code, reply_text, .. })
        | Method::ChannelClose(channel::Close { reply_code, reply_text, .. }) => {
            (reply_code, reply_text.to_owned())
        }
        other => panic!("no close: {other:?}"),
    }
}

#[tokio::test]
async fn a_route_that_is_remembered_is_not_used_once_it_is_not_permitted_any_more() {
    let mut client = client().await;
    client.publish("q", false).await;
    client.publish("q", false).await;
    client.declare("q").await;
    assert_eq!(client.declared().await, "q");
    let access = client.server.broker.access();
    let nothing = String::new;
    let (user, vhost) = ("guest".into(), "/".into());
    let asked = Permissions { user, vhost, configure: nothing(), write: nothing(), read: nothing() };
    access.set_permissions(BY, asked).unwrap();
    client.publish("q", false).await;
    let (code, text) = close_text(&client.expect(MethodId::CHANNEL_CLOSE).await);
    let expected =
        "ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused for user 'guest'";
    assert_eq!((code, text.as_str()), (403, expected));
    let queue =
        client.server.broker.vhost("/").unwrap().queue("q", leveret_broker::ConnectionId::next()).unwrap();
    assert_eq!(queue.snapshot().ready, 2);
}

#[tokio::test]
async fn a_deleted_user_loses_the_connection_and_a_changed_password_does_not() {
    let mut client = client().await;
    let server = Arc::clone(&client.server);
    server.follow_deletions();
    server.broker.access().set_password(BY, "guest", None).unwrap();
    client.declare("q").await;
    assert_eq!(client.declared().await, "q");
    server.broker.access().delete_user(BY, "guest").unwrap();
    let (code, text) = close_text(&client.expect(MethodId::CONNECTION_CLOSE).await);
    assert_eq!((code, text.as_str()), (320, "CONNECTION_FORCED - user 'guest' is deleted"));
}

#[tokio::test]
async fn a_deleted_vhost_takes_its_connections_along() {
    let mut client = client().await;
    let server = Arc::clone(&client.server);
    server.follow_deletions();
    server.broker.delete_vhost(BY, "/").unwrap();
    let (code, text) = close_text(&client.expect(MethodId::CONNECTION_CLOSE).await);
    assert_eq!((code, text.as_str()), (320, "CONNECTION_FORCED - vhost '/' is deleted"));
}
