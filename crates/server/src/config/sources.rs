//! The places where options are set: command line, environment, TOML file.
//!
//! `load` asks for each and lays one over the other. Here names are checked and values are taken as they
//! stand; what a value means is the business of its kind.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::kind::Typed;
use super::option::{ENV_PREFIX, OptionSpec, Origin, Setting};
use super::{OPTIONS, Task};

/// Names the configuration file; it is no option of the table because the file itself cannot set it.
const CONFIG_KEY: &str = "config";
const CONFIG_ENV: &str = "LEVERET_CONFIG";

/// Names a configuration file of RabbitMQ.
const RABBITMQ_KEY: &str = "rabbitmq-conf";
const RABBITMQ_ENV: &str = "LEVERET_RABBITMQ_CONF";

/// Asks for the configuration instead of the broker.
const PRINT_KEY: &str = "print-config";

/// The subcommand that verifies a data directory, and the options that mean something to it.
const CHECK: &str = "check";
const CHECK_KEYS: [&str; 1] = ["data_dir"];

/// COMPAT: variables that RabbitMQ's image knows, and what they mean here. Ours go before them.
const RABBITMQ_DEFAULTS: [(&str, &str); 3] = [
    ("RABBITMQ_DEFAULT_USER", "default_user"),
    (RABBITMQ_PASSWORD, "default_password"),
    ("RABBITMQ_DEFAULT_VHOST", "default_vhost"),
];

/// COMPAT: the users of RabbitMQ's image may come from anywhere. Where its variable for a password is set, be it to
/// guest, the operator has said who may log in, and that holds here as well, unless something else says otherwise.
const RABBITMQ_PASSWORD: &str = "RABBITMQ_DEFAULT_PASS";

/// Variables with our prefix that belong to the project's test programs.
const ENV_PREFIXES_OF_TESTS: [&str; 2] = ["LEVERET_TEST_", "LEVERET_TESTS_"];

/// Variables of leveretctl, which may run in the broker's container or from the same shell.
const ENV_OF_CTL: [&str; 4] = ["LEVERET_URL", "LEVERET_USER", "LEVERET_PASSWORD", "LEVERET_CA_FILE"];

/// Below this likeness (0 to 1) a suggestion would confuse more than help.
const LIKENESS_LEAST: f64 = 0.7;

/// Likeness of a key to one of its words: more than that of letters that happen to come in the same order.
const LIKENESS_OF_WORD: f64 = 0.8;

/// What command line or environment said.
pub(super) struct Given {
    pub(super) config_file: Option<PathBuf>,
    pub(super) rabbitmq_conf: Option<PathBuf>,
    pub(super) settings: Vec<Setting>,
}

/// Takes the task and the options from the command line, whose first word is the program's name.
pub(super) fn flags(args: impl IntoIterator<Item = OsString>) -> Result<(Task, Given), ConfigError> {
    let matches = command().try_get_matches_from(args)?;
    let (task, matches) = match matches.subcommand_matches(CHECK) {
        Some(matches) => (Task::Check, matches),
        None if matches.get_flag(PRINT_KEY) => (Task::PrintConfig, &matches),
        None => (Task::Serve, &matches),
    };
    let settings = options_of(task).filter_map(|option| flag_setting(option, matches)).collect();
    let file = |key| matches.try_get_one::<PathBuf>(key).ok().flatten().cloned();
    Ok((task, Given { config_file: file(CONFIG_KEY), rabbitmq_conf: file(RABBITMQ_KEY), settings }))
}

/// The options that have a flag where this is to be done.
fn options_of(task: Task) -> impl Iterator<Item = &'static OptionSpec> {
    OPTIONS.iter().filter(move |option| task != Task::Check || CHECK_KEYS.contains(&option.key))
}

fn flag_setting(option: &'static OptionSpec, matches: &ArgMatches) -> Option<Setting> {
    // Defaults are given to clap for the help only; taking them here would override the file.
    if matches.value_source(option.key) != Some(ValueSource::CommandLine) {
        return None;
    }
    let word = matches.get_one::<String>(option.key)?.clone();
    Some(Setting::from_word(option, word, Origin::Flag(option.flag())))
}

fn command() -> Command {
    let check = Command::new(CHECK)
        .about("Verifies what a broker that is not running keeps in its data directory.")
        .after_help(
            "Exits with 0 if all of it is sound, 1 if something is damaged, 2 if it cannot be checked.",
        )
        .next_line_help(true)
        .arg(config_arg("the options of the broker"))
        .args(options_of(Task::Check).map(arg))
        .mut_arg("data_dir", |arg| {
            arg.help("Directory to verify. No message and no definition in it is changed.\n[env: LEVERET_DATA_DIR]")
        });
    Command::new("leveret")
        .version(env!("CARGO_PKG_VERSION"))
        .about("An AMQP 0-9-1 message broker for RabbitMQ clients.")
        .after_help("Flags override the environment, which overrides the file, which overrides the defaults.")
        .next_line_help(true)
        .arg(config_arg("any of the options below"))
        .arg(rabbitmq_arg())
        .arg(Arg::new(PRINT_KEY).long(PRINT_KEY).action(ArgAction::SetTrue).help(
            "Prints the configuration in force as a file for --config, with where each value comes from.",
        ))
        .args(options_of(Task::Serve).map(arg))
        .subcommand(check)
        // Flags before it would mean nothing to it.
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
}

fn config_arg(contents: &str) -> Arg {
    let help = format!("TOML file with {contents}, written_like_this = \"value\".\n[env: {CONFIG_ENV}]");
    Arg::new(CONFIG_KEY).long(CONFIG_KEY).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
}

fn rabbitmq_arg() -> Arg {
    let help = format!(
        "A rabbitmq.conf, or a directory of .conf files, whose settings hold where nothing else sets them. Keys that \
         mean nothing here are told in the log.\n[env: {RABBITMQ_ENV}]"
    );
    Arg::new(RABBITMQ_KEY)
        .long(RABBITMQ_KEY)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help(help)
}

fn arg(option: &'static OptionSpec) -> Arg {
    let doc: Vec<&str> = option.doc.iter().map(|line| line.trim()).collect();
    let help = format!("{}\nTakes {}.\n[env: {}]", doc.join("\n"), (option.accepts)(), option.env());
    let arg = Arg::new(option.key);
    let arg = if option.is_switch() { arg.num_args(0..=1).default_missing_value("true") } else { arg };
    arg.long(option.flag())
        .value_name("VALUE")
        .default_value(option.default)
        // So that they reach the check of the value, which says more than "unexpected argument".
        .allow_negative_numbers(true)
        .help(help)
}

/// What holds in a container that was made for RabbitMQ's image, where nothing else sets it.
pub(super) fn of_image(env: &BTreeMap<OsString, OsString>) -> Vec<Setting> {
    let option = OPTIONS.iter().find(|option| option.key == "loopback_users");
    let password = env.get(OsStr::new(RABBITMQ_PASSWORD));
    let origin = || Origin::Environment(RABBITMQ_PASSWORD.to_owned());
    let lifted = option.zip(password);
    let lifted = lifted.map(|(option, _)| Setting::from_word(option, "none".to_owned(), origin()));
    lifted.into_iter().collect()
}

/// Takes the options from the environment. Variables without our prefix are somebody else's, but for a few.
pub(super) fn variables(env: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Given, ConfigError> {
    let mut given = Given { config_file: None, rabbitmq_conf: None, settings: Vec::new() };
    let mut env: Vec<_> = env.into_iter().collect();
    // Of two that mean the same the later one counts.
    env.sort_by_key(|(name, _)| name.to_string_lossy().starts_with(ENV_PREFIX));
    for (name, value) in env {
        let name = name.to_string_lossy().into_owned();
        let meant = RABBITMQ_DEFAULTS.iter().find(|(theirs, _)| *theirs == name).map(|(_, key)| *key);
        if name == CONFIG_ENV {
            given.config_file = Some(PathBuf::from(value));
        } else if name == RABBITMQ_ENV {
            given.rabbitmq_conf = Some(PathBuf::from(value));
        } else if let Some(option) =
            OPTIONS.iter().find(|option| option.env() == name || meant == Some(option.key))
        {
            // A value that is not Unicode keeps replacement characters, which the error message then shows.
            let typed = value.to_str().map_or(Typed::Other, |value| Typed::Word(value.to_owned()));
            let written = format!("{:?}", value.to_string_lossy());
            given.settings.push(Setting { option, typed, written, origin: Origin::Environment(name) });
        } else if let Some(rest) = name.strip_prefix(ENV_PREFIX)
            && !ENV_OF_CTL.contains(&name.as_str())
            && !is_of_tests(&name)
            && !is_service_link(&name, &value)
        {
            let nearest = nearest_key(&rest.to_ascii_lowercase(), &[CONFIG_KEY, "rabbitmq_conf"]);
            let nearest = nearest.map(|key| format!("{ENV_PREFIX}{}", key.to_ascii_uppercase()));
            return Err(ConfigError::UnknownVariable { name, nearest });
        }
    }
    Ok(given)
}

fn is_of_tests(name: &str) -> bool {
    ENV_PREFIXES_OF_TESTS.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether Kubernetes set this variable: for a service called `leveret` every container near it gets
/// LEVERET_SERVICE_HOST, LEVERET_PORT=tcp://…, LEVERET_PORT_5672_TCP_ADDR and more.
fn is_service_link(name: &str, value: &OsString) -> bool {
    let number_of_port =
        name.split("_PORT_").nth(1).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let url = name.ends_with("_PORT") && value.to_string_lossy().contains("://");
    name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || number_of_port || url
}

/// Takes the options from a TOML file.
pub(super) fn file(path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|reason| ConfigError::FileUnreadable { path: path.to_owned(), reason })?;
    let origin_at = |offset: usize| Origin::File(path.to_owned(), line_at(&text, offset));

    let table = DeTable::parse(&text).map_err(|error| ConfigError::FileSyntax {
        origin: origin_at(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    // The parser sorts by name; mistakes are better reported from top to bottom.
    entries.sort_by_key(|(key, _)| key.span().start);

    let mut settings = Vec::new();
    for (key, value) in entries {
        let origin = origin_at(key.span().start);
        let Some(option) = OPTIONS.iter().find(|option| option.key == key.get_ref()) else {
            let nearest = nearest_key(key.get_ref(), &[]).map(str::to_owned);
            return Err(ConfigError::UnknownKey { origin, key: key.get_ref().to_string(), nearest });
        };
        settings.push(Setting {
            option,
            typed: typed(value.get_ref()),
            written: written(&text, value),
            origin,
        });
    }
    Ok(settings)
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

/// The value as it stands in the file, cut after its first line.
fn written(text: &str, value: &Spanned<DeValue<'_>>) -> String {
    let whole = text.get(value.span()).unwrap_or_default();
    match whole.split_once('\n') {
        Some((first, _)) => format!("{} …", first.trim_end()),
        None => whole.to_owned(),
    }
}

fn typed(value: &DeValue<'_>) -> Typed {
    match value {
        DeValue::String(text) => Typed::Text(text.to_string()),
        DeValue::Integer(integer) => {
            u64::from_str_radix(integer.as_str(), integer.radix()).map_or(Typed::Other, Typed::Integer)
        }
        DeValue::Array(elements) => elements
            .iter()
            .map(|element| element.get_ref().as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .map_or(Typed::Other, Typed::List),
        DeValue::Boolean(value) => Typed::Boolean(*value),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => Typed::Other,
    }
}

/// The key that somebody who wrote `wrong` most likely meant.
fn nearest_key(wrong: &str, more: &[&'static str]) -> Option<&'static str> {
    let keys = OPTIONS.iter().map(|option| option.key).chain(more.iter().copied());
    // Of equally like keys the last one would win; reversed, it is the first of the table.
    keys.rev()
        .map(|key| (likeness(wrong, key), key))
        .filter(|(likeness, _)| *likeness >= LIKENESS_LEAST)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, key)| key)
}

fn likeness(wrong: &str, key: &str) -> f64 {
    let spelling = strsim::jaro_winkler(wrong, key);
    // A word of a key, as `user` of `default_user`, is a hint even where the spelling is far off.
    let is_word = key.split('_').any(|word| word == wrong);
    if is_word { spelling.max(LIKENESS_OF_WORD) } else { spelling }
}
