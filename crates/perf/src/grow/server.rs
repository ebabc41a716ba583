//! A broker that `grow` starts itself, to stop it, kill it and see how long it takes to come back. Used by the rows in
//! `durable`; the command is the user's.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::error::Error;
use crate::process::Process;
use crate::uri::Uri;
use crate::wire::{COLD_BUFFER_BYTES, FrameReader};

/// How long a start or an orderly end may take.
const DEADLINE: Duration = Duration::from_secs(600);
/// Time between two attempts to connect: what a start time is exact to.
const TICK: Duration = Duration::from_millis(1);

/// How a broker is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// SIGTERM, and time for what it wants to do.
    Orderly,
    /// SIGKILL.
    Killed,
}

/// How long one restart took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restart {
    /// From the signal to the end of the process.
    pub(super) stop_seconds: f64,
    /// From the start of the process until a client had a channel.
    pub(super) start_seconds: f64,
}

/// A broker's process and how to start it again. It is stopped when this value goes.
#[derive(Debug)]
pub(super) struct Server {
    command: String,
    uri: Uri,
    child: Child,
}

impl Server {
    /// Starts it and waits until a client has a channel.
    pub(super) fn start(command: &str, uri: &Uri) -> Result<Self, Error> {
        if can_connect(uri).is_ok() {
            return Err(Error::Usage(format!("--broker-command: something listens at {uri} already")));
        }
        let mut server = Self { command: command.to_owned(), uri: uri.clone(), child: spawn(command)? };
        server.wait_until_reachable()?;
        Ok(server)
    }

    /// The process, which is another one after each restart.
    pub(super) fn process(&self) -> Process {
        Process::new(self.child.id())
    }

    /// Ends it and starts it again.
    pub(super) fn restart(&mut self, ending: Ending) -> Result<Restart, Error> {
        let stopping = Instant::now();
        self.end(ending)?;
        let stop_seconds = stopping.elapsed().as_secs_f64();
        let starting = Instant::now();
        self.child = spawn(&self.command)?;
        self.wait_until_reachable()?;
        Ok(Restart { stop_seconds, start_seconds: starting.elapsed().as_secs_f64() })
    }

    fn end(&mut self, ending: Ending) -> Result<(), Error> {
        match ending {
            Ending::Killed => self.child.kill().map_err(|source| failed("killing the broker", source))?,
            Ending::Orderly => terminate(&self.child)?,
        }
        let deadline = Instant::now() + DEADLINE;
        while self.ended()?.is_none() {
            if Instant::now() > deadline {
                return Err(Error::Timeout { doing: "stopping the broker", after: DEADLINE });
            }
            thread::sleep(TICK);
        }
        Ok(())
    }

    fn wait_until_reachable(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match can_connect(&self.uri) {
                Ok(()) => return Ok(()),
                Err(Error::Connect { .. } | Error::Io { .. }) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
            if let Some(status) = self.ended()? {
                return Err(Error::Usage(format!("--broker-command ended with {status}: {}", self.command)));
            }
            thread::sleep(TICK);
        }
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(|source| failed("waiting for the broker", source))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.end(Ending::Orderly).is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Starts the command in the place of a shell, so that its process id is the broker's.
fn spawn(command: &str) -> Result<Child, Error> {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec {command}")]).stdin(Stdio::null()).stdout(Stdio::null());
    shell.spawn().map_err(|source| failed("starting the broker", source))
}

fn terminate(child: &Child) -> Result<(), Error> {
    let mut kill = Command::new("kill");
    kill.args(["-TERM", &child.id().to_string()]).stderr(Stdio::null());
    kill.status().map_err(|source| failed("stopping the broker", source)).map(|_| ())
}

fn can_connect(uri: &Uri) -> Result<(), Error> {
    let mut client = Client::connect(uri, FrameReader::new(COLD_BUFFER_BYTES))?;
    client.open_channel(1)?;
    client.close()
}

fn failed(what: &str, source: std::io::Error) -> Error {
    Error::System { what: what.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_ends_by_itself_is_an_error_with_its_status() {
        // Bound and dropped at once, so nothing listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let uri = format!("amqp://127.0.0.1:{port}").parse().unwrap();
        let error = Server::start("sh -c 'exit 7'", &uri).unwrap_err().to_string();
        assert!(error.contains("exit status: 7"), "{error}");
    }

    #[test]
    fn a_broker_that_runs_already_is_not_taken_for_ones_own() {
        let address = crate::sink::start(crate::sink::SinkOptions { size: 16, relay: false }).unwrap();
        let uri = format!("amqp://{address}").parse().unwrap();
        let error = Server::start("true", &uri).unwrap_err().to_string();
        assert!(error.contains("already"), "{error}");
    }
}
