//! The shape of one option, and the macro that turns the table of options into code.
//!
//! `config.rs` states the table; out of it come the descriptors [`OptionSpec`] (for flags, variables, keys
//! and help), `RawConfig` (what was typed, from which source) and `Config` (what it means, checked once).

use std::fmt;
use std::path::PathBuf;

use super::error::ConfigError;
use super::kind::{Kind, Typed};

/// Prefix of every environment variable that is ours.
pub(super) const ENV_PREFIX: &str = "LEVERET_";

/// What is known of an option before anybody set it.
#[derive(Debug)]
pub(super) struct OptionSpec {
    /// Key in the file; flag and environment variable derive from it.
    pub(super) key: &'static str,
    /// What holds if nobody sets it, written as one would write it in a flag.
    pub(super) default: &'static str,
    /// The lines of its description.
    pub(super) doc: &'static [&'static str],
    /// What its values look like.
    pub(super) accepts: fn() -> String,
}

impl OptionSpec {
    /// Its flag without the leading dashes.
    pub(super) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Its environment variable.
    pub(super) fn env(&self) -> String {
        format!("{ENV_PREFIX}{}", self.key.to_ascii_uppercase())
    }

    /// Whether its flag alone says that it is to be.
    pub(super) fn is_switch(&self) -> bool {
        matches!(self.default, "true" | "false")
    }

    /// Whether values must stay out of logs and error messages.
    pub(super) fn is_secret(&self) -> bool {
        self.key.ends_with("password")
    }
}

/// A value as the operator typed it.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) option: &'static OptionSpec,
    pub(super) typed: Typed,
    /// The value as it stands in its source, for error messages.
    pub(super) written: String,
    pub(super) origin: Origin,
}

impl Setting {
    pub(super) fn default_of(option: &'static OptionSpec) -> Self {
        Self::from_word(option, option.default.to_owned(), Origin::Default)
    }

    /// A setting from a source that knows only words, no types.
    pub(super) fn from_word(option: &'static OptionSpec, word: String, origin: Origin) -> Self {
        Self { option, written: format!("{word:?}"), typed: Typed::Word(word), origin }
    }

    /// As a line of a configuration file.
    pub(super) fn toml_line(&self) -> String {
        let value = match &self.typed {
            _ if self.option.is_secret() => return format!("# {} = (hidden)", self.option.key),
            Typed::Integer(number) => number.to_string(),
            Typed::Boolean(value) => value.to_string(),
            Typed::Word(word) if word.parse::<u64>().is_ok() || word.parse::<bool>().is_ok() => word.clone(),
            Typed::Word(text) | Typed::Text(text) => toml_string(text),
            Typed::List(elements) => format!(
                "[{}]",
                elements.iter().map(|element| toml_string(element)).collect::<Vec<_>>().join(", ")
            ),
            // INVARIANT: what was checked before is none of these.
            Typed::Other => self.written.clone(),
        };
        format!("{} = {value} # {}", self.option.key, self.origin)
    }

    pub(super) fn read<T: 'static>(&self, kind: &Kind<T>) -> Result<T, ConfigError> {
        kind.read(&self.typed).ok_or_else(|| ConfigError::InvalidValue {
            origin: self.origin.clone(),
            key: self.option.key,
            written: if self.option.is_secret() { "(hidden)".to_owned() } else { self.written.clone() },
            accepts: kind.accepts(),
        })
    }
}

/// A text as a basic string of TOML.
fn toml_string(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Where a value was set; its `Display` opens the error messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file, with the line, counted from 1.
    File(PathBuf, usize),
    /// The environment variable of this name.
    Environment(String),
    /// The flag of this name, without dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// Makes `OPTIONS`, `RawConfig` and `Config` of entries `/// description` `key: type = "default", kind;`.
macro_rules! options {
    ($( $(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:literal, $kind:expr; )+) => {
        /// The options in the order of the table.
        static OPTIONS: &[option::OptionSpec] = &[$( option::OptionSpec {
            key: stringify!($key),
            default: $default,
            doc: &[$($doc),+],
            accepts: || {
                let kind: kind::Kind<$type> = $kind;
                kind.accepts()
            },
        } ),+];

        /// What was typed: for each option the last source that set it.
        struct RawConfig {
            $( $key: option::Setting, )+
        }

        impl RawConfig {
            fn defaults() -> Self {
                // INVARIANT: OPTIONS and the fields come from the same lines of the table, in the same order.
                let mut defaults = OPTIONS.iter().map(option::Setting::default_of);
                Self { $( $key: defaults.next().expect(stringify!($key)), )+ }
            }

            fn overlay(&mut self, settings: Vec<option::Setting>) {
                for setting in settings {
                    match setting.option.key {
                        $( stringify!($key) => self.$key = setting, )+
                        // INVARIANT: a setting refers to an element of OPTIONS, which has these keys only.
                        key => unreachable!("no option {key}"),
                    }
                }
            }

            /// All settings in the order of the table.
            fn all(&self) -> impl Iterator<Item = &option::Setting> {
                [$( &self.$key ),+].into_iter()
            }

            fn check(&self) -> Result<Config, ConfigError> {
                Ok(Config { $( $key: self.$key.read(&$kind)?, )+ })
            }
        }

        /// The checked configuration of a broker.
        #[derive(Clone)]
        pub struct Config {
            $( $(#[doc = $doc])+ pub $key: $type, )+
        }

        impl std::fmt::Debug for Config {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let fields: &[&dyn std::fmt::Debug] = &[$( &self.$key ),+];
                let mut debug = f.debug_struct("Config");
                for (option, field) in OPTIONS.iter().zip(fields) {
                    debug.field(option.key, if option.is_secret() { &"(hidden)" } else { *field });
                }
                debug.finish()
            }
        }
    };
}

pub(super) use options;
