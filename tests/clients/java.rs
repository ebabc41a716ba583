//! The Java client com.rabbitmq:amqp-client: fetched and compiled with Maven, run through the story, and used as
//! frameworks such as Spring AMQP use it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::{
    self, Broker, Cache, INSTALL_MAX, Running, STORY_MAX, assert_steps, assert_story, installed, root_dir,
};

const FRAMEWORK_STEPS: [&str; 11] = [
    "retry_and_parking_lot",
    "single_active_consumer",
    "single_active_consumer_lost",
    "rpc_over_direct_reply_to",
    "rpc_over_a_fixed_queue",
    "requests_expire",
    "quorum_delivery_limit",
    "quorum_crashed_consumer",
    "reject_publish",
    "reject_publish_to_dead_letters",
    "returned_then_confirmed",
];

#[test]
fn the_java_client_runs_the_story() {
    let Some(target) = compiled() else { return };
    let broker = Broker::start();
    assert_story(&Running::spawn(program(&broker, &target, "story.Story")).succeed(STORY_MAX), &[]);
}

#[test]
fn listeners_and_templates_in_java_retry_park_and_are_refused() {
    let Some(target) = compiled() else { return };
    let broker = Broker::start();
    let mut story = program(&broker, &target, "story.Frameworks");
    let mut steps = FRAMEWORK_STEPS.to_vec();
    if broker.is_leveret() {
        steps.push("quorum_priorities");
    } else {
        story.arg("--no-quorum-priorities");
    }
    assert_steps(&Running::spawn(story).succeed(STORY_MAX), &steps);
}

fn program(broker: &Broker, target: &Path, class: &str) -> Command {
    let mut command = broker.command("java");
    command.arg("-cp").arg(format!("{0}/classes:{0}/lib/*", target.display())).arg(class);
    command
}

/// The folder of the classes and jars, unless the tools are not there. Compiled once: a second time might take them
/// from under a program that runs.
pub(crate) fn compiled() -> Option<PathBuf> {
    static COMPILED: OnceLock<Option<PathBuf>> = OnceLock::new();
    COMPILED.get_or_init(compile_all).clone()
}

fn compile_all() -> Option<PathBuf> {
    if !installed("Java", "javac", "-version") || !installed("Maven", "mvn", "-version") {
        return None;
    }
    let cache = Cache::lock("java");
    // The first build fetches the library and Maven's plugins; the next ones need no network.
    cache.install_once(include_str!("java/pom.xml"), |_| {
        Running::spawn(compile(&cache)).succeed(INSTALL_MAX);
    });
    let mut offline = compile(&cache);
    offline.arg("--offline");
    Running::spawn(offline).succeed(INSTALL_MAX);
    Some(cache.path.join("target"))
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
