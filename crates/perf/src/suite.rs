//! The benchmark table: each row a load, run against each broker in turn, so that whatever else the
//! machine does hits all of them, and against the sink. The rows are flags of `run`, so that each can be
//! repeated by hand.

use std::fmt::Write as _;

use clap::{Args, Parser};
use serde::Serialize;

use crate::ceiling;
use crate::cli::{Cli, URI_DEFAULT, seconds};
use crate::client::Client;
use crate::error::Error;
use crate::load::Load;
use crate::process::Process;
use crate::report::{Report, grouped, json};
use crate::uri::Uri;
use crate::wire::{COLD_BUFFER_BYTES, FrameReader};

/// One row of the table.
#[derive(Debug, Clone, Copy)]
struct Row {
    name: &'static str,
    /// Broker CPU per message that Leveret is to reach, in microseconds.
    goal_us: Option<f64>,
    /// As for `leveret-perf run`.
    flags: &'static str,
}

const ROWS: [Row; 15] = [
    Row { name: "base16", goal_us: Some(0.25), flags: "-s 16" },
    Row { name: "base1k", goal_us: Some(0.8), flags: "-s 1024" },
    Row { name: "publish-only", goal_us: Some(0.15), flags: "-y 0" },
    Row { name: "ack", goal_us: Some(0.4), flags: "-q 1000 -A 100" },
    Row { name: "confirms", goal_us: Some(0.5), flags: "-c 1000" },
    Row { name: "persistent", goal_us: Some(0.8), flags: "-f persistent -c 1000 -q 1000 -A 100" },
    // One synced publish at a time, and a hundred of those beside each other: `disk` says what the disk can do.
    Row { name: "sync1", goal_us: None, flags: "-y 0 -f persistent -c 1" },
    Row {
        name: "sync100",
        goal_us: None,
        flags: "-x 100 -y 0 -f persistent -c 1 \
                --queue-pattern leveret-perf-%d --queue-pattern-from 1 --queue-pattern-to 100",
    },
    Row { name: "8x8", goal_us: Some(0.3), flags: "-x 8 -y 8" },
    Row {
        name: "16x16",
        goal_us: Some(0.3),
        flags: "-x 16 -y 16 --queue-pattern leveret-perf-%d --queue-pattern-from 1 --queue-pattern-to 16",
    },
    Row {
        name: "fanout",
        goal_us: Some(0.2),
        flags: "-y 4 -e leveret-perf-fanout -t fanout \
                --queue-pattern leveret-perf-%d --queue-pattern-from 1 --queue-pattern-to 4",
    },
    Row { name: "tx", goal_us: Some(1.0), flags: "--tx 100" },
    Row {
        name: "stream",
        goal_us: Some(0.4),
        flags: "-f persistent -q 1000 -A 100 --auto-delete false \
                --queue-args x-queue-type=stream --consumer-args x-stream-offset=first",
    },
    Row { name: "body100k", goal_us: Some(40.0), flags: "-s 100000" },
    Row { name: "latency5k", goal_us: None, flags: "-r 5000" },
];

/// What stands in the broker column for the sink.
const CEILING: &str = "ceiling";

/// Flags of `suite`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SuiteArgs {
    /// A broker as name=uri,pid; the pid may be left out. Repeat it for several.
    #[arg(long = "broker", default_value = concat!("broker=", "amqp://guest:guest@localhost:5672/%2f"))]
    brokers: Vec<Target>,
    /// Only these rows, separated by commas.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Measured seconds of each run.
    #[arg(short = 'z', long = "time", default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before that are not measured.
    #[arg(long = "warmup", default_value_t = 1.0)]
    warmup_seconds: f64,
    /// Runs of each row; the one with the median rate (or p99 latency, at a fixed rate) is shown.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Leave the sink out.
    #[arg(long)]
    no_ceiling: bool,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
}

/// A broker of the comparison.
#[derive(Debug, Clone, PartialEq)]
struct Target {
    name: String,
    uri: Uri,
    process: Option<Process>,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or("a broker is given as name=uri,pid")?;
        let (uri, process) = match rest.rsplit_once(',') {
            Some((uri, pid)) => {
                let pid = pid.parse().map_err(|_| format!("{pid:?} is not a process id"))?;
                (uri, Some(Process::new(pid)))
            }
            None => (rest, None),
        };
        Ok(Self { name: name.to_owned(), uri: uri.parse()?, process })
    }
}

/// One broker's figures in one row.
#[derive(Debug, Serialize)]
struct Cell {
    row: &'static str,
    broker: String,
    goal_us_per_message: Option<f64>,
    #[serde(flatten)]
    report: Option<Report>,
    error: Option<String>,
}

/// Runs the rows and prints the table.
pub(crate) fn run(args: &SuiteArgs) -> Result<(), Error> {
    let rows = chosen_rows(&args.rows)?;
    for target in &args.brokers {
        reach(target)?;
    }
    let mut cells = Vec::new();
    for row in rows {
        cells.extend(run_row(row, args)?);
    }
    if args.json {
        println!("{}", json(&cells)?);
    } else {
        print!("{}", table(&cells));
    }
    let failed: Vec<&str> = cells.iter().filter(|cell| cell.error.is_some()).map(|cell| cell.row).collect();
    if failed.is_empty() { Ok(()) } else { Err(Error::Usage(format!("rows failed: {}", failed.join(", ")))) }
}

fn chosen_rows(names: &[String]) -> Result<Vec<&'static Row>, Error> {
    if names.is_empty() {
        return Ok(ROWS.iter().collect());
    }
    let known = || ROWS.map(|row| row.name).join(", ");
    let find = |name: &String| {
        ROWS.iter()
            .find(|row| row.name == name)
            .ok_or_else(|| Error::Usage(format!("no row {name:?}; there are {}", known())))
    };
    names.iter().map(find).collect()
}

/// Better now than after half of the table.
fn reach(target: &Target) -> Result<(), Error> {
    let reached = Client::connect(&target.uri, FrameReader::new(COLD_BUFFER_BYTES)).and_then(Client::close);
    reached.map_err(|error| Error::Usage(format!("broker {} at {}: {error}", target.name, target.uri)))?;
    target.process.map_or(Ok(0.0), Process::cpu_seconds).map(|_| ())
}

/// All rounds of one row, the brokers in turn.
fn run_row(row: &'static Row, args: &SuiteArgs) -> Result<Vec<Cell>, Error> {
    let load = row.load(args)?;
    let with_ceiling = usize::from(!args.no_ceiling);
    let mut runs: Vec<Vec<Result<Report, Error>>> = Vec::new();
    runs.resize_with(args.brokers.len() + with_ceiling, Vec::new);
    for round in 0..args.rounds.max(1) {
        for (index, runs) in runs.iter_mut().enumerate() {
            let outcome = match args.brokers.get(index) {
                Some(target) => {
                    eprintln!("{} {} of {}: {}", row.name, round + 1, args.rounds.max(1), target.name);
                    Load { uri: target.uri.clone(), broker: target.process, ..load.clone() }.run()
                }
                None => ceiling::run(&load),
            };
            runs.push(outcome.map(|outcome| Report::new(&outcome)));
        }
    }
    let names = args.brokers.iter().map(|target| target.name.clone()).chain([CEILING.to_owned()]);
    Ok(names.zip(runs).map(|(name, runs)| row.cell(name, runs)).collect())
}

impl Row {
    /// The row's flags parsed the way they would be by hand.
    fn load(&self, args: &SuiteArgs) -> Result<Load, Error> {
        let words = ["leveret-perf", "--uri", URI_DEFAULT].into_iter().chain(self.flags.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| Error::Usage(error.to_string()))?;
        let mut load = cli.run.to_load()?;
        load.duration = seconds(args.seconds, "-z")?;
        load.warmup = seconds(args.warmup_seconds, "--warmup")?;
        Ok(load)
    }

    /// What the rounds are ordered by: the rate, or the latency where the rate is given.
    fn rank(&self, report: &Report) -> f64 {
        match report.latency {
            Some(latency) if self.flags.contains("-r ") => latency.p99_us,
            _ => moved(report),
        }
    }

    /// The median run stands for all; one that failed makes the cell fail.
    fn cell(&self, broker: String, runs: Vec<Result<Report, Error>>) -> Cell {
        let (report, error) = match runs.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(mut reports) => {
                reports.sort_by(|a, b| self.rank(a).total_cmp(&self.rank(b)));
                let median = reports.len() / 2;
                (reports.into_iter().nth(median), None)
            }
            Err(error) => (None, Some(error.to_string())),
        };
        Cell { row: self.name, broker, goal_us_per_message: self.goal_us, report, error }
    }
}

/// The rate that a row is compared by.
fn moved(report: &Report) -> f64 {
    if report.received > 0 { report.received_per_second } else { report.sent_per_second }
}

/// The cells as a Markdown table. `CPU ratio` compares with the first broker, `of ceiling` the rate
/// with that of the sink.
fn table(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| row | broker | sent/s | received/s | CPU us/msg | goal | CPU ratio | median ms | p99 ms \
         | generator us/msg | of ceiling |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for cell in cells {
        let same_row = || cells.iter().filter(|other| other.row == cell.row);
        let first = same_row().next().and_then(|first| first.report.as_ref());
        let ceiling =
            same_row().find(|other| other.broker == CEILING).and_then(|other| other.report.as_ref());
        let _ = writeln!(text, "{}", line(cell, first, ceiling));
    }
    text
}

fn line(cell: &Cell, first: Option<&Report>, ceiling: Option<&Report>) -> String {
    let Some(report) = &cell.report else {
        let error = cell.error.as_deref().unwrap_or("not run");
        return format!("| {} | {} | failed: {error} | | | | | | | | |", cell.row, cell.broker);
    };
    let figure = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
    // Where nobody consumes, what there is to wait for is the confirm.
    let latency = report.latency.or(report.confirm_latency);
    let is_broker = cell.broker != CEILING;
    let ratio = first
        .and_then(|first| first.broker_us_per_message)
        .zip(report.broker_us_per_message)
        .filter(|(first, _)| is_broker && *first > 0.0)
        .map_or_else(String::new, |(first, own)| format!("{:.2}", own / first));
    let share = ceiling
        .filter(|ceiling| is_broker && moved(ceiling) > 0.0)
        .map_or_else(String::new, |ceiling| format!("{:.0} %", 100.0 * moved(report) / moved(ceiling)));
    format!(
        "| {} | {} | {} | {} | {} | {} | {ratio} | {} | {} | {} | {share} |",
        cell.row,
        cell.broker,
        grouped(report.sent_per_second),
        grouped(report.received_per_second),
        figure(report.broker_us_per_message),
        cell.goal_us_per_message.filter(|_| is_broker).map_or_else(String::new, |goal| goal.to_string()),
        figure(latency.map(|latency| latency.median_us / 1000.0)),
        figure(latency.map(|latency| latency.p99_us / 1000.0)),
        figure(report.generator_us_per_message),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Outcome;

    fn args(flags: &str) -> SuiteArgs {
        #[derive(Parser)]
        struct Only {
            #[command(flatten)]
            suite: SuiteArgs,
        }
        Only::parse_from(format!("suite {flags}").split_whitespace()).suite
    }

    #[test]
    fn the_flags_of_every_row_are_valid() {
        for row in ROWS {
            assert!(row.load(&args("-z 1")).is_ok(), "{}", row.name);
        }
    }

    #[test]
    fn a_broker_is_a_name_a_uri_and_perhaps_a_process() {
        let brokers = args("--broker a=amqp://h:1,42 --broker b=amqp://h:2").brokers;
        assert_eq!(brokers.len(), 2);
        assert_eq!(brokers[0].process, Some(Process::new(42)));
        assert_eq!((brokers[1].name.as_str(), brokers[1].process), ("b", None));
        assert!("h:1".parse::<Target>().is_err());
    }

    #[test]
    fn an_unknown_row_is_refused_with_the_known_ones() {
        let error = chosen_rows(&["nosuch".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("base16"), "{error}");
        assert_eq!(chosen_rows(&["tx".to_owned()]).unwrap().len(), 1);
    }

    #[test]
    fn the_median_round_is_shown_with_its_ratios() {
        let report = |received, broker_cpu| {
            let outcome =
                Outcome { seconds: 1.0, received, broker_cpu: Some(broker_cpu), ..Outcome::default() };
            Ok(Report::new(&outcome))
        };
        let row = &ROWS[0];
        let cells = [
            row.cell("one".to_owned(), vec![report(300, 0.9), report(100, 0.1), report(200, 0.2)]),
            row.cell("two".to_owned(), vec![report(400, 0.2)]),
            row.cell(CEILING.to_owned(), vec![report(800, 0.1)]),
        ];
        let text = table(&cells);
        assert!(text.contains("| base16 | one | 0 | 200 | 1000.000 | 0.25 | 1.00 |"), "{text}");
        assert!(text.contains("| base16 | two | 0 | 400 | 500.000 | 0.25 | 0.50 |"), "{text}");
        assert!(text.contains("25 % |") && text.contains("50 % |"), "{text}");
    }
}
