//! Time, CPU time and memory of the broker around one step, and the figures made of them. Used by the rows of `grow`
//! and by those of `suite` that take several steps.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Error;
use crate::load::Outcome;
use crate::process::Process;
use crate::report::grouped;

/// Memory is looked at so often while it settles.
const SETTLE_TICK: Duration = Duration::from_millis(250);
/// It has settled when it moved by less than this for [`SETTLE_TICKS`] looks.
const SETTLE_BYTES: u64 = 128 * 1024;
const SETTLE_TICKS: u32 = 4;
/// A broker that never stops moving is taken as it is after this time.
const SETTLE_DEADLINE: Duration = Duration::from_secs(10);

/// One measured value.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) what: String,
    /// How much.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: &'static str,
}

impl Figure {
    /// A value with its unit.
    pub(crate) fn new(what: &str, value: f64, unit: &'static str) -> Self {
        Self { what: what.to_owned(), value, unit }
    }

    /// For the table: three digits are enough.
    pub(crate) fn text(&self) -> String {
        match self.value.abs() {
            0.0..10.0 => format!("{:.2} {}", self.value, self.unit),
            10.0..100.0 => format!("{:.1} {}", self.value, self.unit),
            _ if self.value < 0.0 => format!("-{} {}", grouped(-self.value), self.unit),
            _ => format!("{} {}", grouped(self.value), self.unit),
        }
    }
}

/// How long a step took, and what it cost the broker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// Wall time.
    pub(crate) seconds: f64,
    /// User and system time of the broker.
    pub(crate) cpu: Option<f64>,
}

impl Step {
    /// Rate and, if the process is known, CPU time each.
    pub(crate) fn figures(&self, what: &str, count: usize) -> Vec<Figure> {
        let count = as_f64(count);
        let mut figures = vec![Figure::new(what, count / self.seconds.max(1e-9), "/s")];
        if let Some(cpu) = self.cpu {
            figures.push(Figure::new(&format!("{what}, broker CPU"), cpu * 1e6 / count.max(1.0), "us each"));
        }
        figures
    }
}

/// Looks at the broker's process, if it is known.
#[derive(Debug)]
pub(crate) struct Probe {
    /// Another one after each restart. A mutex as rows share this among threads.
    process: Mutex<Option<Process>>,
}

impl Probe {
    /// For this process.
    pub(crate) fn new(process: Option<Process>) -> Self {
        Self { process: Mutex::new(process) }
    }

    /// The broker was started again.
    pub(crate) fn follow(&self, process: Process) {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
    }

    /// The process itself.
    pub(crate) fn process(&self) -> Option<Process> {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Measures one step.
    pub(crate) fn measure<T>(&self, step: impl FnOnce() -> Result<T, Error>) -> Result<(T, Step), Error> {
        let cpu = || self.process().map(Process::cpu_seconds).transpose();
        let (before, started) = (cpu()?, Instant::now());
        let done = step()?;
        let seconds = started.elapsed().as_secs_f64();
        Ok((done, Step { seconds, cpu: before.zip(cpu()?).map(|(before, after)| after - before) }))
    }

    /// Resident memory once it has stopped moving: allocators and collectors give back late.
    pub(crate) fn settled(&self) -> Result<Option<u64>, Error> {
        let Some(process) = self.process() else { return Ok(None) };
        let deadline = Instant::now() + SETTLE_DEADLINE;
        let (mut resident, mut still) = (process.resident_bytes()?, 0);
        while still < SETTLE_TICKS && Instant::now() < deadline {
            thread::sleep(SETTLE_TICK);
            let now = process.resident_bytes()?;
            still = if now.abs_diff(resident) < SETTLE_BYTES { still + 1 } else { 0 };
            resident = now;
        }
        Ok(Some(resident))
    }
}

/// What each of `count` things takes, in KiB.
pub(crate) fn memory_each(
    what: &str,
    before: Option<u64>,
    after: Option<u64>,
    count: usize,
) -> Option<Figure> {
    let (before, after) = before.zip(after)?;
    let each = (octets(after) - octets(before)) / 1024.0 / as_f64(count).max(1.0);
    Some(Figure::new(what, each, "KiB each"))
}

/// What each of `count` things takes, in octets.
pub(crate) fn octets_each(what: &str, before: Option<u64>, after: Option<u64>, count: u64) -> Option<Figure> {
    let (before, after) = before.zip(after)?;
    Some(Figure::new(what, (octets(after) - octets(before)) / octets(count).max(1.0), "B each"))
}

/// Rate of a load and, if the process is known, CPU time each.
pub(crate) fn moved(what: &str, outcome: &Outcome) -> Vec<Figure> {
    let mut figures = vec![Figure::new(what, outcome.rate(outcome.moved()), "/s")];
    let cpu = outcome.broker_us_per_message();
    figures.extend(cpu.map(|us| Figure::new(&format!("{what}, broker CPU"), us, "us each")));
    figures
}

/// How much of what was taken is free again.
pub(crate) fn given_back(what: &str, memory: [Option<u64>; 3]) -> Option<Figure> {
    let [Some(before), Some(top), Some(after)] = memory else { return None };
    let taken = octets(top) - octets(before);
    (taken > 0.0).then(|| Figure::new(what, 100.0 * (octets(top) - octets(after)) / taken, "%"))
}

/// Memory as it is, in MiB.
pub(crate) fn mebibytes(what: &str, resident: Option<u64>) -> Option<Figure> {
    resident.map(|resident| Figure::new(what, octets(resident) / 1_048_576.0, "MiB"))
}

#[expect(clippy::cast_precision_loss, reason = "a report of three digits")]
fn octets(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "a report of three digits")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_divided_among_what_took_it() {
        let figure = memory_each("x", Some(1024 * 1024), Some(3 * 1024 * 1024), 1024).unwrap();
        assert_eq!(figure.text(), "2.00 KiB each");
        assert!(memory_each("x", None, Some(1), 1).is_none());
        let figure = given_back("y", [Some(100), Some(300), Some(150)]).unwrap();
        assert_eq!(figure.text(), "75.0 %");
    }

    #[test]
    fn a_step_gives_a_rate_and_a_cost() {
        let step = Step { seconds: 2.0, cpu: Some(0.5) };
        let figures: Vec<_> = step.figures("open", 1_000).iter().map(Figure::text).collect();
        assert_eq!(figures, ["500 /s", "500 us each"]);
        assert_eq!(Step { cpu: None, ..step }.figures("open", 1_000).len(), 1);
    }
}
