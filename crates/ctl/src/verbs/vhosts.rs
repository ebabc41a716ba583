//! Virtual hosts: what they are, their limits, and the tracing of messages in them.

use clap::Arg;
use serde_json::{Map, Value, json};

use super::users::{limits_of, list_all_limits, parse_limits};
use super::{Verb, flag, none, option, required};
use crate::api::{ApiError, path};
use crate::call::Call;
use crate::failure::{Failure, OrMissing as _};
use crate::output::Format;

pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "add_vhost",
        about: "Creates a vhost",
        arguments: |command| command.arg(required("name")).args(metadata()),
        run: add,
    },
    Verb {
        name: "delete_vhost",
        about: "Deletes a vhost with all that is in it",
        arguments: |command| command.arg(required("name")),
        run: delete,
    },
    Verb {
        name: "update_vhost_metadata",
        about: "Changes the description, tags and default queue type of a vhost",
        arguments: |command| command.arg(required("name")).args(metadata()),
        run: update,
    },
    Verb {
        name: "set_vhost_tags",
        about: "Sets the tags of a vhost",
        arguments: |command| command.arg(required("name")).arg(Arg::new("tag").num_args(0..)),
        run: set_tags,
    },
    Verb {
        name: "enable_vhost_deletion_protection",
        about: "Keeps a vhost from being deleted",
        arguments: |command| command.arg(required("name")),
        run: |call| protect(call, true),
    },
    Verb {
        name: "disable_vhost_deletion_protection",
        about: "Lets a vhost be deleted again",
        arguments: |command| command.arg(required("name")),
        run: |call| protect(call, false),
    },
    Verb {
        name: "set_vhost_limits",
        about: "Sets the limits of a vhost, such as {\"max-connections\": 100, \"max-queues\": 50}",
        arguments: |command| command.arg(required("definition")),
        run: set_limits,
    },
    Verb {
        name: "clear_vhost_limits",
        about: "Takes all limits of a vhost away",
        arguments: none,
        run: clear_limits,
    },
    Verb {
        name: "list_vhost_limits",
        about: "Shows the limits of a vhost, or of all",
        arguments: |command| command.arg(flag("global", "All vhosts that have limits")),
        run: list_limits,
    },
    Verb {
        name: "trace_on",
        about: "Has copies of all messages of a vhost published to amq.rabbitmq.trace",
        arguments: none,
        run: |call| trace(call, true),
    },
    Verb { name: "trace_off", about: "Ends that", arguments: none, run: |call| trace(call, false) },
];

fn metadata() -> [Arg; 3] {
    [
        option("description", "What it is for"),
        option("tags", "Tags with commas between them"),
        option("default-queue-type", "Type of queues that are declared without one"),
    ]
}

/// What was given of a vhost's metadata, as the API calls it.
fn given_metadata(call: &Call<'_>) -> Map<String, Value> {
    let keys =
        [("description", "description"), ("tags", "tags"), ("default-queue-type", "default_queue_type")];
    let given =
        keys.into_iter().filter_map(|(flag, key)| Some((key.to_owned(), json!(call.optional(flag)?))));
    given.collect()
}

fn add(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.text("name");
    call.announce(&format!("Adding vhost \"{name}\" ..."))?;
    let (metadata, place) = (given_metadata(call), path(&["vhosts", &name]));
    // COMPAT: adding what is there is no mistake. Without metadata there is nothing to change then.
    let client = call.client()?;
    if metadata.is_empty() {
        match client.get(&place) {
            Err(ApiError::NotFound { .. }) => {}
            known => return Ok(known.map(drop)?),
        }
    }
    client.put(&place, &Value::Object(metadata))?;
    Ok(())
}

fn delete(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.text("name");
    call.announce(&format!("Deleting vhost \"{name}\" ..."))?;
    call.client()?.delete(&path(&["vhosts", &name])).or_missing(|| Failure::no_such_vhost(&name))?;
    Ok(())
}

fn update(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.text("name");
    let metadata = given_metadata(call);
    if metadata.is_empty() {
        return Err(Failure::usage("give --description, --tags or --default-queue-type"));
    }
    call.announce(&format!("Updating metadata of vhost \"{name}\" ..."))?;
    change(call, &name, metadata)
}

fn set_tags(call: &mut Call<'_>) -> Result<(), Failure> {
    let (name, tags) = (call.text("name"), call.texts("tag"));
    call.announce(&format!("Setting tags for virtual host \"{name}\" to [{}] ...", tags.join(", ")))?;
    change(call, &name, Map::from_iter([("tags".to_owned(), json!(tags.join(",")))]))
}

fn trace(call: &mut Call<'_>, on: bool) -> Result<(), Failure> {
    let name = call.vhost();
    let (doing, done) = if on { ("Starting", "enabled") } else { ("Stopping", "disabled") };
    call.announce(&format!("{doing} tracing for vhost \"{name}\" ..."))?;
    change(call, &name, Map::from_iter([("tracing".to_owned(), json!(on))]))?;
    call.output.say(&format!("Trace {done} for vhost {name}"))
}

/// Writes a vhost again with something changed. COMPAT: what is not sent again may be lost.
fn change(call: &mut Call<'_>, name: &str, changes: Map<String, Value>) -> Result<(), Failure> {
    let known = call.require_vhost(name)?;
    let mut kept = Map::new();
    for key in ["description", "tags", "default_queue_type"] {
        match known.get(key).or_else(|| known.get("metadata")?.get(key)) {
            None | Some(Value::Null) => {}
            // COMPAT: what is the same as nothing, and how RabbitMQ says that there is none.
            Some(Value::String(text)) if ["", "classic", "undefined"].contains(&text.as_str()) => {}
            Some(Value::Array(tags)) if tags.is_empty() => {}
            Some(Value::Array(tags)) => {
                let tags: Vec<&str> = tags.iter().filter_map(Value::as_str).collect();
                kept.insert(key.to_owned(), json!(tags.join(",")));
            }
            Some(value) => _ = kept.insert(key.to_owned(), value.clone()),
        }
    }
    kept.extend(changes);
    call.client()?.put(&path(&["vhosts", name]), &Value::Object(kept))?;
    Ok(())
}

fn protect(call: &mut Call<'_>, on: bool) -> Result<(), Failure> {
    let name = call.text("name");
    let doing = if on { "Protecting" } else { "Removing protection of" };
    call.announce(&format!("{doing} vhost \"{name}\" from deletion ..."))?;
    call.require_vhost(&name)?;
    let (client, place) = (call.client()?, path(&["vhosts", &name, "deletion", "protection"]));
    if on {
        client.post(&place, &json!({}))?
    } else {
        client.delete(&place)?
    };
    Ok(())
}

fn set_limits(call: &mut Call<'_>) -> Result<(), Failure> {
    let (vhost, text) = (call.vhost(), call.text("definition"));
    call.announce(&format!("Setting vhost limits to \"{text}\" for vhost \"{vhost}\" ..."))?;
    let limits = parse_limits(&text)?;
    call.require_vhost(&vhost)?;
    let before = limits_of(call, "vhost-limits", &vhost)?;
    let client = call.client()?;
    for (name, value) in &limits {
        client.put(&path(&["vhost-limits", &vhost, name]), &json!({"value": value}))?;
    }
    // COMPAT: the limits of a vhost are replaced, those of a user are added to.
    for name in before.keys().filter(|name| !limits.contains_key(*name)) {
        client.delete(&path(&["vhost-limits", &vhost, name]))?;
    }
    Ok(())
}

fn clear_limits(call: &mut Call<'_>) -> Result<(), Failure> {
    let vhost = call.vhost();
    call.announce(&format!("Clearing vhost \"{vhost}\" limits ..."))?;
    call.require_vhost(&vhost)?;
    let limits = limits_of(call, "vhost-limits", &vhost)?;
    let client = call.client()?;
    for name in limits.keys() {
        client.delete(&path(&["vhost-limits", &vhost, name]))?;
    }
    Ok(())
}

fn list_limits(call: &mut Call<'_>) -> Result<(), Failure> {
    if call.flag("global") {
        call.announce("Listing limits for all vhosts ...")?;
        return list_all_limits(call, "vhost-limits", "vhost");
    }
    let vhost = call.vhost();
    call.announce(&format!("Listing limits for vhost \"{vhost}\" ..."))?;
    call.require_vhost(&vhost)?;
    let limits = limits_of(call, "vhost-limits", &vhost)?;
    if call.output.format == Format::Json {
        let value = Value::Object(limits).to_string();
        let node = call.node()?;
        return call.output.json(&json!({"node": node, "result": "ok", "value": value}));
    }
    if limits.is_empty() && !call.output.format.is_for_programs() {
        return call.output.line("");
    }
    call.output.json(&Value::Object(limits))
}
