//! `leveretctl`: a command line for brokers with RabbitMQ's HTTP API, with the verbs, options, output and exit codes of
//! rabbitmqctl and its kin, whose names it answers to.
//!
//! `run` takes what a process is given and returns its exit code; `cli` knows tools and options, `verbs` what each
//! does, `columns` every listing, `api` the broker, `output` the looks. It knows nothing of how a broker works inside.

mod api;
mod call;
mod cli;
mod columns;
mod failure;
mod output;
mod settings;
mod shell;
mod verbs;

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Read, Write};
use std::process::ExitCode;

pub use crate::cli::Tool;

/// Variables of the environment.
#[derive(Clone, Debug, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// These variables.
    #[must_use]
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// A variable that is not empty.
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }
}

/// What stands at the other end of the standard streams.
pub trait Terminal {
    /// Output is seen by eyes.
    fn sees_output(&self) -> bool;

    /// Progress on standard error is seen by eyes.
    fn sees_errors(&self) -> bool;

    /// A password that is typed without an echo; `None` if nobody can type.
    ///
    /// # Errors
    /// The terminal fails.
    fn password(&mut self, prompt: &str) -> io::Result<Option<String>>;

    /// What comes in, if it is no terminal.
    fn input(&mut self) -> Option<Box<dyn Read>>;
}

/// The terminal of this process.
struct OwnTerminal;

impl Terminal for OwnTerminal {
    fn sees_output(&self) -> bool {
        io::stdout().is_terminal()
    }

    fn sees_errors(&self) -> bool {
        io::stderr().is_terminal()
    }

    fn password(&mut self, prompt: &str) -> io::Result<Option<String>> {
        if io::stdin().is_terminal() { rpassword::prompt_password(prompt).map(Some) } else { Ok(None) }
    }

    fn input(&mut self) -> Option<Box<dyn Read>> {
        (!io::stdin().is_terminal()).then(|| Box::new(io::stdin()) as Box<dyn Read>)
    }
}

/// The program: runs what the process was given.
#[must_use]
pub fn main() -> ExitCode {
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    let arguments: Vec<String> = std::env::args_os().map(text).collect();
    let environment = Environment::new(std::env::vars_os().map(|(name, value)| (text(name), text(value))));
    let code = run(&arguments, &environment, &mut io::stdout().lock(), &mut io::stderr(), &mut OwnTerminal);
    ExitCode::from(code)
}

/// Runs one command line, whose first word says which tool it is, and returns the exit code.
pub fn run(
    arguments: &[String],
    environment: &Environment,
    out: &mut dyn Write,
    errors: &mut dyn Write,
    terminal: &mut dyn Terminal,
) -> u8 {
    if arguments.first().is_some_and(|name| shell::is_meant(name)) {
        return shell::run(arguments, environment, out, errors, terminal);
    }
    match cli::run(arguments, environment, out, terminal).and_then(|()| Ok(out.flush()?)) {
        Ok(()) | Err(failure::Failure::DryRun | failure::Failure::OutputClosed) => 0,
        Err(failure::Failure::Error { exit, text }) => {
            // Nothing is left to say where even this cannot be said.
            let text = output::lines_without_controls(text.trim_end());
            let _ = writeln!(errors, "Error:\n{text}");
            exit as u8
        }
    }
}
