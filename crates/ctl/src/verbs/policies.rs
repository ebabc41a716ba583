//! Policies and operator policies.

use clap::Command;
use serde_json::{Map, Value, json};

use super::{Verb, option, required};
use crate::api::{ApiError, path};
use crate::call::Call;
use crate::failure::{Exit, Failure, OrMissing as _};

pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "set_policy",
        about: "Sets a policy for queues and exchanges whose names match a pattern",
        arguments: policy,
        run: |call| set(call, "policies", "policy"),
    },
    Verb {
        name: "clear_policy",
        about: "Takes a policy away",
        arguments: |command| command.arg(required("name")),
        run: |call| clear(call, "policies", "policy"),
    },
    Verb {
        name: "set_operator_policy",
        about: "Sets a policy that limits what policies and arguments of queues may say",
        arguments: policy,
        run: |call| set(call, "operator-policies", "operator policy override"),
    },
    Verb {
        name: "clear_operator_policy",
        about: "Takes an operator policy away",
        arguments: |command| command.arg(required("name")),
        run: |call| clear(call, "operator-policies", "operator policy"),
    },
];

fn policy(command: Command) -> Command {
    command
        .arg(required("name"))
        .arg(required("pattern").allow_hyphen_values(true))
        .arg(required("definition").help("Keys and values as a JSON object"))
        .arg(option("priority", "The highest that matches is in force (else 0)").allow_hyphen_values(true))
        .arg(option(
            "apply-to",
            "queues, classic_queues, quorum_queues, streams, exchanges or all (else all)",
        ))
}

fn set(call: &mut Call<'_>, kind: &str, called: &str) -> Result<(), Failure> {
    let [name, pattern, text] = ["name", "pattern", "definition"].map(|argument| call.text(argument));
    let priority = call.number::<i64>("priority")?.unwrap_or(0);
    let apply_to = call.optional("apply-to").unwrap_or_else(|| "all".to_owned());
    let vhost = call.vhost();
    call.announce(&format!(
        "Setting {called} \"{name}\" for pattern \"{pattern}\" to \"{text}\" with priority \"{priority}\" \
         for vhost \"{vhost}\" ..."
    ))?;
    let definition = parse_object(&text)?;
    let body =
        json!({"pattern": pattern, "definition": definition, "priority": priority, "apply-to": apply_to});
    call.client()?.put(&path(&[kind, &vhost, &name]), &body).or_missing(|| Failure::no_such_vhost(&vhost))?;
    Ok(())
}

fn clear(call: &mut Call<'_>, kind: &str, called: &str) -> Result<(), Failure> {
    let (name, vhost) = (call.text("name"), call.vhost());
    call.announce(&format!("Clearing {called} \"{name}\" on vhost \"{vhost}\" ..."))?;
    call.client()?.delete(&path(&[kind, &vhost, &name])).or_missing(no_such_parameter)?;
    Ok(())
}

/// COMPAT: what RabbitMQ says where a policy or a parameter is not there.
pub(super) fn no_such_parameter() -> Failure {
    Failure::new(Exit::Unavailable, "Parameter does not exist")
}

/// JSON from the command line.
pub(super) fn parse_json(text: &str) -> Result<Value, Failure> {
    let wrong = |error| Failure::new(Exit::Unavailable, format!("JSON decoding error. Reason: {error}"));
    serde_json::from_str(text).map_err(wrong)
}

/// An object in JSON from the command line.
pub(super) fn parse_object(text: &str) -> Result<Map<String, Value>, Failure> {
    match parse_json(text)? {
        Value::Object(object) => Ok(object),
        other => {
            Err(Failure::new(Exit::Unavailable, format!("Validation failed\n\n{other} is not a JSON object")))
        }
    }
}

/// Says that something is Leveret's own where the broker does not know it.
pub(super) fn only_leveret(error: ApiError) -> Failure {
    match error {
        // COMPAT: what RabbitMQ does not know it takes for files, which cannot be written.
        ApiError::NotFound { .. } | ApiError::Refused { status: 405, .. } => Failure::new(
            Exit::Unavailable,
            "the broker does not have this: it is no Leveret, or an older one",
        ),
        error => error.into(),
    }
}
