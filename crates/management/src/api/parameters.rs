//! Runtime parameters. Those of plugins (shovels, federation) are not here, so no component is; policies, limits and
//! permissions have endpoints of their own.

use serde_json::json;

use super::answer::{Answer, Answered, Refusal};
use super::call::Call;

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
    Ok(Answer::Json(json!([{ "name": "cluster_name", "value": call.api.node.name() }])))
}

/// GET global-parameters/:name.
pub(crate) fn show_global(call: &Call) -> Answered {
    match call.param("name") {
        "cluster_name" => Ok(Answer::Json(json!({ "name": "cluster_name", "value": call.api.node.name() }))),
        _ => Err(Refusal::no_object()),
    }
}
