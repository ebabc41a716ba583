//! The verbs of rabbitmq-plugins. Nothing can be added to a broker here: what it has is built in, and so is enabled.

use clap::{Arg, Command};
use regex_lite::Regex;
use serde_json::{Value, json};

use super::{Verb, flag};
use crate::call::Call;
use crate::failure::{Exit, Failure};
use crate::output::Format;

/// What Leveret has built in, as its broker says it: the answer where no broker is to be asked, as when an image is
/// built.
const BUILT_IN: [&str; 10] = [
    "rabbitmq_auth_mechanism_ssl",
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_delayed_message_exchange",
    "rabbitmq_event_exchange",
    "rabbitmq_management",
    "rabbitmq_management_agent",
    "rabbitmq_message_deduplication",
    "rabbitmq_prometheus",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
];

pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "list",
        about: "Lists the plugins that are built in",
        arguments: |command| {
            with_offline(command)
                .arg(Arg::new("pattern").help("A pattern of names (else all)"))
                .arg(flag("enabled", "Those that are enabled, which all are").short('e'))
                .arg(flag("explicitly-enabled", "The same here").short('E').long("explicitly-enabled"))
                .arg(flag("minimal", "Names only").short('m'))
                .arg(flag("verbose", "One line for each property").short('v'))
        },
        run: list,
    },
    Verb {
        name: "is_enabled",
        about: "Fails unless all these plugins are built in",
        arguments: |command| with_offline(command).arg(names()),
        run: is_enabled,
    },
    Verb {
        name: "enable",
        about: "Succeeds for what is built in, and is refused for anything else",
        arguments: |command| with_offline(command).arg(names()),
        run: |call| apply(call, "Enabling"),
    },
    Verb {
        name: "disable",
        about: "Changes nothing: what is built in stays enabled",
        arguments: |command| with_offline(command).arg(names()),
        run: |call| apply(call, "Disabling"),
    },
    Verb {
        name: "set",
        about: "Succeeds for what is built in, and is refused for anything else",
        arguments: |command| with_offline(command).arg(names()),
        run: |call| apply(call, "Enabling"),
    },
    Verb {
        name: "version",
        about: "Prints the version of this tool",
        arguments: super::none,
        run: super::node::version,
    },
];

fn names() -> Arg {
    Arg::new("plugin").num_args(1..).required(true)
}

fn with_offline(command: Command) -> Command {
    command
        .arg(flag("offline", "Ask no broker"))
        .arg(flag("online", "Ask the broker, as without").conflicts_with("offline"))
}

/// What there is: names, the version, and where.
fn known(call: &mut Call<'_>) -> Result<(Vec<String>, String, String), Failure> {
    if call.flag("offline") {
        let names = BUILT_IN.map(str::to_owned).to_vec();
        return Ok((names, env!("CARGO_PKG_VERSION").to_owned(), "this machine".to_owned()));
    }
    let node = call.node()?;
    let version = call.overview()?.get("rabbitmq_version").and_then(Value::as_str).unwrap_or("").to_owned();
    let values = call.client()?.get(&crate::api::path(&["nodes", &node]))?;
    let names = values.get("enabled_plugins").and_then(Value::as_array).cloned().unwrap_or_default();
    let names = names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    Ok((names, version, format!("node {node}")))
}

fn list(call: &mut Call<'_>) -> Result<(), Failure> {
    let pattern = call.optional("pattern").unwrap_or_default();
    let shown = if pattern.is_empty() { ".*" } else { &pattern };
    call.announce(&format!("Listing plugins with pattern \"{shown}\" ..."))?;
    let wrong = |error| Failure::new(Exit::Software, format!("the pattern '{shown}': {error}"));
    let pattern = Regex::new(shown).map_err(wrong)?;
    let (mut names, version, place) = known(call)?;
    names.retain(|name| pattern.is_match(name));
    if matches!(call.output.format, Format::Json | Format::JsonStream) {
        let plugins: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "enabled": "enabled", "running": true, "version": version}))
            .collect();
        return call.output.json(&json!({"format": "normal", "plugins": plugins, "status": "running"}));
    }
    if call.flag("minimal") {
        return names.iter().try_for_each(|name| call.output.line(name));
    }
    call.output.announce(" Configured: E = explicitly enabled; e = implicitly enabled")?;
    let name = place.strip_prefix("node ").unwrap_or(&place);
    call.output.announce(&format!(" | Status: * = running on {name}"))?;
    call.output.announce(" |/")?;
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let verbose = call.flag("verbose");
    names.iter().try_for_each(|name| {
        if verbose {
            call.output.line(&format!("[E*] {name}\n     Version:     \t{version}"))
        } else {
            call.output.line(&format!("[E*] {name:<width$} {version}"))
        }
    })
}

fn is_enabled(call: &mut Call<'_>) -> Result<(), Failure> {
    let wanted = call.texts("plugin");
    let (names, _, place) = known(call)?;
    let (plural, are) = if wanted.len() == 1 { ("plugin", "is") } else { ("plugins", "are") };
    call.announce(&format!("Asking {place} if {plural} {} {are} enabled...", wanted.join(", ")))?;
    let missing: Vec<String> = wanted.iter().filter(|name| !names.contains(name)).cloned().collect();
    if missing.is_empty() {
        let plural = if wanted.len() == 1 { "Plugin" } else { "Plugins" };
        return call.output.say(&format!("{plural} {} {are} enabled on {place}", wanted.join(", ")));
    }
    let (plural, are) = if missing.len() == 1 { ("Plugin", "is") } else { ("Plugins", "are") };
    let text = format!(
        "{plural} {} {are} not enabled on {place}. Enabled plugins and dependencies: {}",
        missing.join(", "),
        names.join(", ")
    );
    Err(Failure::new(Exit::Unavailable, text))
}

fn apply(call: &mut Call<'_>, doing: &str) -> Result<(), Failure> {
    let wanted = call.texts("plugin");
    let (names, _, place) = known(call)?;
    call.announce(&format!("{doing} plugins on {place}:\n{}", wanted.join("\n")))?;
    let missing: Vec<&str> = wanted.iter().filter(|name| !names.contains(name)).map(String::as_str).collect();
    if !missing.is_empty() {
        let text = format!(
            "{}: not built into this broker, and nothing can be added to it. Built in: {}",
            missing.join(", "),
            names.join(", ")
        );
        return Err(Failure::new(Exit::Software, text));
    }
    call.output.say("Plugin configuration unchanged: these are built in, and always enabled.")
}
