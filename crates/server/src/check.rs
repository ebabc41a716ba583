//! `leveret check`: verifies what a broker that is not running has in its data directory, changes nothing, and
//! says in its exit code how it went. What is verified and how is the store's business.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use leveret_store::check::{CheckError, Reader, Stage};

/// Where no terminal shows a bar, the report says after this long how far the work is.
const TELL_EACH: Duration = Duration::from_secs(5);

/// So often a bar moves while nothing else does.
const TICK: Duration = Duration::from_millis(200);

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Everything is as it was written.
    Sound,
    /// Something is not; the report says what.
    Damaged,
}

/// Everything is sound.
const SOUND: u8 = 0;
/// Something is damaged.
const DAMAGED: u8 = 1;
/// It could not be checked: it is missing, in use or unreadable. Wrong usage exits with the same.
const NOT_CHECKED: u8 = 2;

/// Verifies a data directory; the report goes to standard output, a bar to standard error if that is a terminal.
pub(crate) fn run(data_dir: &Path) -> ExitCode {
    let verify = |data_dir: &Path, reader: &mut Report<'_>| {
        let report = leveret_store::check::check(data_dir, reader)?;
        Ok::<_, CheckError>(if report.is_sound() { Verdict::Sound } else { Verdict::Damaged })
    };
    let bar = io::stderr().is_terminal().then(ProgressDrawTarget::stderr);
    let mut out = io::stdout().lock();
    // Standard error is not locked: the bar has a thread of its own that writes to it.
    ExitCode::from(check(data_dir, Report::new(&mut out, bar), &mut io::stderr(), verify))
}

/// The exit code. `verify` tells the report what it finds as it goes.
fn check<E: Display>(
    data_dir: &Path,
    mut report: Report<'_>,
    errors: &mut dyn Write,
    verify: impl FnOnce(&Path, &mut Report<'_>) -> Result<Verdict, E>,
) -> u8 {
    let path = data_dir.display();
    let verdict = if data_dir.is_dir() {
        verify(data_dir, &mut report).map_err(|error| error.to_string())
    } else {
        Err("there is no such directory".to_owned())
    };
    report.end();
    match verdict {
        Ok(Verdict::Sound) => {
            report.line(format_args!("{path}: sound"));
            SOUND
        }
        Ok(Verdict::Damaged) => {
            report.line(format_args!("{path}: damaged"));
            DAMAGED
        }
        Err(error) => {
            let _ = writeln!(errors, "leveret: cannot check {path}: {error}");
            NOT_CHECKED
        }
    }
}

/// What an operator sees of a check.
struct Report<'a> {
    out: &'a mut dyn Write,
    bar: Option<ProgressBar>,
    /// When it was last told how far the work is.
    told: Instant,
}

impl<'a> Report<'a> {
    fn new(out: &'a mut dyn Write, bar: Option<ProgressDrawTarget>) -> Self {
        let bar = bar.map(|target| ProgressBar::with_draw_target(None, target));
        Self { out, bar, told: Instant::now() }
    }

    /// Takes the bar away.
    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Reader for Report<'_> {
    fn line(&mut self, text: fmt::Arguments<'_>) {
        // Whoever stopped reading still gets the exit code.
        let mut write = || _ = writeln!(self.out, "{text}");
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn stage(&mut self, stage: Stage) {
        if let Some(bar) = &self.bar {
            show(bar, stage);
        } else if self.told.elapsed() >= TELL_EACH {
            self.told = Instant::now();
            match stage {
                Stage::Catalog => self.line(format_args!("... the catalog is read")),
                Stage::Journal => self.line(format_args!("... the journal is read")),
                Stage::Search => self.line(format_args!("... blocks are looked for")),
                Stage::Blocks { done, all } => self.line(format_args!("... {done} of {all} blocks are read")),
            }
        }
    }
}

fn show(bar: &ProgressBar, stage: Stage) {
    let begin = |what: &'static str, template: &str| {
        bar.reset();
        // Both templates are right; a wrong one would only look different.
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(what);
        bar.enable_steady_tick(TICK);
    };
    const UNKNOWN_LENGTH: &str = "{spinner} {msg}, {elapsed}";
    match stage {
        Stage::Catalog => begin("reading the catalog", UNKNOWN_LENGTH),
        Stage::Journal => begin("reading the journal", UNKNOWN_LENGTH),
        Stage::Search => begin("looking for blocks", UNKNOWN_LENGTH),
        Stage::Blocks { done, all } => {
            if done == 0 {
                begin("reading blocks", "{msg} {wide_bar} {human_pos}/{human_len}, {eta} to go");
                bar.set_length(all as u64);
            }
            bar.set_position(done as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_temp_dir(found: Result<Verdict, &'static str>) -> (u8, String, String) {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let code = check(&std::env::temp_dir(), Report::new(&mut out, None), &mut errors, |_, report| {
            report.line(format_args!("looked"));
            found
        });
        let text = |octets| String::from_utf8(octets).unwrap();
        (code, text(out), text(errors))
    }

    #[test]
    fn the_exit_code_says_how_it_went() {
        let path = std::env::temp_dir().display().to_string();
        let (code, report, errors) = check_temp_dir(Ok(Verdict::Sound));
        assert_eq!((code, report, errors), (0, format!("looked\n{path}: sound\n"), String::new()));
        let (code, report, _) = check_temp_dir(Ok(Verdict::Damaged));
        assert_eq!((code, report), (1, format!("looked\n{path}: damaged\n")));
        let (code, _, errors) = check_temp_dir(Err("it is in use"));
        assert_eq!((code, errors), (2, format!("leveret: cannot check {path}: it is in use\n")));
    }

    #[test]
    fn a_directory_that_is_missing_is_not_made() {
        let missing = std::env::temp_dir().join("leveret-no-such-directory");
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let verify = |_: &Path, _: &mut Report<'_>| -> Result<Verdict, String> { panic!("there is nothing") };
        assert_eq!(check(&missing, Report::new(&mut out, None), &mut errors, verify), 2);
        assert!(String::from_utf8(errors).unwrap().ends_with("there is no such directory\n"));
        assert!(out.is_empty() && !missing.exists());
    }
}
