//! A page in the text format, version 0.0.4. It knows how lines look and nothing of what they say.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::metric::{Kind, Metric, Row, Value};

/// What counters have been shown as. A counter is the sum of what is there and what is gone, which are not read at the
/// same moment: what goes in between is missing from it for that moment. Shown, it must not seem to begin anew.
pub(super) type Grown = HashMap<String, u64>;

/// A page that is being written.
pub(super) struct Page<'a> {
    text: String,
    prefix: &'static str,
    grown: Option<&'a mut Grown>,
}

impl<'a> Page<'a> {
    /// An empty one; the names of all metrics begin with `prefix`. With `grown`, no counter is shown lower than before.
    pub(super) fn new(prefix: &'static str, grown: Option<&'a mut Grown>) -> Self {
        Self { text: String::new(), prefix, grown }
    }

    /// What was written.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// From here on, names begin with this.
    pub(super) fn set_prefix(&mut self, prefix: &'static str) {
        self.prefix = prefix;
    }

    /// Each metric with a line for each row.
    pub(super) fn table<T>(&mut self, metrics: &[Metric<T>], rows: &[Row<T>]) {
        for metric in metrics {
            self.header(metric.name, metric.kind, metric.help);
            for row in rows {
                match metric.value {
                    Value::Whole(value) => self.whole(metric, &row.labels, value(&row.numbers)),
                    Value::Seconds(value) => {
                        self.series(metric.name, "", &row.labels);
                        self.end_line(value(&row.numbers));
                    }
                }
            }
        }
    }

    /// A histogram: upper bounds as their labels are to be written, each with what is in its bucket alone, and what is
    /// beyond all of them; and the sum of all values.
    pub(super) fn histogram(
        &mut self,
        (name, help): (&str, &str),
        buckets: impl IntoIterator<Item = (String, u64)>,
        beyond: u64,
        sum: f64,
    ) {
        self.header(name, Kind::Histogram, help);
        let mut count = 0;
        let last = ("+Inf".to_owned(), beyond);
        for (bound, more) in buckets.into_iter().chain([last]) {
            count += more;
            self.series(name, "_bucket", &format!("le=\"{bound}\""));
            self.end_line(count);
        }
        self.series(name, "_sum", "");
        self.end_line(sum);
        self.series(name, "_count", "");
        self.end_line(count);
    }

    fn header(&mut self, name: &str, kind: Kind, help: &str) {
        // INVARIANT: writing to a String does not fail.
        let _ = writeln!(self.text, "# TYPE {}{name} {}", self.prefix, kind.as_str());
        let _ = writeln!(self.text, "# HELP {}{name} {help}", self.prefix);
    }

    fn whole<T>(&mut self, metric: &Metric<T>, labels: &str, value: u64) {
        let begin = self.text.len();
        self.series(metric.name, "", labels);
        let shown = match &mut self.grown {
            Some(grown) if metric.kind == Kind::Counter => {
                let series = self.text.split_at(begin).1;
                match grown.get_mut(series) {
                    Some(before) => {
                        *before = value.max(*before);
                        *before
                    }
                    None => {
                        grown.insert(series.to_owned(), value);
                        value
                    }
                }
            }
            _ => value,
        };
        self.end_line(shown);
    }

    /// Name and labels, up to the value.
    fn series(&mut self, name: &str, suffix: &str, labels: &str) {
        self.text.push_str(self.prefix);
        self.text.push_str(name);
        self.text.push_str(suffix);
        if !labels.is_empty() {
            self.text.push('{');
            self.text.push_str(labels);
            self.text.push('}');
        }
        self.text.push(' ');
    }

    fn end_line(&mut self, value: impl std::fmt::Display) {
        // INVARIANT: writing to a String does not fail.
        let _ = writeln!(self.text, "{value}");
    }
}
