//! Queues: deleting and emptying them.

use serde_json::{Value, json};

use super::{Verb, flag, required};
use crate::api::{ApiError, path};
use crate::call::Call;
use crate::failure::{Exit, Failure, OrMissing as _};

pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "delete_queue",
        about: "Deletes a queue",
        arguments: |command| {
            command
                .arg(required("name"))
                .arg(flag("if-empty", "Only if no message is ready").short('e'))
                .arg(flag("if-unused", "Only if there is no consumer"))
        },
        run: delete,
    },
    Verb {
        name: "purge_queue",
        about: "Removes all messages from a queue that are ready",
        arguments: |command| command.arg(required("name")),
        run: purge,
    },
    Verb {
        name: "rebalance",
        about: "Spreads the leaders of queues over the nodes",
        arguments: |command| command.arg(required("type").value_parser(["all", "classic", "quorum"])),
        run: rebalance,
    },
];

fn delete(call: &mut Call<'_>) -> Result<(), Failure> {
    let (name, vhost) = (call.text("name"), call.vhost());
    let (if_empty, if_unused) = (call.flag("if-empty"), call.flag("if-unused"));
    let condition = match (if_empty, if_unused) {
        (false, false) => "",
        (true, false) => " if queue is empty",
        (false, true) => " if queue is unused",
        (true, true) => " if queue is empty and unused",
    };
    call.announce(&format!("Deleting queue '{name}' on vhost '{vhost}'{condition} ..."))?;
    let missing = || Failure::usage("Queue not found");
    let (client, place) = (call.client()?, path(&["queues", &vhost, &name]));
    let queue = client.get(&place).or_missing(missing)?;
    let mut conditions = Vec::new();
    conditions.extend(if_empty.then_some("if-empty=true"));
    conditions.extend(if_unused.then_some("if-unused=true"));
    let place = if conditions.is_empty() { place } else { format!("{place}?{}", conditions.join("&")) };
    match client.delete(&place) {
        Err(ApiError::Refused { reason, .. }) if reason.contains("not empty") => {
            Err(Failure::usage("Queue is not empty"))
        }
        Err(ApiError::Refused { reason, .. }) if reason.contains("in use") => {
            Err(Failure::usage("Queue is in use"))
        }
        result => {
            result.or_missing(missing)?;
            let ready = queue.get("messages_ready").and_then(Value::as_u64).unwrap_or(0);
            call.output.say(&format!("Queue was successfully deleted with {ready} ready messages"))
        }
    }
}

fn purge(call: &mut Call<'_>) -> Result<(), Failure> {
    let (name, vhost) = (call.text("name"), call.vhost());
    call.announce(&format!("Purging queue '{name}' in vhost '{vhost}' ..."))?;
    let missing = || Failure::new(Exit::Unavailable, "not_found");
    call.client()?.delete(&path(&["queues", &vhost, &name, "contents"])).or_missing(missing)?;
    Ok(())
}

fn rebalance(call: &mut Call<'_>) -> Result<(), Failure> {
    let kind = call.text("type");
    call.announce(&format!("Re-balancing leaders of {kind} queues..."))?;
    call.client()?.post("rebalance/queues", &json!({}))?;
    Ok(())
}
