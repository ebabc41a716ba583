//! The Leveret broker as a process. In the order of a start: [`config`] is read, `server` listens,
//! each client is served by a connection and its channels, whose frames go into the routing core.
//!
//! - `server`: the start, signals, the end; `listeners`: where clients come in
//! - `connection`: handshake, reading loop, writing task, outbound buffer; `tls`: certificates and sessions
//! - `channel`: one task each; publishing, consuming, settling, declaring; `single`: a message without a channel
//! - `alarms`: why publishers have to wait
//! - `timers`: the thread that calls what has to happen at a time
//! - `auth`: who may log in; `admission`: how much each may have open
//! - `defaults`: what a broker has that had nothing before
//! - `error`: what the client is told, in one place; `limits`: bounds with their reasons; `logging`: the log's form
//! - `check`: verifies a data directory instead

mod admission;
mod alarms;
mod auth;
mod channel;
mod check;
pub mod config;
mod connection;
mod counters;
mod defaults;
mod durable;
mod error;
mod events;
#[cfg(test)]
mod held;
mod limits;
mod listeners;
mod logging;
mod management;
mod observed;
mod server;
mod single;
mod timers;
mod tls;

use std::process::ExitCode;

use config::{Config, Loaded, Task};
use rustix::fs::Mode;
use tracing::warn;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The version of RabbitMQ whose behaviour clients may expect. Some read it as a semantic version and
/// switch features on by it.
pub const COMPATIBLE_VERSION: &str = "4.2.5";

/// The program `leveret`: reads its configuration and runs the broker until it is stopped, or verifies what
/// one has on disk.
pub fn main() -> ExitCode {
    // Whatever it writes is for its own user: hashes of passwords are in it, and other people's messages.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    match config::load(std::env::args_os(), std::env::vars_os()) {
        Ok(Loaded { task: Task::Serve, config, ignored, .. }) => run(config, &ignored),
        Ok(Loaded { task: Task::Check, config, .. }) => check::run(&config.data_dir),
        Ok(Loaded { task: Task::PrintConfig, printed, .. }) => {
            print!("{printed}");
            ExitCode::SUCCESS
        }
        Err(error) if error.exit_code() == 0 => {
            println!("{error}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(config: Config, ignored: &[String]) -> ExitCode {
    logging::start(&config);
    for key in ignored {
        warn!("setting of RabbitMQ ignored, it means nothing here: {key}");
    }
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        warn!(%error, "cannot raise the limit of open files");
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.worker_threads {
        runtime.worker_threads(threads);
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(server::run(config)) {
        Ok(()) => {
            // Tasks that are still there belong to peers that had their time.
            runtime.shutdown_background();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("leveret: {error}");
            ExitCode::FAILURE
        }
    }
}
