//! Queues: deleting and emptying them.

use clap::Arg;
use serde_json::{Value, json};

use super::{Verb, flag, required};
use crate::api::{ApiError, path};
use crate::call::Call;
use crate::failure::{Exit, Failure, OrMissing as _};
use crate::output::Table;

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
        name: "list_unresponsive_queues",
        about: "Asks all queues of a vhost for their state, and lists none if all answered in time",
        arguments: |command| {
            let columns = ["name", "durable", "auto_delete", "arguments", "policy", "pid"];
            let columns = Arg::new("columns").num_args(0..).value_delimiter(',').value_parser(columns);
            command
                .arg(columns)
                .arg(flag("all", "Queues of all nodes"))
                .arg(flag("local", "Queues of this node"))
        },
        run: list_unresponsive,
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

/// Whether queues answer is known when they have: a queue that does not keeps the API from answering within the time.
fn list_unresponsive(call: &mut Call<'_>) -> Result<(), Failure> {
    let vhost = call.vhost();
    call.announce(&format!("Listing unresponsive queues for vhost {vhost} ..."))?;
    call.client()?.list(&path(&["queues", &vhost])).or_missing(|| Failure::no_such_vhost(&vhost))?;
    call.table(&Table::plain(&["name"], Vec::new()))
}

fn rebalance(call: &mut Call<'_>) -> Result<(), Failure> {
    let kind = call.text("type");
    call.announce(&format!("Re-balancing leaders of {kind} queues..."))?;
    call.client()?.post("rebalance/queues", &json!({}))?;
    Ok(())
}
