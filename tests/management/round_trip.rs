//! Definitions of a RabbitMQ 3.10 go to Leveret and back to an empty RabbitMQ, and are the same: moving here is no
//! one-way street. And from Leveret to Leveret, with what 3.10 does not export.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::http::Api;
use crate::rabbitmq::RabbitMq;

/// Something of everything that RabbitMQ 3.10 imports and exports.
const DEFINITIONS: &str = include_str!("round_trip.json");

/// For the types of exchanges.
const PLUGINS: [&str; 4] = [
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
    "rabbitmq_sharding",
];

/// A global parameter that RabbitMQ makes for itself.
const OWN_PARAMETER: &str = "internal_cluster_id";

/// The entries of each section.
fn sections(document: &Value) -> BTreeMap<&str, Vec<Value>> {
    let lists = document.as_object().expect("an object").iter().filter_map(|(section, entries)| {
        let entries = entries.as_array()?.iter().filter(|entry| entry["name"] != OWN_PARAMETER);
        Some((section.as_str(), entries.map(|entry| comparable(section, entry)).collect()))
    });
    lists.collect()
}

/// COMPAT: 3.10 does not export the type of a queue beside its arguments, and of a vhost nothing but its name.
fn comparable(section: &str, entry: &Value) -> Value {
    let mut entry = entry.clone();
    let fields = entry.as_object_mut().expect("entries are objects");
    match section {
        "queues" => _ = fields.remove("type"),
        "vhosts" => fields.retain(|key, _| key == "name"),
        _ => {}
    }
    entry
}

fn import(api: &Api, document: &Value) {
    let json = "Content-Type: application/json\r\n";
    let answer = api.request_with("POST", "definitions", Some(&document.to_string()), json);
    assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
}

/// The order of entries does not matter.
#[track_caller]
fn assert_same(one: &Value, other: &Value) {
    let (one, other) = (sections(one), sections(other));
    assert!(one.keys().eq(other.keys()), "{:?}, {:?}", one.keys(), other.keys());
    for (section, entries) in &one {
        let lost: Vec<_> = entries.iter().filter(|entry| !other[section].contains(entry)).collect();
        let new: Vec<_> = other[section].iter().filter(|entry| !entries.contains(entry)).collect();
        assert!(lost.is_empty() && new.is_empty(), "{section}: lost {lost:#?}, came to it {new:#?}");
        assert_eq!(entries.len(), other[section].len(), "{section}");
    }
}

/// Deletes whatever can be exported but the user guest, who may do everything again in a new vhost.
fn empty(api: &Api) {
    let names = |path: &str| {
        let listed = api.fetch(path);
        let names = listed.as_array().expect("a list").iter().map(|one| one["name"].clone());
        names.map(|name| name.as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    for (path, kept) in [("vhosts", ""), ("users", "guest"), ("global-parameters", OWN_PARAMETER)] {
        for name in names(path).into_iter().filter(|name| name != kept) {
            let name: String = name.bytes().map(|octet| format!("%{octet:02X}")).collect();
            api.expect(204, "DELETE", &format!("{path}/{name}"), None);
        }
    }
    let definitions = api.fetch("definitions");
    let left = sections(&definitions);
    let is_left = |section: &str, entries: &[Value]| section != "users" && !entries.is_empty();
    let left: Vec<_> = left.iter().filter(|(section, entries)| is_left(section, entries)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn definitions_go_from_rabbitmq_to_leveret_and_back_and_lose_nothing() {
    let Some(rabbitmq) = RabbitMq::start(&PLUGINS) else { return };
    let filling: Value = serde_json::from_str(DEFINITIONS).expect("it is JSON");
    import(&rabbitmq.api, &filling);
    let first = rabbitmq.api.fetch("definitions");
    assert_eq!(first["queues"].as_array().map(Vec::len), filling["queues"].as_array().map(Vec::len));

    let leveret = Api::start();
    import(&leveret, &first);
    let there = leveret.fetch("definitions");
    assert_same(&first, &there);

    empty(&rabbitmq.api);
    import(&rabbitmq.api, &there);
    assert_same(&first, &rabbitmq.api.fetch("definitions"));
}

#[test]
fn definitions_go_from_leveret_to_leveret_and_lose_nothing() {
    let one = Api::start();
    import(&one, &serde_json::from_str(DEFINITIONS).expect("it is JSON"));
    let first = one.fetch("definitions");
    let shop = first["vhosts"].as_array().expect("a list").iter().find(|vhost| vhost["name"] == "shop");
    let tags = ["production", "eu west"];
    let metadata = json!({ "description": "Orders & more", "tags": tags, "default_queue_type": "quorum" });
    assert_eq!(shop.expect("the vhost is there")["metadata"], metadata);
    let other = Api::start();
    import(&other, &first);
    let second = other.fetch("definitions");
    assert_same(&first, &second);
    assert_eq!((&first["vhosts"], &first["queues"]), (&second["vhosts"], &second["queues"]));
}
