//! Users and permissions after SIGKILL and after an orderly end: they are those of the first start, whatever the
//! configuration says by then.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::process::Stdio;

use crate::node::{DataDir, Node, program};

/// What nobody may become by a later start.
const OTHER: [&str; 4] = ["--default-user", "other", "--default-password", "secret"];

#[test]
fn the_first_user_stays_the_only_one() {
    let dir = DataDir::new("access");
    let mut node = Node::start(dir.path(), &[]);
    node.connect().close().unwrap();
    node.kill();
    let mut node = Node::start(dir.path(), &OTHER);
    node.connect().close().unwrap();
    node.end();
    let node = Node::start(dir.path(), &OTHER);
    node.connect().close().unwrap();
    node.stop();
    assert!(checked(&dir).contains("access: 1 users, 1 permissions"), "{}", checked(&dir));
}

#[test]
fn definitions_that_were_loaded_are_kept() {
    let dir = DataDir::new("access loaded");
    let definitions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol/access.json");
    let mut node = Node::start(dir.path(), &["--load-definitions", definitions]);
    node.connect().close().unwrap();
    node.kill();
    let node = Node::start(dir.path(), &OTHER);
    let mut wire = node.connect();
    assert!(!wire.has_exchange("no-such").unwrap());
    wire.close().unwrap();
    node.stop();
    assert!(checked(&dir).contains("access: 13 users, 16 permissions"), "{}", checked(&dir));
}

#[test]
fn what_is_kept_is_for_the_brokers_user_alone() {
    let dir = DataDir::new("access rights");
    // One that others may look into, as volumes often are.
    fs::DirBuilder::new().mode(0o755).create(dir.path()).expect("a folder");
    let node = Node::start(dir.path(), &["--tls-dev-certificate", "--amqps-listen", "127.0.0.1:0"]);
    let mut folders = vec![dir.path().to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder that can be read") {
            let entry = entry.expect("an entry");
            let mode = entry.metadata().expect("it is there").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:o} {}", mode, entry.path().display());
            folders.extend(entry.path().is_dir().then(|| entry.path()));
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen}");
    node.stop();
}

/// What `leveret check` says.
fn checked(dir: &DataDir) -> String {
    let output = program()
        .args(["check", "--data-dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("the check runs");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("it speaks UTF-8")
}
