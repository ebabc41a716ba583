//! Documents of RabbitMQ and of Leveret, imported, exported, and refused.

use std::sync::Arc;

use leveret_broker::access::permissions::{Permission, Resource};
use leveret_broker::access::user::VhostLimits;
use leveret_broker::policy::PolicyKind;
use leveret_broker::store::MemoryStore;
use leveret_broker::{Actor, Broker, VhostSettings};
use serde_json::{Value, json};

use super::*;

const BY: Actor<'_> = Actor { user: "admin", from: "test" };

/// As rabbitmqctl export_definitions of RabbitMQ 3.10.8 wrote it.
const RABBITMQ: &[u8] = include_bytes!("rabbitmq_3_10.json");

fn broker() -> Broker {
    Broker::new(Arc::new(MemoryStore::default()))
}

fn exported(broker: &Broker) -> Value {
    export(broker, "4.2.5", "hare")
}

fn import_json(broker: &Broker, document: &Value) -> Result<Imported, ImportError> {
    import(broker, BY, document.to_string().as_bytes())
}

/// One of everything that an export holds.
fn full() -> Value {
    json!({
        "users": [
            { "name": "app", "password": "secret", "tags": "management,monitoring", "limits": { "max-channels": 9 } },
            { "name": "nobody", "password_hash": "", "tags": [] },
        ],
        "vhosts": [
            { "name": "/" },
            { "name": "shop", "description": "The shop", "tags": ["a"], "default_queue_type": "quorum",
              "metadata": { "protected_from_deletion": true } },
        ],
        "permissions": [{ "user": "app", "vhost": "shop", "configure": "", "write": ".*", "read": "^q" }],
        "topic_permissions":
            [{ "user": "app", "vhost": "shop", "exchange": "topics", "write": "^{username}", "read": "" }],
        "parameters": [
            { "vhost": "shop", "component": "vhost-limits", "name": "limits", "value": { "max-queues": 50 } },
            { "vhost": "shop", "component": "operator_policy", "name": "most", "value":
                { "pattern": ".*", "apply-to": "queues", "priority": 1, "definition": { "max-length": 1000 } } },
            { "vhost": "shop", "component": "shovel", "name": "s", "value": {} },
        ],
        "global_parameters": [
            { "name": "cluster_name", "value": "old" }, { "name": "other", "value": { "n": [1, null] } },
        ],
        "policies": [{ "vhost": "shop", "name": "p", "pattern": "^q", "definition": { "expires": 60000 } }],
        "exchanges": [
            { "vhost": "shop", "name": "topics", "type": "topic", "arguments": { "alternate-exchange": "amq.fanout" } },
        ],
        "queues": [
            { "vhost": "shop", "name": "q", "arguments": { "x-max-length": 10, "x-queue-type": "classic" } },
            { "vhost": "shop", "name": "amq.gen-1" },
        ],
        "bindings": [
            { "vhost": "shop", "source": "topics", "destination": "q", "destination_type": "queue",
              "routing_key": "a.*", "arguments": { "n": 1 } },
            { "vhost": "shop", "source": "", "destination": "q", "destination_type": "queue", "routing_key": "q" },
            { "vhost": "shop", "source": "topics", "destination": "amq.gen-1", "destination_type": "queue" },
            { "vhost": "shop", "source": "amq.rabbitmq.log", "destination": "q", "destination_type": "queue" },
        ],
        "something_else": true,
    })
}

#[test]
fn an_export_of_rabbitmq_loads_unchanged() {
    let broker = broker();
    assert_eq!(import(&broker, BY, RABBITMQ).unwrap().skipped, Vec::<String>::new());
    let access = broker.access();
    let alice = access.user("alice").unwrap();
    assert_eq!(alice.tags, ["management", "policymaker"]);
    assert_eq!(alice.limits.max_connections, Some(3));
    assert!(alice.password.as_ref().unwrap().verify(b"a"));
    assert!(access.user("bob").unwrap().password.as_ref().unwrap().verify(b"secret"));
    assert!(access.user("guest").unwrap().has_tag("administrator"));
    let grants = access.grants("alice", "team");
    assert!(grants.check(Permission::Configure, Resource::Queue, "abc").is_ok());
    assert!(grants.check(Permission::Write, Resource::Queue, "abc").is_err());
    assert_eq!(grants.topic_permissions().count(), 1);
    let vhost = broker.vhost("team").unwrap();
    let limits = vhost.settings().limits;
    assert_eq!((limits.max_connections, limits.max_queues), (Some(5), Some(7)));
    assert_eq!(vhost.policies().of_kind(PolicyKind::Operator).len(), 1);
    assert_eq!(vhost.policies().of_kind(PolicyKind::Policy).len(), 1);
    let exported = exported(&broker);
    let hash = |document: &Value, name: &str| {
        let users = document["users"].as_array().unwrap().iter();
        users.clone().find(|user| user["name"] == name).unwrap()["password_hash"].clone()
    };
    let document: Value = serde_json::from_slice(RABBITMQ).unwrap();
    assert_eq!(hash(&exported, "alice"), hash(&document, "alice"), "hashes go out as they came");
}

/// Nearly every cluster before 4.0 has such policies.
#[test]
fn what_mirrored_queues_is_passed_over() {
    let broker = broker();
    let policy = |name: &str, definition: Value| {
        let common = json!({ "vhost": "/", "pattern": ".*" });
        let mut policy = common.as_object().unwrap().clone();
        policy.extend([("name".to_owned(), name.into()), ("definition".to_owned(), definition)]);
        policy
    };
    let mirroring = json!({ "ha-mode": "all", "ha-sync-mode": "automatic" });
    let both = json!({ "ha-mode": "exactly", "ha-params": 2, "expires": 1000 });
    let policies = [policy("mirrored", mirroring), policy("both", both)];
    let document = json!({ "vhosts": [{ "name": "/" }], "policies": policies });
    let skipped = import_json(&broker, &document).unwrap().skipped;
    let of = |policy: &str, keys: &str| {
        format!(
            "policy '{policy}' in vhost '/': {keys}: queues are not mirrored here, nor from RabbitMQ 4.0 on"
        )
    };
    assert_eq!(skipped, [of("mirrored", "ha-mode, ha-sync-mode"), of("both", "ha-mode, ha-params")]);
    let policies = broker.vhost("/").unwrap().policies();
    let left: Vec<_> = policies.of_kind(PolicyKind::Policy).iter().map(|active| &active.policy).collect();
    assert_eq!(left.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>(), ["both"]);
    assert_eq!(left[0].definition.iter().count(), 1);
}

#[test]
fn what_is_exported_makes_the_same_broker_again() {
    let one = broker();
    let imported = import_json(&one, &full()).unwrap();
    let bindings = ["binding of queue 'amq.gen-1'", "binding of queue 'q' to 'amq.rabbitmq.log'"];
    let passed_over = ["parameter 's'", "queue 'amq.gen-1'"].into_iter().chain(bindings);
    for what in passed_over {
        assert!(imported.skipped.iter().any(|skipped| skipped.starts_with(what)), "{imported:?}");
    }
    let document = exported(&one);
    let other = broker();
    import_json(&other, &document).unwrap();
    assert_eq!(exported(&other), document);
    assert_eq!(document["queues"].as_array().unwrap().len(), 1);
    assert_eq!(document["exchanges"].as_array().unwrap().len(), 1);
    assert_eq!(document["bindings"].as_array().unwrap().len(), 1);
    assert_eq!(document["bindings"][0]["arguments"]["n"], 1);
    let global =
        json!([{ "name": "cluster_name", "value": "old" }, { "name": "other", "value": { "n": [1, null] } }]);
    assert_eq!(document["global_parameters"], global);
    assert!(other.vhost("shop").unwrap().settings().is_protected);
    assert!(!other.vhost("/").unwrap().settings().is_protected);
    assert_eq!(other.cluster_name().as_deref(), Some("old"));
    assert_eq!(document["users"][1]["password_hash"], "");
    assert!(other.access().user("app").unwrap().password.as_ref().unwrap().verify(b"secret"));
}

#[test]
fn importing_again_changes_nothing() {
    let broker = broker();
    import_json(&broker, &full()).unwrap();
    let (before, user) = (exported(&broker), broker.access().user("app").unwrap());
    import_json(&broker, &full()).unwrap();
    assert_eq!(exported(&broker), before);
    assert!(
        Arc::ptr_eq(&user, &broker.access().user("app").unwrap()),
        "who has logged in is not asked again"
    );
    let mut changed = full();
    changed["queues"][0]["arguments"]["x-max-length"] = json!(11);
    changed["exchanges"][0]["type"] = json!("fanout");
    import_json(&broker, &changed).unwrap();
    assert_eq!(exported(&broker), before, "what exists stays as it is");
}

#[test]
fn a_vhost_is_exported_without_its_name_and_imported_into_another() {
    let broker = broker();
    import_json(&broker, &full()).unwrap();
    let document = export_vhost(&broker.vhost("shop").unwrap(), "4.2.5");
    assert!(document.get("users").is_none() && document["queues"][0].get("vhost").is_none());
    import_into(&broker, BY, "/", document.to_string().as_bytes()).unwrap();
    assert_eq!(broker.vhost("/").unwrap().queues().len(), 1);
    let missing = import_into(&broker, BY, "none", b"{}").unwrap_err();
    assert_eq!(missing.to_string(), "definitions: vhost none not found");
}

#[test]
fn a_malformed_document_changes_nothing_and_names_the_object() {
    let cases = [
        ("users", json!([{ "tags": [] }]), "user '': name is missing"),
        ("users", json!([{ "name": "x", "password_hash": "AAAA" }]), "user 'x': the password hash has not"),
        ("users", json!([{ "name": "x", "password_hash": "$" }]), "user 'x': password_hash is not base64"),
        ("queues", json!([{ "name": "x" }]), "queue 'x': vhost is missing"),
        ("queues", json!(["x"]), "queues: holds something else than objects"),
        ("exchanges", json!({}), "exchanges: not a list"),
        ("policies", json!([{ "name": "x", "vhost": "/", "definition": 1 }]), "policy 'x' in vhost '/': "),
        (
            "bindings",
            json!([{ "source": "x", "vhost": "/", "destination": "q", "destination_type": "z" }]),
            "binding 'x' in vhost '/': destination_type 'z' is not possible",
        ),
    ];
    for (section, entries, expected) in cases {
        let broker = broker();
        let mut document = full();
        document[section] = entries;
        let error = import_json(&broker, &document).unwrap_err();
        assert!(matches!(error, ImportError::Malformed { .. }), "{error:?}");
        assert!(error.to_string().starts_with(expected), "{error} is not {expected}");
        assert!(broker.access().users().is_empty() && !broker.has_vhosts());
    }
    assert!(import(&broker(), BY, b"[]").is_err() && import(&broker(), BY, b"{\"users\":").is_err());
}

#[test]
fn a_document_that_is_refused_in_part_changes_nothing() {
    let wrong: [(&str, Value, &str); 4] = [
        (
            "permissions",
            json!([{ "user": "app", "vhost": "shop", "configure": "", "write": "(", "read": "" }]),
            "permission of user 'app' in vhost 'shop': ",
        ),
        (
            "bindings",
            json!([{ "source": "none", "vhost": "shop", "destination": "q", "destination_type": "queue" }]),
            "binding of ",
        ),
        (
            "queues",
            json!([{ "name": "q", "vhost": "shop", "arguments": { "x-max-length": -1 } }]),
            "queue 'q' in vhost 'shop': ",
        ),
        (
            "exchanges",
            json!([{ "name": "e", "vhost": "shop", "type": "none" }]),
            "exchange 'e' in vhost 'shop': ",
        ),
    ];
    for (section, entries, expected) in wrong {
        let broker = broker();
        import_json(&broker, &json!({ "users": [{ "name": "before", "password_hash": "", "tags": [] }] }))
            .unwrap();
        let before = exported(&broker);
        let mut document = full();
        document[section] = entries;
        let error = import_json(&broker, &document).unwrap_err();
        assert!(matches!(error, ImportError::Refused { .. }), "{error:?}");
        assert!(error.to_string().starts_with(expected), "{error} is not {expected}");
        assert_eq!(exported(&broker), before);
    }
}

#[test]
fn what_is_there_counts_as_it_does_in_the_broker() {
    let broker = broker();
    import_json(&broker, &full()).unwrap();
    let vhost = broker.vhost("shop").unwrap();
    let settings = VhostSettings {
        limits: VhostLimits { max_queues: Some(vhost.queues().len() as i64), ..VhostLimits::default() },
        ..VhostSettings::default()
    };
    broker.put_vhost(BY, "shop", settings).unwrap();
    let mut one_more = full();
    one_more["parameters"] = json!([]);
    one_more["queues"].as_array_mut().unwrap().push(json!({ "name": "more", "vhost": "shop" }));
    let before = exported(&broker);
    let error = import_json(&broker, &one_more).unwrap_err().to_string();
    assert!(error.starts_with("queue 'more' in vhost 'shop': "), "{error}");
    assert_eq!(exported(&broker), before);
}

#[test]
fn nothing_is_left_of_a_rehearsal() {
    let broker = broker();
    import_json(&broker, &full()).unwrap();
    let vhost = Arc::downgrade(&broker.vhost("shop").unwrap());
    drop(broker);
    assert!(vhost.upgrade().is_none());
}

#[test]
fn tables_deeper_than_can_be_read_again_are_refused() {
    let mut deep = json!({});
    for _ in 0..100 {
        deep = json!({ "a": deep });
    }
    let mut document = full();
    document["queues"][0]["arguments"] = deep;
    let error = import_json(&broker(), &document).unwrap_err().to_string();
    assert_eq!(error, "queue 'q' in vhost 'shop': arguments is nested too deeply");
}
