//! Vhosts, as listed, and making them.

use std::sync::Arc;

use leveret_broker::Vhost;
use leveret_broker::access::permissions::Permissions;
use leveret_broker::access::user::VhostLimits;
use leveret_broker::queue::QueueType;
use leveret_broker::vhost::VhostSettings;
use leveret_codec::table::FieldTable;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::{Call, flag, text};
use super::listing::{self, View};
use super::rates::{Measured, QUEUE_COUNTS};
use super::users::{self, words};
use crate::access::Tag;
use crate::statistics::{QUEUE, Rates, queue_values};

/// GET vhosts.
pub(crate) fn list(call: &Call) -> Answered {
    let vhosts = call.visible_vhosts();
    listing::list(call, vhosts, |vhost| vhost.name.as_str(), |vhost, view| fields(call, vhost, view))
}

/// GET vhosts/:vhost.
pub(crate) fn show(call: &Call) -> Answered {
    let vhost = call.visible_vhost()?;
    listing::one(call, |view| fields(call, &vhost, view))
}

fn fields(call: &Call, vhost: &Arc<Vhost>, view: &mut View<'_>) {
    view.put("name", vhost.name.as_str());
    let settings = vhost.settings();
    let default_type = settings.default_queue_type.unwrap_or_default().as_str();
    view.put("description", settings.description.as_str());
    view.put("tags", settings.tags.clone());
    view.put("default_queue_type", default_type);
    view.put_with("metadata", || {
        json!({
            "description": settings.description,
            "tags": settings.tags,
            "default_queue_type": default_type,
            "protected_from_deletion": settings.is_protected,
        })
    });
    view.put("protected_from_deletion", settings.is_protected);
    view.put("tracing", vhost.is_tracing());
    view.put_with("cluster_state", || json!({ call.api.node.name(): "running" }));
    if call.is_plain() {
        return;
    }
    let stats = ["messages", "messages_ready", "messages_unacknowledged", "message_stats"];
    if stats.iter().any(|name| view.wants(name) || view.wants(&format!("{name}_details"))) {
        put_messages(call, vhost, view);
    }
    let connections = call.api.node.connections();
    let of_vhost = connections.iter().filter(|one| one.vhost == vhost.name.as_str());
    let (received, sent) =
        of_vhost.fold((0, 0), |(received, sent), one| (received + one.received.0, sent + one.sent.0));
    // COMPAT: of connections that are open.
    view.put("recv_oct", received);
    view.put("recv_oct_details", json!({ "rate": 0.0 }));
    view.put("send_oct", sent);
    view.put("send_oct_details", json!({ "rate": 0.0 }));
}

fn put_messages(call: &Call, vhost: &Arc<Vhost>, view: &mut View<'_>) {
    let vhosts = std::slice::from_ref(vhost);
    let measured = measured(call, vhosts);
    queue_totals(&measured).into_iter().for_each(|(name, value)| view.put_with(&name, || value));
    if let Some(stats) = message_stats(call, vhosts, &measured) {
        view.put_with("message_stats", || stats);
    }
}

/// Sums of the queues that are there.
pub(crate) fn measured(call: &Call, vhosts: &[Arc<Vhost>]) -> Measured<QUEUE> {
    let (mut values, mut rates) = ([0; QUEUE], Rates::<QUEUE>::default());
    let mut ids = Vec::new();
    for vhost in vhosts {
        vhost.for_each_queue(|queue| {
            ids.push(queue.id);
            values.iter_mut().zip(queue_values(&queue.snapshot())).for_each(|(sum, one)| *sum += one);
        });
    }
    for one in call.api.statistics.queues(&ids).values() {
        rates.per_second.iter_mut().zip(one.per_second).for_each(|(sum, one)| *sum += one);
    }
    Measured::new(values, rates)
}

/// How much there is, of values that begin with what is ready and what is not.
pub(crate) fn queue_totals<const N: usize>(measured: &Measured<N>) -> Map<String, Value> {
    let mut object = Map::new();
    measured.put(&mut object, "lengths", "messages", &[0, 1]);
    measured.put(&mut object, "lengths", "messages_ready", &[0]);
    measured.put(&mut object, "lengths", "messages_unacknowledged", &[1]);
    object
}

/// What was counted of messages; nothing if none was.
pub(crate) fn message_stats(call: &Call, vhosts: &[Arc<Vhost>], measured: &Measured<QUEUE>) -> Option<Value> {
    let mut stats = measured.message_stats(&QUEUE_COUNTS)?;
    // COMPAT: what only channels know; of those that are open.
    let mut counts = [("confirm", 0), ("return_unroutable", 0), ("drop_unroutable", 0)];
    let is_there = |name: &str| vhosts.iter().any(|vhost| vhost.name.as_str() == name);
    for channel in call.api.node.channels().iter().filter(|one| is_there(&one.vhost)) {
        let counted = [channel.counters.confirmed, channel.counters.returned, channel.counters.dropped];
        counts.iter_mut().zip(counted).for_each(|((_, sum), one)| *sum += one);
    }
    if let Some(stats) = stats.as_object_mut() {
        for (name, count) in counts {
            stats.insert(name.to_owned(), count.into());
            stats.insert(format!("{name}_details"), json!({ "rate": 0.0 }));
        }
    }
    Some(stats)
}

/// PUT vhosts/:vhost: makes it, or changes what is said of it; what is not named stays.
pub(crate) fn put(call: &Call) -> Answered {
    administrators_only(call)?;
    let (name, object) = (call.param("vhost"), call.object()?);
    let tracing = flag(&object, "tracing")?;
    let mut settings = match call.broker().vhost(name) {
        Ok(vhost) => VhostSettings::clone(&vhost.settings()),
        Err(_) => VhostSettings::default(),
    };
    if let Some(description) = text(&object, "description")? {
        settings.description = description.to_owned();
    }
    if object.contains_key("tags") {
        settings.tags = words(&object, "tags")?;
    }
    match text(&object, "default_queue_type")? {
        None => {}
        Some("" | "undefined") => settings.default_queue_type = None,
        Some(wanted) => {
            let known = QueueType::named(wanted.as_bytes());
            let unknown = || Refusal::bad_request(format!("default_queue_type '{wanted}' is not known"));
            settings.default_queue_type = Some(known.ok_or_else(unknown)?);
        }
    }
    if let Some(is_protected) = flag(&object, "protected_from_deletion")? {
        settings.is_protected = is_protected;
    }
    let (position, is_new) = call.broker().put_vhost(call.actor(), name, settings)?;
    call.wait_until_safe(position)?;
    if is_new {
        grant_all(call, name)?;
    }
    if let Some(tracing) = tracing {
        call.broker().vhost(name)?.set_tracing(tracing);
        let told = if tracing { "vhost.tracing.started" } else { "vhost.tracing.stopped" };
        call.actor().note(told, &FieldTable::new().with("name", name));
    }
    Ok(if is_new { Answer::Created(None) } else { Answer::NoContent })
}

/// COMPAT: whoever makes a vhost may do everything in it.
fn grant_all(call: &Call, vhost: &str) -> Result<(), Refusal> {
    let everything = || ".*".to_owned();
    let permissions = Permissions {
        user: call.user.name.as_str().into(),
        vhost: vhost.into(),
        configure: everything(),
        write: everything(),
        read: everything(),
    };
    call.wait_until_safe(call.broker().access().set_permissions(call.actor(), permissions)?)
}

/// DELETE vhosts/:vhost, with all that is in it; its connections are closed.
pub(crate) fn delete(call: &Call) -> Answered {
    administrators_only(call)?;
    let vhost = call.vhost()?;
    call.wait_until_safe(call.broker().delete_vhost(call.actor(), vhost.name.as_str())?)?;
    Ok(Answer::NoContent)
}

/// Refuses everybody else, where what can be seen by more cannot be changed by them.
pub(crate) fn administrators_only(call: &Call) -> Result<(), Refusal> {
    if call.user.has(Tag::Administrator) {
        return Ok(());
    }
    Err(Refusal::not_authorised(Tag::Administrator.refusal()))
}

/// POST vhosts/:vhost/deletion/protection: keeps it from being deleted.
pub(crate) fn protect(call: &Call) -> Answered {
    set_protection(call, true)
}

/// DELETE vhosts/:vhost/deletion/protection.
pub(crate) fn unprotect(call: &Call) -> Answered {
    set_protection(call, false)
}

fn set_protection(call: &Call, is_protected: bool) -> Answered {
    let vhost = call.vhost()?;
    let settings = VhostSettings { is_protected, ..VhostSettings::clone(&vhost.settings()) };
    let (position, _) = call.broker().put_vhost(call.actor(), vhost.name.as_str(), settings)?;
    call.wait_until_safe(position)?;
    Ok(Answer::NoContent)
}

/// POST vhosts/:vhost/start/:node: one that is there runs.
pub(crate) fn start(call: &Call) -> Answered {
    super::overview::this_node(call)?;
    call.vhost()?;
    Ok(Answer::NoContent)
}

fn limits(limits: VhostLimits) -> Value {
    let known = [("max-connections", limits.max_connections), ("max-queues", limits.max_queues)];
    let set = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    Value::Object(set.collect())
}

/// GET vhost-limits, GET vhost-limits/:vhost.
pub(crate) fn list_limits(call: &Call) -> Answered {
    let limited = call.vhosts_in_sight()?.into_iter().filter_map(|vhost| {
        let of_vhost = vhost.settings().limits;
        (of_vhost != VhostLimits::default())
            .then(|| json!({ "vhost": vhost.name.as_str(), "value": limits(of_vhost) }))
    });
    listing::list_values(call, limited.collect())
}

/// PUT vhost-limits/:vhost/:name.
pub(crate) fn put_limit(call: &Call) -> Answered {
    let (vhost, object, name) = (call.vhost()?, call.object_with(&["value"])?, call.param("name"));
    let value = object.get("value").unwrap_or(&Value::Null);
    let mut settings = VhostSettings::clone(&vhost.settings());
    let Some(place) = place_of(&mut settings.limits, name) else {
        return Err(failed(&format!(
            "Unrecognised terms [{{<<{name:?}>>,{}}}] in limits",
            users::term(value)
        )));
    };
    *place = Some(users::limit(name, value).map_err(|reason| failed(&reason))?);
    set_limits(call, &vhost, settings)
}

/// COMPAT: with the words around it.
fn failed(reason: &str) -> Refusal {
    Refusal::bad_request(format!("Validation failed\n\n{reason}\n"))
}

/// Where a limit is kept.
fn place_of<'a>(limits: &'a mut VhostLimits, name: &str) -> Option<&'a mut Option<i64>> {
    match name {
        "max-connections" => Some(&mut limits.max_connections),
        "max-queues" => Some(&mut limits.max_queues),
        _ => None,
    }
}

/// DELETE vhost-limits/:vhost/:name. COMPAT: one that there is not is not set.
pub(crate) fn delete_limit(call: &Call) -> Answered {
    let vhost = call.vhost()?;
    let mut settings = VhostSettings::clone(&vhost.settings());
    if let Some(place) = place_of(&mut settings.limits, call.param("name")) {
        *place = None;
    }
    set_limits(call, &vhost, settings)
}

/// DELETE parameters/vhost-limits/:vhost/limits.
pub(crate) fn clear_limits(call: &Call) -> Answered {
    let vhost = call.vhost()?;
    let settings =
        VhostSettings { limits: VhostLimits::default(), ..VhostSettings::clone(&vhost.settings()) };
    set_limits(call, &vhost, settings)
}

fn set_limits(call: &Call, vhost: &Vhost, settings: VhostSettings) -> Answered {
    let (position, _) = call.broker().put_vhost(call.actor(), vhost.name.as_str(), settings)?;
    call.wait_until_safe(position)?;
    Ok(Answer::NoContent)
}
