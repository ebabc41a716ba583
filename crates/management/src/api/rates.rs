//! Counters with what RabbitMQ puts beside them: `x_details` with the rate, and with values over time where the query
//! asks for them.

use serde_json::{Map, Value, json};

use super::call::Call;
use crate::json::float;
use crate::statistics::{History, INTERVAL, Rates};

/// What values over time are asked for by: `x_age` and `x_incr`, in seconds.
pub(crate) const RANGES: [&str; 4] = ["lengths", "msg_rates", "data_rates", "node_stats"];

/// Counts of a queue, as listed, by their places among its values.
pub(crate) const QUEUE_COUNTS: [(&str, usize); 8] = [
    ("publish", 2),
    ("deliver", 3),
    ("deliver_no_ack", 4),
    ("get", 5),
    ("get_no_ack", 6),
    ("get_empty", 7),
    ("redeliver", 8),
    ("ack", 9),
];

/// Counts of a channel, likewise.
pub(crate) const CHANNEL_COUNTS: [(&str, usize); 11] = [
    ("publish", 0),
    ("confirm", 1),
    ("return_unroutable", 2),
    ("drop_unroutable", 3),
    ("deliver", 4),
    ("deliver_no_ack", 5),
    ("get", 6),
    ("get_no_ack", 7),
    ("get_empty", 8),
    ("redeliver", 9),
    ("ack", 10),
];

/// Values of a thing as they are now, how fast they change, and perhaps what they were.
pub(crate) struct Measured<const N: usize> {
    pub(crate) values: [u64; N],
    pub(crate) rates: Rates<N>,
    history: Option<History<N>>,
    ages: Vec<(&'static str, u64, u64)>,
}

impl<const N: usize> Measured<N> {
    pub(crate) fn new(values: [u64; N], rates: Rates<N>) -> Self {
        Self { values, rates, history: None, ages: Vec::new() }
    }

    /// With values over time, if the query asks for any.
    pub(crate) fn over_time(mut self, call: &Call, history: impl FnOnce() -> History<N>) -> Self {
        for kind in RANGES {
            let seconds =
                |what: &str| call.query(&format!("{kind}_{what}")).and_then(|text| text.parse().ok());
            if let (Some(age), Some(step)) = (seconds("age"), seconds("incr")) {
                self.ages.push((kind, age, step));
            }
        }
        if !self.ages.is_empty() {
            self.history = Some(history());
        }
        self
    }

    pub(crate) fn value(&self, index: usize) -> u64 {
        self.values.get(index).copied().unwrap_or_default()
    }

    pub(crate) fn rate(&self, index: usize) -> f64 {
        self.rates.per_second.get(index).copied().unwrap_or_default()
    }

    /// `x_details` of the sum of some values.
    pub(crate) fn details(&self, kind: &str, indexes: &[usize]) -> Value {
        let rate: f64 = indexes.iter().map(|&index| self.rate(index)).sum();
        let age = self.ages.iter().find(|(of, _, _)| *of == kind);
        let (Some(history), Some(&(_, age, step))) = (&self.history, age) else {
            return json!({ "rate": float(rate) });
        };
        over_time(rate, history, indexes, age, step)
    }

    /// Puts a value and its details into an object.
    pub(crate) fn put(&self, object: &mut Map<String, Value>, kind: &str, name: &str, indexes: &[usize]) {
        let value: u64 = indexes.iter().map(|&index| self.value(index)).sum();
        object.insert(name.to_owned(), value.into());
        object.insert(format!("{name}_details"), self.details(kind, indexes));
    }

    /// Counts of messages; nothing if none was ever counted. COMPAT: so it is until the first one is.
    pub(crate) fn message_stats(&self, counts: &[(&str, usize)]) -> Option<Value> {
        if counts.iter().all(|&(_, index)| self.value(index) == 0) {
            return None;
        }
        let mut stats = Map::new();
        for &(name, index) in counts {
            self.put(&mut stats, "msg_rates", name, &[index]);
        }
        let of = |wanted: &str| counts.iter().find(|(name, _)| *name == wanted).map(|(_, index)| *index);
        let given: Vec<_> =
            ["deliver", "deliver_no_ack", "get", "get_no_ack"].into_iter().filter_map(of).collect();
        if !given.is_empty() {
            self.put(&mut stats, "msg_rates", "deliver_get", &given);
        }
        Some(Value::Object(stats))
    }
}

/// COMPAT: values of the last `age` seconds, one for each `step`, the newest first, at even times.
fn over_time<const N: usize>(
    rate: f64,
    history: &History<N>,
    indexes: &[usize],
    age: u64,
    step: u64,
) -> Value {
    let step_ms = step.max(INTERVAL.as_secs()).saturating_mul(1000);
    let count = (age.saturating_mul(1000) / step_ms).max(1);
    let Some(&(newest, _)) = history.back() else {
        return json!({ "rate": float(rate), "samples": [], "avg": 0.0, "avg_rate": 0.0 });
    };
    let sum = |values: &[u64; N]| -> u64 { indexes.iter().filter_map(|&index| values.get(index)).sum() };
    let last = newest - newest % step_ms;
    let mut samples = Vec::new();
    for number in 0..=count {
        let Some(at) = last.checked_sub(number.saturating_mul(step_ms)) else { break };
        let found = history.iter().rev().find(|(taken, _)| *taken < at + step_ms);
        let Some((_, values)) = found else { break };
        samples.push((at, sum(values)));
    }
    let total: f64 = samples.iter().map(|(_, value)| *value as f64).sum();
    let average = total / samples.len().max(1) as f64;
    let average_rate = match (samples.first(), samples.last()) {
        (Some(newest), Some(oldest)) if newest.0 > oldest.0 => {
            (newest.1 as f64 - oldest.1 as f64) * 1000.0 / (newest.0 - oldest.0) as f64
        }
        _ => 0.0,
    };
    let samples: Vec<_> =
        samples.into_iter().map(|(at, value)| json!({ "sample": value, "timestamp": at })).collect();
    json!({ "rate": float(rate), "samples": samples, "avg": float(average), "avg_rate": float(average_rate) })
}
