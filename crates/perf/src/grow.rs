//! How cost and memory grow: one row after the other against one broker, each cleaning up behind
//! itself. The rows are in `connections`, `topology` and `messages`; `probe` looks at the broker's
//! process around each step, `server` starts it again. Called by `main`.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use clap::Args;
use serde::Serialize;

use crate::cli::URI_DEFAULT;
use crate::client::Client;
use crate::error::Error;
use crate::process::Process;
use crate::report::json;
use crate::uri::Uri;
use crate::wire::{COLD_BUFFER_BYTES, FrameReader};

mod connections;
mod durable;
mod messages;
mod server;
mod topology;

use crate::probe::{Figure, Probe};
use server::{Ending, Restart, Server};

/// Flags of `grow`.
#[derive(Debug, Clone, Args)]
pub(crate) struct GrowArgs {
    /// Where the broker is.
    #[arg(long, default_value = URI_DEFAULT)]
    uri: Uri,
    /// Process id of the broker; without it there is neither CPU time nor memory.
    #[arg(long)]
    broker_pid: Option<u32>,
    /// How to start the broker: it is started here, restarted by the rows about durable things, and stopped at the
    /// end. Its process is the one that is looked at.
    #[arg(long, conflicts_with = "broker_pid")]
    broker_command: Option<String>,
    /// The broker's data directory: what it takes on the disk is reported.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Only these rows, separated by commas; `deep` and `durable-queues` run only when named.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Idle connections whose memory is looked at.
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// Further channels on each of them.
    #[arg(long, default_value_t = 10)]
    channels: u16,
    /// Connections that are opened and closed.
    #[arg(long, default_value_t = 4_000)]
    opens: usize,
    /// Channels that are opened and closed.
    #[arg(long, default_value_t = 10_000)]
    channel_cycles: usize,
    /// Queues that are declared.
    #[arg(long, default_value_t = 5_000)]
    queues: usize,
    /// Times that a queue is declared, bound, published to and deleted.
    #[arg(long, default_value_t = 2_000)]
    cycles: usize,
    /// Bindings of a topic exchange.
    #[arg(long, default_value_t = 100_000)]
    bindings: usize,
    /// Queues of a fanout exchange, each with a consumer.
    #[arg(long, default_value_t = 1_000)]
    fanout: usize,
    /// Idle connections that are opened at a stretch.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Messages of the backlog.
    #[arg(long, default_value_t = 1_000_000)]
    backlog: u64,
    /// Body size of the backlog.
    #[arg(short = 's', long, default_value_t = 100)]
    size: usize,
    /// `persistent` makes the queues of `queues` and `backlog` durable and the messages persistent.
    #[arg(short = 'f', long = "flag", value_parser = ["persistent"])]
    flags: Vec<String>,
    /// Seconds of the steps that run for a time.
    #[arg(short = 'z', long = "time", default_value_t = 5.0)]
    seconds: f64,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
}

/// What every row works with.
#[derive(Debug)]
struct Grow {
    args: GrowArgs,
    probe: Probe,
    /// The broker, if it was started here. A mutex as rows share this among threads; held for a restart only.
    server: Mutex<Option<Server>>,
}

impl Grow {
    /// A connection without a channel.
    fn connect(&self) -> Result<Client, Error> {
        Client::connect(&self.args.uri, FrameReader::new(COLD_BUFFER_BYTES))
    }

    /// A connection with channel 1.
    fn connect_with_channel(&self) -> Result<Client, Error> {
        let mut client = self.connect()?;
        client.open_channel(1)?;
        Ok(client)
    }

    fn persistent(&self) -> bool {
        self.args.flags.iter().any(|flag| flag == "persistent")
    }

    /// Restarts the broker, if it was started here.
    fn restart(&self, ending: Ending) -> Result<Option<Restart>, Error> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(server) = server.as_mut() else { return Ok(None) };
        let restart = server.restart(ending)?;
        self.probe.follow(server.process());
        Ok(Some(restart))
    }

    /// What the broker takes on the disk, if it is known where that is.
    fn disk_bytes(&self) -> Option<u64> {
        self.args.data_dir.as_deref().map(durable::disk_bytes)
    }

    /// A name of this process's own.
    fn name(&self, what: &str) -> String {
        format!("leveret-perf-{what}-{}", std::process::id())
    }
}

type RowFn = fn(&Grow) -> Result<Vec<Figure>, Error>;

/// Memory first, while the broker is fresh.
const ROWS: [(&str, RowFn); 9] = [
    ("start", connections::at_start),
    ("connections", connections::memory),
    ("open-close", connections::open_close),
    ("channels", connections::channel_open_close),
    ("queues", topology::queues),
    ("cycle", topology::cycle),
    ("bindings", topology::bindings),
    ("fanout", messages::fanout),
    ("backlog", messages::backlog),
];

/// Only when named: they take long.
const DURABLE_ROWS: [(&str, RowFn); 2] = [("deep", durable::deep), ("durable-queues", durable::idle_queues)];

/// Last: what ten thousand connections leave behind would be in every other figure.
const IDLE_ROW: (&str, RowFn) = ("idle", connections::idle);

/// One row's figures.
#[derive(Debug, Serialize)]
struct Finding {
    row: &'static str,
    figures: Vec<Figure>,
    error: Option<String>,
}

/// Runs the rows and prints what they found.
pub(crate) fn run(args: &GrowArgs) -> Result<(), Error> {
    let rows = chosen_rows(&args.rows)?;
    let server =
        args.broker_command.as_deref().map(|command| Server::start(command, &args.uri)).transpose()?;
    let process = server.as_ref().map(Server::process).or(args.broker_pid.map(Process::new));
    let grow = Grow { args: args.clone(), probe: Probe::new(process), server: Mutex::new(server) };
    grow.connect_with_channel()?.close()?;
    let mut findings = Vec::new();
    for (row, measure) in rows {
        eprintln!("{row}");
        let (figures, error) = match measure(&grow) {
            Ok(figures) => (figures, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        findings.push(Finding { row, figures, error });
    }
    if args.json {
        println!("{}", json(&findings)?);
    } else {
        print!("{}", table(&findings));
    }
    let failed: Vec<&str> =
        findings.iter().filter(|finding| finding.error.is_some()).map(|f| f.row).collect();
    if failed.is_empty() { Ok(()) } else { Err(Error::Usage(format!("rows failed: {}", failed.join(", ")))) }
}

fn chosen_rows(names: &[String]) -> Result<Vec<(&'static str, RowFn)>, Error> {
    let all = || ROWS.into_iter().chain([IDLE_ROW]);
    if names.is_empty() {
        return Ok(all().collect());
    }
    let known = || all().chain(DURABLE_ROWS);
    let find = |name: &String| {
        known().find(|(row, _)| row == name).ok_or_else(|| {
            let known: Vec<_> = known().map(|(row, _)| row).collect();
            Error::Usage(format!("no row {name:?}; there are {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

fn table(findings: &[Finding]) -> String {
    let mut text = String::from("| row | what | value |\n|---|---|---|\n");
    for finding in findings {
        for figure in &finding.figures {
            text.push_str(&format!("| {} | {} | {} |\n", finding.row, figure.what, figure.text()));
        }
        if let Some(error) = &finding.error {
            text.push_str(&format!("| {} | failed: {error} | |\n", finding.row));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_chosen_by_its_name() {
        for (name, _) in chosen_rows(&[]).unwrap() {
            assert_eq!(chosen_rows(&[name.to_owned()]).unwrap().len(), 1, "{name}");
        }
        for (name, _) in DURABLE_ROWS {
            assert_eq!(chosen_rows(&[name.to_owned()]).unwrap().len(), 1, "{name}");
        }
        assert!(chosen_rows(&["nosuch".to_owned()]).is_err());
    }

    #[test]
    fn a_failed_row_is_shown_with_its_reason() {
        let findings = [
            Finding { row: "a", figures: vec![Figure::new("rate", 12_345.0, "/s")], error: None },
            Finding { row: "b", figures: Vec::new(), error: Some("refused".to_owned()) },
        ];
        let text = table(&findings);
        assert!(text.contains("| a | rate | 12 345 /s |"), "{text}");
        assert!(text.contains("| b | failed: refused | |"), "{text}");
    }
}
