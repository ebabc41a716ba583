//! Policies and operator policies: as listed, setting and clearing them.

use leveret_broker::Vhost;
use leveret_broker::policy::{ApplyTo, Policy, PolicyKind};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::Call;
use super::listing;
use super::users::term;
use crate::audit;
use crate::json as fields;

/// A policy as listed.
pub(crate) fn shown(vhost: &str, policy: &Policy) -> Value {
    json!({
        "vhost": vhost,
        "name": policy.name,
        "pattern": policy.pattern,
        "apply-to": policy.apply_to.as_str(),
        "definition": fields::object(&policy.definition),
        "priority": policy.priority,
    })
}

/// All of a kind in a vhost, by name.
pub(crate) fn of_vhost(vhost: &Vhost, kind: PolicyKind) -> Vec<Policy> {
    let policies = vhost.policies();
    let mut policies: Vec<_> = policies.of_kind(kind).iter().map(|active| active.policy.clone()).collect();
    policies.sort_by(|one, other| one.name.cmp(&other.name));
    policies
}

/// GET policies, GET policies/:vhost.
pub(crate) fn list(call: &Call) -> Answered {
    list_of(call, PolicyKind::Policy)
}

/// GET operator-policies, GET operator-policies/:vhost.
pub(crate) fn list_operator(call: &Call) -> Answered {
    list_of(call, PolicyKind::Operator)
}

fn list_of(call: &Call, kind: PolicyKind) -> Answered {
    let mut listed = Vec::new();
    for vhost in call.vhosts()? {
        listed.extend(of_vhost(&vhost, kind).iter().map(|policy| shown(vhost.name.as_str(), policy)));
    }
    listing::list_values(call, listed)
}

/// GET policies/:vhost/:name.
pub(crate) fn show(call: &Call) -> Answered {
    show_of(call, PolicyKind::Policy)
}

/// GET operator-policies/:vhost/:name.
pub(crate) fn show_operator(call: &Call) -> Answered {
    show_of(call, PolicyKind::Operator)
}

fn find(call: &Call, vhost: &Vhost, kind: PolicyKind) -> Result<Policy, Refusal> {
    let name = call.param("name");
    of_vhost(vhost, kind).into_iter().find(|policy| policy.name == name).ok_or_else(Refusal::no_object)
}

fn show_of(call: &Call, kind: PolicyKind) -> Answered {
    let vhost = call.vhost()?;
    let policy = find(call, &vhost, kind)?;
    Ok(Answer::Json(shown(vhost.name.as_str(), &policy)))
}

/// PUT policies/:vhost/:name.
pub(crate) fn put(call: &Call) -> Answered {
    put_of(call, PolicyKind::Policy)
}

/// PUT operator-policies/:vhost/:name.
pub(crate) fn put_operator(call: &Call) -> Answered {
    put_of(call, PolicyKind::Operator)
}

fn put_of(call: &Call, kind: PolicyKind) -> Answered {
    let vhost = call.vhost()?;
    let object = call.object_with(&["pattern", "definition"])?;
    let policy = read(call.param("name"), kind, &object).map_err(|reason| failed(kind, &reason))?;
    let is_there = find(call, &vhost, kind).is_ok();
    let position =
        vhost.set_policy(kind, policy.clone()).map_err(|error| failed(kind, &error.to_string()))?;
    audit::policy_set(call.actor(), vhost.name.as_str(), kind, &policy);
    call.wait_until_safe(position)?;
    Ok(if is_there { Answer::NoContent } else { Answer::Created(None) })
}

/// What a body asks for, or what is wrong with it.
fn read(name: &str, kind: PolicyKind, object: &Map<String, Value>) -> Result<Policy, String> {
    let text = |key: &str| match object.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("{key} should be binary, actually was {other}")),
    };
    let usual = if kind == PolicyKind::Operator { "queues" } else { "all" };
    let apply_to = text("apply-to")?.unwrap_or_else(|| usual.to_owned());
    let Some(known) = ApplyTo::named(&apply_to) else {
        return Err(format!(
            "apply-to '{apply_to}' unrecognised; should be one of: 'queues', 'classic_queues', 'quorum_queues', \
             'streams', 'exchanges', or 'all'"
        ));
    };
    let priority = match object.get("priority") {
        None => 0,
        Some(value) => value
            .as_i64()
            .or_else(|| value.as_str()?.parse().ok())
            .ok_or_else(|| format!("priority should be a number, actually was {}", term(value)))?,
    };
    let Some(Value::Object(definition)) = object.get("definition") else {
        return Err("definition should be a map".to_owned());
    };
    let definition = fields::table(definition).ok_or("definition is nested too deeply")?;
    let pattern = text("pattern")?.unwrap_or_default();
    Ok(Policy { name: name.to_owned(), pattern, apply_to: known, priority, definition })
}

/// COMPAT: with the words around it, and for policies of users as it is written into a page.
fn failed(kind: PolicyKind, reason: &str) -> Refusal {
    let reason = match kind {
        PolicyKind::Policy => reason.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        PolicyKind::Operator => reason.to_owned(),
    };
    Refusal::bad_request(format!("Validation failed\n\n{reason}\n"))
}

/// DELETE policies/:vhost/:name.
pub(crate) fn delete(call: &Call) -> Answered {
    delete_of(call, PolicyKind::Policy)
}

/// DELETE operator-policies/:vhost/:name.
pub(crate) fn delete_operator(call: &Call) -> Answered {
    delete_of(call, PolicyKind::Operator)
}

fn delete_of(call: &Call, kind: PolicyKind) -> Answered {
    let vhost = call.vhost()?;
    let name = call.param("name");
    let position = vhost.clear_policy(kind, name).map_err(|_| Refusal::no_object())?;
    audit::policy_cleared(call.actor(), vhost.name.as_str(), kind, name);
    call.wait_until_safe(position)?;
    Ok(Answer::NoContent)
}
