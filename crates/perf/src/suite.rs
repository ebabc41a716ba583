//! The benchmark table: each row a load, run against each broker in turn, so that whatever else the
//! machine does hits all of them, and against the sink. The rows are in `rows`, those of several steps in `steps`.

use std::fmt::Write as _;

use clap::{Args, Parser};
use serde::Serialize;

use crate::ceiling;
use crate::cli::{Cli, URI_DEFAULT, seconds};
use crate::client::Client;
use crate::error::Error;
use crate::latency::LatencySummary;
use crate::load::Load;
use crate::probe::Figure;
use crate::process::Process;
use crate::report::{Report, grouped, json};
use crate::uri::Uri;
use crate::wire::{COLD_BUFFER_BYTES, FrameReader};

mod rows;
mod steps;

use rows::{Check, Group, ROWS, Row, Work};
use steps::Steps;

/// Delays are whole milliseconds, and a broker's clock may be as coarse: it rounds by less than one.
const EARLY_US_MAX: f64 = 1_000.0;
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
    /// The rows of this group.
    #[arg(long, value_enum, default_value = "base", conflicts_with = "rows")]
    group: Group,
    /// Messages of the rows that take several steps; these are run once, whatever --rounds says.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
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
    /// What a row of several steps found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    figures: Vec<Figure>,
    /// Why the broker cannot do this, in its own words.
    not_supported: Option<String>,
    error: Option<String>,
}

impl Cell {
    /// What was done for it.
    fn work(&self) -> Option<Work> {
        ROWS.iter().find(|row| row.name == self.row).map(|row| row.work)
    }

    /// Why there are no figures.
    fn reason(&self) -> String {
        match (&self.not_supported, &self.error) {
            (Some(text), _) => format!("not supported: {text}"),
            (None, Some(error)) => format!("failed: {error}"),
            (None, None) => "not run".to_owned(),
        }
    }
}

/// Runs the rows and prints the table.
pub(crate) fn run(args: &SuiteArgs) -> Result<(), Error> {
    let rows = chosen_rows(&args.rows, args.group)?;
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

fn chosen_rows(names: &[String], group: Group) -> Result<Vec<&'static Row>, Error> {
    if names.is_empty() {
        return Ok(ROWS.iter().filter(|row| row.group == group).collect());
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

/// One row, for all brokers.
fn run_row(row: &'static Row, args: &SuiteArgs) -> Result<Vec<Cell>, Error> {
    match row.work {
        Work::Load { flags, check } => run_load(row, &to_load(flags, args)?, check, args),
        Work::Steps(work) => {
            let run = |target: &Target| {
                eprintln!("{}: {}", row.name, target.name);
                let steps = Steps { uri: &target.uri, process: target.process, messages: args.messages };
                row.stepped(target.name.clone(), work(&steps))
            };
            Ok(args.brokers.iter().map(run).collect())
        }
    }
}

/// All rounds of one load, the brokers in turn.
fn run_load(
    row: &'static Row,
    load: &Load,
    check: Option<Check>,
    args: &SuiteArgs,
) -> Result<Vec<Cell>, Error> {
    let with_ceiling = !args.no_ceiling && has_ceiling(load);
    let mut runs: Vec<Vec<Result<Report, Error>>> = Vec::new();
    runs.resize_with(args.brokers.len() + usize::from(with_ceiling), Vec::new);
    for round in 0..args.rounds.max(1) {
        for (index, runs) in runs.iter_mut().enumerate() {
            let outcome = match args.brokers.get(index) {
                Some(_) if matches!(runs.last(), Some(Err(Error::NotSupported(_)))) => continue,
                Some(target) => {
                    eprintln!("{} {} of {}: {}", row.name, round + 1, args.rounds.max(1), target.name);
                    let load = Load { uri: target.uri.clone(), broker: target.process, ..load.clone() };
                    check.map_or(Ok(()), |check| check(&target.uri)).and_then(|()| load.run())
                }
                None => ceiling::run(load),
            };
            runs.push(outcome.and_then(|outcome| refuse_early(Report::new(&outcome))));
        }
    }
    let names = args.brokers.iter().map(|target| target.name.clone()).chain([CEILING.to_owned()]);
    let is_paced = load.pace.rate.is_some();
    Ok(names.zip(runs).map(|(name, runs)| row.loaded(name, runs, is_paced)).collect())
}

/// Whether the sink can stand in for a broker. It keeps nothing back, so it cannot be late; and it floods a connection
/// from its first consumer on, so that one with several is never told that the others have begun.
fn has_ceiling(load: &Load) -> bool {
    load.expected_delay.is_zero() && load.queues_per_consumer == 1
}

/// A row's flags parsed the way they would be by hand; its own warm-up holds if it is the longer one.
fn to_load(flags: &str, args: &SuiteArgs) -> Result<Load, Error> {
    let words = ["leveret-perf", "--uri", URI_DEFAULT].into_iter().chain(flags.split_whitespace());
    let cli = Cli::try_parse_from(words).map_err(|error| Error::Usage(error.to_string()))?;
    let mut load = cli.run.to_load()?;
    let warmup = seconds(args.warmup_seconds, "--warmup")?;
    load.duration = seconds(args.seconds, "-z")?;
    load.warmup = if flags.contains("--warmup") { load.warmup.max(warmup) } else { warmup };
    Ok(load)
}

/// A table of lateness has no place for what must not be. Less than [`EARLY_US_MAX`] is no fault.
fn refuse_early(report: Report) -> Result<Report, Error> {
    match report.latency.filter(|latency| latency.early > 0 && latency.early_max_us >= EARLY_US_MAX) {
        None => Ok(report),
        Some(LatencySummary { early, early_max_us, .. }) => Err(Error::Protocol(format!(
            "{early} messages came before they were due, by up to {early_max_us:.0} us"
        ))),
    }
}

/// What the rounds are ordered by: the rate, or the latency where the rate is given.
fn rank(report: &Report, is_paced: bool) -> f64 {
    match report.latency {
        Some(latency) if is_paced => latency.p99_us,
        _ => moved(report),
    }
}

impl Row {
    /// The median run stands for all; one that failed makes the cell fail.
    fn loaded(&self, broker: String, runs: Vec<Result<Report, Error>>, is_paced: bool) -> Cell {
        match runs.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(mut reports) => {
                reports.sort_by(|a, b| rank(a, is_paced).total_cmp(&rank(b, is_paced)));
                let median = reports.len() / 2;
                Cell { report: reports.into_iter().nth(median), ..self.empty(broker) }
            }
            Err(error) => self.failed(broker, error),
        }
    }

    fn stepped(&self, broker: String, found: Result<Vec<Figure>, Error>) -> Cell {
        match found {
            Ok(figures) => Cell { figures, ..self.empty(broker) },
            Err(error) => self.failed(broker, error),
        }
    }

    fn failed(&self, broker: String, error: Error) -> Cell {
        match error {
            Error::NotSupported(text) => Cell { not_supported: Some(text), ..self.empty(broker) },
            error => Cell { error: Some(error.to_string()), ..self.empty(broker) },
        }
    }

    fn empty(&self, broker: String) -> Cell {
        Cell {
            row: self.name,
            broker,
            goal_us_per_message: self.goal_us,
            report: None,
            figures: Vec::new(),
            not_supported: None,
            error: None,
        }
    }
}

/// The rate that a row is compared by.
fn moved(report: &Report) -> f64 {
    if report.received > 0 { report.received_per_second } else { report.sent_per_second }
}

/// The cells as a Markdown table. `CPU ratio` compares with the first broker, `of ceiling` the rate
/// with that of the sink. Rows of several steps have a table of their own.
fn table(cells: &[Cell]) -> String {
    let (stepped, loaded): (Vec<&Cell>, Vec<&Cell>) =
        cells.iter().partition(|cell| matches!(cell.work(), Some(Work::Steps(_))));
    let mut text = String::new();
    if !loaded.is_empty() {
        text.push_str(&table_of_loads(&loaded));
    }
    if !stepped.is_empty() {
        let between = if loaded.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{between}{}", table_of_figures(&stepped));
    }
    text
}

fn table_of_figures(cells: &[&Cell]) -> String {
    let mut text = String::from("| row | broker | what | value |\n|---|---|---|---|\n");
    for cell in cells {
        if cell.report.is_none() && cell.figures.is_empty() {
            let _ = writeln!(text, "| {} | {} | {} | |", cell.row, cell.broker, cell.reason());
        }
        for figure in &cell.figures {
            let _ =
                writeln!(text, "| {} | {} | {} | {} |", cell.row, cell.broker, figure.what, figure.text());
        }
    }
    text
}

fn table_of_loads(cells: &[&Cell]) -> String {
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
        return format!("| {} | {} | {} | | | | | | | | |", cell.row, cell.broker, cell.reason());
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
            if let Work::Load { flags, .. } = row.work {
                assert!(to_load(flags, &args("-z 1")).is_ok(), "{}", row.name);
            }
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
        let error = chosen_rows(&["nosuch".to_owned()], Group::Base).unwrap_err().to_string();
        assert!(error.contains("base16"), "{error}");
        assert_eq!(chosen_rows(&["tx".to_owned()], Group::Base).unwrap().len(), 1);
    }

    #[test]
    fn a_group_is_all_its_rows_and_no_others() {
        let names =
            |group| chosen_rows(&[], group).unwrap().into_iter().map(|row| row.name).collect::<Vec<_>>();
        let (base, features) = (names(Group::Base), names(Group::Features));
        assert_eq!(base.len() + features.len(), ROWS.len());
        assert!(base.contains(&"base16") && !features.contains(&"base16"));
        assert!(features.contains(&"hash100") && features.contains(&"dead-letter"));
    }

    #[test]
    fn a_delayed_row_warms_up_for_longer_than_its_delay() {
        for row in chosen_rows(&[], Group::Features).unwrap() {
            if let Work::Load { flags, .. } = row.work {
                let load = to_load(flags, &args("--warmup 0.5")).unwrap();
                assert!(load.warmup > load.expected_delay, "{}", row.name);
            }
        }
    }

    #[test]
    fn a_whole_millisecond_early_is_a_fault_and_less_is_not() {
        let report = |nanoseconds: u64| {
            let mut latencies = crate::latency::Latencies::new();
            latencies.record_late(nanoseconds, 5_000_000);
            Report::new(&Outcome { seconds: 1.0, latency: latencies.summary(), ..Outcome::default() })
        };
        assert!(refuse_early(report(4_000_001)).is_ok());
        let error = refuse_early(report(4_000_000)).unwrap_err().to_string();
        assert!(error.contains("by up to 1000 us"), "{error}");
    }

    #[test]
    fn rows_that_the_sink_cannot_stand_in_for_have_no_ceiling() {
        let with = |name: &str| match chosen_rows(&[name.to_owned()], Group::Base).unwrap()[0].work {
            Work::Load { flags, .. } => has_ceiling(&to_load(flags, &args("")).unwrap()),
            Work::Steps(_) => false,
        };
        assert!(with("base16") && with("ttl-queue"));
        assert!(!with("hash100") && !with("delayed50k"));
    }

    #[test]
    fn what_a_broker_refuses_is_shown_with_its_words_and_is_no_failure() {
        let refused = || Error::NotSupported("503 unknown exchange type".to_owned());
        let [load, steps] =
            ["hash100", "dead-letter"].map(|name| chosen_rows(&[name.to_owned()], Group::Base).unwrap()[0]);
        let cells = [
            load.loaded("one".to_owned(), vec![Err(refused())], false),
            steps.stepped("one".to_owned(), Err(refused())),
            steps.stepped("two".to_owned(), Ok(vec![Figure::new("time", 2.0, "s")])),
        ];
        assert!(cells.iter().all(|cell| cell.error.is_none()));
        let text = table(&cells);
        assert!(text.contains("| hash100 | one | not supported: 503 unknown exchange type |"), "{text}");
        assert!(text.contains("| dead-letter | one | not supported: 503 unknown exchange type |"), "{text}");
        assert!(text.contains("| dead-letter | two | time | 2.00 s |"), "{text}");
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
            row.loaded("one".to_owned(), vec![report(300, 0.9), report(100, 0.1), report(200, 0.2)], false),
            row.loaded("two".to_owned(), vec![report(400, 0.2)], false),
            row.loaded(CEILING.to_owned(), vec![report(800, 0.1)], false),
        ];
        let text = table(&cells);
        assert!(text.contains("| base16 | one | 0 | 200 | 1000.000 | 0.25 | 1.00 |"), "{text}");
        assert!(text.contains("| base16 | two | 0 | 400 | 500.000 | 0.25 | 0.50 |"), "{text}");
        assert!(text.contains("25 % |") && text.contains("50 % |"), "{text}");
    }
}
