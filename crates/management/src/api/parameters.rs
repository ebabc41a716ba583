//! Runtime parameters. Global ones are kept for whoever sets them. Of the others limits of vhosts and policies of
//! operators are shown, as in RabbitMQ, and set by endpoints of their own; those of plugins (shovels, federation) are
//! not here.

use leveret_broker::Vhost;
use leveret_codec::table::FieldValue;
use serde_json::{Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::Call;
use super::vhosts::administrators_only;
use super::{listing, policies, vhosts};
use crate::definitions::parameters;
use crate::json as fields;

/// GET parameters, parameters/:component, parameters/:component/:vhost.
pub(crate) fn list(call: &Call) -> Answered {
    let mut listed = Vec::new();
    for vhost in call.vhosts()? {
        listed.extend(of_vhost(call, &vhost));
    }
    listing::list_values(call, listed)
}

/// Parameters in a vhost, of the component in the path or of all.
fn of_vhost(call: &Call, vhost: &Vhost) -> Vec<Value> {
    let component = call.param("component");
    let all = parameters(vhost).into_iter().map(|mut parameter| {
        parameter.insert("vhost".to_owned(), vhost.name.as_str().into());
        Value::Object(parameter)
    });
    all.filter(|one| component.is_empty() || one["component"] == component).collect()
}

fn find(call: &Call) -> Result<Value, Refusal> {
    let (vhost, name) = (call.vhost()?, call.param("name"));
    let found = of_vhost(call, &vhost).into_iter().find(|one| one["name"] == name);
    found.ok_or_else(Refusal::no_object)
}

/// GET parameters/:component/:vhost/:name.
pub(crate) fn show(call: &Call) -> Answered {
    Ok(Answer::Json(find(call)?))
}

/// PUT parameters/:component/:vhost/:name. COMPAT: as where the plugin is not enabled.
pub(crate) fn put(call: &Call) -> Answered {
    call.vhost()?;
    call.object_with(&["value"])?;
    Err(Refusal::bad_request(match call.param("component") {
        "policy" => "policies may not be set using this method".to_owned(),
        "operator_policy" | "vhost-limits" => ELSEWHERE.to_owned(),
        component => format!("Validation failed\n\ncomponent {component} not found\n"),
    }))
}

/// DELETE parameters/:component/:vhost/:name. COMPAT: what is shown here can be cleared here, by administrators.
pub(crate) fn delete(call: &Call) -> Answered {
    find(call)?;
    administrators_only(call)?;
    match call.param("component") {
        "vhost-limits" => vhosts::clear_limits(call),
        _ => policies::delete_operator(call),
    }
}

/// Where what is shown here is set.
const ELSEWHERE: &str = "policies of operators and limits of vhosts are set by endpoints of their own";

/// GET global-parameters.
pub(crate) fn list_global(call: &Call) -> Answered {
    let all = call.broker().global_parameters();
    listing::list_values(call, all.iter().map(|(name, value)| shown(name, value)).collect())
}

/// GET global-parameters/:name.
pub(crate) fn show_global(call: &Call) -> Answered {
    let name = call.param("name");
    let value = call.broker().global_parameter(name).ok_or_else(Refusal::no_object)?;
    Ok(Answer::Json(shown(name, &value)))
}

/// PUT global-parameters/:name.
pub(crate) fn put_global(call: &Call) -> Answered {
    let object = call.object_with(&["value"])?;
    let value = object.get("value").and_then(fields::field).ok_or_else(|| Refusal::too_deep("value"))?;
    let (position, is_new) = call.broker().set_global_parameter(call.actor(), call.param("name"), value)?;
    call.wait_until_safe(position)?;
    Ok(if is_new { Answer::Created(None) } else { Answer::NoContent })
}

/// DELETE global-parameters/:name.
pub(crate) fn delete_global(call: &Call) -> Answered {
    let deleted = call.broker().delete_global_parameter(call.actor(), call.param("name"));
    call.wait_until_safe(deleted.ok_or_else(Refusal::no_object)?)?;
    Ok(Answer::NoContent)
}

fn shown(name: &str, value: &FieldValue) -> Value {
    json!({ "name": name, "value": fields::value(value) })
}
