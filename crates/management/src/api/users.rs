//! Users and their limits: as listed, adding, changing and deleting them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leveret_broker::access::password::{HashAlgorithm, PasswordHash};
use leveret_broker::access::user::{User, UserLimits};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::{Call, text};
use super::listing;

/// Users deleted at a time, at most.
const DELETED_MAX: usize = 10_000;

/// A user as listed. COMPAT: with the hash, which only administrators see.
fn shown(user: &User) -> Value {
    let password = user.password.as_ref();
    json!({
        "name": user.name.as_str(),
        "password_hash": password.map_or_else(String::new, |password| STANDARD.encode(password.octets())),
        "hashing_algorithm": password.map_or(HashAlgorithm::Sha256, PasswordHash::algorithm).as_str(),
        "tags": user.tags,
        "limits": limits(user.limits),
    })
}

fn limits(limits: UserLimits) -> Value {
    let known = [("max-connections", limits.max_connections), ("max-channels", limits.max_channels)];
    let set = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    Value::Object(set.collect())
}

fn find(call: &Call) -> Result<std::sync::Arc<User>, Refusal> {
    call.broker().access().user(call.param("user")).ok_or_else(Refusal::no_object)
}

/// GET users.
pub(crate) fn list(call: &Call) -> Answered {
    listing::list_values(call, call.broker().access().users().iter().map(|user| shown(user)).collect())
}

/// GET users/without-permissions.
pub(crate) fn without_permissions(call: &Call) -> Answered {
    let access = call.broker().access();
    let grants = access.all_grants();
    let has_some = |user: &User| grants.iter().any(|one| one.is_admitted() && one.user == user.name);
    let users = access.users();
    listing::list_values(call, users.iter().filter(|user| !has_some(user)).map(|user| shown(user)).collect())
}

/// GET users/:user.
pub(crate) fn show(call: &Call) -> Answered {
    Ok(Answer::Json(shown(&*find(call)?)))
}

/// PUT users/:user.
pub(crate) fn put(call: &Call) -> Answered {
    let (access, name) = (call.broker().access(), call.param("user"));
    let object = call.object()?;
    if !object.contains_key("tags") {
        return Err(Refusal::bad_request("tags_not_present"));
    }
    let known = access.user(name);
    let mut user = known.as_deref().cloned().unwrap_or_else(|| User::new(name));
    user.tags = words(&object, "tags")?;
    // COMPAT: a user without either cannot log in by password, one that had it before included.
    user.password = match (text(&object, "password")?, text(&object, "password_hash")?) {
        (Some(_), Some(_)) => {
            return Err(Refusal::bad_request("both_password_and_password_hash_are_provided"));
        }
        (Some(password), None) => Some(PasswordHash::new(password.as_bytes())?),
        (None, Some("")) | (None, None) => None,
        (None, Some(hash)) => Some(imported(hash, text(&object, "hashing_algorithm")?)?),
    };
    if let Some(limits) = object.get("limits") {
        user.limits = read_limits(limits)?;
    }
    call.wait_until_safe(access.put_user(call.actor(), user)?)?;
    Ok(if known.is_some() { Answer::NoContent } else { Answer::Created(None) })
}

/// Limits as an object; what it does not name is not limited.
fn read_limits(given: &Value) -> Result<UserLimits, Refusal> {
    let Value::Object(given) = given else {
        return Err(Refusal::bad_request("limits must be an object"));
    };
    let mut limits = UserLimits::default();
    for (name, value) in given {
        *place_of(&mut limits, name, value)? = Some(limit(name, value).map_err(Refusal::bad_request)?);
    }
    Ok(limits)
}

/// Where a limit is kept.
fn place_of<'a>(
    limits: &'a mut UserLimits,
    name: &str,
    value: &Value,
) -> Result<&'a mut Option<i64>, Refusal> {
    match name {
        "max-connections" => Ok(&mut limits.max_connections),
        "max-channels" => Ok(&mut limits.max_channels),
        _ => {
            let unknown = format!("Unrecognised terms [{{<<{name:?}>>,{}}}] in user-limits", term(value));
            Err(Refusal::bad_request(unknown))
        }
    }
}

/// The value of a limit, or why it is none. COMPAT: digits in a text are taken too, as classic tools send them.
pub(crate) fn limit(name: &str, value: &Value) -> Result<i64, String> {
    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| format!("{name} should be a number, actually was {}", term(value)))
}

/// COMPAT: a value as Erlang prints it.
pub(crate) fn term(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| format!("<<{text:?}>>"))
}

fn imported(hash: &str, algorithm: Option<&str>) -> Result<PasswordHash, Refusal> {
    let algorithm = match algorithm {
        None => HashAlgorithm::Sha256,
        Some(name) => HashAlgorithm::named(name)
            .ok_or_else(|| Refusal::bad_request(format!("hashing_algorithm '{name}' is not known")))?,
    };
    let octets =
        STANDARD.decode(hash).map_err(|_| Refusal::bad_request("password_hash is not valid base64"))?;
    Ok(PasswordHash::imported(algorithm, octets)?)
}

/// Words as a list, or as a text with commas.
pub(crate) fn words(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, Refusal> {
    let split = |text: &str| {
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    match object.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(split(text)),
        Some(Value::Array(list)) => {
            let words = list.iter().map(|word| word.as_str().map(|word| word.trim().to_owned()));
            words.collect::<Option<_>>().ok_or_else(|| Refusal::bad_request(format!("{key} must be texts")))
        }
        Some(_) => Err(Refusal::bad_request(format!("{key} must be a list or a text with commas"))),
    }
}

/// DELETE users/:user.
pub(crate) fn delete(call: &Call) -> Answered {
    find(call)?;
    call.wait_until_safe(call.broker().access().delete_user(call.actor(), call.param("user"))?)?;
    Ok(Answer::NoContent)
}

/// POST users/bulk-delete.
pub(crate) fn delete_several(call: &Call) -> Answered {
    let object = call.object_with(&["users"])?;
    let names = words(&object, "users")?;
    if names.len() > DELETED_MAX {
        return Err(Refusal::bad_request(format!("more than {DELETED_MAX} users")));
    }
    let access = call.broker().access();
    for name in names {
        // COMPAT: one that is not there is gone already.
        if access.user(&name).is_some() {
            call.wait_until_safe(access.delete_user(call.actor(), &name)?)?;
        }
    }
    Ok(Answer::NoContent)
}

/// GET user-limits, GET user-limits/:user.
pub(crate) fn list_limits(call: &Call) -> Answered {
    let wanted = call.param("user");
    if !wanted.is_empty() {
        find(call)?;
    }
    let users = call.broker().access().users();
    let limited = users.iter().filter(|user| wanted.is_empty() || user.name.as_str() == wanted);
    let limited = limited.filter(|user| user.limits != UserLimits::default());
    let shown = limited.map(|user| json!({ "user": user.name.as_str(), "value": limits(user.limits) }));
    listing::list_values(call, shown.collect())
}

/// PUT user-limits/:user/:name.
pub(crate) fn put_limit(call: &Call) -> Answered {
    let (object, name) = (call.object_with(&["value"])?, call.param("name"));
    let value = object.get("value").unwrap_or(&Value::Null);
    let mut limits = find(call)?.limits;
    *place_of(&mut limits, name, value)? = Some(limit(name, value).map_err(Refusal::bad_request)?);
    set_limits(call, limits)
}

/// DELETE user-limits/:user/:name. COMPAT: one that there is not is not set.
pub(crate) fn delete_limit(call: &Call) -> Answered {
    let mut limits = find(call)?.limits;
    if let Ok(place) = place_of(&mut limits, call.param("name"), &Value::Null) {
        *place = None;
    }
    set_limits(call, limits)
}

fn set_limits(call: &Call, limits: UserLimits) -> Answered {
    let position = call.broker().access().set_user_limits(call.actor(), call.param("user"), limits)?;
    call.wait_until_safe(position)?;
    Ok(Answer::NoContent)
}

/// GET auth/hash_password/:password.
pub(crate) fn hash_password(call: &Call) -> Answered {
    let hash = PasswordHash::new(call.param("password").as_bytes())?;
    Ok(Answer::Json(
        json!({ "ok": STANDARD.encode(hash.octets()), "hashing_algorithm": hash.algorithm().as_str() }),
    ))
}
