//! Closing connections.

use std::rc::Rc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{Verb, flag, option, required};
use crate::api::{ApiError, Client, path};
use crate::call::Call;
use crate::failure::{Exit, Failure, OrMissing as _};
use crate::output::process;

pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "close_connection",
        about: "Closes a connection",
        arguments: |command| {
            command
                .arg(required("pid").help("What list_connections shows for pid, or its name"))
                .arg(required("reason"))
        },
        run: close,
    },
    Verb {
        name: "close_all_connections",
        about: "Closes all connections of a vhost, or of the broker",
        arguments: |command| {
            command
                .arg(required("reason"))
                .arg(flag("global", "Those of all vhosts"))
                .arg(option("limit", "How many at most (else all)").value_name("connections"))
                .arg(option("per-connection-delay", "Time between two of them").value_name("milliseconds"))
        },
        run: close_all,
    },
    Verb {
        name: "close_all_user_connections",
        about: "Closes all connections of a user",
        arguments: |command| command.arg(required("user")).arg(required("reason")),
        run: close_of_user,
    },
];

fn close(call: &mut Call<'_>) -> Result<(), Failure> {
    let (name, reason) = (call.text("pid"), call.text("reason"));
    call.announce(&format!("Closing connection {name}, reason: {reason}..."))?;
    if name.starts_with('<') {
        let client = call.client()?;
        let is_meant = |connection: &Value| {
            connection.get("name").and_then(Value::as_str).is_some_and(|known| process(known) == name)
        };
        // COMPAT: none of that kind is no mistake, it may have ended meanwhile.
        return names(&client, is_meant)?.iter().try_for_each(|name| close_one(&client, name, &reason));
    }
    let missing = || Failure::new(Exit::Unavailable, format!("no connection '{name}'"));
    call.client()?.delete_because(&path(&["connections", &name]), &reason).or_missing(missing)?;
    Ok(())
}

fn close_all(call: &mut Call<'_>) -> Result<(), Failure> {
    let (vhost, reason) = (call.vhost(), call.text("reason"));
    let limit = call.number::<usize>("limit")?.filter(|&limit| limit > 0).unwrap_or(usize::MAX);
    let delay = Duration::from_millis(call.number("per-connection-delay")?.unwrap_or(0));
    if call.flag("global") {
        call.announce(&format!("Closing all connections (across all vhosts), reason: {reason}..."))?;
        let client = call.client()?;
        let names = names(&client, |_| true)?;
        return close_each(call, &client, names.into_iter().take(limit), delay, &reason);
    }
    call.announce(&format!("Closing all connections in vhost {vhost}, reason: {reason}..."))?;
    let client = call.client()?;
    let names = names(&client, |connection| is(connection, "vhost", &vhost))?;
    close_each(call, &client, names.into_iter().take(limit), delay, &reason)
}

fn close_of_user(call: &mut Call<'_>) -> Result<(), Failure> {
    let (user, reason) = (call.text("user"), call.text("reason"));
    call.announce(&format!("Closing connections of user {user}, reason: {reason}..."))?;
    let client = call.client()?;
    for name in names(&client, |connection| is(connection, "user", &user))? {
        close_one(&client, &name, &reason)?;
    }
    Ok(())
}

fn close_each(
    call: &mut Call<'_>,
    client: &Rc<Client>,
    names: impl Iterator<Item = String>,
    delay: Duration,
    reason: &str,
) -> Result<(), Failure> {
    let mut closed = 0_usize;
    for name in names {
        if closed > 0 {
            thread::sleep(delay);
        }
        close_one(client, &name, reason)?;
        closed = closed.saturating_add(1);
    }
    call.output.say(&format!("Closed {closed} connections"))
}

/// Closes a connection that was there a moment ago.
fn close_one(client: &Client, name: &str, reason: &str) -> Result<(), Failure> {
    match client.delete_because(&path(&["connections", name]), reason) {
        Ok(_) | Err(ApiError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The names of connections.
fn names(client: &Client, is_meant: impl Fn(&Value) -> bool) -> Result<Vec<String>, Failure> {
    let connections = client.list("connections")?;
    let meant = connections.iter().filter(|connection| is_meant(connection));
    Ok(meant.filter_map(|connection| connection.get("name")?.as_str().map(str::to_owned)).collect())
}

fn is(connection: &Value, key: &str, wanted: &str) -> bool {
    connection.get(key).and_then(Value::as_str) == Some(wanted)
}
