//! Regular expressions that somebody who asks filters names by: bounded in length, in what they are compiled to, and in
//! the steps of a match.

use fancy_regex::{Regex, RegexBuilder};
use leveret_broker::limits::PATTERN_STEPS_MAX;

/// Octets of a pattern.
const PATTERN_BYTES_MAX: usize = 1024;

/// Octets that each part of a compiled one may take: enough for some `\w`, which is a long list of ranges.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// Compiles a pattern.
///
/// # Errors
/// It is no regular expression, or too large.
pub(crate) fn compiled(pattern: &str, ignores_case: bool) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("a pattern has at most {PATTERN_BYTES_MAX} octets"));
    }
    RegexBuilder::new(pattern)
        .case_insensitive(ignores_case)
        .delegate_size_limit(COMPILED_BYTES_MAX)
        .backtrack_limit(PATTERN_STEPS_MAX)
        .build()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_look_for_is_compiled_and_what_takes_too_much_is_not() {
        for ignores_case in [false, true] {
            for pattern in ["^[\\w.-]+-(prod|test)\\.\\w+$", "^(?!amq\\.)", "\\d{1,3}", "^q[0-9]+$", "é"] {
                assert!(compiled(pattern, ignores_case).is_ok(), "{pattern}");
            }
            let long = "x".repeat(PATTERN_BYTES_MAX + 1);
            for pattern in ["(", "(.{1000}){1000}", "(\\w{100}){100}", "(?=(\\w{100}){100})x", &long] {
                assert!(compiled(pattern, ignores_case).is_err(), "{pattern}");
            }
        }
        let steps = compiled("(?=a)(a|a)*b", false).expect("a pattern");
        assert!(!steps.is_match(&"a".repeat(255)).unwrap_or(false));
    }
}
