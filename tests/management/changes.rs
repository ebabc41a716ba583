//! Declaring, binding, setting and deleting over HTTP.

use std::time::Duration;

use serde_json::json;

use crate::amqp::Client;
use crate::http::Api;

#[test]
fn queues_and_exchanges_are_declared_bound_and_deleted() {
    let api = Api::start();
    api.expect(201, "PUT", "queues/%2F/q", Some(r#"{"durable":"true","arguments":{"x-max-length":5}}"#));
    api.expect(204, "PUT", "queues/%2F/q", Some(r#"{"durable":true,"arguments":{"x-max-length":5}}"#));
    let refused = api.expect(400, "PUT", "queues/%2F/q", Some(r#"{"durable":false}"#));
    assert_eq!(
        refused.reason(),
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"
    );
    api.expect(201, "PUT", "exchanges/%2F/e", Some(r#"{"type":"topic"}"#));
    api.expect(204, "PUT", "exchanges/%2F/e", Some(r#"{"type":"topic"}"#));
    let bound = api.expect(201, "POST", "bindings/%2F/e/e/q/q", Some(r#"{"routing_key":"a b/c~%é"}"#));
    let location = bound.header("location").expect("a binding has a place").to_owned();
    // COMPAT: relative to where the request went; Terraform's provider and rabbit-hole take it apart.
    assert_eq!(location, "q/a%2Bb%252Fc%257E%2525%25C3%25A9");
    let path = &format!("bindings/%2F/e/e/q/{location}");
    assert_eq!(api.fetch(path)["routing_key"], "a b/c~%é");
    api.expect(201, "POST", "bindings/%2F/e/e/q/q", Some(r#"{"routing_key":"x","arguments":{"n":1}}"#));
    let listed = api.fetch("bindings/%2F/e/e/q/q");
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    api.expect(204, "DELETE", path, None);
    api.expect(404, "DELETE", path, None);
    let key = listed[1]["properties_key"].as_str().expect("a key").to_owned();
    api.expect(204, "DELETE", &format!("bindings/%2F/e/e/q/q/{key}"), None);
    api.expect(404, "POST", "bindings/%2F/e/e/q/none", Some("{}"));
    api.expect(201, "POST", "bindings/%2F/e/amq.topic/e/e", Some(r#"{"routing_key":"k"}"#));
    assert_eq!(api.fetch("exchanges/%2F/e/bindings/destination")[0]["source"], "amq.topic");
    api.expect(401, "DELETE", "exchanges/%2F/amq.topic", None);
    api.expect(204, "DELETE", "exchanges/%2F/e", None);
    api.expect(404, "DELETE", "exchanges/%2F/e", None);
    api.expect(204, "DELETE", "queues/%2F/q?if-empty=true&if-unused=true", None);
    api.expect(404, "GET", "queues/%2F/q", None);
    api.expect(404, "PUT", "queues/none/q", Some("{}"));
}

#[test]
fn policies_apply_and_are_listed() {
    let api = Api::start();
    api.expect(201, "PUT", "queues/%2F/q1", Some("{}"));
    let policy = r#"{"pattern":"^q","definition":{"max-length":7},"priority":"3","apply-to":"queues"}"#;
    api.expect(201, "PUT", "policies/%2F/p", Some(policy));
    api.expect(204, "PUT", "policies/%2F/p", Some(policy));
    api.expect(
        201,
        "PUT",
        "operator-policies/%2F/o",
        Some(r#"{"pattern":"^q","definition":{"max-length":5}}"#),
    );
    let shown = json!({
        "vhost": "/", "name": "p", "pattern": "^q", "apply-to": "queues", "priority": 3,
        "definition": { "max-length": 7 },
    });
    assert_eq!(api.fetch("policies/%2F/p"), shown);
    assert_eq!(api.fetch("policies"), json!([shown]));
    let operator = json!({
        "component": "operator_policy", "vhost": "/", "name": "o",
        "value": { "pattern": "^q", "apply-to": "queues", "priority": 0, "definition": { "max-length": 5 } },
    });
    assert_eq!(api.fetch("parameters"), json!([operator]));
    assert_eq!(api.fetch("parameters/operator_policy/%2F/o"), operator);
    assert_eq!(api.fetch("parameters/shovel"), json!([]));
    let refused = api.expect(400, "PUT", "parameters/policy/%2F/p", Some(r#"{"value":{}}"#));
    assert_eq!(refused.reason(), "policies may not be set using this method");
    // Only what goes into a page of users' policies is escaped.
    let wrong = r#"{"pattern":"^q","definition":{"max-length":"x"}}"#;
    for (path, reason) in [
        ("policies/%2F/p", "Validation failed\n\n&lt;&lt;\"x\"&gt;&gt; is not a valid maximum length\n"),
        ("operator-policies/%2F/o", "Validation failed\n\n<<\"x\">> is not a valid maximum length\n"),
    ] {
        assert_eq!(api.expect(400, "PUT", path, Some(wrong)).reason(), reason);
    }
    let queue = api.fetch("queues/%2F/q1");
    assert_eq!((&queue["policy"], &queue["operator_policy"]), (&json!("p"), &json!("o")));
    assert_eq!(queue["effective_policy_definition"], json!({ "max-length": 5 }));
    api.expect(204, "DELETE", "policies/%2F/p", None);
    api.expect(404, "DELETE", "policies/%2F/p", None);
    api.expect(204, "DELETE", "parameters/operator_policy/%2F/o", None);
    api.expect(404, "DELETE", "parameters/operator_policy/%2F/o", None);
    api.expect(404, "DELETE", "operator-policies/%2F/o", None);
    assert!(api.fetch("queues/%2F/q1")["policy"].is_null());
}

#[test]
fn vhosts_come_with_limits_and_go_with_what_is_in_them() {
    let api = Api::start();
    api.expect(201, "PUT", "vhosts/v%2F1", Some(r#"{"description":"d","tags":"a, b","tracing":true}"#));
    let shown = api.fetch("vhosts/v%2F1");
    assert_eq!((&shown["description"], &shown["tags"]), (&json!("d"), &json!(["a", "b"])));
    assert_eq!(shown["tracing"], true);
    api.expect(204, "PUT", "vhosts/v%2F1", None);
    assert_eq!(api.fetch("vhosts/v%2F1")["description"], "d");
    api.expect(204, "PUT", "vhost-limits/v%2F1/max-queues", Some(r#"{"value":1}"#));
    assert_eq!(api.fetch("vhost-limits"), json!([{ "vhost": "v/1", "value": { "max-queues": 1 } }]));
    api.expect(201, "PUT", "queues/v%2F1/one", Some("{}"));
    api.expect(400, "PUT", "queues/v%2F1/two", Some("{}"));
    let limits = json!({ "vhost": "v/1", "component": "vhost-limits", "name": "limits", "value": { "max-queues": 1 } });
    assert_eq!(api.fetch("parameters/vhost-limits"), json!([limits]));
    for (name, value, reason) in [
        ("max-queues", "\"x\"", "max-queues should be a number, actually was <<\"x\">>"),
        ("nope", "1", "Unrecognised terms [{<<\"nope\">>,1}] in limits"),
    ] {
        let path = format!("vhost-limits/v%2F1/{name}");
        let refused = api.expect(400, "PUT", &path, Some(&format!(r#"{{"value":{value}}}"#)));
        assert_eq!(refused.reason(), format!("Validation failed\n\n{reason}\n"));
    }
    api.expect(204, "DELETE", "vhost-limits/v%2F1/nope", None);
    api.expect(204, "DELETE", "parameters/vhost-limits/v%2F1/limits", None);
    assert_eq!(api.fetch("vhost-limits"), json!([]));
    api.expect(204, "DELETE", "vhost-limits/v%2F1/max-queues", None);
    api.expect(201, "PUT", "queues/v%2F1/two", Some("{}"));
    api.expect(204, "DELETE", "vhosts/v%2F1", None);
    api.expect(404, "DELETE", "vhosts/v%2F1", None);
    assert_eq!(api.fetch("queues"), json!([]));
}

#[test]
fn definitions_go_out_and_come_in_again() {
    let api = Api::start();
    api.expect(201, "PUT", "vhosts/v", None);
    let arguments = json!({ "x-max-length": 5, "x-queue-type": "classic" });
    let queue = json!({ "durable": true, "arguments": arguments }).to_string();
    api.expect(201, "PUT", "queues/v/q", Some(&queue));
    api.expect(201, "PUT", "exchanges/v/e", Some(r#"{"type":"fanout","durable":true}"#));
    api.expect(201, "POST", "bindings/v/e/e/q/q", Some("{}"));
    api.expect(201, "PUT", "users/u", Some(r#"{"tags":"monitoring","password":"secret"}"#));
    api.expect(201, "PUT", "permissions/v/u", Some(r#"{"configure":".*","write":"","read":"x"}"#));
    let file = api.expect(200, "GET", "definitions?download=kept.json", None);
    assert_eq!(file.header("content-disposition"), Some("attachment; filename=kept.json"));
    let other = Api::start();
    let document = String::from_utf8(file.body.clone()).expect("JSON is text");
    other.expect(204, "POST", "definitions", Some(&document));
    other.expect(204, "POST", "definitions", Some(&document));
    let of = |api: &Api| {
        let mut document = api.fetch("definitions");
        // The broker's own.
        document["global_parameters"].take();
        document
    };
    assert_eq!(of(&other), of(&api));
    assert_eq!(other.as_user("u", "secret").get("overview").status, 200);
    let form = format!(
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"d.json\"\r\n\r\n{document}\r\n--b--\r\n"
    );
    let third = Api::start();
    let headers = "Content-Type: multipart/form-data; boundary=b\r\n";
    let taken = third.request_with("POST", "definitions", Some(&form), headers);
    assert_eq!(taken.status, 204, "{}", String::from_utf8_lossy(&taken.body));
    assert_eq!(third.fetch("queues/v/q")["arguments"], arguments);
    let of_vhost = third.fetch("definitions/v");
    third.expect(201, "PUT", "vhosts/w", None);
    third.expect(204, "POST", "definitions/w", Some(&of_vhost.to_string()));
    assert_eq!(third.fetch("queues/w/q")["durable"], true);
}

#[test]
fn limits_of_memory_and_disk_are_in_force_as_soon_as_they_are_set() {
    let mut api = Api::start();
    let client = Client::connect(api.amqp_port);
    let (soon, long) = (Duration::from_millis(300), Duration::from_secs(30));
    let before = api.fetch("leveret/limits");
    let node = api.fetch("nodes")[0].clone();
    assert_eq!(
        (&node["mem_limit"], &node["disk_free_limit"]),
        (&before["memory_high_watermark"], &before["disk_free_limit"])
    );
    assert_eq!(node["disk_free_limit"], 50_000_000);
    let all = u64::MAX >> 11;
    for (name, limit, resource, alarm) in [
        ("memory_high_watermark", json!(0.0), "memory", "mem_alarm"),
        ("disk_free_limit", json!(all), "disk space", "disk_free_alarm"),
        ("disk_free_limit", json!({ "mem_relative": 1e9 }), "disk space", "disk_free_alarm"),
    ] {
        api.expect(204, "PUT", "leveret/limits", Some(&json!({ name: limit }).to_string()));
        let line = api.wait_for_line("set by an administrator");
        assert!(line.contains("by=\"guest\""), "{line}");
        let failed = api.expect(503, "GET", "health/checks/alarms", None).json();
        assert_eq!(failed["alarms"][0]["resource"], resource);
        assert_eq!(api.fetch("nodes")[0][alarm], true);
        assert_ne!(api.fetch("leveret/limits")[name], before[name]);
        assert!(!client.publishes_within(soon), "publishers wait: {resource}");
        api.expect(204, "PUT", "leveret/limits", Some(&before.to_string()));
        api.expect(200, "GET", "health/checks/alarms", None);
        assert_eq!(api.fetch("leveret/limits"), before);
        assert!(client.publishes_within(long), "they go on: {resource}");
    }
    api.expect(204, "PUT", "leveret/limits", Some(r#"{"memory_high_watermark":0.5}"#));
    assert_eq!(
        api.fetch("leveret/limits")["disk_free_limit"],
        before["disk_free_limit"],
        "what is not named stays"
    );
}

#[test]
fn limits_that_make_no_sense_change_nothing() {
    let api = Api::start();
    let before = api.fetch("leveret/limits");
    for body in [
        r#"{"memory_high_watermark":1.5}"#,
        r#"{"memory_high_watermark":"0.4"}"#,
        r#"{"memory_high_watermark":-1}"#,
        r#"{"memory_high_watermark":0.1,"disk_free_limit":-5}"#,
        r#"{"disk_free_limit":{"mem_relative":-1}}"#,
        r#"{"disk_free_limit":{"mem":1}}"#,
        r#"{"memory_high_watermark":0.1,"other":1}"#,
        "[]",
    ] {
        api.expect(400, "PUT", "leveret/limits", Some(body));
    }
    api.expect(201, "PUT", "users/watcher", Some(r#"{"tags":"monitoring","password":"secret"}"#));
    let watcher = api.as_user("watcher", "secret");
    watcher.expect(401, "PUT", "leveret/limits", Some(r#"{"disk_free_limit":0}"#));
    assert_eq!(watcher.fetch("leveret/limits"), before);
}

#[test]
fn the_name_of_the_cluster_and_global_parameters_are_kept_and_exported() {
    let mut api = Api::start();
    let node = api.fetch("overview")["node"].clone();
    assert_eq!(api.fetch("cluster-name")["name"], node, "without a name it is that of the node");
    assert_eq!(api.fetch("global-parameters"), json!([]));
    api.expect(204, "PUT", "cluster-name", Some(r#"{"name":"rabbits"}"#));
    assert_eq!(api.fetch("overview")["cluster_name"], "rabbits");
    let value = json!({ "x": [1, 2.5, null, true, "t"] });
    api.expect(201, "PUT", "global-parameters/a%2Fb", Some(r#"{"value":5}"#));
    let put = json!({ "value": value, "name": "ignored" }).to_string();
    api.expect(204, "PUT", "global-parameters/a%2Fb", Some(&put));
    for (body, reason) in [(r#"{"nam":"x"}"#, "[{key_missing,name}]"), ("[]", "not_json")] {
        assert_eq!(api.expect(400, "PUT", "cluster-name", Some(body)).reason(), reason);
    }
    assert_eq!(api.expect(400, "PUT", "global-parameters/c", Some("{}")).reason(), "[{key_missing,value}]");
    for body in [r#"{"name":5}"#, r#"{"name":""}"#] {
        api.expect(400, "PUT", "cluster-name", Some(body));
    }
    api.expect(400, "PUT", "global-parameters/cluster_name", Some(r#"{"value":5}"#));
    let all = json!([{ "name": "a/b", "value": value }, { "name": "cluster_name", "value": "rabbits" }]);
    assert_eq!(api.fetch("global-parameters"), all);

    api.restart();
    assert_eq!(api.fetch("global-parameters"), all);
    assert_eq!(api.fetch("cluster-name")["name"], "rabbits");
    let document = api.fetch("definitions");
    assert_eq!(document["global_parameters"], all);
    let other = Api::start();
    other.expect(204, "POST", "definitions", Some(&document.to_string()));
    assert_eq!(other.fetch("global-parameters"), all);

    api.expect(204, "DELETE", "global-parameters/cluster_name", None);
    api.expect(404, "DELETE", "global-parameters/cluster_name", None);
    api.expect(404, "GET", "global-parameters/cluster_name", None);
    api.restart();
    assert_eq!(api.fetch("cluster-name")["name"], node);
    assert_eq!(api.fetch("global-parameters/a%2Fb"), all[0]);

    api.expect(201, "PUT", "users/maker", Some(r#"{"tags":"policymaker","password":"secret"}"#));
    api.expect(201, "PUT", "users/watcher", Some(r#"{"tags":"monitoring","password":"secret"}"#));
    let (maker, watcher) = (api.as_user("maker", "secret"), api.as_user("watcher", "secret"));
    maker.expect(201, "PUT", "global-parameters/c", Some(r#"{"value":1}"#));
    maker.expect(401, "PUT", "cluster-name", Some(r#"{"name":"x"}"#));
    watcher.expect(401, "GET", "global-parameters", None);
    watcher.expect(401, "DELETE", "global-parameters/c", None);
    watcher.expect(200, "GET", "cluster-name", None);
}

#[test]
fn a_vhost_that_is_protected_is_not_deleted() {
    let mut api = Api::start();
    api.expect(201, "PUT", "vhosts/kept%2F1", None);
    api.expect(404, "POST", "vhosts/none/deletion/protection", None);
    api.expect(204, "POST", "vhosts/kept%2F1/deletion/protection", None);
    api.expect(204, "PUT", "vhosts/kept%2F1", Some(r#"{"description":"d"}"#));
    api.restart();
    let shown = api.fetch("vhosts/kept%2F1");
    assert_eq!(
        (&shown["protected_from_deletion"], &shown["metadata"]["protected_from_deletion"]),
        (&json!(true), &json!(true))
    );
    let refused = api.expect(412, "DELETE", "vhosts/kept%2F1", None).json();
    assert_eq!(refused["error"], "precondition_failed");
    assert_eq!(
        refused["reason"],
        "Refusing to delete virtual host 'kept/1' because it is protected from deletion"
    );
    api.expect(201, "PUT", "users/watcher", Some(r#"{"tags":"monitoring","password":"secret"}"#));
    api.as_user("watcher", "secret").expect(401, "DELETE", "vhosts/kept%2F1/deletion/protection", None);
    api.expect(204, "DELETE", "vhosts/kept%2F1/deletion/protection", None);
    api.expect(204, "DELETE", "vhosts/kept%2F1", None);
    api.expect(201, "PUT", "vhosts/v", Some(r#"{"protected_from_deletion":true}"#));
    api.expect(412, "DELETE", "vhosts/v", None);
}

#[test]
fn logins_of_clients_are_counted_beside_those_to_the_api() {
    let api = Api::start();
    let node = api.fetch("overview")["node"].as_str().expect("a name").to_owned();
    let path = format!("auth/attempts/{}", node.replace('@', "%40"));
    let protocols = |api: &Api| api.fetch(&path).as_array().map_or(0, Vec::len);
    assert_eq!(protocols(&api), 1, "nobody came but to the API");
    let client = Client::connect(api.amqp_port);
    assert!(client.is_connected());
    let attempts = api.fetch(&path);
    assert_eq!(attempts[0]["protocol"], "http");
    assert_eq!(
        attempts[1],
        json!({
            "protocol": "amqp091", "auth_attempts": 1, "auth_attempts_succeeded": 1, "auth_attempts_failed": 0,
        })
    );
    assert_eq!(api.fetch(&format!("{path}/source")), json!([]));
    api.expect(204, "DELETE", &path, None);
    assert_eq!(protocols(&api), 1);
}

#[test]
fn what_changes_over_http_is_told_as_the_users_who_changed_it() {
    let api = Api::start_with(&["--event-exchange", "true"]);
    api.expect(201, "PUT", "queues/%2F/told", Some("{}"));
    for kind in ["queue.*", "exchange.*", "policy.*"] {
        let bind = json!({ "routing_key": kind }).to_string();
        api.expect(201, "POST", "bindings/%2F/e/amq.rabbitmq.event/q/told", Some(&bind));
    }
    api.expect(201, "PUT", "queues/%2F/q", Some("{}"));
    api.expect(201, "PUT", "exchanges/%2F/e", Some(r#"{"type":"topic"}"#));
    let policy = r#"{"pattern":"^q","definition":{"max-length":7}}"#;
    api.expect(201, "PUT", "policies/%2F/p", Some(policy));
    api.expect(204, "DELETE", "queues/%2F/q", None);
    api.wait_for("queues/%2F/told", "four events", |queue| queue["messages_ready"] == 4);
    let get = r#"{"count":4,"ackmode":"ack_requeue_false","encoding":"auto"}"#;
    let events = api.expect(200, "POST", "queues/%2F/told/get", Some(get)).json();
    for (at, kind) in ["queue.created", "exchange.created", "policy.set", "queue.deleted"].iter().enumerate()
    {
        let event = &events[at];
        assert_eq!(event["routing_key"], *kind);
        assert_eq!(event["properties"]["headers"]["user_who_performed_action"], "guest", "{kind}");
    }
}
