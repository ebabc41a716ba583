//! What can be wrong with a configuration, each in one clear message that names source, key and remedy.
//!
//! `sources` and the check of the table make these; `main` prints them and exits with their code.

use std::io;
use std::path::PathBuf;

use super::option::Origin;

/// Why there is no configuration: a mistake of the operator, or a request for help or the version.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The flags are wrong, or ask for a text: the message is that text.
    #[error("{}", .0.to_string().trim_end())]
    CommandLine(#[from] clap::Error),

    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {path:?}: {reason}")]
    FileUnreadable {
        /// The file that was asked for.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },

    /// The configuration file is not TOML.
    #[error("{origin}: {}", message.replace('\n', ", "))]
    FileSyntax {
        /// The file and the line.
        origin: Origin,
        /// What the parser says.
        message: String,
    },

    /// The configuration file sets something that does not exist.
    #[error("{origin}: unknown key {key:?}{}", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// The file and the line.
        origin: Origin,
        /// The key as it was written.
        key: String,
        /// The key that was probably meant.
        nearest: Option<String>,
    },

    /// An environment variable has our prefix, but no option's name.
    #[error("unknown environment variable {name}{}", did_you_mean(nearest.as_deref()))]
    UnknownVariable {
        /// The variable's name.
        name: String,
        /// The variable that was probably meant.
        nearest: Option<String>,
    },

    /// A value has the wrong type or is out of range.
    #[error("{origin}: {key} = {written}: expected {accepts}")]
    InvalidValue {
        /// Who set it.
        origin: Origin,
        /// The option.
        key: &'static str,
        /// The value as it was written; hidden if it is a secret.
        written: String,
        /// What would have been right.
        accepts: String,
    },

    /// Options that are right by themselves do not go together.
    #[error("{0}")]
    Contradiction(&'static str),
}

impl ConfigError {
    /// What the process exits with: 0 after a text that was asked for, which belongs on standard output;
    /// 2 after a mistake, which belongs on standard error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::CommandLine(error) => u8::try_from(error.exit_code()).unwrap_or(USAGE_ERROR),
            Self::FileUnreadable { .. }
            | Self::FileSyntax { .. }
            | Self::UnknownKey { .. }
            | Self::UnknownVariable { .. }
            | Self::InvalidValue { .. }
            | Self::Contradiction(_) => USAGE_ERROR,
        }
    }
}

/// The exit code that command lines use for wrong usage.
const USAGE_ERROR: u8 = 2;

fn did_you_mean(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {nearest}?"),
        None => "; leveret --help lists all options".to_owned(),
    }
}
