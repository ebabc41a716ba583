//! The Go client amqp091-go: fetched as a Go module, compiled, run through the story and through that of a job queue.
//! As the referee RabbitMQ needs its plugin `rabbitmq_consistent_hash_exchange` for the latter.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::support::{
    self, Broker, Cache, INSTALL_MAX, Running, STORY_MAX, assert_steps, assert_story, installed, root_dir,
};

const JOB_STEPS: [&str; 6] = [
    "pool_of_workers",
    "consumer_priorities",
    "lost_worker",
    "retries_then_dead",
    "consistent_hash",
    "consistent_hash_of_a_header",
];

#[test]
fn amqp091_go_runs_the_story() {
    let Some(program) = compiled() else { return };
    let broker = Broker::start();
    assert_story(&Running::spawn(broker.command(program)).succeed(STORY_MAX), &[]);
}

#[test]
fn a_job_queue_in_go_retries_buries_and_shards() {
    let Some(program) = compiled() else { return };
    let broker = Broker::start();
    let mut story = broker.command(program);
    story.arg("jobs");
    let mut steps = JOB_STEPS.to_vec();
    if broker.is_leveret() {
        steps.push("unique_jobs");
    } else {
        story.arg("--without=unique_jobs");
    }
    assert_steps(&Running::spawn(story).succeed(STORY_MAX), &steps);
}

/// The program, unless there is no Go. Compiled once: a second time might take it from under a story that runs.
pub(crate) fn compiled() -> Option<PathBuf> {
    static COMPILED: OnceLock<Option<PathBuf>> = OnceLock::new();
    COMPILED.get_or_init(compile).clone()
}

fn compile() -> Option<PathBuf> {
    if !installed("Go", "go", "version") {
        return None;
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
    Some(program)
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
