//! RabbitMQ's own `rabbitmqadmin`, the Python script, driven against Leveret.

use std::path::Path;

use crate::http::Api;
use crate::support::{PROGRAM_MAX, Running, found, tool, unique_dir};

/// Where distributions put it.
const SCRIPTS: [&str; 2] = ["/usr/bin/rabbitmqadmin", "/usr/sbin/rabbitmqadmin"];

struct Script<'a> {
    path: &'a str,
    port: u16,
}

impl Script<'_> {
    /// Runs it; gives what it printed.
    fn run(&self, words: &[&str]) -> String {
        let mut command = tool("python3");
        command.arg(self.path).args(["--host", "127.0.0.1", "--port", &self.port.to_string()]).args(words);
        Running::spawn(command).succeed(PROGRAM_MAX)
    }
}

#[test]
fn the_script_of_rabbitmq_lists_declares_publishes_gets_exports_and_imports() {
    let script = SCRIPTS.into_iter().find(|path| Path::new(path).is_file());
    let Some(path) = script.filter(|_| found("rabbitmqadmin", true)) else {
        found("rabbitmqadmin", false);
        return;
    };
    let api = Api::start();
    let script = Script { path, port: api.port };
    let has = |words: &[&str], text: &str| {
        let printed = script.run(words);
        assert!(printed.contains(text), "{words:?}: {printed}");
    };
    has(&["show", "overview"], "rabbitmq_version");
    has(&["declare", "queue", "name=q", "durable=true", "arguments={\"x-max-length\":9}"], "queue declared");
    has(&["declare", "exchange", "name=e", "type=topic"], "exchange declared");
    has(&["declare", "binding", "source=e", "destination=q", "routing_key=a.#"], "binding declared");
    has(&["declare", "vhost", "name=v"], "vhost declared");
    has(&["declare", "user", "name=u", "password=p", "tags=management"], "user declared");
    has(&["declare", "permission", "vhost=v", "user=u", "configure=.*", "write=.*", "read=.*"], "permission");
    has(&["declare", "policy", "name=p", "pattern=^q", "definition={\"max-length\":5}"], "policy declared");
    has(&["publish", "exchange=e", "routing_key=a.b", "payload=hello"], "Message published");
    has(&["publish", "exchange=e", "routing_key=b", "payload=lost"], "NOT routed");
    has(&["get", "queue=q", "ackmode=ack_requeue_true"], "hello");
    has(&["list", "queues", "name", "messages"], "| q    | 1 ");
    for what in
        ["exchanges", "bindings", "vhosts", "users", "permissions", "policies", "nodes", "connections"]
    {
        script.run(&["list", what]);
    }
    has(&["list", "bindings"], "a.#");
    has(&["purge", "queue", "name=q"], "queue purged");
    let file = unique_dir("rabbitmqadmin").join("definitions.json");
    let file = file.to_str().expect("a path is text");
    has(&["export", file], "Exported definitions");
    has(
        &["delete", "binding", "source=e", "destination_type=queue", "destination=q", "properties_key=a.%23"],
        "binding",
    );
    has(&["delete", "queue", "name=q"], "queue deleted");
    has(&["delete", "exchange", "name=e"], "exchange deleted");
    api.expect(404, "GET", "queues/%2F/q", None);
    has(&["import", file], "Uploaded definitions");
    has(&["list", "queues", "name"], "| q ");
    has(&["delete", "vhost", "name=v"], "vhost deleted");
}
