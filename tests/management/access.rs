//! Who may see and change what.

use std::time::Duration;

use futures_lite::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties, Consumer};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::http::Api;

#[test]
fn users_are_added_changed_and_deleted() {
    let api = Api::start();
    api.expect(201, "PUT", "users/u", Some(r#"{"tags":"management, other","password":"p"}"#));
    let shown = api.fetch("users/u");
    assert_eq!((&shown["name"], &shown["tags"]), (&json!("u"), &json!(["management", "other"])));
    assert!(shown["password_hash"].as_str().is_some_and(|hash| !hash.is_empty()));
    // A hash of RabbitMQ 3.10: four octets of salt, then SHA-256.
    let hash =
        r#"{"tags":["administrator"],"password_hash":"3ZZt1IQXDpAH/8foe84N58rAyl57H/+fDRwWQfmCdDZJAv2Q"}"#;
    api.expect(204, "PUT", "users/u", Some(hash));
    assert_eq!(api.as_user("u", "guest").fetch("whoami"), json!({ "name": "u", "tags": ["administrator"] }));
    assert_eq!(api.as_user("u", "p").get("whoami").status, 401);
    api.expect(204, "PUT", "user-limits/u/max-channels", Some(r#"{"value":"3"}"#));
    assert_eq!(api.fetch("user-limits/u"), json!([{ "user": "u", "value": { "max-channels": 3 } }]));
    api.expect(204, "DELETE", "user-limits/u/max-channels", None);
    let unknown = api.expect(400, "PUT", "user-limits/u/nope", Some(r#"{"value":3}"#));
    assert_eq!(unknown.reason(), "Unrecognised terms [{<<\"nope\">>,3}] in user-limits");
    api.expect(204, "DELETE", "user-limits/u/nope", None);
    let no_number = api.expect(400, "PUT", "user-limits/u/max-channels", Some(r#"{"value":"x"}"#));
    assert_eq!(no_number.reason(), "max-channels should be a number, actually was <<\"x\">>");
    api.expect(204, "PUT", "users/u", Some(r#"{"tags":"","limits":{"max-connections":5}}"#));
    assert_eq!(api.fetch("users/u")["limits"], json!({ "max-connections": 5 }));
    for limits in [r#"{"max":1}"#, r#"{"max-channels":null}"#, "[]"] {
        api.expect(400, "PUT", "users/u", Some(&format!(r#"{{"tags":"","limits":{limits}}}"#)));
    }
    for missing in ["permissions/none/u", "permissions/%2F/nobody", "topic-permissions/%2F/nobody"] {
        let refused = api.expect(400, "PUT", missing, Some("{}"));
        assert_eq!(refused.reason(), "vhost_or_user_not_found", "{missing}");
    }
    assert_eq!(api.fetch("users/without-permissions")[0]["name"], "u");
    api.expect(201, "PUT", "permissions/%2F/u", Some(r#"{"configure":"^a","write":"","read":".*"}"#));
    let permission = json!({ "user": "u", "vhost": "/", "configure": "^a", "write": "", "read": ".*" });
    assert_eq!(api.fetch("permissions/%2F/u"), permission);
    assert_eq!(api.fetch("users/u/permissions"), json!([permission]));
    api.expect(
        201,
        "PUT",
        "topic-permissions/%2F/u",
        Some(r#"{"exchange":"amq.topic","write":"w","read":"r"}"#),
    );
    assert_eq!(api.fetch("topic-permissions/%2F/u")[0]["exchange"], "amq.topic");
    api.expect(204, "DELETE", "topic-permissions/%2F/u/amq.topic", None);
    api.expect(404, "GET", "topic-permissions/%2F/u", None);
    api.expect(204, "DELETE", "permissions/%2F/u", None);
    api.expect(404, "DELETE", "permissions/%2F/u", None);
    api.expect(204, "POST", "users/bulk-delete", Some(r#"{"users":["u","nobody"]}"#));
    api.expect(404, "GET", "users/u", None);
}

#[test]
fn tags_and_permissions_decide_what_is_seen_and_done() {
    let api = Api::start();
    api.expect(201, "PUT", "vhosts/hidden", None);
    // COMPAT: whoever makes a vhost may do everything in it.
    api.expect(200, "GET", "permissions/hidden/guest", None);
    api.expect(201, "PUT", "queues/hidden/secret", Some("{}"));
    for tag in ["", "management", "policymaker", "monitoring"] {
        let name = if tag.is_empty() { "none" } else { tag };
        let body = json!({ "tags": tag, "password": "p" }).to_string();
        api.expect(201, "PUT", &format!("users/{name}"), Some(&body));
        let permissions = r#"{"configure":"^mine","write":"^mine","read":"^mine"}"#;
        api.expect(201, "PUT", &format!("permissions/%2F/{name}"), Some(permissions));
    }
    let user = |name: &str| api.as_user(name, "p");
    let refused = |name: &str, method: &str, path: &str, body: Option<&str>| {
        let answer = user(name).expect(401, method, path, body);
        assert_eq!(answer.json()["error"], "not_authorised");
        answer.reason()
    };
    assert_eq!(refused("none", "GET", "overview", None), "Not management user");
    assert_eq!(refused("management", "GET", "nodes", None), "Not monitor user");
    assert_eq!(refused("monitoring", "GET", "users", None), "Not administrator user");
    let policy = r#"{"pattern":"x","definition":{"max-length":1}}"#;
    assert_eq!(
        refused("management", "PUT", "policies/%2F/p", Some(policy)),
        "User not authorised to access object"
    );
    user("policymaker").expect(201, "PUT", "policies/%2F/p", Some(policy));
    assert_eq!(
        refused("policymaker", "PUT", "operator-policies/%2F/p", Some(policy)),
        "Not administrator user"
    );
    assert_eq!(refused("policymaker", "GET", "operator-policies/%2F/p", None), "Not administrator user");
    assert_eq!(
        refused("management", "GET", "queues/hidden", None),
        "User not authorised to access virtual host"
    );
    assert_eq!(user("management").fetch("queues"), json!([]));
    assert_eq!(user("management").fetch("vhosts?columns=name"), json!([{ "name": "/" }]));
    // COMPAT: monitors know of all vhosts, and see what is in those they may enter.
    assert_eq!(
        user("monitoring").fetch("vhosts?columns=name"),
        json!([{ "name": "/" }, { "name": "hidden" }])
    );
    assert_eq!(user("monitoring").fetch("queues"), json!([]));
    assert_eq!(
        refused("monitoring", "GET", "queues/hidden/secret", None),
        "User not authorised to access virtual host"
    );
    assert_eq!(user("monitoring").fetch("vhosts/hidden?columns=name"), json!({ "name": "hidden" }));
    assert_eq!(user("monitoring").fetch("vhosts/hidden/connections"), json!([]));
    refused("management", "GET", "vhosts/hidden/connections", None);
    assert_eq!(user("management").fetch("consumers/hidden"), json!([]), "their own are everywhere");
    refused("monitoring", "DELETE", "queues/hidden/secret", None);
    user("management").expect(201, "PUT", "queues/%2F/mine", Some("{}"));
    assert_eq!(refused("management", "PUT", "queues/%2F/yours", Some("{}")), "Access refused.");
    let message = r#"{"routing_key":"mine","properties":{},"payload":"","payload_encoding":"string"}"#;
    // COMPAT: publishing is refused with 400, and says what is missing, as does getting.
    let answer = user("management").expect(400, "POST", "exchanges/%2F/amq.default/publish", Some(message));
    let text = "403 ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused for user 'management'";
    assert_eq!(answer.reason(), text);
    let text = "ACCESS_REFUSED - read access to queue 'yours' in vhost '/' refused for user 'management'";
    let get = r#"{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}"#;
    assert_eq!(refused("management", "POST", "queues/%2F/yours/get", Some(get)), text);
    user("management").expect(201, "PUT", "exchanges/%2F/mine", Some("{}"));
    user("management").expect(200, "POST", "exchanges/%2F/mine/publish", Some(message));
    refused("management", "POST", "bindings/%2F/e/amq.topic/q/mine", Some("{}"));
}

#[test]
fn monitors_see_all_connections_and_close_their_own() {
    let api = Api::start();
    let everything = r#"{"configure":".*","write":".*","read":".*"}"#;
    for (name, tag) in [("monitor", "monitoring"), ("other", "management")] {
        let body = json!({ "tags": tag, "password": "p" }).to_string();
        api.expect(201, "PUT", &format!("users/{name}"), Some(&body));
        api.expect(201, "PUT", &format!("permissions/%2F/{name}"), Some(everything));
    }
    let (monitor, other) = (api.as_user("monitor", "p"), api.as_user("other", "p"));
    let runtime = Runtime::new().expect("a runtime");
    let connect = |user: &str| {
        let uri = format!("amqp://{user}:p@127.0.0.1:{}/%2F", api.amqp_port);
        let connected = runtime.block_on(Connection::connect(&uri, ConnectionProperties::default()));
        connected.expect("connected")
    };
    let (_of_monitor, of_other) = (connect("monitor"), connect("other"));
    let count =
        |of: &Api, user: &str| of.fetch(&format!("connections/username/{user}")).as_array().map(Vec::len);
    assert_eq!(count(&monitor, "other"), Some(1));
    let refused = monitor.expect(401, "DELETE", "connections/username/other", None);
    assert_eq!(refused.reason(), "User not authorised to close the connection of another user");
    other.expect(401, "DELETE", "connections/username/monitor", None);
    assert!(of_other.status().connected());
    assert_eq!((count(&monitor, "other"), count(&monitor, "monitor")), (Some(1), Some(1)));
    monitor.expect(204, "DELETE", "connections/username/monitor", None);
    api.wait_for("connections/username/monitor", "its own is closed", |value| *value == json!([]));
    api.expect(204, "DELETE", "connections/username/other", None);
    api.wait_for("connections/username/other", "administrators close all", |value| *value == json!([]));
}

#[test]
fn what_reaches_beyond_permissions_is_for_administrators_and_monitors() {
    let api = Api::start();
    let everything = r#"{"configure":".*","write":".*","read":".*"}"#;
    for tag in ["management", "policymaker", "monitoring"] {
        let body = json!({ "tags": tag, "password": "p" }).to_string();
        api.expect(201, "PUT", &format!("users/{tag}"), Some(&body));
        api.expect(201, "PUT", &format!("permissions/%2F/{tag}"), Some(everything));
    }
    api.expect(201, "PUT", "queues/%2F/dead", Some("{}"));
    for tag in ["management", "policymaker", "monitoring"] {
        let user = api.as_user(tag, "p");
        for (method, path) in
            [("POST", "leveret/redrive/%2F/dead"), ("GET", "definitions/%2F"), ("POST", "definitions/%2F")]
        {
            let refused = user.expect(401, method, path, Some("{}")).reason();
            assert_eq!(refused, "Not administrator user", "{tag} {path}");
        }
        let overview = user.fetch("overview");
        assert!(overview["node"].is_string() && overview["object_totals"].is_object());
        assert!(overview["churn_rates"].is_object());
        for field in ["listeners", "contexts"] {
            assert_eq!(overview.get(field).is_some(), tag == "monitoring", "{tag} {field}");
        }
    }
    api.expect(200, "POST", "leveret/redrive/%2F/dead", Some("{}"));
    api.expect(200, "GET", "definitions/%2F", None);
}

#[test]
fn an_overview_counts_for_each_what_is_in_the_vhosts_they_may_enter() {
    let api = Api::start();
    api.expect(201, "PUT", "vhosts/hidden", None);
    api.expect(201, "PUT", "users/u", Some(r#"{"tags":"management","password":"p"}"#));
    api.expect(201, "PUT", "permissions/%2F/u", Some(r#"{"configure":"","write":"","read":""}"#));
    for (vhost, count) in [("hidden", 3), ("%2F", 1)] {
        api.expect(201, "PUT", &format!("queues/{vhost}/q"), Some("{}"));
        let message = r#"{"routing_key":"q","properties":{},"payload":"","payload_encoding":"string"}"#;
        for _ in 0..count {
            api.expect(200, "POST", &format!("exchanges/{vhost}/amq.default/publish"), Some(message));
        }
    }
    assert_eq!(api.fetch("overview")["queue_totals"]["messages"], 4);
    let of_user = api.as_user("u", "p").fetch("overview");
    let counted = (&of_user["queue_totals"]["messages"], &of_user["message_stats"]["publish"]);
    assert_eq!(counted, (&json!(1), &json!(1)));
}

#[test]
fn the_audit_log_is_told_of_what_administrators_do() {
    let mut api = Api::start();
    let everything = r#"{"configure":".*","write":".*","read":".*"}"#;
    api.expect(201, "PUT", "queues/%2F/q", Some("{}"));
    api.expect(201, "PUT", "exchanges/%2F/e", Some(r#"{"type":"topic"}"#));
    api.expect(201, "PUT", "users/u", Some(r#"{"tags":"","password":"p"}"#));
    api.expect(201, "PUT", "permissions/%2F/u", Some(everything));
    let runtime = Runtime::new().expect("a runtime");
    let uri = format!("amqp://u:p@127.0.0.1:{}/%2F", api.amqp_port);
    let connected = runtime.block_on(Connection::connect(&uri, ConnectionProperties::default()));
    let _connection = connected.expect("connected");
    let policy = r#"{"pattern":"^a\nb","definition":{"max-length":1}}"#;
    let document = r#"{"policies":[{"name":"i","vhost":"/","pattern":"x","definition":{"max-length":1}}]}"#;
    for (method, path, body, told) in [
        ("PUT", "policies/%2F/p", policy, r#"policy.set what=vhost="/" name="p" pattern="^a\nb""#),
        ("PUT", "operator-policies/%2F/p", policy, r#"operator_policy.set what=vhost="/" name="p""#),
        ("DELETE", "policies/%2F/p", "", r#"policy.cleared what=vhost="/" name="p""#),
        ("DELETE", "operator-policies/%2F/p", "", r#"operator_policy.cleared what=vhost="/" name="p""#),
        ("POST", "definitions", document, r#"policy.set what=vhost="/" name="i""#),
        ("POST", "leveret/redrive/%2F/q", "{}", r#"queue.redriven what=vhost="/" name="q" moved="0""#),
        ("DELETE", "queues/%2F/q/contents", "", r#"queue.purged what=vhost="/" name="q""#),
        ("DELETE", "queues/%2F/q", "", r#"queue.deleted what=vhost="/" name="q""#),
        ("DELETE", "exchanges/%2F/e", "", r#"exchange.deleted what=vhost="/" name="e""#),
        ("DELETE", "connections/username/u", "", r#"connection.closed what=name="127.0.0.1:"#),
        ("PUT", "vhosts/v", "{}", r#"vhost.created what=name="v""#),
        ("PUT", "vhosts/v", r#"{"description":"d"}"#, r#"vhost.changed what=name="v" description="d""#),
        ("PUT", "vhost-limits/v/max-queues", r#"{"value":3}"#, r#"vhost.limits.set what=name="v""#),
        ("PUT", "vhosts/%2F", r#"{"tracing":true}"#, r#"vhost.tracing.started what=name="/""#),
        ("PUT", "vhosts/%2F", r#"{"tracing":false}"#, r#"vhost.tracing.stopped what=name="/""#),
    ] {
        let answer = api.request(method, path, Some(body));
        assert!(matches!(answer.status, 200 | 201 | 204), "{method} {path}: {}", answer.status);
        let (name, fields) = told.split_once(" what=").expect("both");
        let line = api.wait_for_line(&format!("INFO {name} by="));
        assert!(line.contains(&format!("what={fields}")), "{line}");
        assert!(line.contains(r#"by="guest" from="127.0.0.1:"#), "{line}");
    }
}

#[test]
fn topic_permissions_hold_for_what_is_published_and_bound_over_http() {
    let api = Api::start();
    let everything = r#"{"configure":".*","write":".*","read":".*"}"#;
    api.expect(201, "PUT", "users/u", Some(r#"{"tags":"management","password":"p"}"#));
    api.expect(201, "PUT", "permissions/%2F/u", Some(everything));
    let topics = r#"{"exchange":"amq.topic","write":"^{username}\\.","read":"^public"}"#;
    api.expect(201, "PUT", "topic-permissions/%2F/u", Some(topics));
    api.expect(201, "PUT", "queues/%2F/q", Some("{}"));
    let user = api.as_user("u", "p");
    let publish = |status, exchange: &str, key: &str, headers: Value| {
        let message = json!({
            "routing_key": key, "properties": { "headers": headers }, "payload": "", "payload_encoding": "string",
        });
        user.expect(status, "POST", &format!("exchanges/%2F/{exchange}/publish"), Some(&message.to_string()))
    };
    publish(200, "amq.topic", "u.news", json!({}));
    for (key, headers, refused) in [("other", json!({}), "other"), ("u.a", json!({ "CC": ["cc"] }), "cc")] {
        let text = format!(
            "403 ACCESS_REFUSED - write access to topic '{refused}' in exchange 'amq.topic' in vhost '/' refused for \
             user 'u'"
        );
        assert_eq!(publish(400, "amq.topic", key, headers).reason(), text.as_str());
    }
    publish(200, "amq.direct", "other.news", json!({}));
    let bindings = "bindings/%2F/e/amq.topic/q/q";
    user.expect(201, "POST", bindings, Some(r#"{"routing_key":"public.a"}"#));
    user.expect(401, "POST", bindings, Some(r#"{"routing_key":"private"}"#));
}

#[test]
fn a_consumer_that_may_not_read_any_more_is_cancelled_when_the_password_is_said_again() {
    let api = Api::start();
    api.expect(201, "PUT", "users/u", Some(r#"{"tags":"","password":"p"}"#));
    let permit = |read: &str| {
        let body = json!({ "configure": ".*", "write": ".*", "read": read }).to_string();
        assert!(matches!(api.request("PUT", "permissions/%2F/u", Some(&body)).status, 201 | 204));
    };
    permit(".*");
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let uri = format!("amqp://u:p@127.0.0.1:{}/%2F", api.amqp_port);
        let connection = Connection::connect(&uri, ConnectionProperties::default()).await.expect("connected");
        let channel = connection.create_channel().await.expect("a channel");
        let mut consumers = Vec::new();
        for queue in ["kept", "lost"] {
            let (options, none) = (QueueDeclareOptions::default(), FieldTable::default());
            channel.queue_declare(queue.into(), options, none.clone()).await.expect("a queue");
            let options = BasicConsumeOptions::default();
            let consumer = channel.basic_consume(queue.into(), queue.into(), options, none);
            consumers.push(consumer.await.expect("a consumer"));
        }
        let publish = async |queue: &str| {
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let published = channel.basic_publish("".into(), queue.into(), options, b"body", properties);
            published.await.expect("published");
        };
        // Until then a consumer stays what it is.
        permit("^kept$");
        publish("lost").await;
        assert!(next(&mut consumers[1]).await.is_some());
        connection.update_secret("p".into(), "again".into()).await.expect("it is the right one");
        assert!(next(&mut consumers[1]).await.is_none(), "it was not cancelled");
        publish("kept").await;
        assert!(next(&mut consumers[0]).await.is_some());
        assert!(channel.status().connected());
    });
}

/// The next delivery; none if the consumer was cancelled.
async fn next(consumer: &mut Consumer) -> Option<Delivery> {
    let next = timeout(Duration::from_secs(30), consumer.next()).await.expect("it goes on");
    next.map(|delivery| delivery.expect("the channel is open"))
}
