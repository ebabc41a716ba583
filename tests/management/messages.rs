//! Publishing and fetching single messages over HTTP.

use serde_json::{Value, json};

use crate::http::Api;

fn get(api: &Api, ackmode: &str, count: &str) -> Vec<Value> {
    let body = format!(r#"{{"count":{count},"ackmode":"{ackmode}","encoding":"auto"}}"#);
    let got = api.expect(200, "POST", "queues/%2F/q/get", Some(&body)).json();
    got.as_array().expect("a list").clone()
}

fn publish(api: &Api, payload: &str) {
    let body = json!({
        "routing_key": "q", "payload": payload, "payload_encoding": "string",
        "properties": { "delivery_mode": 2, "headers": { "h": [1, "x"] }, "message_id": "7", "priority": "3" },
    });
    let sent = api.expect(200, "POST", "exchanges/%2F/amq.default/publish", Some(&body.to_string()));
    assert_eq!(sent.json(), json!({ "routed": true }));
}

#[test]
fn a_message_comes_back_as_it_was_published() {
    let api = Api::start();
    api.expect(201, "PUT", "queues/%2F/q", Some(r#"{"durable":true}"#));
    publish(&api, "hello");
    let got = get(&api, "ack_requeue_true", "\"5\"");
    assert_eq!(
        got,
        [json!({
            "payload_bytes": 5, "redelivered": false, "exchange": "", "routing_key": "q", "message_count": 0,
            "properties": { "delivery_mode": 2, "headers": { "h": [1, "x"] }, "message_id": "7", "priority": 3 },
            "payload": "hello", "payload_encoding": "string",
        })]
    );
    let binary = r#"{"routing_key":"q","properties":[],"payload":"/wA=","payload_encoding":"base64"}"#;
    api.expect(200, "POST", "exchanges/%2F/amq.default/publish", Some(binary));
    let got = get(&api, "ack_requeue_false", "10");
    assert_eq!((got.len(), &got[0]["redelivered"]), (2, &json!(true)));
    assert_eq!((&got[1]["payload"], &got[1]["payload_encoding"]), (&json!("/wA="), &json!("base64")));
    assert_eq!(got[1]["properties"], json!([]));
    assert!(get(&api, "ack_requeue_true", "1").is_empty());
}

#[test]
fn each_way_to_settle_does_what_its_name_says() {
    let api = Api::start();
    api.expect(201, "PUT", "queues/%2F/dead", Some("{}"));
    let arguments = r#"{"arguments":{"x-dead-letter-exchange":"","x-dead-letter-routing-key":"dead"}}"#;
    api.expect(201, "PUT", "queues/%2F/q", Some(arguments));
    for payload in ["1", "2", "3"] {
        publish(&api, payload);
    }
    let payloads = |got: &[Value]| got.iter().map(|one| one["payload"].clone()).collect::<Vec<_>>();
    assert_eq!(payloads(&get(&api, "ack_requeue_true", "9")), ["1", "2", "3"]);
    assert_eq!(payloads(&get(&api, "ack_requeue_true", "-1")), ["1", "2", "3"], "all there are");
    assert_eq!(payloads(&get(&api, "reject_requeue_true", "2")), ["1", "2"]);
    assert_eq!(payloads(&get(&api, "reject_requeue_false", "1")), ["1"]);
    assert_eq!(payloads(&get(&api, "ack_requeue_false", "1")), ["2"]);
    assert_eq!(payloads(&get(&api, "ack_requeue_true", "9")), ["3"]);
    assert_eq!(api.fetch("queues/%2F/dead")["messages"], 1);
    let redriven =
        api.expect(200, "POST", "leveret/redrive/%2F/dead", Some(r#"{"count":null,"header":null}"#));
    assert_eq!((&redriven.json()["moved"], &redriven.json()["left"]), (&json!(1), &json!(0)));
    assert_eq!(api.fetch("queues/%2F/q")["messages"], 2);
    api.expect(204, "DELETE", "queues/%2F/q/contents", None);
    assert_eq!(api.fetch("queues/%2F/q")["messages"], 0);
}

#[test]
fn what_cannot_be_published_or_fetched_is_refused_with_the_words_of_rabbitmq() {
    let api = Api::start();
    let refused = |path: &str, status: u16, body: &str| api.expect(status, "POST", path, Some(body)).reason();
    let exchange = "exchanges/%2F/amq.default/publish";
    assert_eq!(
        refused(exchange, 400, r#"{"routing_key":"q"}"#),
        "[{key_missing,properties},\n {key_missing,payload},\n {key_missing,payload_encoding}]"
    );
    let message = |properties: &str, payload: &str, encoding: &str| {
        format!(
            r#"{{"routing_key":"q","properties":{properties},"payload":{payload},"payload_encoding":"{encoding}"}}"#
        )
    };
    assert_eq!(refused(exchange, 400, &message("{}", "1", "string")), "payload_not_string");
    assert_eq!(
        refused(exchange, 400, &message(r#"{"delivery_mode":"x"}"#, "\"\"", "string")),
        json!(["not_int", "delivery_mode"])
    );
    refused(exchange, 400, &message("{}", "\"!!\"", "base64"));
    refused(exchange, 400, &message(r#"{"expiration":"x"}"#, "\"\"", "string"));
    assert_eq!(
        refused("exchanges/%2F/none/publish", 400, &message("{}", "\"\"", "string")),
        "404 NOT_FOUND - no exchange 'none' in vhost '/'"
    );
    api.expect(
        201,
        "PUT",
        "queues/%2F/full",
        Some(r#"{"arguments":{"x-max-length":0,"x-overflow":"reject-publish"}}"#),
    );
    let body = r#"{"routing_key":"full","properties":{},"payload":"","payload_encoding":"string"}"#;
    assert_eq!(refused(exchange, 400, body), "rejected Unable to publish message. Check queue limits.");
    let queue = "queues/%2F/full/get";
    assert_eq!(refused(queue, 400, r#"{"count":5}"#), "[{key_missing,ackmode},{key_missing,encoding}]");
    let fetch = |ackmode: &str, encoding: &str| {
        format!(r#"{{"count":5,"ackmode":"{ackmode}","encoding":"{encoding}"}}"#)
    };
    refused(queue, 400, &fetch("x", "auto"));
    assert_eq!(
        refused(queue, 400, &fetch("ack_requeue_true", "x")),
        "Unsupported encoding. Please use auto or base64."
    );
    assert_eq!(
        refused("queues/%2F/none/get", 404, &fetch("ack_requeue_true", "auto")),
        "NOT_FOUND - no queue 'none' in vhost '/'"
    );
}

#[test]
fn whoever_may_impersonate_publishes_in_the_name_of_others() {
    let api = Api::start();
    api.expect(201, "PUT", "queues/%2F/q", Some("{}"));
    let publish =
        r#"{"routing_key":"q","properties":{"user_id":"hare"},"payload":"x","payload_encoding":"string"}"#;
    let place = "exchanges/%2F/amq.default/publish";
    let refused = api.expect(400, "POST", place, Some(publish));
    assert_eq!(
        refused.reason(),
        "406 PRECONDITION_FAILED - user_id property set to 'hare' but authenticated user was 'guest'"
    );
    api.expect(201, "PUT", "users/other", Some(r#"{"password":"p","tags":"management,impersonator"}"#));
    api.expect(201, "PUT", "permissions/%2F/other", Some(r#"{"configure":"","write":".*","read":""}"#));
    let routed = api.as_user("other", "p").expect(200, "POST", place, Some(publish)).json();
    assert_eq!(routed["routed"], true);
    assert_eq!(get(&api, "ack_requeue_false", "1")[0]["properties"]["user_id"], "hare");
}
