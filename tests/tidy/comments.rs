//! What a single comment line may not be: code that was put aside, or a note that something is missing
//! without saying what. Guesses by looks, made so that prose is left alone.

/// Notes that something is missing, spelt so that this file does not find itself.
const MARKERS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Shortest text that can be a reason.
const REASON_CHARACTERS_MIN: usize = 15;

/// What statements and items begin with and sentences seldom do.
const OPENINGS: [&str; 11] =
    ["let ", "use ", "pub ", "fn ", "impl ", "return ", "self.", "assert", "match ", "mod ", "#["];

/// Whether this line is a comment that was code before.
pub(crate) fn is_commented_out_code(line: &str) -> bool {
    let Some(text) = plain_comment(line) else { return false };
    let closes = matches!(text, "}" | "};" | "})" | "});" | "},");
    let opens_like_code = OPENINGS.iter().any(|opening| text.starts_with(opening));
    let ends_like_code = text.ends_with([';', '{', '}']) || text.ends_with(")]");
    let is_statement = text.ends_with(';') && (text.contains(" = ") || text.ends_with(");"));
    closes || is_statement || (opens_like_code && ends_like_code)
}

/// Whether this line says that something is missing, and not what.
pub(crate) fn is_bare_marker(line: &str) -> bool {
    MARKERS.iter().any(|marker| {
        let behind = line.split_once(marker).map(|(_, behind)| behind);
        behind.is_some_and(|behind| {
            let reason = behind.split_once(':').map_or("", |(_, reason)| reason);
            reason.trim().chars().count() < REASON_CHARACTERS_MIN
        })
    })
}

/// The text of a line that is a comment but no documentation, where examples are welcome.
fn plain_comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    (!text.starts_with(['/', '!'])).then(|| text.trim())
}

#[test]
fn code_is_told_from_prose() {
    for code in ["// let x = 1;", "    // }", "// queue.publish(batch);", "// #[derive(Debug)]"] {
        assert!(is_commented_out_code(code), "{code}");
    }
    for prose in [
        "// Not async: held for the time of a swap.",
        "// The kernel takes 1024; beyond some dozens nothing is gained.",
        "// use the smaller of the two",
        "/// let x = 1;",
        "//! use leveret_codec::frame;",
        "let x = 1; // the first one",
    ] {
        assert!(!is_commented_out_code(prose), "{prose}");
    }
}

#[test]
fn a_reason_is_more_than_a_colon() {
    let line = |text: &str| format!("// {}{text}", MARKERS[0]);
    assert!(is_bare_marker(&line("")));
    assert!(is_bare_marker(&line(": fix")));
    assert!(is_bare_marker(&line(" make this faster")));
    assert!(!is_bare_marker(&line(": the wheel is not here yet, so nothing expires")));
    assert!(!is_bare_marker("// nothing left to do"));
}
