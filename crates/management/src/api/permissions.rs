//! Permissions and topic permissions: as listed, setting and clearing them.

use leveret_broker::access::permissions::{Permissions, TopicPermissions};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::{Call, text};
use super::listing;

fn shown(one: &Permissions) -> Value {
    json!({
        "user": one.user.as_str(),
        "vhost": one.vhost.as_str(),
        "configure": one.configure,
        "write": one.write,
        "read": one.read,
    })
}

fn shown_topic(one: &TopicPermissions) -> Value {
    json!({
        "user": one.user.as_str(),
        "vhost": one.vhost.as_str(),
        "exchange": one.exchange.as_str(),
        "write": one.write,
        "read": one.read,
    })
}

/// Whose permissions, and where, the path is about; either may be open.
fn is_meant(call: &Call, user: &str, vhost: &str) -> bool {
    let (of_user, of_vhost) = (call.param("user"), call.param("vhost"));
    (of_user.is_empty() || of_user == user) && (of_vhost.is_empty() || of_vhost == vhost)
}

/// Refuses a path to a user or vhost that is not there.
fn check_names(call: &Call) -> Result<(), Refusal> {
    let (user, vhost) = (call.param("user"), call.param("vhost"));
    let has_user = user.is_empty() || call.broker().access().user(user).is_some();
    let has_vhost = vhost.is_empty() || call.broker().vhost(vhost).is_ok();
    if has_user && has_vhost { Ok(()) } else { Err(Refusal::no_object()) }
}

/// GET permissions, vhosts/:vhost/permissions, users/:user/permissions.
pub(crate) fn list(call: &Call) -> Answered {
    check_names(call)?;
    let grants = call.broker().access().all_grants();
    let set = grants.iter().filter_map(|grants| grants.permissions());
    let meant = set.filter(|one| is_meant(call, one.user.as_str(), one.vhost.as_str()));
    listing::list_values(call, meant.map(shown).collect())
}

/// GET permissions/:vhost/:user.
pub(crate) fn show(call: &Call) -> Answered {
    let grants = call.broker().access().grants(call.param("user"), call.param("vhost"));
    grants.permissions().map(|one| Answer::Json(shown(one))).ok_or_else(Refusal::no_object)
}

/// PUT permissions/:vhost/:user.
pub(crate) fn put(call: &Call) -> Answered {
    check_ends(call)?;
    let object = call.object_with(&["configure", "write", "read"])?;
    let (user, vhost) = (call.param("user"), call.param("vhost"));
    let is_there = call.broker().access().grants(user, vhost).is_admitted();
    let permissions = Permissions {
        user: user.into(),
        vhost: vhost.into(),
        configure: pattern(&object, "configure")?,
        write: pattern(&object, "write")?,
        read: pattern(&object, "read")?,
    };
    call.wait_until_safe(call.broker().access().set_permissions(call.actor(), permissions)?)?;
    Ok(if is_there { Answer::NoContent } else { Answer::Created(None) })
}

/// COMPAT: that one of the two is missing is told as a bad request here.
fn check_ends(call: &Call) -> Result<(), Refusal> {
    check_names(call).map_err(|_| Refusal::bad_request("vhost_or_user_not_found"))
}

fn pattern(object: &Map<String, Value>, key: &str) -> Result<String, Refusal> {
    text(object, key)?
        .map(str::to_owned)
        .ok_or_else(|| Refusal::bad_request(format!("[{{key_missing,{key}}}]")))
}

/// DELETE permissions/:vhost/:user.
pub(crate) fn delete(call: &Call) -> Answered {
    show(call)?;
    let (user, vhost) = (call.param("user"), call.param("vhost"));
    call.wait_until_safe(call.broker().access().clear_permissions(call.actor(), vhost, user)?)?;
    Ok(Answer::NoContent)
}

/// GET topic-permissions, vhosts/:vhost/topic-permissions, users/:user/topic-permissions.
pub(crate) fn list_topics(call: &Call) -> Answered {
    check_names(call)?;
    let grants = call.broker().access().all_grants();
    let set = grants.iter().flat_map(|grants| grants.topic_permissions());
    let meant = set.filter(|one| is_meant(call, one.user.as_str(), one.vhost.as_str()));
    listing::list_values(call, meant.map(shown_topic).collect())
}

/// GET topic-permissions/:vhost/:user.
pub(crate) fn show_topics(call: &Call) -> Answered {
    let shown = of_path(call);
    if shown.is_empty() { Err(Refusal::no_object()) } else { Ok(Answer::Json(Value::Array(shown))) }
}

fn of_path(call: &Call) -> Vec<Value> {
    let grants = call.broker().access().grants(call.param("user"), call.param("vhost"));
    let exchange = call.param("exchange");
    let meant =
        grants.topic_permissions().filter(|one| exchange.is_empty() || one.exchange.as_str() == exchange);
    meant.map(shown_topic).collect()
}

/// PUT topic-permissions/:vhost/:user.
pub(crate) fn put_topics(call: &Call) -> Answered {
    check_ends(call)?;
    let object = call.object_with(&["exchange", "write", "read"])?;
    let permissions = TopicPermissions {
        user: call.param("user").into(),
        vhost: call.param("vhost").into(),
        exchange: pattern(&object, "exchange")?.into(),
        write: pattern(&object, "write")?,
        read: pattern(&object, "read")?,
    };
    let is_there = of_path(call).iter().any(|one| one["exchange"] == permissions.exchange.as_str());
    call.wait_until_safe(call.broker().access().set_topic_permissions(call.actor(), permissions)?)?;
    Ok(if is_there { Answer::NoContent } else { Answer::Created(None) })
}

/// DELETE topic-permissions/:vhost/:user, and /:exchange.
pub(crate) fn delete_topics(call: &Call) -> Answered {
    show_topics(call)?;
    let (user, vhost) = (call.param("user"), call.param("vhost"));
    let exchange = Some(call.param("exchange")).filter(|exchange| !exchange.is_empty());
    let access = call.broker().access();
    call.wait_until_safe(access.clear_topic_permissions(call.actor(), vhost, user, exchange)?)?;
    Ok(Answer::NoContent)
}
