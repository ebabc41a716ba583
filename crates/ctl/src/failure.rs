//! Why a verb ended without success, and the exit code that says so: those of sysexits.h, as the tools of
//! RabbitMQ use them.

use std::io;

use crate::api::ApiError;

/// Exit codes other than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command line is wrong, or asks for what is not there.
    Usage = 64,
    /// What was given cannot be used: a file, a password, the name of a vhost.
    Data = 65,
    /// There is no such user.
    NoUser = 67,
    /// The broker cannot be reached, refuses, or is not well.
    Unavailable = 69,
    /// Something is not as it has to be, such as a user that is there already.
    Software = 70,
    /// The time is over.
    TimedOut = 75,
    /// Name and password are wrong, or the user may not do this.
    Denied = 77,
    /// The configuration file is wrong.
    Config = 78,
}

/// Why a verb ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It failed.
    Error {
        /// What the shell is told.
        exit: Exit,
        /// What people are told.
        text: String,
    },
    /// With `--dry-run` nothing follows what is announced: no failure to the shell.
    DryRun,
    /// Nobody reads the output any more, as behind `| head`: no failure either.
    OutputClosed,
}

impl Failure {
    /// A failure with its exit code.
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self::Error { exit, text: text.into() }
    }

    /// The command line is wrong.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    /// COMPAT: the text and code of rabbitmqctl.
    pub(crate) fn no_such_vhost(name: &str) -> Self {
        Self::new(Exit::Data, format!("Virtual host '{name}' does not exist"))
    }

    /// COMPAT: the text and code of rabbitmqctl.
    pub(crate) fn no_such_user(name: &str) -> Self {
        Self::new(Exit::NoUser, format!("User \"{name}\" does not exist"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::new(Exit::Software, error.to_string()),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let exit = match &error {
            ApiError::Timeout { .. } => Exit::TimedOut,
            ApiError::Login { .. } | ApiError::Denied { .. } => Exit::Denied,
            ApiError::Url { .. } => Exit::Usage,
            _ => Exit::Unavailable,
        };
        Self::new(exit, error.to_string())
    }
}

/// What a request that found nothing means here.
pub(crate) trait OrMissing<T> {
    /// Replaces the failure of a request whose object is not there.
    fn or_missing(self, failure: impl FnOnce() -> Failure) -> Result<T, Failure>;
}

impl<T> OrMissing<T> for Result<T, ApiError> {
    fn or_missing(self, failure: impl FnOnce() -> Failure) -> Result<T, Failure> {
        self.map_err(|error| match error {
            ApiError::NotFound { .. } => failure(),
            error => error.into(),
        })
    }
}
