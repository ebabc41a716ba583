//! rabbitmqadmin-ng, the command line of RabbitMQ 4 and as strict about answers as its types are: installed from its
//! registry once, then driven against Leveret, verb by verb.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::amqp::Client;
use crate::http::Api;
use crate::support::{Cache, Ended, INSTALL_MAX, PROGRAM_MAX, Running, found, tool, unique_dir};

const VERSION: &str = "2.35.0";

/// The smallest minor version of Rust 1 that compiles it.
const RUST_MINOR_MIN: u32 = 94;

/// Exit codes: refused, and a health check that failed.
const REFUSED: i32 = 65;
const UNHEALTHY: i32 = 69;

/// The program against a broker of its own.
struct Admin {
    program: PathBuf,
    api: Api,
    folder: PathBuf,
}

impl Admin {
    /// None where it cannot be compiled.
    fn start() -> Option<Self> {
        let program = compiled()?;
        Some(Self { program, api: Api::start(), folder: unique_dir("rabbitmqadmin-ng") })
    }

    /// Runs a line of words, `''` for an empty one.
    fn run(&self, line: &str) -> Ended {
        let mut command = tool(&self.program);
        command
            // Where it looks for settings of its own.
            .env("HOME", &self.folder)
            .current_dir(&self.folder)
            .args(["--non-interactive", "--host", "127.0.0.1", "--port", &self.api.port.to_string()])
            .args(line.split_whitespace().map(|word| if word == "''" { "" } else { word }));
        Running::spawn(command).wait(PROGRAM_MAX)
    }

    /// Runs a line that has to succeed; gives what it printed, with the columns of tables one space apart.
    #[track_caller]
    fn does(&self, line: &str) -> String {
        let Ended { status, stdout, stderr } = self.run(line);
        assert!(status.success(), "{line}: {status}\n{stdout}{stderr}");
        let rows = stdout.lines().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "));
        rows.collect::<Vec<_>>().join("\n")
    }

    /// Runs a line that has to succeed and print all of this.
    #[track_caller]
    fn says(&self, line: &str, texts: &[&str]) {
        let printed = self.does(line);
        for text in texts {
            assert!(printed.contains(text), "{line}: no `{text}` in:\n{printed}");
        }
    }

    /// Runs a line that has to succeed and not print this.
    #[track_caller]
    fn says_nothing_of(&self, line: &str, text: &str) {
        let printed = self.does(line);
        assert!(!printed.contains(text), "{line}: `{text}` in:\n{printed}");
    }

    /// Runs a line that has to end with this code and say why.
    #[track_caller]
    fn fails(&self, line: &str, code: i32, text: &str) {
        let Ended { status, stdout, stderr } = self.run(line);
        let printed = format!("{stdout}{stderr}");
        assert!(
            status.code() == Some(code) && printed.contains(text),
            "{line}: {status}, no `{text}` in:\n{printed}"
        );
    }

    fn node(&self) -> String {
        self.api.fetch("overview")["node"].as_str().expect("a node has a name").to_owned()
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("a path is text").to_owned()
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The program, unless there is no Rust that compiles it.
fn compiled() -> Option<PathBuf> {
    static COMPILED: OnceLock<Option<PathBuf>> = OnceLock::new();
    COMPILED.get_or_init(compile).clone()
}

fn compile() -> Option<PathBuf> {
    if !found("Rust 1.94", is_rust_new_enough()) {
        return None;
    }
    let cache = Cache::lock("rabbitmqadmin-ng");
    let program = cache.path.join("bin/rabbitmqadmin");
    cache.install_once(VERSION, |folder| {
        let build = folder.join("build");
        let mut install = tool("cargo");
        install
            .args(["install", "rabbitmqadmin", "--locked", "--no-track", "--force", "--quiet", "--version"])
            .arg(format!("={VERSION}"))
            // What compiles fastest, and no TLS of the system.
            .args(["--debug", "--no-default-features", "--root"])
            .arg(folder)
            .env("CARGO_TARGET_DIR", &build)
            .env("CARGO_PROFILE_DEV_DEBUG", "false");
        Running::spawn(install).succeed(INSTALL_MAX);
        // Half a gigabyte that nobody needs again.
        let _ = fs::remove_dir_all(build);
    });
    Some(program)
}

fn is_rust_new_enough() -> bool {
    let mut command = tool("rustc");
    command.arg("--version");
    let output = command.output().ok().filter(|output| output.status.success());
    let minor = output.and_then(|output| {
        let version = String::from_utf8(output.stdout).ok()?;
        version.strip_prefix("rustc 1.")?.split('.').next()?.parse::<u32>().ok()
    });
    minor.is_some_and(|minor| minor >= RUST_MINOR_MIN)
}

fn json_of(path: impl AsRef<Path>) -> Value {
    let text = fs::read(path).expect("the file was written");
    serde_json::from_slice(&text).expect("it holds JSON")
}

#[test]
fn it_shows_the_node_its_features_and_its_health() {
    let Some(admin) = Admin::start() else { return };
    let node = admin.node();
    admin.says("show overview", &["Product name Leveret", "AMQP 0-9-1 channels (total) 0"]);
    admin.says("show churn", &["Client connections opened 0"]);
    admin.says("show endpoint", &[&format!("http://127.0.0.1:{}/api", admin.api.port)]);
    admin.says(&format!("show memory_breakdown_in_bytes --node {node}"), &["Total (RSS)", "Binary heap 0"]);
    admin.says(&format!("show memory_breakdown_in_percent --node {node}"), &["total 100%"]);
    admin.says("nodes list", &[&node]);
    admin.says(&format!("auth_attempts stats --node {node}"), &["http "]);
    for line in ["plugins list_all".to_owned(), format!("plugins list_on_node --node {node}")] {
        admin.says(&line, &["rabbitmq_management Enabled", "rabbitmq_prometheus Enabled"]);
    }
    admin.says("feature_flags list", &["quorum_queue enabled"]);
    admin.does("feature_flags enable --name quorum_queue");
    admin.does("feature_flags enable_all");
    admin.fails("feature_flags enable --name nonsense", REFUSED, "unsupported");
    admin.does("deprecated_features list");
    admin.does("deprecated_features list_used");
    admin.does("rebalance queues");
    let port = admin.api.amqp_port;
    for check in [
        "local_alarms",
        "cluster_wide_alarms",
        "node_is_quorum_critical",
        "protocol_listener --protocol amqp",
        "protocol_listener --protocol http",
        &format!("port_listener --port {port}"),
    ] {
        admin.says(&format!("health_check {check}"), &["health check passed"]);
    }
    admin.fails("health_check port_listener --port 1", UNHEALTHY, "No active listener");
    admin.fails("health_check protocol_listener --protocol mqtt", UNHEALTHY, "No active listener");
}

#[test]
fn it_makes_lists_and_deletes_vhosts_users_permissions_and_limits() {
    let Some(admin) = Admin::start() else { return };
    admin.does("vhosts declare --name v --description d --default-queue-type quorum");
    admin.does("vhosts declare --name v --tracing");
    admin.says("vhosts list", &["/ Default virtual host classic false", "v d quorum false"]);
    admin.does("vhosts enable_deletion_protection --name v");
    admin.fails("vhosts delete --name v", REFUSED, "protected from deletion");
    admin.does("vhosts disable_deletion_protection --name v");
    admin.does("users declare --name u --password p --tags management,policymaker");
    let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
    admin.does(&format!("users declare --name hashed --password-hash {hash}"));
    admin.says("users list", &["u management, policymaker", &format!("hashed {hash}")]);
    assert_eq!(admin.api.as_user("u", "p").fetch("whoami")["name"], "u");
    admin.does("-V v permissions declare --username u --configure ^c --read .* --write ''");
    admin.says("permissions list", &["u v ^c .*", "guest v .* .* .*"]);
    admin.does("-V v permissions delete --username u");
    admin.says_nothing_of("users permissions", "u v");

    admin.does("user_limits declare --username u --name max-connections --value 5");
    admin.says("users limits --username u", &["u max-connections: 5"]);
    admin.does("user_limits delete --username u --name max-connections");
    admin.says_nothing_of("user_limits list", "max-connections");
    admin.does("-V v vhost_limits declare --name max-queues --value 50");
    admin.says("-V v vhost_limits list", &["v max-queues: 50"]);
    admin.does("-V v vhost_limits delete --name max-queues");
    admin.says_nothing_of("-V v vhost_limits list", "max-queues");

    admin.does("users delete --name u");
    admin.fails("users delete --name u", REFUSED, "404 Not Found");
    admin.does("users delete --name u --idempotently");
    admin.does("vhosts declare --name w");
    admin.says("vhosts delete_multiple --name-pattern ^[vw]$ --dry-run", &["v", "w"]);
    admin.does("vhosts delete_multiple --name-pattern ^[vw]$ --approve");
    admin.fails("vhosts delete --name v", REFUSED, "404 Not Found");
    admin.says_nothing_of("vhosts list", "quorum");
}

#[test]
fn it_makes_lists_and_deletes_queues_exchanges_and_bindings_and_moves_messages() {
    let Some(admin) = Admin::start() else { return };
    admin.does("queues declare --name q --type classic --arguments {\"x-max-length\":9}");
    admin.does("queues declare --name r --type quorum");
    admin.says("queues list", &["q / classic true false false x-max-length: 9", "r / quorum true"]);
    admin.says("queues list --columns name", &["q\nr"]);
    admin.says("queues list --page 1 --page-size 1", &["q / classic"]);
    admin.says("queues show --name r", &["r / quorum true"]);
    admin.fails("queues show --name none", REFUSED, "404 Not Found");
    admin.does("exchanges declare --name e --type topic");
    admin
        .does("exchanges declare --name f --type fanout --arguments {\"alternate-exchange\":\"amq.fanout\"}");
    admin.says("exchanges list", &["e / topic true", "f / fanout true", "amq.topic / topic true"]);
    let to_queue =
        "--source e --destination-type queue --destination q --routing-key a.# --arguments {\"k\":1}";
    admin.does(&format!("bindings declare {to_queue}"));
    let to_exchange = "--source e --destination-type exchange --destination f --routing-key b";
    admin.does(&format!("exchanges bind {to_exchange}"));
    admin.says("bindings list", &["/ e q queue a.# k: 1", "/ e f exchange b", "/ q queue q"]);

    let publish = "publish message --exchange e --payload hello --properties";
    let properties = "{\"delivery_mode\":2,\"headers\":{\"h\":1}}";
    admin.says(&format!("{publish} {properties} --routing-key a.b"), &["routed successfully"]);
    admin.says(&format!("{publish} {{}} --routing-key c"), &["NOT routed"]);
    let got = "5 false e a.b 0 delivery_mode: 2,headers: {\"h\":1}, hello string";
    admin.says("get messages --queue q --count 3 --ack-mode ack_requeue_true", &[got]);
    admin.says("get messages --queue q", &["5 true e a.b"]);
    admin.says_nothing_of("get messages --queue q", "hello");
    admin.does("publish message --routing-key q");
    admin.does("purge queue --name q");
    admin.says_nothing_of("get messages --queue q", "test");

    admin.does(&format!("bindings delete {to_queue}"));
    admin.does(&format!("exchanges unbind {to_exchange}"));
    admin.says_nothing_of("bindings list", "/ e ");
    admin.does("exchanges delete --name e");
    admin.fails("exchanges delete --name e", REFUSED, "404 Not Found");
    admin.does("queues delete --name q");
    admin.does("queues delete --name q --idempotently");
    admin.does("queues delete_multiple --name-pattern ^r --approve");
    admin.says_nothing_of("queues list", "quorum");
}

#[test]
fn it_makes_changes_and_deletes_policies_of_both_kinds() {
    let Some(admin) = Admin::start() else { return };
    let definition = "{\"max-length\":5,\"max-length-bytes\":9999}";
    admin.does(&format!(
        "policies declare --name p --pattern ^q --apply-to queues --priority 3 --definition {definition}"
    ));
    let listed = "p / ^q queues 3 max-length: 5,max-length-bytes: 9999";
    let matching = "policies list_matching_object --name q --type queues";
    for line in ["policies list", "policies list_in", "policies list_in --apply-to queues", matching] {
        admin.says(line, &[listed]);
    }
    admin.does("policies update_definition --name p --definition-key max-length --new-value 7");
    admin.does("policies patch --name p --definition {\"max-length-bytes\":8888}");
    admin.says("policies list", &["max-length: 7,max-length-bytes: 8888"]);
    admin.does("policies declare_override --name p --override-name over --definition {\"max-length\":6}");
    admin.says("policies list", &["over / ^q queues 103"]);
    admin.does("policies declare_blanket --name all --apply-to queues --definition {\"max-length\":4}");
    admin.does("policies list_conflicting");
    admin.does("policies delete_definition_keys --name p --definition-keys max-length-bytes");
    admin.does("policies update_definitions_of_all --definition-key max-length --new-value 11");
    let policies = admin.api.fetch("policies");
    let lengths = policies.as_array().expect("a list").iter().map(|policy| &policy["definition"]);
    assert!(lengths.into_iter().all(|definition| definition["max-length"] == 11), "{policies}");
    let declare = "policies declare --name bad --pattern ^q --apply-to queues --definition";
    admin.fails(&format!("{declare} {{\"foo\":5}}"), REFUSED, "are not recognised policy settings");
    for name in ["p", "over", "all"] {
        admin.does(&format!("policies delete --name {name}"));
    }
    admin.says_nothing_of("policies list", "max-length");

    let declare = "operator_policies declare --name op --pattern ^q --apply-to queues --definition";
    admin.does(&format!("{declare} {{\"max-length\":50}}"));
    admin.does("operator_policies update_definition --name op --definition-key max-length --new-value 70");
    admin.says("operator_policies list_in", &["op / ^q queues 0 max-length: 70"]);
    admin.does("operator_policies delete --name op");
    admin.says_nothing_of("operator_policies list", "max-length");
}

#[test]
fn it_exports_definitions_and_imports_them_again() {
    let Some(admin) = Admin::start() else { return };
    admin.does("queues declare --name q --type quorum --arguments {\"x-delivery-limit\":9}");
    admin.does("exchanges declare --name e --type topic");
    admin.does("bindings declare --source e --destination-type queue --destination q --routing-key k");
    admin.does("policies declare --name p --pattern ^q --apply-to queues --definition {\"max-length\":5}");
    let (whole, vhost, again) = (admin.file("whole"), admin.file("vhost"), admin.file("again"));
    admin.does(&format!("definitions export --file {whole}"));
    admin.does(&format!("definitions export_from_vhost --file {vhost}"));
    let exported = json_of(&whole);
    assert_eq!(exported["queues"][0]["arguments"]["x-delivery-limit"], 9);
    admin.does("queues delete --name q");
    admin.does("policies delete --name p");
    admin.does(&format!("definitions import --file {whole}"));
    admin.does(&format!("definitions export --file {again}"));
    assert_eq!(exported, json_of(&again));
    admin.does("vhosts declare --name v");
    admin.does(&format!("-V v definitions import_into_vhost --file {vhost}"));
    admin.says("-V v queues list", &["q v quorum true"]);
    admin.says("bindings list", &["v e q queue k", "/ e q queue k"]);
    admin.says("-V v policies list_in", &["p v ^q queues 0 max-length: 5"]);
}

#[test]
fn it_lists_and_closes_connections() {
    let Some(admin) = Admin::start() else { return };
    let client = Client::connect(admin.api.amqp_port);
    // Numbers of connections and channels are read at intervals.
    let listed = admin.api.wait_for("connections", "a connection", |list| list[0]["name"].is_string());
    let name = listed[0]["name"].as_str().expect("a name").to_owned();
    for line in ["connections list", "list user_connections --username guest"] {
        admin.says(line, &[&name]);
    }
    admin.api.wait_for("channels", "a channel", |list| list[0]["name"].is_string());
    admin.says("channels list", &[&name]);
    admin.says("list consumers", &["tag"]);
    let mut close = tool(&admin.program);
    let port = admin.api.port.to_string();
    let words =
        ["--non-interactive", "--host", "127.0.0.1", "--port", &port, "connections", "close", "--name"];
    close.env("HOME", &admin.folder).args(words.map(OsStr::new)).arg(&name);
    Running::spawn(close).succeed(PROGRAM_MAX);
    admin.api.wait_for("connections", "no connection", |list| list[0].is_null());
    client.wait_until_closed();
    admin.fails("connections close --name none", REFUSED, "404 Not Found");
    let _other = Client::connect(admin.api.amqp_port);
    admin.api.wait_for("connections", "a connection", |list| list[0]["name"].is_string());
    admin.does("close user_connections --username guest");
    admin.api.wait_for("connections", "no connection", |list| list[0].is_null());
}

#[test]
fn what_needs_streams_shovels_or_federation_is_refused_with_the_reason() {
    let Some(admin) = Admin::start() else { return };
    let unsupported = "queue type 'stream' is not supported";
    admin.fails("streams declare --name s --expiration 1D", REFUSED, unsupported);
    admin.fails("queues declare --name s --type stream", REFUSED, unsupported);
    let ends = "--source-uri amqp://localhost --destination-uri amqp://localhost --source-queue q";
    let shovel = format!("shovels declare_amqp091 --name s {ends} --destination-queue r");
    admin.fails(&shovel, REFUSED, "component shovel not found");
    admin.fails("shovels list_all", REFUSED, "404 Not Found");
    let upstream = "federation declare_upstream --name u --uri amqp://localhost";
    admin.fails(upstream, REFUSED, "component federation-upstream not found");
    admin.fails("federation list_all_links", REFUSED, "404 Not Found");
    admin.fails("parameters set --component c --name n --value {}", REFUSED, "component c not found");
    assert_eq!(admin.does("parameters list_all"), "");
}

#[test]
fn it_sets_and_clears_global_parameters() {
    let Some(admin) = Admin::start() else { return };
    admin.does("global_parameters set --name team --value {\"floor\":3}");
    admin.says("global_parameters list", &["team {\"floor\":3}"]);
    admin.does("global_parameters clear --name team");
    admin.says_nothing_of("global_parameters list", "team");
}
