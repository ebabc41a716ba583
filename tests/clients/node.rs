//! The Node client amqplib: fetched with npm, run through the story.

use std::fs;
use std::path::Path;

use crate::support::{
    self, Broker, Cache, INSTALL_MAX, Running, STORY_MAX, assert_story, installed, root_dir,
};

/// What amqplib has no API for.
const UNSUPPORTED: [&str; 1] = ["transactions"];

#[test]
fn amqplib_runs_the_story() {
    if !installed("Node", "node", "--version") || !installed("npm", "npm", "--version") {
        return;
    }
    let cache = Cache::lock("node");
    // Node looks for modules beside the program: the program goes where they are.
    copy_files(&root_dir().join("tests/clients/node"), &cache.path);
    cache.install_once(include_str!("node/package-lock.json"), |path| {
        let mut install = support::tool("npm");
        install
            .current_dir(path)
            .args(["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--cache"])
            .arg(path.join("npm"));
        Running::spawn(install).succeed(INSTALL_MAX);
    });

    let broker = Broker::start();
    let mut story = broker.command("node");
    story.current_dir(&cache.path).arg("story.js");
    assert_story(&Running::spawn(story).succeed(STORY_MAX), &UNSUPPORTED);
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the program's folder can be read") {
        let entry = entry.expect("the program's folder can be read");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("the program can be copied");
    }
}
