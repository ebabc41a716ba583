//! Definitions: all that is declared, as one JSON document, out of the broker and into it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write as _};
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget};

use super::{Verb, option, required};
use crate::call::Call;
use crate::failure::{Exit, Failure};

pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "export_definitions",
        about: "Writes all definitions to a file",
        arguments: |command| {
            command.arg(required("file").help("Or - for standard output")).arg(format_option())
        },
        run: export,
    },
    Verb {
        name: "import_definitions",
        about: "Adds definitions from a file to those that are there",
        arguments: |command| {
            let file = super::optional("file").help("Or - for standard input, as without one");
            command.arg(file).arg(format_option())
        },
        run: import,
    },
];

fn format_option() -> clap::Arg {
    option("format", "Only JSON is known").value_parser(["json"])
}

fn export(call: &mut Call<'_>) -> Result<(), Failure> {
    let file = call.text("file");
    if file == "-" {
        if call.flag("dry-run") {
            return Err(Failure::DryRun);
        }
        let definitions = call.client()?.get("definitions")?;
        return call.output.json(&definitions);
    }
    call.announce(&format!("Exporting definitions in JSON to a file at \"{file}\" ..."))?;
    let definitions = call.client()?.get("definitions")?;
    let wrong = |error: std::io::Error| Failure::new(Exit::Data, format!("{file}: {error}"));
    // Written beside it and renamed, so that a full disk does not take the last export away.
    let beside = format!("{file}.part");
    let written = private_file(&beside).and_then(|mut out| {
        out.write_all(definitions.to_string().as_bytes())?;
        out.sync_all()
    });
    written.and_then(|()| fs::rename(&beside, &file)).map_err(|error| {
        let _ = fs::remove_file(&beside);
        wrong(error)
    })
}

/// A new file that nobody else may read: there are hashes of passwords in it.
fn private_file(path: &str) -> std::io::Result<File> {
    // One that is left over, or was put there, would keep its permissions, or lead elsewhere.
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn import(call: &mut Call<'_>) -> Result<(), Failure> {
    let file = call.optional("file").filter(|file| file != "-");
    let document = match &file {
        Some(file) => {
            if !Path::new(file).exists() {
                return Err(Failure::new(Exit::Data, format!("File {file} does not exist")));
            }
            call.announce(&format!("Importing definitions in JSON from a file at \"{file}\" ..."))?;
            fs::read(file).map_err(|error| Failure::new(Exit::Data, format!("{file}: {error}")))?
        }
        None => {
            call.announce("Importing definitions in JSON from standard input ...")?;
            let mut document = Vec::new();
            let input = call.terminal.input();
            let input =
                input.ok_or_else(|| Failure::usage("name a file, or give definitions on standard input"));
            input?.read_to_end(&mut document)?;
            document
        }
    };
    // Said here with line and column, which the broker does not do.
    let checked: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(&document);
    checked.map_err(|error| Failure::new(Exit::Data, format!("the definitions are not JSON: {error}")))?;
    let seen = call.terminal.sees_errors() && !call.output.quiet;
    let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let octets = document.len() as u64;
    let progress = ProgressBar::with_draw_target(Some(octets), target);
    let mut reader = progress.wrap_read(document.as_slice());
    let result = call.client()?.post_from("definitions", octets, &mut reader);
    progress.finish_and_clear();
    Ok(result.map(drop)?)
}
