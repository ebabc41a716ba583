//! A metric: its name, what it means, and how its value is found in a row of numbers.

/// What Prometheus is to make of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// COMPAT: some are of no type in RabbitMQ.
    Untyped,
    /// Counts by size, in buckets.
    Histogram,
}

impl Kind {
    /// As the text format has it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Untyped => "untyped",
            Self::Histogram => "histogram",
        }
    }
}

/// How a value is found in a row.
pub(super) enum Value<T> {
    /// A count, or octets.
    Whole(fn(&T) -> u64),
    /// Seconds.
    Seconds(fn(&T) -> f64),
}

/// A metric of rows of one type.
pub(super) struct Metric<T> {
    /// Without the prefix that the endpoint gives it.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) value: Value<T>,
}

impl<T> Metric<T> {
    pub(super) const fn counter(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Self {
        Self { name, kind: Kind::Counter, help, value: Value::Whole(value) }
    }

    pub(super) const fn gauge(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Self {
        Self { name, kind: Kind::Gauge, help, value: Value::Whole(value) }
    }

    pub(super) const fn untyped(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Self {
        Self { name, kind: Kind::Untyped, help, value: Value::Whole(value) }
    }

    pub(super) const fn seconds(
        name: &'static str,
        kind: Kind,
        help: &'static str,
        value: fn(&T) -> f64,
    ) -> Self {
        Self { name, kind, help, value: Value::Seconds(value) }
    }
}

/// Numbers, and the labels of what they are of, as [`labels`] writes them.
#[derive(Clone, Debug)]
pub(super) struct Row<T> {
    pub(super) labels: String,
    pub(super) numbers: T,
}

impl<T> Row<T> {
    /// Of one thing.
    pub(super) fn of(labels: String, numbers: T) -> Self {
        Self { labels, numbers }
    }

    /// Of everything.
    pub(super) fn total(numbers: T) -> Self {
        Self::of(String::new(), numbers)
    }
}

/// Labels as they stand between braces.
pub(super) fn labels(pairs: &[(&str, &str)]) -> String {
    let mut text =
        String::with_capacity(pairs.iter().map(|(name, value)| name.len() + value.len() + 4).sum());
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        value.chars().for_each(|octet| match octet {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        });
        text.push('"');
    }
    text
}
