//! `leveretctl` against a Leveret: the real binaries, a process for each command line, under the names of RabbitMQ's
//! tools too. What each verb prints and asks for is tested in crates/ctl; here is what the two make of each other.

#[path = "../support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use support::{Broker, PROGRAM_MAX, Running};

/// Authorization of guest with the password guest.
const GUEST: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";

/// A broker with its HTTP API, and the command line for it.
struct Node {
    broker: Broker,
    api_port: u16,
}

impl Node {
    fn start() -> Self {
        let mut broker = Broker::start_with(&["--management-listen", "127.0.0.1:0"]);
        let log = broker.process().stderr_so_far().to_owned();
        let line = log.lines().find(|line| line.contains("listening for the HTTP API"));
        let api_port = line.and_then(support::listening_port).unwrap_or_else(|| panic!("no API in:\n{log}"));
        Self { broker, api_port }
    }

    /// A command line as the tool of that name.
    fn command(&self, tool: &str, words: &[&str]) -> Command {
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_leveretctl"));
        if tool != "leveretctl" {
            let link = self.broker.data_dir().join(tool);
            if !link.exists() {
                symlink(&program, &link).expect("the folder of a broker takes a link");
            }
            program = link;
        }
        let mut command = support::tool(program);
        command
            .args(words)
            .env("LEVERET_URL", format!("http://127.0.0.1:{}", self.api_port))
            .env("HOME", self.broker.data_dir());
        command
    }

    /// What a command line prints that succeeds; its words have no spaces in them.
    fn succeed(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let tool = words.next().expect("a line begins with a tool");
        Running::spawn(self.command(tool, &words.collect::<Vec<_>>())).succeed(PROGRAM_MAX)
    }

    /// The exit code of a command line.
    fn code(&self, line: &str) -> Option<i32> {
        let mut words = line.split_whitespace();
        let tool = words.next().expect("a line begins with a tool");
        Running::spawn(self.command(tool, &words.collect::<Vec<_>>())).wait(PROGRAM_MAX).status.code()
    }

    /// Does by HTTP what no verb does: declares and publishes.
    fn http(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.api_port)).expect("the API listens");
        stream.set_read_timeout(Some(PROGRAM_MAX)).expect("a socket takes a timeout");
        let request = format!(
            "{method} /api/{path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {GUEST}\r\n\
             content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("the API reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the API answers and closes");
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
        answer
    }
}

#[test]
fn a_node_is_looked_at() {
    let node = Node::start();
    node.succeed("rabbitmqctl await_startup");
    node.succeed("rabbitmqctl await_online_nodes 1");
    // Scripts ask either for the version before they decide what else to ask for.
    let version = node.succeed("rabbitmq-diagnostics -q server_version");
    assert_eq!(node.succeed("rabbitmqctl version"), version);
    assert_eq!(node.succeed("rabbitmq-plugins version"), version);
    assert_eq!(node.succeed("rabbitmqctl -q node_health_check"), "Health check passed\n");
    assert_eq!(node.succeed("rabbitmq-diagnostics -q ping"), "Ping succeeded\n");
    for section in ["Runtime", "Leveret version:", "Data directory", "Listeners", "protocol: amqp"] {
        let status = node.succeed("leveretctl status");
        assert!(status.contains(section), "{section}: {status}");
    }
    for check in ["check_running", "check_local_alarms", "check_virtual_hosts", "check_port_connectivity"] {
        node.succeed(&format!("rabbitmq-diagnostics -q {check}"));
    }
    node.succeed(&format!("rabbitmq-diagnostics -q check_port_listener {}", node.broker.port));
    node.succeed("rabbitmqctl set_vm_memory_high_watermark absolute 1");
    node.succeed("rabbitmqctl set_vm_memory_high_watermark 0.0");
    assert_eq!(node.code("rabbitmq-diagnostics check_local_alarms"), Some(69));
    assert_eq!(node.code("rabbitmqctl node_health_check"), Some(70));
    node.succeed("rabbitmqctl set_vm_memory_high_watermark absolute 1GiB");
    node.succeed("rabbitmqctl set_disk_free_limit mem_relative 1e9");
    assert_eq!(node.code("rabbitmq-diagnostics check_local_alarms"), Some(69));
    node.succeed("rabbitmqctl set_disk_free_limit 1MB");
    node.succeed("rabbitmq-diagnostics -q check_local_alarms");
    assert_eq!(node.succeed("rabbitmqctl -s list_unresponsive_queues"), "");
    assert!(node.succeed("rabbitmqctl report").contains("\nListing bindings for vhost /...\n"));
    node.succeed("rabbitmqctl set_cluster_name rabbits");
    assert!(node.succeed("leveretctl cluster_status").contains("Cluster name: rabbits"));
    node.succeed("rabbitmqctl set_global_parameter n [1,2]");
    assert_eq!(
        node.succeed("rabbitmqctl -s list_global_parameters"),
        "cluster_name\t\"rabbits\"\nn\t[1,2]\n"
    );
    node.succeed("rabbitmqctl clear_global_parameter n");
    assert_eq!(node.code("rabbitmqctl clear_global_parameter n"), Some(69));
    let limits = node.http("GET", "leveret/limits", "");
    for limit in [r#""disk_free_limit":1000000"#, r#""memory_high_watermark":1073741824"#] {
        assert!(limits.contains(limit), "{limits}");
    }
    assert_eq!(node.code("rabbitmq-diagnostics check_protocol_listener mqtt"), Some(69));
    assert_eq!(node.code("rabbitmqctl --password wrong list_queues"), Some(77));
    assert_eq!(node.code("rabbitmqctl -n rabbit@elsewhere list_queues"), Some(69));
    assert_eq!(node.code("rabbitmq-plugins is_enabled rabbitmq_management"), Some(0));
}

#[test]
fn queues_are_listed_governed_emptied_and_deleted() {
    let node = Node::start();
    node.http("PUT", "queues/%2F/orders", r#"{"durable":true,"arguments":{"x-max-length":1000}}"#);
    assert_eq!(
        node.succeed("rabbitmqctl list_queues name messages durable arguments type"),
        "Timeout: 60.0 seconds ...\nListing queues for vhost / ...\nname\tmessages\tdurable\targuments\ttype\n\
         orders\t0\ttrue\t[{\"x-max-length\",1000}]\tclassic\n"
    );
    assert_eq!(
        node.succeed("rabbitmqctl -q list_bindings"),
        "source_name\tsource_kind\tdestination_name\tdestination_kind\trouting_key\targuments\n\
         \texchange\torders\tqueue\torders\t[]\n"
    );
    node.succeed(
        r#"rabbitmqctl set_policy short ^orders$ {"message-ttl":60000} --apply-to queues --priority 3"#,
    );
    assert_eq!(
        node.succeed("rabbitmqctl -s list_policies"),
        "/\tshort\t^orders$\tqueues\t{\"message-ttl\":60000}\t3\n"
    );
    assert_eq!(node.succeed("rabbitmqctl -s list_queues name policy"), "orders\tshort\n");
    assert_eq!(node.code(r#"rabbitmqctl set_policy wrong ^orders$ {"bogus":1}"#), Some(69));
    node.succeed("rabbitmqctl clear_policy short");
    assert_eq!(node.code("rabbitmqctl clear_policy short"), Some(69));

    let message = r#"{"routing_key":"orders","properties":{},"payload":"x","payload_encoding":"string"}"#;
    node.http("POST", "exchanges/%2F/amq.default/publish", message);
    assert_eq!(node.succeed("rabbitmqctl -s list_queues name messages"), "orders\t1\n");
    assert_eq!(node.code("rabbitmqctl delete_queue --if-empty orders"), Some(64));
    node.succeed("rabbitmqctl purge_queue orders");
    assert_eq!(node.succeed("rabbitmqctl -s list_queues name messages"), "orders\t0\n");
    node.succeed("rabbitmqctl delete_queue --if-empty orders");
    assert_eq!(node.succeed("rabbitmqctl -s list_queues name"), "");
}

#[test]
fn dead_letters_are_redriven() {
    let node = Node::start();
    node.http("PUT", "queues/%2F/dead", "{}");
    let dead_letters = r#"{"arguments":{"x-dead-letter-exchange":"","x-dead-letter-routing-key":"dead"}}"#;
    node.http("PUT", "queues/%2F/work", dead_letters);
    for _ in 0..3 {
        let message = r#"{"routing_key":"work","properties":{},"payload":"x","payload_encoding":"string"}"#;
        node.http("POST", "exchanges/%2F/amq.default/publish", message);
    }
    let reject = r#"{"count":3,"ackmode":"reject_requeue_false","encoding":"auto"}"#;
    node.http("POST", "queues/%2F/work/get", reject);
    assert_eq!(node.succeed("leveretctl -s list_queues name messages"), "dead\t3\nwork\t0\n");
    assert_eq!(node.succeed("leveretctl -q redrive dead --count 2"), "Moved 2 messages, 1 are left\n");
    assert_eq!(node.succeed("leveretctl -q redrive dead"), "Moved 1 messages, 0 are left\n");
    assert_eq!(node.succeed("leveretctl -s list_queues name messages"), "dead\t0\nwork\t3\n");
    let table = node.succeed("leveretctl watch");
    assert!(table.contains("/\twork\t3\t0\t0\t"), "{table}");
}

#[test]
fn users_and_vhosts_are_managed() {
    let node = Node::start();
    node.succeed("rabbitmqctl add_vhost shop --description Shop --tags a,b");
    let vhosts = node.succeed("rabbitmqctl -q list_vhosts name description tags tracing");
    assert!(vhosts.starts_with("name\tdescription\ttags\ttracing\n/\t"), "{vhosts}");
    assert!(vhosts.ends_with("shop\tShop\t[a, b]\tfalse\n"), "{vhosts}");
    node.succeed("rabbitmqctl trace_on -p shop");
    node.succeed("rabbitmqctl enable_vhost_deletion_protection shop");
    assert_eq!(node.code("rabbitmqctl delete_vhost shop"), Some(69));
    node.succeed("rabbitmqctl disable_vhost_deletion_protection shop");
    node.succeed("rabbitmqctl set_vhost_tags shop c");
    let shop = node.succeed("rabbitmqctl -s list_vhosts name description tags tracing");
    assert!(shop.ends_with("shop\tShop\t[c]\ttrue\n"), "{shop}");
    node.succeed(r#"rabbitmqctl set_vhost_limits -p shop {"max-queues":7}"#);
    assert_eq!(node.succeed("rabbitmqctl -q list_vhost_limits -p shop"), "{\"max-queues\":7}\n");
    node.succeed("rabbitmqctl clear_vhost_limits -p shop");
    assert_eq!(node.succeed("rabbitmqctl -s list_vhost_limits --global"), "\n");

    node.succeed("rabbitmqctl add_user alice secret");
    assert_eq!(node.code("rabbitmqctl add_user alice secret"), Some(70));
    assert_eq!(node.code("rabbitmqctl set_permissions nobody .* .* .*"), Some(67));
    assert_eq!(node.code("rabbitmqctl set_permissions -p nosuch alice .* .* .*"), Some(65));
    assert_eq!(node.code("rabbitmqctl list_parameters -p nosuch"), Some(65));
    node.succeed("rabbitmqctl set_user_tags alice management policymaker");
    node.succeed("rabbitmqctl set_permissions -p shop alice ^a .* .*");
    assert_eq!(node.succeed("rabbitmqctl -s list_user_permissions alice"), "shop\t^a\t.*\t.*\n");
    assert!(node.succeed("rabbitmqctl -s list_users").contains("alice\t[management, policymaker]\n"));
    assert_eq!(node.succeed("rabbitmqctl -q authenticate_user alice secret"), "Success\n");
    assert_eq!(node.code("rabbitmqctl authenticate_user alice wrong"), Some(65));
    assert_eq!(node.code("rabbitmqctl -u alice --password secret list_users"), Some(77));
    node.succeed("rabbitmqctl change_password alice other");
    assert_eq!(node.code("rabbitmqctl authenticate_user alice other"), Some(0));
    node.succeed("rabbitmqctl clear_permissions -p shop alice");
    assert_eq!(node.succeed("rabbitmqctl -s list_user_permissions alice"), "\n");

    let definitions = node.broker.data_dir().join("definitions.json");
    let definitions = definitions.to_str().expect("the folder has a plain name");
    node.succeed(&format!("rabbitmqctl export_definitions {definitions}"));
    node.succeed("rabbitmqctl delete_user alice");
    node.succeed("rabbitmqctl delete_vhost shop");
    assert_eq!(node.code("rabbitmqctl delete_user alice"), Some(67));
    assert_eq!(node.code("rabbitmqctl delete_vhost shop"), Some(65));
    node.succeed(&format!("rabbitmqctl import_definitions {definitions}"));
    assert_eq!(node.succeed("rabbitmqctl -q authenticate_user alice other"), "Success\n");
    let vhosts = node.succeed("rabbitmqctl -s list_vhosts name");
    assert_eq!(vhosts, "/\nshop\n");
}
