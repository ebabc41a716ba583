//! Who may see and change what.

use serde_json::json;

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
    api.expect(400, "PUT", "user-limits/u/nope", Some(r#"{"value":3}"#));
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
    assert_eq!(refused("management", "PUT", "policies/%2F/p", Some(policy)), "Not policymaker user");
    user("policymaker").expect(201, "PUT", "policies/%2F/p", Some(policy));
    assert_eq!(
        refused("policymaker", "PUT", "operator-policies/%2F/p", Some(policy)),
        "Not administrator user"
    );
    assert_eq!(
        refused("management", "GET", "queues/hidden", None),
        "User not authorised to access virtual host"
    );
    assert_eq!(user("management").fetch("queues"), json!([]));
    assert_eq!(user("management").fetch("vhosts?columns=name"), json!([{ "name": "/" }]));
    assert_eq!(user("monitoring").fetch("queues?columns=name"), json!([{ "name": "secret" }]));
    refused("monitoring", "DELETE", "queues/hidden/secret", None);
    user("management").expect(201, "PUT", "queues/%2F/mine", Some("{}"));
    assert_eq!(refused("management", "PUT", "queues/%2F/yours", Some("{}")), "Access refused.");
    let message = r#"{"routing_key":"mine","properties":{},"payload":"","payload_encoding":"string"}"#;
    refused("management", "POST", "exchanges/%2F/amq.default/publish", Some(message));
    user("management").expect(201, "PUT", "exchanges/%2F/mine", Some("{}"));
    user("management").expect(200, "POST", "exchanges/%2F/mine/publish", Some(message));
    refused("management", "POST", "bindings/%2F/e/amq.topic/q/mine", Some("{}"));
}
