//! Exchanges: as listed, declaring and deleting them.

use std::sync::Arc;

use leveret_broker::Vhost;
use leveret_broker::access::permissions::{Permission, Resource};
use leveret_broker::counters::ExchangeCounters;
use leveret_broker::exchange::ExchangeSpec;
use leveret_broker::policy::AppliedPolicies;
use leveret_broker::vhost::ExchangeDeclaration;
use leveret_codec::table::FieldTable;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::{Call, flag, text};
use super::listing::{self, View};
use super::queues;
use super::rates::Measured;
use crate::json as fields;

/// An exchange and what is beside it.
struct Shown {
    vhost: Arc<Vhost>,
    spec: ExchangeSpec,
    policies: AppliedPolicies,
    counters: Arc<ExchangeCounters>,
}

/// GET exchanges, GET exchanges/:vhost.
pub(crate) fn list(call: &Call) -> Answered {
    let mut shown = Vec::new();
    for vhost in call.vhosts()? {
        shown.extend(of_vhost(&vhost));
    }
    listing::list(call, shown, |one| one.spec.name.as_str(), |one, view| put(call, one, view))
}

fn of_vhost(vhost: &Arc<Vhost>) -> Vec<Shown> {
    let mut shown = Vec::new();
    vhost.for_each_exchange(|spec, policies, counters| {
        let (spec, policies, counters) = (spec.clone(), policies.clone(), Arc::clone(counters));
        shown.push(Shown { vhost: Arc::clone(vhost), spec, policies, counters });
    });
    shown.sort_by(|one, other| one.spec.name.cmp(&other.spec.name));
    shown
}

/// The name in a path. COMPAT: of the default exchange, which has none.
pub(crate) fn name<'a>(call: &'a Call, param: &str) -> &'a str {
    match call.param(param) {
        "amq.default" => "",
        name => name,
    }
}

/// GET exchanges/:vhost/:name.
pub(crate) fn show(call: &Call) -> Answered {
    let (vhost, name) = (call.vhost()?, name(call, "exchange"));
    let found = of_vhost(&vhost).into_iter().find(|one| one.spec.name.as_str() == name);
    let found = found.ok_or_else(Refusal::no_object)?;
    listing::one(call, |view| {
        put(call, &found, view);
        view.put("incoming", json!([]));
        view.put("outgoing", json!([]));
    })
}

fn put(call: &Call, one: &Shown, view: &mut View<'_>) {
    let spec = &one.spec;
    view.put("name", spec.name.as_str());
    view.put("vhost", one.vhost.name.as_str());
    view.put("type", spec.exchange_type.as_str());
    view.put("durable", spec.durable);
    view.put("auto_delete", spec.auto_delete);
    view.put("internal", spec.internal);
    view.put_with("arguments", || fields::object(&spec.arguments));
    let is_ours = spec.name.as_str().is_empty() || spec.name.as_str().starts_with("amq.");
    // COMPAT: who declared others is not kept.
    view.put("user_who_performed_action", if is_ours { "rmq-internal" } else { "" });
    if let Some(policy) = one.policies.policy_name() {
        view.put("policy", policy);
    }
    let values = [one.counters.published(), one.counters.routed()];
    if view.wants("message_stats") && values != [0, 0] {
        let (statistics, key) = (&call.api.statistics, Arc::as_ptr(&one.counters) as usize);
        let measured = Measured::new(values, statistics.exchange(key))
            .over_time(call, || statistics.exchange_history(key));
        view.put_with("message_stats", || {
            let mut stats = Map::new();
            measured.put(&mut stats, "msg_rates", "publish_in", &[0]);
            measured.put(&mut stats, "msg_rates", "publish_out", &[1]);
            Value::Object(stats)
        });
    }
}

/// Who may not declare it need not say how.
pub(crate) fn may_declare(call: &Call) -> Result<(), Refusal> {
    call.check_exchange(&*call.vhost()?, Permission::Configure, name(call, "exchange"))
}

/// PUT exchanges/:vhost/:name.
pub(crate) fn declare(call: &Call) -> Answered {
    let (vhost, name) = (call.vhost()?, name(call, "exchange"));
    let object = call.object()?;
    call.check_exchange(&vhost, Permission::Configure, name)?;
    let arguments = arguments(&object)?;
    queues::check_references(call, &vhost, (Resource::Exchange, name), &arguments, "alternate-exchange")?;
    let is_there = vhost.find_exchange(name).is_ok();
    let declaration = ExchangeDeclaration {
        name,
        exchange_type: text(&object, "type")?.unwrap_or("direct"),
        durable: flag(&object, "durable")?.unwrap_or(false),
        auto_delete: flag(&object, "auto_delete")?.unwrap_or(false),
        internal: flag(&object, "internal")?.unwrap_or(false),
        arguments,
    };
    call.wait_until_safe(vhost.declare_exchange(declaration)?)?;
    Ok(if is_there { Answer::NoContent } else { Answer::Created(None) })
}

/// Arguments of a declaration. COMPAT: an empty list is no arguments as well.
pub(crate) fn arguments(object: &Map<String, Value>) -> Result<FieldTable, Refusal> {
    match object.get("arguments") {
        None | Some(Value::Null) => Ok(FieldTable::new()),
        Some(Value::Object(arguments)) => {
            fields::table(arguments).ok_or_else(|| Refusal::too_deep("arguments"))
        }
        Some(Value::Array(list)) if list.is_empty() => Ok(FieldTable::new()),
        Some(_) => Err(Refusal::bad_request("arguments must be an object")),
    }
}

/// DELETE exchanges/:vhost/:name.
pub(crate) fn delete(call: &Call) -> Answered {
    let (vhost, name) = (call.vhost()?, name(call, "exchange"));
    call.check_exchange(&vhost, Permission::Configure, name)?;
    if !name.is_empty() && vhost.find_exchange(name).is_err() {
        return Err(Refusal::no_object());
    }
    let position = vhost.delete_exchange(name, call.asks("if-unused"))?;
    call.tell("exchange.deleted", &vhost, name);
    call.wait_until_safe(position)?;
    Ok(Answer::NoContent)
}
