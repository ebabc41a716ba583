//! The Java client com.rabbitmq:amqp-client: fetched and compiled with Maven, run through the story.

use std::process::Command;

use crate::support::{
    self, Broker, Cache, INSTALL_MAX, Running, STORY_MAX, assert_story, installed, root_dir,
};

#[test]
fn the_java_client_runs_the_story() {
    if !installed("Java", "javac", "-version") || !installed("Maven", "mvn", "-version") {
        return;
    }
    let cache = Cache::lock("java");
    // The first build fetches the library and Maven's plugins; the next ones need no network.
    cache.install_once(include_str!("java/pom.xml"), |_| {
        Running::spawn(compile(&cache)).succeed(INSTALL_MAX);
    });
    let mut offline = compile(&cache);
    offline.arg("--offline");
    Running::spawn(offline).succeed(INSTALL_MAX);

    let broker = Broker::start();
    let target = cache.path.join("target");
    let mut story = broker.command("java");
    story.arg("-cp").arg(format!("{0}/classes:{0}/lib/*", target.display())).arg("story.Story");
    assert_story(&Running::spawn(story).succeed(STORY_MAX), &[]);
}

/// Compiles the program and collects its jars, with everything Maven keeps in the cache folder.
fn compile(cache: &Cache) -> Command {
    let mut command = support::tool("mvn");
    command
        .args(["--quiet", "--batch-mode", "-Dstyle.color=never", "compile"])
        .arg("--file")
        .arg(root_dir().join("tests/clients/java/pom.xml"))
        .arg(format!("-Dmaven.repo.local={}", cache.path.join("repository").display()))
        .arg(format!("-Doutput={}", cache.path.join("target").display()));
    command
}
