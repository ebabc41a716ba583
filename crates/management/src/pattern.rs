//! Regular expressions that somebody who asks filters names by: bounded in length, in what they are compiled to, in the
//! steps of a match, and in the time that all names together take.

use std::time::{Duration, Instant};

use fancy_regex::{Regex, RegexBuilder};
use leveret_broker::limits::PATTERN_STEPS_MAX;

/// Octets of a pattern.
const PATTERN_BYTES_MAX: usize = 1024;

/// Octets that each part of a compiled one may take: enough for some `\w`, which is a long list of ranges.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// How long it may take to look at all names: a thousand times as long as what people look for takes with a thousand.
const TIME_MAX: Duration = Duration::from_secs(1);

/// A pattern for names.
pub(crate) struct Pattern {
    regex: Regex,
    time_max: Duration,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is no regular expression, or too large.
    pub(crate) fn new(pattern: &str, ignores_case: bool) -> Result<Self, String> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(format!("a pattern has at most {PATTERN_BYTES_MAX} octets"));
        }
        let regex = RegexBuilder::new(pattern)
            .case_insensitive(ignores_case)
            .delegate_size_limit(COMPILED_BYTES_MAX)
            .backtrack_limit(PATTERN_STEPS_MAX)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { regex, time_max: TIME_MAX })
    }

    /// Leaves what has a name in which the pattern is found.
    ///
    /// # Errors
    /// It takes too long; the list is of no use then.
    pub(crate) fn retain<T>(&self, items: &mut Vec<T>, name: impl Fn(&T) -> &str) -> Result<(), String> {
        let deadline = Instant::now() + self.time_max;
        let mut is_late = false;
        items.retain(|item| {
            is_late = is_late || Instant::now() > deadline;
            !is_late && self.regex.is_match(name(item)).unwrap_or(false)
        });
        if is_late {
            return Err("the pattern takes too long with so many names".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_look_for_is_compiled_and_what_takes_too_much_is_not() {
        let is_compiled = |pattern: &str, ignores_case| Pattern::new(pattern, ignores_case).is_ok();
        for ignores_case in [false, true] {
            for pattern in ["^[\\w.-]+-(prod|test)\\.\\w+$", "^(?!amq\\.)", "\\d{1,3}", "^q[0-9]+$", "é"] {
                assert!(is_compiled(pattern, ignores_case), "{pattern}");
            }
            let long = "x".repeat(PATTERN_BYTES_MAX + 1);
            for pattern in ["(", "(.{1000}){1000}", "(\\w{100}){100}", "(?=(\\w{100}){100})x", &long] {
                assert!(!is_compiled(pattern, ignores_case), "{pattern}");
            }
        }
    }

    #[test]
    fn a_match_has_few_steps_and_all_names_have_little_time() {
        let mut pattern = Pattern::new("(?=a)(a|a)*b|c", false).expect("a pattern");
        let mut names = vec!["a".repeat(255), "c".to_owned(), "d".to_owned()];
        pattern.retain(&mut names, String::as_str).expect("there are few");
        assert_eq!(names, ["c"]);
        pattern.time_max = Duration::from_millis(20);
        let mut names = vec!["a".repeat(255); 1_000_000];
        let begun = Instant::now();
        assert!(pattern.retain(&mut names, String::as_str).is_err());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
