//! Users: their passwords, tags and limits.

use std::io::{BufRead as _, BufReader};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Arg;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Map, Value, json};

use super::{Verb, flag, optional, required};
use crate::api::{ApiError, path};
use crate::call::Call;
use crate::failure::{Exit, Failure, OrMissing as _};
use crate::output::{Format, Table};

/// Octets of salt in a hash. COMPAT: RabbitMQ's.
const SALT_BYTES: usize = 4;

pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "add_user",
        about: "Creates a user, who may do nothing yet",
        arguments: |command| {
            command
                .arg(required("user"))
                .arg(
                    optional("secret")
                        .value_name("password")
                        .help("Else it is asked for, or read from input"),
                )
                .arg(flag("pre-hashed-password", "What is given is a hash, as of hash_password"))
        },
        run: add,
    },
    Verb {
        name: "delete_user",
        about: "Deletes a user and closes their connections",
        arguments: |command| command.arg(required("user")),
        run: delete,
    },
    Verb {
        name: "change_password",
        about: "Changes the password of a user",
        arguments: |command| command.arg(required("user")).arg(optional("secret").value_name("password")),
        run: change_password,
    },
    Verb {
        name: "clear_password",
        about: "Takes the password of a user away, who cannot log in with one any more",
        arguments: |command| command.arg(required("user")),
        run: clear_password,
    },
    Verb {
        name: "authenticate_user",
        about: "Tries a name and a password",
        arguments: |command| command.arg(required("user")).arg(optional("secret").value_name("password")),
        run: authenticate,
    },
    Verb {
        name: "set_user_tags",
        about: "Sets the tags of a user",
        arguments: |command| command.arg(required("user")).arg(Arg::new("tag").num_args(0..)),
        run: set_tags,
    },
    Verb {
        name: "hash_password",
        about: "Prints the salted hash of a password, for definitions and add_user --pre-hashed-password",
        arguments: |command| command.arg(optional("secret").value_name("password")),
        run: hash,
    },
    Verb {
        name: "set_user_limits",
        about: "Sets limits of a user, such as {\"max-connections\": 10, \"max-channels\": 50}",
        arguments: |command| command.arg(required("user")).arg(required("definition")),
        run: set_limits,
    },
    Verb {
        name: "clear_user_limits",
        about: "Takes one limit of a user away, or all",
        arguments: |command| command.arg(required("user")).arg(required("limit").help("Its name, or all")),
        run: clear_limits,
    },
    Verb {
        name: "list_user_limits",
        about: "Shows the limits of a user, or of all",
        arguments: |command| {
            command
                .arg(Arg::new("of-user").long("user").value_name("user").help("The user (else guest)"))
                .arg(flag("global", "All users that have limits").conflicts_with("of-user"))
        },
        run: list_limits,
    },
];

fn add(call: &mut Call<'_>) -> Result<(), Failure> {
    let user = call.text("user");
    call.announce(&format!("Adding user \"{user}\" ..."))?;
    let is_hash = call.flag("pre-hashed-password");
    let secret = secret(call, if is_hash { "Hashed password: " } else { "Password: " })?;
    let body = if is_hash {
        if BASE64_STANDARD.decode(&secret).is_err() {
            return Err(Failure::new(Exit::Data, "the hash of a password is salt and digest in base64"));
        }
        json!({"password_hash": secret, "tags": ""})
    } else if secret.is_empty() {
        // COMPAT: who has an empty password cannot log in with one. To the API that is a hash that fits none.
        json!({"password_hash": "", "tags": ""})
    } else {
        json!({"password": secret, "tags": ""})
    };
    let (client, place) = (call.client()?, path(&["users", &user]));
    match client.get(&place) {
        Ok(_) => return Err(Failure::new(Exit::Software, format!("User \"{user}\" already exists"))),
        Err(ApiError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    client.put(&place, &body)?;
    call.output.announce(
        "Done. Don't forget to grant the user permissions to some virtual hosts! \
         See 'rabbitmqctl help set_permissions' to learn more.",
    )
}

fn delete(call: &mut Call<'_>) -> Result<(), Failure> {
    let user = call.text("user");
    call.announce(&format!("Deleting user \"{user}\" ..."))?;
    call.client()?.delete(&path(&["users", &user])).or_missing(|| Failure::no_such_user(&user))?;
    Ok(())
}

fn change_password(call: &mut Call<'_>) -> Result<(), Failure> {
    let user = call.text("user");
    call.announce(&format!("Changing password for user \"{user}\" ..."))?;
    let secret = secret(call, "Password: ")?;
    if secret.is_empty() {
        return Err(Failure::new(Exit::Data, "password cannot be empty; clear_password takes it away"));
    }
    change(call, &user, |kept| {
        kept.shift_remove("password_hash");
        kept.shift_remove("hashing_algorithm");
        kept.insert("password".to_owned(), Value::String(secret));
    })
}

fn clear_password(call: &mut Call<'_>) -> Result<(), Failure> {
    let user = call.text("user");
    call.announce(&format!("Clearing password for user \"{user}\" ..."))?;
    change(call, &user, |kept| {
        kept.shift_remove("hashing_algorithm");
        kept.insert("password_hash".to_owned(), json!(""));
    })
}

fn set_tags(call: &mut Call<'_>) -> Result<(), Failure> {
    let (user, tags) = (call.text("user"), call.texts("tag"));
    call.announce(&format!("Setting tags for user \"{user}\" to [{}] ...", tags.join(", ")))?;
    change(call, &user, |kept| {
        kept.insert("tags".to_owned(), Value::String(tags.join(",")));
    })
}

/// Writes a user again with something changed. COMPAT: the API replaces a user as a whole, so password and tags
/// have to be sent again or are lost.
fn change(
    call: &mut Call<'_>,
    user: &str,
    edit: impl FnOnce(&mut Map<String, Value>),
) -> Result<(), Failure> {
    let known = call.require_user(user)?;
    let mut kept = Map::new();
    for key in ["password_hash", "hashing_algorithm", "tags"] {
        if let Some(value) = known.get(key) {
            kept.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(Value::Array(tags)) = kept.get("tags") {
        let tags: Vec<&str> = tags.iter().filter_map(Value::as_str).collect();
        let tags = tags.join(",");
        kept.insert("tags".to_owned(), Value::String(tags));
    }
    edit(&mut kept);
    call.client()?.put(&path(&["users", user]), &Value::Object(kept))?;
    Ok(())
}

fn authenticate(call: &mut Call<'_>) -> Result<(), Failure> {
    let user = call.text("user");
    call.announce(&format!("Authenticating user \"{user}\" ..."))?;
    let secret = secret(call, "Password: ")?;
    match call.client()?.with_login(&user, &secret)?.get("whoami") {
        // Who has no tag may not use the API, which is said only after the password was right.
        Ok(_) | Err(ApiError::Denied { .. }) => call.output.say("Success"),
        Err(ApiError::Login { reason, .. }) => {
            // COMPAT: rabbitmqctl, which logs nobody in from elsewhere.
            let reason = match reason.contains("localhost") {
                true => reason,
                false => format!("user '{user}' - invalid credentials"),
            };
            let text = format!("Error: failed to authenticate user \"{user}\"\n{reason}");
            Err(Failure::new(Exit::Data, text))
        }
        Err(error) => Err(error.into()),
    }
}

fn hash(call: &mut Call<'_>) -> Result<(), Failure> {
    let secret = secret(call, "Password: ")?;
    if secret.is_empty() {
        return Err(Failure::new(Exit::Data, "password cannot be empty"));
    }
    let mut salt = [0; SALT_BYTES];
    let random = SystemRandom::new().fill(&mut salt);
    random.map_err(|_| Failure::new(Exit::Software, "the system gives no random octets"))?;
    call.output.say(&salted(salt, &secret))
}

/// The hash of a password. COMPAT: `rabbit_password_hashing_sha256`.
fn salted(salt: [u8; SALT_BYTES], password: &str) -> String {
    let salted = [salt.as_slice(), password.as_bytes()].concat();
    let digest = ring::digest::digest(&ring::digest::SHA256, &salted);
    BASE64_STANDARD.encode([salt.as_slice(), digest.as_ref()].concat())
}

/// A password from the command line, from somebody who types, or from the first line of what comes in.
fn secret(call: &mut Call<'_>, prompt: &str) -> Result<String, Failure> {
    if let Some(secret) = call.optional("secret") {
        return Ok(secret);
    }
    if let Some(secret) = call.terminal.password(prompt)? {
        return Ok(secret);
    }
    let mut line = String::new();
    if let Some(input) = call.terminal.input() {
        BufReader::new(input).read_line(&mut line)?;
    }
    if line.is_empty() {
        return Err(Failure::new(Exit::Data, "Password is not provided via argument or stdin"));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn set_limits(call: &mut Call<'_>) -> Result<(), Failure> {
    let (user, text) = (call.text("user"), call.text("definition"));
    call.announce(&format!("Setting user limits to \"{text}\" for user \"{user}\" ..."))?;
    let limits = parse_limits(&text)?;
    call.require_user(&user)?;
    let client = call.client()?;
    for (name, value) in limits {
        client.put(&path(&["user-limits", &user, &name]), &json!({"value": value}))?;
    }
    Ok(())
}

/// Limits in JSON, each of which is a number, so that none is set before all are known to be sound.
pub(super) fn parse_limits(text: &str) -> Result<Map<String, Value>, Failure> {
    let limits: Map<String, Value> = super::policies::parse_object(text)?;
    match limits.iter().find(|(_, value)| !value.is_i64()) {
        Some((name, value)) => Err(Failure::new(
            Exit::Unavailable,
            format!("Validation failed\n\n{name} should be an integer, actually was {value}"),
        )),
        None => Ok(limits),
    }
}

fn clear_limits(call: &mut Call<'_>) -> Result<(), Failure> {
    let (user, limit) = (call.text("user"), call.text("limit"));
    let is_all = limit == "all";
    call.announce(&if is_all {
        format!("Clearing all limits for user \"{user}\" ...")
    } else {
        format!("Clearing \"{limit}\" limit for user \"{user}\" ...")
    })?;
    call.require_user(&user)?;
    let names =
        if is_all { limits_of(call, "user-limits", &user)?.keys().cloned().collect() } else { vec![limit] };
    let client = call.client()?;
    for name in names {
        client.delete(&path(&["user-limits", &user, &name]))?;
    }
    Ok(())
}

/// The limits of one user or vhost; none if it is not there.
pub(super) fn limits_of(call: &mut Call<'_>, kind: &str, name: &str) -> Result<Map<String, Value>, Failure> {
    let entries = match call.client()?.list(&path(&[kind, name])) {
        Err(ApiError::NotFound { .. }) => Vec::new(),
        entries => entries?,
    };
    let limits = entries.into_iter().filter_map(|mut entry| entry.get_mut("value").map(Value::take));
    Ok(limits
        .filter_map(|limits| if let Value::Object(limits) = limits { Some(limits) } else { None })
        .flatten()
        .collect())
}

fn list_limits(call: &mut Call<'_>) -> Result<(), Failure> {
    if call.flag("global") {
        call.announce("Listing limits for all users ...")?;
        return list_all_limits(call, "user-limits", "user");
    }
    let user = call.optional("of-user").unwrap_or_else(|| "guest".to_owned());
    call.announce(&format!("Listing limits for user \"{user}\" ..."))?;
    call.require_user(&user)?;
    let limits = Value::Object(limits_of(call, "user-limits", &user)?);
    match call.output.format {
        // COMPAT: JSON in JSON.
        Format::Json => call.output.json(&json!({"message": limits.to_string()})),
        _ => call.output.json(&limits),
    }
}

/// The limits of all users or vhosts that have some.
pub(super) fn list_all_limits(call: &mut Call<'_>, kind: &str, key: &'static str) -> Result<(), Failure> {
    let mut entries = call.client()?.list(kind)?;
    // COMPAT: RabbitMQ keeps an empty list where the last limit was taken away.
    entries.retain(|entry| {
        entry.get("value").and_then(Value::as_object).is_some_and(|limits| !limits.is_empty())
    });
    let row = |entry: &Value| {
        let limits = entry.get("value").map(Value::to_string).unwrap_or_default();
        vec![entry.get(key).cloned().unwrap_or_default(), Value::String(limits)]
    };
    let table =
        Table { is_streamed: false, ..Table::plain(&[key, "limits"], entries.iter().map(row).collect()) };
    call.table(&table)
}

#[test]
fn hashes_are_those_of_rabbitmq() {
    // From the definitions of a RabbitMQ whose guest has the password guest: salt and digest belong together.
    let hash = "hBq0BIY3u2NSb3SyBdXDVFruprOjVSGWP+Mbgb6H0xdlHW7q";
    let salt = BASE64_STANDARD.decode(hash).unwrap()[..SALT_BYTES].try_into().unwrap();
    assert_eq!(salted(salt, "guest"), hash);
}
