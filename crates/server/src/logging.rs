//! The log: lines on standard error, as text or as JSON. What peers say comes into it, so that in a line of text
//! control characters are escaped, wherever they come from: nobody begins a line of their own, or speaks to a
//! terminal.

use std::fmt::{self, Debug, Write};
use std::io::IsTerminal as _;

use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use crate::config::{Config, LogFormat};

/// Begins to log, as far and in the form that is configured.
pub(crate) fn start(config: &Config) {
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => {
            let builder = builder.with_ansi(std::io::stderr().is_terminal()).with_target(false);
            builder.fmt_fields(text_fields()).init();
        }
        LogFormat::Json => builder.json().init(),
    }
}

/// The message, and names with values.
fn text_fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn Debug| {
        if field.name() != "message" {
            let (italic, dim, off) = match writer.has_ansi_escapes() {
                true => ("\x1b[3m", "\x1b[2m", "\x1b[0m"),
                false => ("", "", ""),
            };
            write!(writer, "{italic}{}{off}{dim}={off}", field.name())?;
        }
        write!(Escaping(writer), "{value:?}")
    })
    .delimited(" ")
}

/// Writes control characters, and others that end a line for some, as escapes.
struct Escaping<'a, W>(&'a mut W);

impl<W: Write> Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let must_be_escaped = |one: char| one.is_control() || matches!(one, '\u{2028}' | '\u{2029}');
        let mut rest = text;
        while let Some((before, found)) =
            rest.char_indices().find(|(_, one)| must_be_escaped(*one)).and_then(|(at, found)| {
                let before = rest.get(..at)?;
                rest = rest.get(at + found.len_utf8()..)?;
                Some((before, found))
            })
        {
            write!(self.0, "{before}{}", found.escape_default())?;
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::{info, info_span};

    use super::*;

    /// Keeps what is written to it.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_begins_a_line_of_their_own() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .with_writer(move || writer.clone())
            .fmt_fields(text_fields())
            .finish();
        let said = "a\n2026-11-21 INFO b\u{1b}[2J\r\u{85}\u{2028}ü";
        tracing::subscriber::with_default(subscriber, || {
            let _span = info_span!("s", %said).entered();
            info!(field = %said, text = "quoted\n", number = 5, "said: {said}");
        });
        let escaped = "a\\n2026-11-21 INFO b\\u{1b}[2J\\r\\u{85}\\u{2028}ü";
        assert_eq!(
            String::from_utf8_lossy(&kept.0.lock()),
            format!(
                " INFO s{{said={escaped}}}: said: {escaped} field={escaped} text=\"quoted\\n\" number=5\n"
            )
        );
    }
}
