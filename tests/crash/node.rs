//! A broker on a data directory that outlives it: started, killed, started again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::{Running, listening_port, unique_dir};
use crate::wire::Wire;

/// How long a start may take, recovery included.
const START_MAX: Duration = Duration::from_secs(60);

/// How long an orderly end may take.
const STOP_MAX: Duration = Duration::from_secs(30);

/// A data directory. It is kept where a test fails, for whoever looks into it.
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    pub(crate) fn new(name: &str) -> Self {
        let path = unique_dir(name);
        // The broker makes it, with the permissions that it wants.
        fs::remove_dir(&path).expect("an empty folder can be removed");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// As if the disk had lost everything.
    pub(crate) fn wipe(&self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the data directory is kept: {}", self.0.display());
        } else {
            self.wipe();
        }
    }
}

/// A broker's process.
pub(crate) struct Node {
    pub(crate) process: Running,
    pub(crate) port: u16,
}

impl Node {
    /// Starts a broker and waits until it takes connections.
    pub(crate) fn start(data_dir: &Path, flags: &[&str]) -> Self {
        Self::start_as(command(data_dir, flags))
    }

    /// The same for a prepared command.
    pub(crate) fn start_as(command: Command) -> Self {
        let mut process = Running::spawn(command);
        let line = process.wait_for_line("listening for AMQP connections", START_MAX);
        let port = listening_port(&line).unwrap_or_else(|| panic!("no address=host:port in: {line}"));
        process.wait_for_line("Server startup complete", START_MAX);
        Self { process, port }
    }

    pub(crate) fn connect(&self) -> Wire {
        Wire::open(self.port).unwrap_or_else(|error| panic!("cannot connect: {error}"))
    }

    /// The line of its log that says what was there at the start; empty if there is none.
    pub(crate) fn recovered(&mut self) -> String {
        let log = self.process.stderr_so_far();
        let line = log.lines().find_map(|line| line.split_once(" recovered queues=").map(|(_, rest)| rest));
        line.map_or_else(String::new, |rest| format!("queues={rest}"))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and the orderly end of a broker that had nothing to complain about.
    pub(crate) fn stop(mut self) {
        self.end();
        self.assert_sane_log();
    }

    /// SIGTERM, and the orderly end.
    pub(crate) fn end(&mut self) {
        self.process.signal("TERM");
        let status = self.process.wait_for_exit(STOP_MAX);
        let output = self.process.output();
        assert!(status.code() == Some(0) && !output.contains("panicked"), "{status}\n{output}");
    }

    /// Nothing panicked, and nothing was our fault.
    pub(crate) fn assert_sane_log(&mut self) {
        let log = self.process.stderr_so_far();
        for word in ["panicked", " ERROR "] {
            assert!(!log.contains(word), "{word} in the broker's log:\n{log}");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.process.kill();
        if thread::panicking() {
            eprintln!("the broker's log:\n{}", self.process.output());
        }
    }
}

/// Starts a broker and kills it some time later, however far it got.
pub(crate) fn start_and_kill(data_dir: &Path, flags: &[&str], after: Duration) {
    let mut process = Running::spawn(command(data_dir, flags));
    // Not waiting for luck: any moment will do, and the moment is what is tested.
    thread::sleep(after);
    process.kill();
    let log = process.output();
    assert!(!log.contains("panicked"), "{log}");
}

/// The broker's binary on a free port.
pub(crate) fn command(data_dir: &Path, flags: &[&str]) -> Command {
    let mut command = program();
    command
        .args(["--amqp-listen", "127.0.0.1:0", "--management-listen", "none", "--data-dir"])
        .arg(data_dir)
        .args(flags);
    command
}

/// The binary, to be given what it is to do.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.env("NO_COLOR", "1");
    // The usual port is one for all.
    command.env("LEVERET_METRICS_LISTEN", "none");
    // Settings of these tests look like misspelt ones of the broker.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LEVERET_CRASH_") {
            command.env_remove(name);
        }
    }
    command
}
