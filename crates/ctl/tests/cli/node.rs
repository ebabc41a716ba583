//! What the node says of itself, and health checks.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::stub::{Stub, assert_fails, assert_prints, run};

const OVERVIEW: &str = r#"{"node":"rabbit@box","rabbitmq_version":"4.2.0","product_name":"Leveret",
    "product_version":"0.1.0",
    "cluster_name":"name","erlang_version":"0","object_totals":{"connections":1,"queues":4},
    "listeners":[{"node":"rabbit@box","protocol":"amqp","ip_address":"::","port":5672},
                 {"node":"rabbit@box","protocol":"http","ip_address":"127.0.0.1","port":15672}]}"#;

const NODE: &str = r#"{"name":"rabbit@box","running":true,"os_pid":"14087","uptime":537443,"mem_used":128600000,
    "mem_limit":15165901209,"mem_calculation_strategy":"rss","mem_alarm":false,"disk_free":47930585088,
    "disk_free_limit":50000000,
    "disk_free_alarm":false,"fd_used":11,"fd_total":1024,"sockets_used":1,"sockets_total":832,"db_dir":"/data",
    "config_files":["/etc/leveret.toml"],"log_files":["stdout"],"enabled_plugins":["rabbitmq_management"],
    "being_drained":false}"#;

const MEMORY: &str =
    r#"{"memory":{"binary":1000000,"queue_procs":3000000,"strategy":"rss","total":{"rss":4000000}}}"#;

fn node(more: &[(&str, u16, &str)]) -> Stub {
    let nodes = format!("[{NODE}]");
    let answers: [(&str, u16, &str); 6] = [
        ("GET /api/overview", 200, OVERVIEW),
        ("GET /api/nodes/rabbit%40box", 200, NODE),
        ("GET /api/nodes", 200, &nodes),
        ("GET /api/nodes/rabbit%40box/memory", 200, MEMORY),
        ("GET /api/vhosts", 200, r#"[{"name":"/"}]"#),
        ("GET /api/feature-flags", 200, r#"[{"name":"quorum_queue","state":"enabled"}]"#),
    ];
    Stub::new(&[&answers, more].concat())
}

#[test]
fn status_is_a_report_in_sections() {
    let stub = node(&[("GET /api/leveret/status", 200, r#"{"journal_bytes":134217728,"sync":"always"}"#)]);
    assert_prints(
        &run(&stub, "rabbitmqctl status"),
        "Status of node rabbit@box ...\nRuntime\n\nOS PID: 14087\nUptime (seconds): 537\nIs under maintenance?: false\n\
         RabbitMQ version: 4.2.0\nLeveret version: 0.1.0\nNode name: rabbit@box\n\nPlugins\n\nEnabled plugins:\n\n \
         * rabbitmq_management\n\nData directory\n\nNode data directory: /data\n\nConfig files\n\n \
         * /etc/leveret.toml\n\n\
         Log file(s)\n\n * stdout\n\nAlarms\n\n(none)\n\nMemory\n\nTotal memory used: 0.1286 gb\n\
         Calculation strategy: rss\nMemory high watermark: 15.1659 gb\n\nqueue_procs: 0.003 gb (75.0 %)\n\
         binary: 0.001 gb (25.0 %)\n\nFile Descriptors\n\nTotal: 11, limit: 1024\nSockets: 1, limit: 832\n\n\
         Free Disk Space\n\nLow free disk space watermark: 0.05 gb\nFree disk space: 47.9306 gb\n\nTotals\n\n\
         Connection count: 1\nQueue count: 4\nVirtual host count: 1\n\nLeveret\n\n\
         journal_bytes: 134217728\nsync: always\n\n\
         Listeners\n\nInterface: [::], port: 5672, protocol: amqp, purpose: AMQP 0-9-1\n\
         Interface: 127.0.0.1, port: 15672, protocol: http, purpose: HTTP API\n",
    );
    let ran = run(&node(&[]), "rabbitmqctl status --formatter json");
    let status: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(status["pid"], 14087);
    assert_eq!(status["totals"]["queue_count"], 4);
    assert_eq!(status["alarms"], serde_json::json!([]));
    assert_eq!(status["leveret"], serde_json::Value::Null);
}

#[test]
fn cluster_status_names_nodes_listeners_and_flags() {
    assert_prints(
        &run(&node(&[]), "rabbitmqctl cluster_status"),
        "Cluster status of node rabbit@box ...\nBasics\n\nCluster name: name\n\nDisk Nodes\n\nrabbit@box\n\n\
         Running Nodes\n\nrabbit@box\n\nVersions\n\nrabbit@box: RabbitMQ 4.2.0\n\nMaintenance status\n\n\
         Node: rabbit@box, status: not under maintenance\n\nAlarms\n\n(none)\n\n\
         Network Partitions\n\n(none)\n\nListeners\n\n\
         Node: rabbit@box, interface: [::], port: 5672, protocol: amqp, purpose: AMQP 0-9-1\n\
         Node: rabbit@box, interface: 127.0.0.1, port: 15672, protocol: http, purpose: HTTP API\n\n\
         Feature flags\n\nFlag: quorum_queue, state: enabled\n",
    );
    let ran = run(&node(&[]), "rabbitmqctl cluster_status --formatter json");
    let status: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(status["running_nodes"], json!(["rabbit@box"]));
    assert_eq!((&status["ram_nodes"], &status["partitions"]), (&json!([]), &json!({})));
    assert_eq!(status["maintenance_status"], json!({"rabbit@box": "not under maintenance"}));
    assert_eq!(status["versions"]["rabbit@box"]["rabbitmq_name"], "Leveret");
    assert_eq!(status["listeners"]["rabbit@box"][1]["port"], 15672);
}

#[test]
fn alarms_are_those_of_this_node_and_of_others() {
    let alarms = |stub: &Stub| run(stub, "rabbitmq-diagnostics alarms --formatter json");
    assert_prints(&alarms(&node(&[])), "{\"alarms\":[],\"node\":\"rabbit@box\",\"result\":\"ok\"}\n");
    let nodes = r#"[{"name":"rabbit@box","mem_alarm":true},{"name":"rabbit@far","disk_free_alarm":true}]"#;
    let stub = Stub::new(&[("GET /api/overview", 200, OVERVIEW), ("GET /api/nodes", 200, nodes)]);
    assert_prints(
        &alarms(&stub),
        "{\"global\":[\"Free disk space alarm on node rabbit@far\"],\"local\":[\"Memory alarm on node rabbit@box\"],\
         \"message\":\"Node rabbit@box reported alarms\",\"result\":\"ok\"}\n",
    );
}

#[test]
fn tools_of_rabbitmq_have_the_version_they_do_the_work_of() {
    for line in ["rabbitmqctl version", "rabbitmqctl --version", "rabbitmq-plugins version"] {
        assert_prints(&run(&node(&[]), line), "4.2.5\n");
    }
    let own = env!("CARGO_PKG_VERSION");
    assert_prints(&run(&node(&[]), "leveretctl version"), &format!("{own}\n"));
    assert_prints(&run(&node(&[]), "leveretctl --version"), &format!("leveretctl {own}\n"));
}

#[test]
fn a_report_has_all_listings_of_all_vhosts() {
    let empty = ["connections", "channels", "global-parameters", "parameters"];
    let of_vhost = ["queues", "exchanges", "bindings", "consumers", "policies", "operator-policies"];
    let mut paths: Vec<String> = empty.iter().map(|path| format!("GET /api/{path}")).collect();
    for vhost in ["%2F", "shop"] {
        paths.extend(of_vhost.iter().map(|path| format!("GET /api/{path}/{vhost}")));
        paths.push(format!("GET /api/vhosts/{vhost}/permissions"));
        paths.push(format!("GET /api/vhosts/{vhost}"));
    }
    let mut answers: Vec<(&str, u16, &str)> = paths.iter().map(|path| (path.as_str(), 200, "[]")).collect();
    let queue = r#"[{"name":"q1","messages":3,"durable":true}]"#;
    answers.push(("GET /api/queues/shop", 200, queue));
    answers.push(("GET /api/vhosts", 200, r#"[{"name":"/"},{"name":"shop"}]"#));
    answers.push(("GET /api/config/effective", 200, r#"{"sync":"always"}"#));
    let ran = run(&node(&answers), "rabbitmqctl -q report");
    assert_eq!((ran.code, ran.errors.as_str()), (0, ""), "{ran:?}");
    for part in [
        "Status of node rabbit@box ...\nRuntime\n",
        "Cluster status of node rabbit@box ...\n",
        "\"sync\": \"always\"",
        "Listing connections ...\n",
        "Listing queues for vhost / ...\n\n",
        "Listing queues for vhost shop ...\nname\tmessages\tdurable\t",
        "\nq1\t3\ttrue\t",
        "Listing permissions for vhost \"shop\" ...\n",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert_fails(&run(&node(&answers), "rabbitmqctl report --formatter json"), 64, "Only the report");
}

#[test]
fn sentences_of_diagnostics() {
    let stub = node(&[
        ("GET /api/health/checks/local-alarms", 200, r#"{"status":"ok"}"#),
        ("GET /api/health/checks/alarms", 200, r#"{"status":"ok"}"#),
        ("GET /api/health/checks/virtual-hosts", 200, r#"{"status":"ok"}"#),
        ("GET /api/health/checks/protocol-listener/amqp", 200, r#"{"status":"ok"}"#),
        ("GET /api/health/checks/certificate-expiration/1/months", 200, r#"{"status":"ok"}"#),
        ("GET /api/health/checks/node-is-quorum-critical", 200, r#"{"status":"ok"}"#),
        (
            "GET /api/health/checks/quorum-queues-without-elected-leaders/vhost/%2F/pattern/.%2A",
            200,
            r#"{"status":"ok"}"#,
        ),
    ]);
    for (line, expected) in [
        ("ping", "Ping succeeded"),
        ("check_running", "RabbitMQ on node rabbit@box is fully booted and running"),
        ("is_running", "RabbitMQ on node rabbit@box is fully booted and running"),
        ("check_local_alarms", "Node rabbit@box reported no local alarms"),
        ("check_alarms", "Node rabbit@box reported no alarms, local or clusterwide"),
        ("alarms", "Node rabbit@box reported no alarms, local or clusterwide"),
        ("check_virtual_hosts", "Node rabbit@box reported all vhosts as running"),
        ("check_port_listener 5672", "A listener for port 5672 is running on node rabbit@box."),
        ("check_protocol_listener amqp", "A listener for protocol amqp is running on node rabbit@box."),
        (
            "check_certificate_expiration --within 1 --unit months",
            "No certificates are expiring within 1 month.",
        ),
        (
            "check_if_node_is_quorum_critical",
            "Node rabbit@box seems to be the only one in a single node cluster, the check does not apply",
        ),
        (
            "check_for_quorum_queues_without_an_elected_leader",
            "Node rabbit@box reported all quorum queues as having responsive leader replicas",
        ),
        ("server_version", "4.2.0"),
        ("log_location", "stdout"),
        ("memory_breakdown --unit mb", "queue_procs: 3.0 mb (75.0%)\nbinary: 1.0 mb (25.0%)"),
        ("version", "4.2.5"),
        ("await_online_nodes 1", ""),
        ("node_health_check", "Health check passed"),
        ("check_if_node_is_mirror_sync_critical", "ok"),
        ("log_location --all", "stdout"),
        ("await_startup", ""),
    ] {
        let expected = if expected.is_empty() { String::new() } else { format!("{expected}\n") };
        assert_prints(&run(&stub, &format!("rabbitmq-diagnostics -q {line}")), &expected);
    }
    assert_prints(
        &run(&stub, "rabbitmq-diagnostics check_running"),
        "Checking if RabbitMQ is running on node rabbit@box ...\n\
         RabbitMQ on node rabbit@box is fully booted and running\n",
    );
    assert_prints(
        &run(&stub, "rabbitmq-diagnostics check_running --formatter json"),
        "{\"result\":\"ok\",\"message\":\"RabbitMQ on node rabbit@box is fully booted and running\"}\n",
    );
}

#[test]
fn checks_that_fail_say_what_is_wrong_with_69() {
    let alarms = r#"{"status":"failed","reason":"There are alarms in effect",
        "alarms":[{"resource":"memory","node":"rabbit@box"}]}"#;
    let listener =
        r#"{"status":"failed","reason":"No active listener","missing":"mqtt","protocols":["http","amqp"]}"#;
    let stub = node(&[
        ("GET /api/health/checks/local-alarms", 503, alarms),
        ("GET /api/health/checks/protocol-listener/mqtt", 503, listener),
        ("GET /api/health/checks/virtual-hosts", 503, r#"{"status":"failed","virtual-hosts":["v"]}"#),
    ]);
    for (line, expected) in [
        ("check_local_alarms", "Error:\nMemory alarm on node rabbit@box\n"),
        ("check_protocol_listener mqtt", "Found listeners for the following protocols: amqp, http"),
        ("check_port_listener 1", "Found listeners that use the following ports: 5672, 15672"),
        ("check_virtual_hosts", "[\"v\"]"),
    ] {
        assert_fails(&run(&stub, &format!("rabbitmq-diagnostics {line}")), 69, expected);
    }
    let failed =
        "Error: health check failed. Message: resource alarm(s) in effect: Memory alarm on node rabbit@box";
    assert_fails(&run(&stub, "rabbitmqctl node_health_check"), 70, failed);
    assert_fails(
        &run(&stub, "rabbitmqctl await_online_nodes 2"),
        70,
        "Not enough nodes in rabbit@box's cluster: 1",
    );
    assert_fails(&run(&stub, "rabbitmqctl await_online_nodes 0"), 65, "'0' is not a positive integer");
    assert_fails(&run(&stub, "rabbitmq-diagnostics erlang_version"), 69, "does not run on Erlang");
    assert_fails(&run(&stub, "rabbitmq-diagnostics check_port_listener x"), 65, "'x' is no port");
}

#[test]
fn ports_are_really_connected_to() {
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = open.local_addr().unwrap().port();
    let overview = |port: u16| {
        format!(r#"{{"node":"n@h","listeners":[{{"protocol":"amqp","ip_address":"::","port":{port}}}]}}"#)
    };
    let stub = Stub::new(&[("GET /api/overview", 200, &overview(port))]);
    assert_prints(
        &run(&stub, "rabbitmq-diagnostics check_port_connectivity"),
        &format!(
            "Testing TCP connections to all active listeners on node n@h ...\n\
             Successfully connected to ports {port} on node n@h.\n"
        ),
    );
    drop(open);
    let ran = run(&stub, "rabbitmq-diagnostics check_port_connectivity");
    assert_fails(&ran, 69, &format!("Interface: [::], port: {port}, protocol: amqp"));
}

#[test]
fn a_node_that_is_named_has_to_be_the_one_at_the_url() {
    let stub = node(&[("GET /api/users", 200, r#"[{"name":"guest","tags":[]}]"#)]);
    for name in ["rabbit@box", "rabbit@localhost", "rabbit"] {
        assert_prints(
            &run(&stub, &format!("rabbitmqctl -q -n {name} list_users")),
            "user\ttags\nguest\t[]\n",
        );
    }
    let ran = run(&stub, "rabbitmqctl list_users -n rabbit@elsewhere");
    assert_fails(&ran, 69, "is node rabbit@box, not rabbit@elsewhere");
}
