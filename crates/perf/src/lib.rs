//! Leveret's load generator: publishes and consumes against any AMQP 0-9-1 broker and says what it
//! cost. The way of a measurement: `cli` → `load` (or `suite` and `grow`, which make several) →
//! `producer` and `consumer` threads over `wire` → `latency`, `process` → `report`.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::Parser;

mod ceiling;
mod cli;
mod client;
mod confirms;
mod consumer;
mod disk;
mod error;
mod grow;
mod latency;
mod load;
mod message;
mod probe;
mod process;
mod producer;
mod report;
mod sink;
mod suite;
mod uri;
mod wire;

#[cfg(test)]
mod tests;

use cli::{Cli, Command, RunArgs};
use error::Error;
use report::Report;

/// What Ctrl-C does at the moment. A mutex: set once per load, taken once by the signal thread.
static ON_INTERRUPT: Mutex<Option<Box<dyn Fn() + Send>>> = Mutex::new(None);

/// Reads the command line, measures, prints. Exit code 1 and a sentence on standard error if that
/// was not possible, 2 if the command line makes no sense.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    process::wake_on_time();
    // Without the handler Ctrl-C just ends the process, and auto-delete queues go with it.
    let _ = ctrlc::set_handler(|| match &*ON_INTERRUPT.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(end) => end(),
        None => std::process::exit(130),
    });
    let result = match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(run) => measure(&run, "broker", load::Load::run),
        Command::Ceiling(run) => measure(&run, "sink", ceiling::run),
        Command::Suite(suite) => suite::run(&suite),
        Command::Grow(grow) => grow::run(&grow),
        Command::Disk(disk) => disk::run(&disk),
        Command::Sink { size, relay } => ceiling::serve(sink::SinkOptions { size, relay }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leveret-perf: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Lets Ctrl-C end the load in order from here on.
fn on_interrupt(end: impl Fn() + Send + 'static) {
    *ON_INTERRUPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(end));
}

fn measure(
    args: &RunArgs,
    other: &str,
    run: impl Fn(&load::Load) -> Result<load::Outcome, Error>,
) -> Result<(), Error> {
    let load = args.to_load()?;
    let report = Report::new(&run(&load)?);
    if args.json {
        println!("{}", report::json(&report)?);
    } else {
        print!("{}", report.to_text(&load, other));
    }
    Ok(())
}
