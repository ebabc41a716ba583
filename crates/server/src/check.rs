//! `leveret check`: verifies what a broker that is not running has in its data directory, changes nothing, and
//! says in its exit code how it went. What is verified and how is the store's business.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use leveret_store::check::CheckError;

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

/// Verifies a data directory; the report goes to standard output.
pub(crate) fn run(data_dir: &Path) -> ExitCode {
    let verify = |data_dir: &Path, out: &mut dyn Write| {
        let report = leveret_store::check::check(data_dir, out)?;
        Ok::<_, CheckError>(if report.is_sound() { Verdict::Sound } else { Verdict::Damaged })
    };
    ExitCode::from(check(data_dir, &mut io::stdout().lock(), &mut io::stderr().lock(), verify))
}

/// The exit code. `verify` writes what it finds to the report as it goes.
fn check<E: Display>(
    data_dir: &Path,
    report: &mut dyn Write,
    errors: &mut dyn Write,
    verify: impl FnOnce(&Path, &mut dyn Write) -> Result<Verdict, E>,
) -> u8 {
    let path = data_dir.display();
    let verdict = if data_dir.is_dir() {
        verify(data_dir, report).map_err(|error| error.to_string())
    } else {
        Err("there is no such directory".to_owned())
    };
    // Whoever stopped reading still gets the exit code.
    match verdict {
        Ok(Verdict::Sound) => {
            let _ = writeln!(report, "{path}: sound");
            SOUND
        }
        Ok(Verdict::Damaged) => {
            let _ = writeln!(report, "{path}: damaged");
            DAMAGED
        }
        Err(error) => {
            let _ = writeln!(errors, "leveret: cannot check {path}: {error}");
            NOT_CHECKED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_temp_dir(found: Result<Verdict, &'static str>) -> (u8, String, String) {
        let (mut report, mut errors) = (Vec::new(), Vec::new());
        let code = check(&std::env::temp_dir(), &mut report, &mut errors, |_, report| {
            let _ = writeln!(report, "looked");
            found
        });
        let text = |octets| String::from_utf8(octets).unwrap();
        (code, text(report), text(errors))
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
        let (mut report, mut errors) = (Vec::new(), Vec::new());
        let verify = |_: &Path, _: &mut dyn Write| -> Result<Verdict, String> { panic!("there is nothing") };
        assert_eq!(check(&missing, &mut report, &mut errors, verify), 2);
        assert!(String::from_utf8(errors).unwrap().ends_with("there is no such directory\n"));
        assert!(report.is_empty() && !missing.exists());
    }
}
