//! The Go client amqp091-go: fetched as a Go module, compiled, run through the story.

use std::process::Command;

use crate::support::{
    self, Broker, Cache, INSTALL_MAX, Running, STORY_MAX, assert_story, installed, root_dir,
};

#[test]
fn amqp091_go_runs_the_story() {
    if !installed("Go", "go", "version") {
        return;
    }
    let cache = Cache::lock("go");
    let recipe = concat!(include_str!("go/go.mod"), include_str!("go/go.sum"));
    cache.install_once(recipe, |_| {
        let mut download = go(&cache);
        download.args(["mod", "download"]);
        Running::spawn(download).succeed(INSTALL_MAX);
    });
    let program = cache.path.join("story");
    let mut build = go(&cache);
    build.args(["build", "-o"]).arg(&program).arg(".");
    Running::spawn(build).succeed(INSTALL_MAX);

    let broker = Broker::start();
    let output = Running::spawn(broker.command(&program)).succeed(STORY_MAX);
    assert_story(&output, &[]);
}

/// The go tool in the program's folder, with everything it keeps in the cache folder.
fn go(cache: &Cache) -> Command {
    let mut command = support::tool("go");
    command
        .current_dir(root_dir().join("tests/clients/go"))
        .env("GOMODCACHE", cache.path.join("modules"))
        .env("GOCACHE", cache.path.join("build"))
        // Modules that can be deleted like any other file.
        .env("GOFLAGS", "-mod=readonly -modcacherw")
        .env("GOTOOLCHAIN", "local");
    command
}
