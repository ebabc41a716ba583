//! Runtime parameters. Global ones are kept for whoever sets them; those of plugins (shovels, federation) are not here,
//! so no component is; policies, limits and permissions have endpoints of their own.

use leveret_codec::table::FieldValue;
use serde_json::{Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::Call;
use super::listing;
use crate::json as fields;

/// GET parameters and below.
pub(crate) fn list(call: &Call) -> Answered {
    if !call.param("vhost").is_empty() {
        call.vhost()?;
    }
    Ok(Answer::Json(json!([])))
}

/// GET and DELETE parameters/:component/:vhost/:name.
pub(crate) fn absent(call: &Call) -> Answered {
    call.vhost()?;
    Err(Refusal::no_object())
}

/// PUT parameters/:component/:vhost/:name. COMPAT: as where the plugin is not enabled.
pub(crate) fn put(call: &Call) -> Answered {
    call.vhost()?;
    call.object_with(&["value"])?;
    let component = call.param("component");
    Err(Refusal::bad_request(format!("Validation failed\n\ncomponent {component} not found\n")))
}

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
