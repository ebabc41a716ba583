//! Rules of the house that neither the compiler nor clippy looks after, read off the sources themselves:
//! every file says what it is, belongs to something and is no attic; crates know what they may know.
//!
//! A finding names file and line. Where a rule is wrong about sound code, the rule is what changes.

mod comments;
mod edges;
mod modules;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Columns of a line, as in rustfmt.toml but with room for what it does not break.
const COLUMNS_MAX: usize = 120;

/// Lines of a file's header: what does not fit belongs to docs/ARCHITECTURE.md.
const HEADER_LINES_MAX: usize = 12;

/// Folders with Rust in them; everything else is documents and settings.
const SOURCE_FOLDERS: [&str; 3] = ["crates", "tests", "examples"];

/// A Rust file, and its path from the top of the repository.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    /// Lines with their numbers.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// A finding about one line.
    pub(crate) fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path.display())
    }
}

#[test]
fn every_file_opens_with_a_short_header() {
    let header_of = |source: &Source| source.text.lines().take_while(|line| line.starts_with("//!")).count();
    let findings = sources().into_iter().filter_map(|source| match header_of(&source) {
        0 => Some(source.at(1, "does not open with `//!`: what it is, who hands to it and whom it hands to")),
        lines if lines > HEADER_LINES_MAX => Some(source.at(lines, "its header is longer than 12 lines")),
        _ => None,
    });
    assert_none(findings);
}

#[test]
fn every_file_is_reached_from_a_target() {
    let orphans = modules::orphans(&sources());
    assert_none(orphans.into_iter().map(|path| format!("{}: no target and no `mod` of one", path.display())));
}

#[test]
fn no_code_is_commented_out() {
    assert_findings_per_line(|line| comments::is_commented_out_code(line).then_some("code in a comment"));
}

#[test]
fn what_is_left_to_do_carries_a_reason() {
    assert_findings_per_line(|line| {
        comments::is_bare_marker(line).then_some("say behind a colon what is missing and why")
    });
}

#[test]
fn lines_fit_the_screen() {
    assert_findings_per_line(|line| (line.chars().count() > COLUMNS_MAX).then_some("wider than 120 columns"));
}

#[test]
fn merges_are_finished() {
    let mut texts = Vec::new();
    for folder in SOURCE_FOLDERS.iter().chain(&["docs", "docker", "packaging"]) {
        gather(Path::new(folder), &["md", "rs", "toml", "yaml", "sh"], &mut texts);
    }
    let is_marker = |line: &str| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ");
    assert_none(texts.iter().flat_map(|text| {
        text.lines()
            .filter(|(_, line)| is_marker(line))
            .map(|(number, _)| text.at(number, "a conflict is left"))
    }));
}

#[test]
fn crates_know_what_they_may_know() {
    assert_none(edges::findings(root()));
}

/// Looks at each line of each file by itself.
fn assert_findings_per_line(rule: impl Fn(&str) -> Option<&'static str>) {
    let sources = sources();
    let findings = sources.iter().flat_map(|source| {
        source.lines().filter_map(|(number, line)| rule(line).map(|what| source.at(number, what)))
    });
    assert_none(findings);
}

/// Panics with all findings at once, so that one run is enough to mend them.
fn assert_none(findings: impl IntoIterator<Item = String>) {
    let report = findings.into_iter().fold(String::new(), |mut report, finding| {
        let _ = writeln!(report, "  {finding}");
        report
    });
    assert!(report.is_empty(), "\n{report}");
}

/// All Rust files.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in SOURCE_FOLDERS {
        gather(Path::new(folder), &["rs"], &mut found);
    }
    assert!(found.len() > 100, "the sources are not where this test looks for them");
    found
}

/// Adds the files with these extensions below `folder`, a path from the top of the repository.
fn gather(folder: &Path, extensions: &[&str], found: &mut Vec<Source>) {
    for entry in entries(&root().join(folder)) {
        let name = entry.file_name().into_string().expect("names of files are text");
        let path = folder.join(&name);
        // What builds and package managers leave behind is not ours.
        let is_ours =
            !name.starts_with('.') && !matches!(name.as_str(), "target" | "node_modules" | "vendor");
        if entry.path().is_dir() {
            if is_ours {
                gather(&path, extensions, found);
            }
        } else if path.extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted)) {
            found.push(Source { text: read(&entry.path()), path });
        }
    }
}

/// What is in a folder.
pub(crate) fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("a folder that could be opened can be read"))
}

/// The text of a file.
pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
