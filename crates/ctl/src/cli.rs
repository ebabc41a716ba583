//! The command line: which tool was called, the options that all verbs have, and the way from words to a verb.

use std::io::Write;
use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

use crate::call::Call;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output};
use crate::settings::Given;
use crate::verbs::{self, Action};
use crate::{Environment, Terminal};

/// The RabbitMQ whose tools these are.
const COMPATIBLE_VERSION: &str = "4.2.5";

/// The tools that this program is, told apart by the name it is called under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Itself: all verbs, and those of plugins behind `plugins`.
    Leveretctl,
    /// `rabbitmqctl`, `rabbitmq-diagnostics` and `rabbitmq-queues`: the verbs of all three.
    Rabbitmq(&'static str),
    /// `rabbitmq-plugins`.
    Plugins,
}

impl Tool {
    /// The tool that the first word of a command line names.
    #[must_use]
    pub fn from_name(word: &str) -> Self {
        let known = ["rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-queues"];
        let name = Path::new(word).file_stem().and_then(|name| name.to_str()).unwrap_or("");
        match known.into_iter().find(|known| *known == name) {
            Some(name) => Self::Rabbitmq(name),
            None if name == "rabbitmq-plugins" => Self::Plugins,
            None => Self::Leveretctl,
        }
    }

    /// Whether a name is one of those that this program is called under.
    pub(crate) fn is_known(word: &str) -> bool {
        Path::new(word).file_name().and_then(|name| name.to_str()) == Some(Self::from_name(word).name())
    }

    /// The version it says it has: as a tool of RabbitMQ that of the RabbitMQ it does the work of, by which scripts
    /// decide what they may ask for.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::Leveretctl => env!("CARGO_PKG_VERSION"),
            Self::Rabbitmq(_) | Self::Plugins => COMPATIBLE_VERSION,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Leveretctl => "leveretctl",
            Self::Rabbitmq(name) => name,
            Self::Plugins => "rabbitmq-plugins",
        }
    }
}

/// Parses a command line and does what it says.
///
/// # Errors
/// Whatever keeps the verb from success.
pub(crate) fn run(
    arguments: &[String],
    environment: &Environment,
    out: &mut dyn Write,
    terminal: &mut dyn Terminal,
) -> Result<(), Failure> {
    let tool = Tool::from_name(arguments.first().map_or("", String::as_str));
    let words = std::iter::once(tool.name().to_owned()).chain(arguments.iter().skip(1).cloned());
    let matches = match command(tool).try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => return refuse(tool, &error, out, terminal),
    };
    let (before, plugins, verb) = match matches.subcommand() {
        Some(("plugins", below)) if tool == Tool::Leveretctl => (below, true, below.subcommand()),
        verb => (&matches, tool == Tool::Plugins, verb),
    };
    // INVARIANT: the parser has asked for a verb that is known.
    let found = verb.and_then(|(name, behind)| Some((verbs::find(name, plugins)?, behind)));
    let Some((action, behind)) = found else { return Err(Failure::usage("no command")) };
    let given = Given { before, behind };
    let output = output(&given, out, terminal)?;
    let mut call = Call::new(tool, given, environment, output, terminal);
    match action {
        Action::Verb(verb) => (verb.run)(&mut call),
        Action::List(listing) => verbs::listing::run(&mut call, listing),
        Action::Refuse(refusal) => {
            Err(Failure::usage(format!("{} is not possible here: {}", refusal.name, refusal.reason)))
        }
    }
}

/// What to do where the parser has no verb for us: help and version are asked for, the rest are mistakes.
fn refuse(
    tool: Tool,
    error: &clap::Error,
    out: &mut dyn Write,
    terminal: &dyn Terminal,
) -> Result<(), Failure> {
    let text = error.render();
    let text = if terminal.sees_output() { text.ansi().to_string() } else { text.to_string() };
    match error.kind() {
        // COMPAT: the tools of RabbitMQ print the version alone.
        ErrorKind::DisplayVersion if tool != Tool::Leveretctl => Ok(writeln!(out, "{}", tool.version())?),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(write!(out, "{text}")?),
        _ => Err(Failure::new(Exit::Usage, text.strip_prefix("error: ").unwrap_or(&text))),
    }
}

fn output<'a>(
    given: &Given<'_>,
    out: &'a mut dyn Write,
    terminal: &dyn Terminal,
) -> Result<Output<'a>, Failure> {
    let format = given.text("formatter").map_or(Some(Format::Table), Format::from_name);
    let format = format.ok_or_else(|| Failure::usage("unknown format"))?;
    let silent = given.flag("silent");
    Ok(Output {
        out,
        format,
        quiet: silent || given.flag("quiet"),
        // COMPAT: to be silent takes the header from what is cut at tabs, not from the rest.
        headers: !(given.flag("no-table-headers") || (silent && format == Format::Table)),
        bold: terminal.sees_output(),
    })
}

/// The parser of a tool.
pub(crate) fn command(tool: Tool) -> Command {
    let command = Command::new(tool.name())
        .about("Manages Leveret, and other brokers with RabbitMQ's HTTP API")
        .version(tool.version())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .infer_long_args(true);
    let command = with_options(command, true);
    match tool {
        Tool::Plugins => with_verbs(command, true),
        Tool::Rabbitmq(_) => with_verbs(command, false),
        Tool::Leveretctl => {
            let plugins = Command::new("plugins")
                .about("Shows which of RabbitMQ's plugins the broker has built in")
                .subcommand_required(true)
                .arg_required_else_help(true);
            with_verbs(command, false).subcommand(with_verbs(with_options(plugins, true), true))
        }
    }
}

/// The verbs of the broker, or those of plugins.
fn with_verbs(mut command: Command, plugins: bool) -> Command {
    for action in verbs::all(plugins) {
        let verb = match action {
            Action::Verb(verb) => {
                let takes_user_option = verb.name == "list_user_limits";
                with_options((verb.arguments)(Command::new(verb.name).about(verb.about)), !takes_user_option)
            }
            Action::List(listing) => with_options(verbs::listing::command(listing), true),
            Action::Refuse(refusal) => Command::new(refusal.name)
                .about(refusal.reason)
                .hide(true)
                .disable_help_flag(true)
                .arg(Arg::new("rest").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true)),
        };
        command = command.subcommand(verb);
    }
    command
}

/// The options that every verb has, before it and behind it. `--user` is another name of `--username` but for a verb
/// that has an option of this name itself.
fn with_options(command: Command, user_is_login: bool) -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
    };
    let username = option("username", "name", "User to log in as (LEVERET_USER; else guest)").short('u');
    let username = if user_is_login { username.visible_alias("user") } else { username };
    let formats = PossibleValuesParser::new(Format::NAMES);
    command.next_help_heading("Common options").args([
        option("url", "url", "The broker's HTTP API (LEVERET_URL; else http://127.0.0.1:15672)"),
        username,
        option("password", "password", "Its password (LEVERET_PASSWORD; else it is asked for)"),
        option("ca-file", "file", "Certificates to trust, in PEM (LEVERET_CA_FILE; else the public ones)"),
        flag("insecure", "Trust any certificate"),
        option("config", "file", "Configuration file (else ~/.leveretctl.toml, if there is one)"),
        option("node", "node", "Name of the node that has to be the one at the URL").short('n'),
        flag("longnames", "Names of nodes are long; they are compared as they are").short('l').hide(true),
        option("vhost", "vhost", "The virtual host (else /)").short('p'),
        option("timeout", "seconds", "How long to wait for an answer, or infinity (else 60)").short('t'),
        option("formatter", "format", "How tables are printed").value_parser(formats),
        flag("quiet", "Announce nothing").short('q'),
        flag("silent", "Announce nothing, and no header with tabs").short('s'),
        flag("no-table-headers", "No names of columns"),
        flag("dry-run", "Announce, and do nothing"),
    ])
}

#[test]
fn tools_are_told_by_their_file_names() {
    assert_eq!(Tool::from_name("/usr/sbin/rabbitmqctl"), Tool::Rabbitmq("rabbitmqctl"));
    assert_eq!(Tool::from_name("rabbitmq-plugins"), Tool::Plugins);
    assert_eq!(Tool::from_name("target/debug/leveretctl"), Tool::Leveretctl);
}

#[test]
fn every_command_line_is_sound() {
    for name in ["leveretctl", "rabbitmqctl", "rabbitmq-plugins"] {
        command(Tool::from_name(name)).debug_assert();
    }
}
