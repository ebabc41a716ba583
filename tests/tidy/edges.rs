//! Which crate may depend on which, and what the inner ones must never hear of. An edge too many is
//! found here before code grows along it; docs/ARCHITECTURE.md says why the edges are these.

use std::collections::BTreeSet;
use std::path::Path;

/// What one crate knows.
struct Knowledge {
    folder: &'static str,
    /// Crates of this workspace, exactly.
    ours: &'static [&'static str],
    /// Crates from elsewhere that would break what this one promises.
    never: &'static [&'static str],
}

/// All crates, and the package at the top.
const CRATES: [Knowledge; 8] = [
    Knowledge {
        folder: "crates/codec",
        ours: &[],
        // It parses octets: no I/O, no runtime.
        never: &["tokio", "mio", "tracing", "dashmap"],
    },
    Knowledge {
        folder: "crates/broker",
        ours: &["leveret-codec"],
        // Synchronous and deterministic: no sockets, no disk, no documents.
        never: &["tokio", "mio", "sled", "axum", "hyper", "serde", "serde_json"],
    },
    // It keeps octets: what travels over sockets is none of its business.
    Knowledge {
        folder: "crates/store",
        ours: &["leveret-broker", "leveret-codec"],
        never: &["tokio", "mio"],
    },
    // It shows what there is: sockets of AMQP and the disk are the server's.
    Knowledge { folder: "crates/management", ours: &["leveret-broker", "leveret-codec"], never: &["sled"] },
    Knowledge {
        folder: "crates/server",
        ours: &["leveret-broker", "leveret-codec", "leveret-management", "leveret-store"],
        never: &["sled"],
    },
    // It speaks AMQP like any client, to any broker.
    Knowledge { folder: "crates/perf", ours: &["leveret-codec"], never: &[] },
    // It speaks HTTP like any client, to any broker, and needs no runtime for it.
    Knowledge { folder: "crates/ctl", ours: &[], never: &["tokio", "hyper", "axum"] },
    Knowledge { folder: "", ours: &["leveret-ctl", "leveret-perf", "leveret-server"], never: &[] },
];

/// Edges that are too many or missing.
pub(crate) fn findings(root: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    for entry in crate::entries(&root.join("crates")) {
        let folder = Path::new("crates").join(entry.file_name());
        let is_crate = entry.path().join("Cargo.toml").is_file();
        if is_crate && !CRATES.iter().any(|known| Path::new(known.folder) == folder) {
            findings.push(format!("{}: not listed in tests/tidy/edges.rs", folder.display()));
        }
    }
    for known in &CRATES {
        let manifest = Path::new(known.folder).join("Cargo.toml");
        let dependencies = dependencies(&crate::read(&root.join(&manifest)));
        let ours: BTreeSet<_> = known.ours.iter().map(|&name| name.to_owned()).collect();
        let found: BTreeSet<_> =
            dependencies.iter().filter(|name| name.starts_with("leveret-")).cloned().collect();
        if found != ours {
            findings.push(format!("{}: depends on {found:?}, may on {ours:?}", manifest.display()));
        }
        let forbidden = known.never.iter().filter(|&&name| dependencies.contains(name));
        findings.extend(forbidden.map(|name| format!("{}: must not know {name}", manifest.display())));
    }
    findings
}

/// Names under `[dependencies]` and its kin for targets and build scripts; not what tests use.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut is_listing = false;
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            let is_for_tests = section.ends_with("dev-dependencies");
            is_listing =
                section.ends_with("dependencies") && section != "workspace.dependencies" && !is_for_tests;
        } else if is_listing
            && !line.starts_with('#')
            && let Some((name, _)) = line.split_once(['=', '.'])
        {
            names.insert(name.trim().to_owned());
        }
    }
    names
}

#[test]
fn dependencies_are_told_from_those_of_tests() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\n# b = \"1\"\nc.workspace = true\n\
                    [target.'cfg(unix)'.dependencies]\nd = { version = \"1\" }\n[dev-dependencies]\ne = \"1\"\n";
    let names = dependencies(manifest);
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "c", "d"]);
}
