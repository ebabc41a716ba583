//! Which files belong to a target: those Cargo finds by their place, those a manifest names, and what
//! these reach by `mod`. A file that none reaches is compiled by nobody and rots unseen.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::{Source, root};

/// Sources that no target reaches.
pub(crate) fn orphans(sources: &[Source]) -> Vec<PathBuf> {
    let texts: HashMap<&Path, &str> =
        sources.iter().map(|source| (source.path.as_path(), source.text.as_str())).collect();
    let mut pending: Vec<(PathBuf, bool)> = named_targets().into_iter().map(|path| (path, true)).collect();
    pending
        .extend(texts.keys().filter(|path| is_target_by_place(path)).map(|path| (path.to_path_buf(), true)));
    let mut reached = HashSet::new();
    while let Some((path, is_root)) = pending.pop() {
        let Some(text) = texts.get(path.as_path()) else { continue };
        pending.extend(modules(&path, text, is_root).into_iter().map(|module| (module, false)));
        reached.insert(path);
    }
    let mut orphans: Vec<_> =
        texts.keys().filter(|path| !reached.contains(**path)).map(|path| path.to_path_buf()).collect();
    orphans.sort();
    orphans
}

/// A library, an integration test or a bench that needs no entry in a manifest.
fn is_target_by_place(path: &Path) -> bool {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let in_package = match parts.as_slice() {
        ["crates", _, rest @ ..] => rest,
        rest => rest,
    };
    match in_package {
        ["src", "lib.rs"] => true,
        ["tests" | "benches", file] => !file.is_empty(),
        ["tests" | "benches", _, "main.rs"] => true,
        // The package at the top names its examples, crates need not.
        ["examples", _] => parts.first() == Some(&"crates"),
        _ => false,
    }
}

/// Files that manifests name with `path = "….rs"`.
fn named_targets() -> Vec<PathBuf> {
    let folders = crate::entries(&root().join("crates"));
    let folders = folders.map(|entry| Path::new("crates").join(entry.file_name()));
    let folders = folders.flat_map(|folder| [folder.join("fuzz"), folder]);
    let mut named = Vec::new();
    for folder in folders.chain([PathBuf::new()]) {
        let Ok(manifest) = fs::read_to_string(root().join(&folder).join("Cargo.toml")) else { continue };
        let paths = manifest.lines().filter_map(|line| quoted(line.strip_prefix("path = ")?));
        named.extend(paths.filter(|path| path.ends_with(".rs")).map(|path| folder.join(path)));
    }
    named
}

/// The files of the modules that a file declares; each in both places it may have.
fn modules(path: &Path, text: &str, is_root: bool) -> Vec<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let is_root = is_root || path.file_name().is_some_and(|name| name == "mod.rs");
    let below = if is_root { folder.to_owned() } else { path.with_extension("") };
    let mut found = Vec::new();
    let mut elsewhere = None;
    for line in text.lines().map(str::trim) {
        if let Some(attribute) = line.strip_prefix("#[path = ") {
            elsewhere = quoted(attribute);
        } else if let Some(name) = declared_module(line) {
            match elsewhere.take() {
                Some(place) => found.push(normal(&folder.join(place))),
                None => found.extend([below.join(format!("{name}.rs")), below.join(name).join("mod.rs")]),
            }
        }
    }
    found
}

/// The name in `mod name;`, whatever its visibility.
fn declared_module(line: &str) -> Option<&str> {
    let (before, name) = line.strip_suffix(';')?.split_once("mod ")?;
    let before = before.trim();
    (before.is_empty() || before == "pub" || before.starts_with("pub(")).then_some(name)
}

/// The text between the first two quotation marks.
fn quoted(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

/// The path without `..`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut normal, part| {
        match part {
            Component::ParentDir => _ = normal.pop(),
            part => normal.push(part),
        }
        normal
    })
}
