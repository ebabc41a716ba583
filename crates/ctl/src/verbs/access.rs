//! What users may do: permissions for resources and for routing keys.

use serde_json::json;

use super::{Verb, optional, required};
use crate::api::{ApiError, path};
use crate::call::Call;
use crate::failure::{Exit, Failure};

pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "set_permissions",
        about: "Sets what a user may configure, write and read in a vhost",
        arguments: |command| {
            let pattern = |name| required(name).allow_hyphen_values(true);
            command.arg(required("user")).args(["configure", "write", "read"].map(pattern))
        },
        run: set,
    },
    Verb {
        name: "clear_permissions",
        about: "Takes a user's permissions in a vhost away",
        arguments: |command| command.arg(required("user")),
        run: clear,
    },
    Verb {
        name: "set_topic_permissions",
        about: "Sets which routing keys of a topic exchange a user may write and read",
        arguments: |command| {
            let pattern = |name| required(name).allow_hyphen_values(true);
            command.args([required("user"), required("exchange")]).args(["write", "read"].map(pattern))
        },
        run: set_topic,
    },
    Verb {
        name: "clear_topic_permissions",
        about: "Takes a user's permissions for routing keys away, of one exchange or of all",
        arguments: |command| command.arg(required("user")).arg(optional("exchange")),
        run: clear_topic,
    },
];

fn set(call: &mut Call<'_>) -> Result<(), Failure> {
    let (user, vhost) = (call.text("user"), call.vhost());
    call.announce(&format!("Setting permissions for user \"{user}\" in vhost \"{vhost}\" ..."))?;
    let patterns = ["configure", "write", "read"].map(|name| call.text(name));
    let body = json!({"configure": patterns[0], "write": patterns[1], "read": patterns[2]});
    let result = call.client()?.put(&path(&["permissions", &vhost, &user]), &body);
    explained(call, &user, &vhost, result.map(drop))
}

fn clear(call: &mut Call<'_>) -> Result<(), Failure> {
    let (user, vhost) = (call.text("user"), call.vhost());
    call.announce(&format!("Clearing permissions for user \"{user}\" in vhost \"{vhost}\" ..."))?;
    let result = call.client()?.delete(&path(&["permissions", &vhost, &user]));
    explained(call, &user, &vhost, result.map(drop))
}

fn set_topic(call: &mut Call<'_>) -> Result<(), Failure> {
    let (user, vhost, exchange) = (call.text("user"), call.vhost(), call.text("exchange"));
    call.announce(&format!(
        "Setting topic permissions on \"{exchange}\" for user \"{user}\" in vhost \"{vhost}\" ..."
    ))?;
    let body = json!({"exchange": exchange, "write": call.text("write"), "read": call.text("read")});
    let result = call.client()?.put(&path(&["topic-permissions", &vhost, &user]), &body);
    explained(call, &user, &vhost, result.map(drop))
}

fn clear_topic(call: &mut Call<'_>) -> Result<(), Failure> {
    let (user, vhost, exchange) = (call.text("user"), call.vhost(), call.optional("exchange"));
    let place = match &exchange {
        Some(exchange) => {
            call.announce(&format!(
                "Clearing topic permissions on \"{exchange}\" for user \"{user}\" in vhost \"{vhost}\" ..."
            ))?;
            path(&["topic-permissions", &vhost, &user, exchange])
        }
        None => {
            call.announce(&format!(
                "Clearing topic permissions for user \"{user}\" in vhost \"{vhost}\" ..."
            ))?;
            path(&["topic-permissions", &vhost, &user])
        }
    };
    let result = call.client()?.delete(&place);
    explained(call, &user, &vhost, result.map(drop))
}

/// Says which of user and vhost is missing. COMPAT: the API says only that one is; where both are there, what was to be
/// taken away is not, which is as well.
fn explained(
    call: &mut Call<'_>,
    user: &str,
    vhost: &str,
    result: Result<(), ApiError>,
) -> Result<(), Failure> {
    match result {
        Err(ApiError::Refused { reason, .. })
            if !["vhost_or_user_not_found", "no_such_user", "no_such_vhost"].contains(&reason.as_str()) =>
        {
            Err(Failure::new(Exit::Unavailable, reason))
        }
        Err(ApiError::NotFound { .. } | ApiError::Refused { .. }) => {
            call.require_user(user)?;
            call.require_vhost(vhost)?;
            Ok(())
        }
        result => Ok(result?),
    }
}
