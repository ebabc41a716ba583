//! The same load with no broker between: starts the sink as a child process, so that its CPU time
//! is told apart from the generator's, and runs the load against it. Used by `main` and `suite`.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::error::Error;
use crate::load::{Load, Outcome};
use crate::process::Process;
use crate::sink::{self, SinkOptions};

/// What the child prints before its port.
const GREETING: &str = "listening on 127.0.0.1:";

/// The child; ends with this value.
struct SinkProcess {
    child: Child,
    port: u16,
}

impl SinkProcess {
    fn start(options: SinkOptions) -> Result<Self, Error> {
        let failed = |source| Error::System { what: "starting the sink".to_owned(), source };
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("sink").arg("--size").arg(options.size.to_string());
        if options.relay {
            command.arg("--relay");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
        }
        let port = line.strip_prefix(GREETING).and_then(|port| port.trim().parse().ok());
        let sink = Self { child, port: port.unwrap_or_default() };
        if sink.port == 0 {
            return Err(Error::Usage(format!("the sink did not start: {line:?}")));
        }
        Ok(sink)
    }
}

impl Drop for SinkProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the load against the sink; what `Outcome` says of the broker is then the sink's.
pub(crate) fn run(load: &Load) -> Result<Outcome, Error> {
    let sink = SinkProcess::start(SinkOptions { size: load.size, relay: load.pace.rate.is_some() })?;
    let mut load = load.clone();
    "127.0.0.1".clone_into(&mut load.uri.host);
    load.uri.port = sink.port;
    load.broker = Some(Process::new(sink.child.id()));
    load.run()
}

/// The child's side: serves until the parent is gone, which closes standard input.
pub(crate) fn serve(options: SinkOptions) -> Result<(), Error> {
    let failed = |source| Error::System { what: "serving the sink".to_owned(), source };
    let address = sink::start(options).map_err(failed)?;
    println!("{GREETING}{}", address.port());
    std::io::stdout().flush().map_err(failed)?;
    let waiting = thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let _ = waiting.join();
    Ok(())
}
