//! What a load came to, as text for people and as JSON for machines.

use std::fmt::Write as _;

use serde::Serialize;

use crate::error::Error;
use crate::latency::LatencySummary;
use crate::load::{Load, Outcome};

/// The figures of one load, ready to print.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// Measured time.
    pub(crate) seconds: f64,
    /// Published per second.
    pub(crate) sent_per_second: f64,
    /// Delivered per second.
    pub(crate) received_per_second: f64,
    /// Confirmed, or committed, per second.
    pub(crate) confirmed_per_second: f64,
    /// Published in all.
    pub(crate) sent: u64,
    /// Delivered in all.
    pub(crate) received: u64,
    /// Confirmed, or committed, in all.
    pub(crate) confirmed: u64,
    /// Latencies, if bodies were large enough and somebody consumed.
    pub(crate) latency: Option<LatencySummary>,
    /// How long confirms took, if there were any: from a write to the confirm of its last message.
    pub(crate) confirm_latency: Option<LatencySummary>,
    /// Broker CPU per message moved, with `--broker-pid`.
    pub(crate) broker_us_per_message: Option<f64>,
    /// Cores that the broker used.
    pub(crate) broker_cores: Option<f64>,
    /// Broker memory before the load.
    pub(crate) broker_resident_before: Option<u64>,
    /// Broker memory at the end of the measured time.
    pub(crate) broker_resident_after: Option<u64>,
    /// CPU of the generator itself per message moved.
    pub(crate) generator_us_per_message: Option<f64>,
    /// Cores that the generator used.
    pub(crate) generator_cores: f64,
    /// How often the broker blocked a publisher.
    pub(crate) blocked: u64,
}

impl Report {
    /// Works the figures out.
    pub(crate) fn new(outcome: &Outcome) -> Self {
        Self {
            seconds: outcome.seconds,
            sent_per_second: outcome.rate(outcome.sent),
            received_per_second: outcome.rate(outcome.received),
            confirmed_per_second: outcome.rate(outcome.confirmed),
            sent: outcome.sent,
            received: outcome.received,
            confirmed: outcome.confirmed,
            latency: outcome.latency,
            confirm_latency: outcome.confirm_latency,
            broker_us_per_message: outcome.broker_us_per_message(),
            broker_cores: outcome.broker_cpu.map(|cpu| cpu / outcome.seconds),
            broker_resident_before: outcome.broker_resident.map(|(before, _)| before),
            broker_resident_after: outcome.broker_resident.map(|(_, after)| after),
            generator_us_per_message: outcome.own_us_per_message(),
            generator_cores: outcome.own_cpu / outcome.seconds,
            blocked: outcome.blocked,
        }
    }

    /// The figures for a person; `other` names what the CPU time beside the generator's belongs to.
    pub(crate) fn to_text(&self, load: &Load, other: &str) -> String {
        let mut text = String::new();
        let mut line = |name: &str, rest: String| {
            let _ = writeln!(text, "{name:<10} {rest}");
        };
        if load.producers > 0 {
            line("sent", per_second(self.sent_per_second));
        }
        if load.pace.confirm_window > 0 || load.pace.tx_size > 0 {
            line("confirmed", per_second(self.confirmed_per_second));
        }
        if load.consumers > 0 {
            line("received", per_second(self.received_per_second));
        }
        if let Some(latency) = &self.latency {
            line(
                if load.expected_delay.is_zero() { "latency" } else { "lateness" },
                latency_line(latency, load),
            );
        }
        if let Some(latency) = &self.confirm_latency {
            line(
                "confirm",
                format!("{} (from a write to the confirm of its last message)", percentiles(latency)),
            );
        }
        if let (Some(us), Some(cores)) = (self.broker_us_per_message, self.broker_cores) {
            line(other, format!("{us:.3} us CPU per message, {cores:.2} cores"));
        }
        if let (Some(before), Some(after)) = (self.broker_resident_before, self.broker_resident_after) {
            line("memory", format!("{} before, {} at the end", mebibytes(before), mebibytes(after)));
        }
        if let Some(us) = self.generator_us_per_message {
            line("generator", format!("{us:.3} us CPU per message, {:.2} cores", self.generator_cores));
        }
        if self.blocked > 0 {
            line("blocked", format!("{} times by an alarm of the broker", self.blocked));
        }
        text
    }
}

/// Anything as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string_pretty(value)
        .map_err(|error| Error::System { what: "writing JSON".to_owned(), source: error.into() })
}

fn latency_line(latency: &LatencySummary, load: &Load) -> String {
    let from =
        if load.pace.rate.is_some() { "from the intended send time" } else { "one message of each write" };
    let early = match latency.early {
        0 => String::new(),
        early => format!(", {early} more came too early, by up to {:.0} us", latency.early_max_us),
    };
    format!("{} ({from}{early})", percentiles(latency))
}

/// The figures of a distribution.
pub(crate) fn percentiles(latency: &LatencySummary) -> String {
    format!(
        "min/median/p95/p99/p99.9/max {:.0}/{:.0}/{:.0}/{:.0}/{:.0}/{:.0} us",
        latency.min_us, latency.median_us, latency.p95_us, latency.p99_us, latency.p999_us, latency.max_us
    )
}

/// A rate with thin groups of three digits.
pub(crate) fn per_second(rate: f64) -> String {
    format!("{} msg/s", grouped(rate))
}

/// A number of whole units in groups of three digits.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "a report of one decimal")]
fn mebibytes(octets: u64) -> String {
    format!("{:.1} MiB", octets as f64 / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_groups_of_three() {
        assert_eq!(grouped(1_234_567.4), "1 234 567");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(0.2), "0");
    }

    #[test]
    fn cpu_is_divided_by_what_was_received_or_else_sent() {
        let outcome = Outcome {
            seconds: 2.0,
            sent: 4_000_000,
            received: 1_000_000,
            broker_cpu: Some(1.0),
            ..Outcome::default()
        };
        assert_eq!(Report::new(&outcome).broker_us_per_message, Some(1.0));
        let publish_only = Outcome { received: 0, ..outcome };
        let report = Report::new(&publish_only);
        assert_eq!(report.broker_us_per_message, Some(0.25));
        assert!((report.sent_per_second - 2e6).abs() < 1.0);
    }
}
