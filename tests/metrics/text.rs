//! A strict reader of the text format, version 0.0.4: what a scraper would overlook is a failure here.

use std::collections::{BTreeMap, BTreeSet};

/// A page that was read.
pub(crate) struct Page {
    /// Type by name of the metric.
    pub(crate) types: BTreeMap<String, String>,
    /// Values by name and labels, as `name{a="b"}`, the labels in the order of their names.
    pub(crate) values: BTreeMap<String, f64>,
}

impl Page {
    /// The page, or a panic that says what is wrong with which line.
    pub(crate) fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let (mut types, mut values, mut helped) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                assert!(is_name(name), "not a name: {line}");
                assert!(["counter", "gauge", "untyped", "histogram"].contains(&kind), "{line}");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "introduced twice: {line}");
                current = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(!help.is_empty() && name == current, "help of something else: {line}");
                assert!(helped.insert(name.to_owned()), "explained twice: {line}");
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
                let (name, labels) = labels_of(series);
                let kind = types.get(&current).map(String::as_str);
                let belongs = match kind {
                    Some("histogram") => {
                        ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{current}{end}"))
                    }
                    _ => name == current,
                };
                assert!(belongs, "not under its header: {line}");
                assert!(kind != Some("counter") || name.ends_with("_total"), "a counter's name: {line}");
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
                assert!(values.insert(written(&name, &labels), value).is_none(), "twice: {line}");
            }
        }
        assert_eq!(types.keys().cloned().collect::<BTreeSet<_>>(), helped, "each metric is explained");
        let page = Self { types, values };
        page.check_histograms();
        page
    }

    /// The value of a series, written as it is in [`Page::values`].
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.values.get(series).copied().unwrap_or_else(|| panic!("no series {series}"))
    }

    /// Series of a metric.
    pub(crate) fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a String, f64)> {
        let of_it = move |series: &str| {
            series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        self.values.iter().filter(move |(series, _)| of_it(series)).map(|(series, &value)| (series, value))
    }

    /// Buckets grow, and the last one is all there is.
    fn check_histograms(&self) {
        for (name, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut buckets: Vec<(f64, f64)> = self
                .series(&format!("{name}_bucket"))
                .map(|(series, count)| {
                    let bound = series.split('"').nth(1).unwrap_or_else(|| panic!("no bound: {series}"));
                    (bound.parse().unwrap_or_else(|_| panic!("not a bound: {series}")), count)
                })
                .collect();
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name} is not cumulated");
            assert_eq!(
                buckets.last(),
                Some(&(f64::INFINITY, self.value(&format!("{name}_count")))),
                "{name}"
            );
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_begin = |octet: char| octet.is_ascii_alphabetic() || octet == '_' || octet == ':';
    name.starts_with(is_begin) && name.chars().all(|octet| is_begin(octet) || octet.is_ascii_digit())
}

/// Takes `name{label="value",...}` apart; values as they were before they were escaped.
fn labels_of(series: &str) -> (String, BTreeMap<String, String>) {
    let (name, mut rest) = match series.split_once('{') {
        None => (series, ""),
        Some((name, rest)) => {
            let inner = rest.strip_suffix('}').unwrap_or_else(|| panic!("labels do not end: {series}"));
            assert!(!inner.is_empty(), "empty labels: {series}");
            (name, inner)
        }
    };
    assert!(is_name(name), "not a name: {series}");
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("no value: {series}"));
        assert!(is_name(label) && !label.contains(':'), "not a label: {series}");
        let (mut value, mut octets) = (String::new(), quoted.char_indices());
        rest = loop {
            match octets.next() {
                Some((end, '"')) => break &quoted[end + 1..],
                Some((_, '\\')) => value.push(match octets.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, octet @ ('\\' | '"'))) => octet,
                    other => panic!("bad escape {other:?}: {series}"),
                }),
                Some((_, octet)) => value.push(octet),
                None => panic!("value does not end: {series}"),
            }
        };
        assert!(labels.insert(label.to_owned(), value).is_none(), "label twice: {series}");
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').unwrap_or_else(|| panic!("no comma: {series}"));
        }
    }
    (name.to_owned(), labels)
}

fn written(name: &str, labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return name.to_owned();
    }
    let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    format!("{name}{{{}}}", labels.join(","))
}
