//! Runtime parameters of vhosts and of the broker, its name, and feature flags.

use serde_json::{Value, json};

use super::policies::{no_such_parameter, parse_json};
use super::{Verb, required};
use crate::api::{ApiError, path};
use crate::call::Call;
use crate::failure::{Exit, Failure, OrMissing as _};

pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "set_parameter",
        about: "Sets a runtime parameter of a component in a vhost",
        arguments: |command| command.args(["component", "name", "value"].map(required)),
        run: set,
    },
    Verb {
        name: "clear_parameter",
        about: "Takes a runtime parameter away",
        arguments: |command| command.args(["component", "name"].map(required)),
        run: clear,
    },
    Verb {
        name: "set_global_parameter",
        about: "Sets a runtime parameter of the broker",
        arguments: |command| command.args(["name", "value"].map(required)),
        run: set_global,
    },
    Verb {
        name: "clear_global_parameter",
        about: "Takes a runtime parameter of the broker away",
        arguments: |command| command.arg(required("name")),
        run: clear_global,
    },
    Verb {
        name: "set_cluster_name",
        about: "Gives the broker a name",
        arguments: |command| command.arg(required("name")),
        run: set_cluster_name,
    },
    Verb {
        name: "enable_feature_flag",
        about: "Enables a feature flag, or all that are stable",
        arguments: |command| command.arg(required("name").help("Its name, or all")),
        run: enable_feature_flag,
    },
];

fn set(call: &mut Call<'_>) -> Result<(), Failure> {
    let [component, name, text] = ["component", "name", "value"].map(|argument| call.text(argument));
    let vhost = call.vhost();
    call.announce(&format!(
        "Setting runtime parameter \"{name}\" for component \"{component}\" to \"{text}\" in vhost \"{vhost}\" ..."
    ))?;
    let body = json!({"value": parse_json(&text)?, "vhost": vhost, "component": component, "name": name});
    call.client()?
        .put(&path(&["parameters", &component, &vhost, &name]), &body)
        .or_missing(|| Failure::no_such_vhost(&vhost))?;
    Ok(())
}

fn clear(call: &mut Call<'_>) -> Result<(), Failure> {
    let (component, name, vhost) = (call.text("component"), call.text("name"), call.vhost());
    call.announce(&format!(
        "Clearing runtime parameter \"{name}\" for component \"{component}\" on vhost \"{vhost}\" ..."
    ))?;
    call.client()?.delete(&path(&["parameters", &component, &vhost, &name])).or_missing(no_such_parameter)?;
    Ok(())
}

fn set_global(call: &mut Call<'_>) -> Result<(), Failure> {
    let (name, text) = (call.text("name"), call.text("value"));
    call.announce(&format!("Setting global runtime parameter \"{name}\" to \"{text}\" ..."))?;
    let body = json!({"name": name, "value": parse_json(&text)?});
    call.client()?.put(&path(&["global-parameters", &name]), &body)?;
    Ok(())
}

fn clear_global(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.text("name");
    call.announce(&format!("Clearing global runtime parameter \"{name}\" ..."))?;
    call.client()?.delete(&path(&["global-parameters", &name])).or_missing(no_such_parameter)?;
    Ok(())
}

fn set_cluster_name(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.text("name");
    call.announce(&format!("Setting cluster name to {name} ..."))?;
    call.client()?.put("cluster-name", &json!({"name": name}))?;
    Ok(())
}

fn enable_feature_flag(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.text("name");
    let is_all = name == "all";
    call.announce(&if is_all {
        "Enabling all feature flags ...".to_owned()
    } else {
        format!("Enabling feature flag \"{name}\" ...")
    })?;
    let client = call.client()?;
    let names = if is_all {
        let flags = client.list("feature-flags")?;
        let is = |flag: &Value, key: &str, value: &str| flag.get(key).and_then(Value::as_str) == Some(value);
        let off =
            flags.iter().filter(|flag| is(flag, "state", "disabled") && is(flag, "stability", "stable"));
        off.filter_map(|flag| flag.get("name")?.as_str().map(str::to_owned)).collect()
    } else {
        vec![name]
    };
    for name in names {
        match client.put(&path(&["feature-flags", &name, "enable"]), &json!({"name": name})) {
            Err(ApiError::NotFound { .. } | ApiError::Refused { status: 400, .. }) => {
                let node = call.node()?;
                let text = format!("This feature flag is not supported by node {node}");
                return Err(Failure::new(Exit::Usage, text));
            }
            result => _ = result?,
        }
    }
    Ok(())
}
