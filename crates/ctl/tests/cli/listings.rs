//! Tables: columns, formats, and what is not shown.

use crate::stub::{Stub, assert_fails, assert_prints, run, run_words};

const QUEUES: &str = r#"[
{"arguments":{"x-max-length":1000,"x-queue-mode":"lazy"},"auto_delete":false,"consumers":1,"durable":true,
 "effective_policy_definition":{"message-ttl":10},"exclusive":false,"messages":3,"messages_ready":0,
 "messages_unacknowledged":3,"name":"q1","node":"rabbit@box","policy":"p",
 "state":"running","type":"classic","vhost":"/",
 "message_stats":{"publish":5,"publish_details":{"rate":2.5}}},
{"arguments":{},"auto_delete":false,"consumers":0,"durable":false,"exclusive":true,"messages":0,"messages_ready":0,
 "messages_unacknowledged":0,"name":"q \"2\"","node":"rabbit@box","policy":null,
 "state":"down","type":"classic","vhost":"/",
 "owner_pid_details":{"name":"127.0.0.1:43302 -> 127.0.0.1:5677"}}]"#;

fn queues() -> Stub {
    Stub::new(&[
        ("GET /api/queues/%2F", 200, QUEUES),
        ("GET /api/queues/empty", 200, "[]"),
        ("GET /api/overview", 200, r#"{"node":"rabbit@box"}"#),
    ])
}

#[test]
fn queues_are_announced_and_listed_with_tabs() {
    assert_prints(
        &run(&queues(), "rabbitmqctl list_queues"),
        "Timeout: 60.0 seconds ...\nListing queues for vhost / ...\nname\tmessages\nq1\t3\nq \"2\"\t0\n",
    );
}

#[test]
fn quiet_leaves_the_header_and_silent_leaves_nothing_but_rows() {
    let quiet = run(&queues(), "rabbitmqctl -q list_queues name policy owner_pid");
    assert_prints(&quiet, "name\tpolicy\towner_pid\nq1\tp\t\nq \"2\"\t\t<127.0.0.1:43302->127.0.0.1:5677>\n");
    assert_prints(&run(&queues(), "rabbitmqctl list_queues -s name,messages"), "q1\t3\nq \"2\"\t0\n");
    let no_header = run(&queues(), "rabbitmqctl list_queues --no-table-headers -t 5 name");
    assert_prints(&no_header, "Timeout: 5.0 seconds ...\nListing queues for vhost / ...\nq1\nq \"2\"\n");
}

#[test]
fn arguments_are_erlang_terms_in_tables_and_typed_in_json() {
    assert_prints(
        &run(&queues(), "rabbitmqctl -q list_queues arguments durable"),
        "arguments\tdurable\n[{\"x-max-length\",1000},{\"x-queue-mode\",\"lazy\"}]\ttrue\n[]\tfalse\n",
    );
    assert_prints(
        &run(&queues(), "rabbitmqctl list_queues --formatter json name arguments policy"),
        "[\n{\"name\":\"q1\",\"arguments\":[[\"x-max-length\",\"long\",1000],[\"x-queue-mode\",\"longstr\",\"lazy\"]],\
         \"policy\":\"p\"}\n,{\"name\":\"q \\\"2\\\"\",\"arguments\":[],\"policy\":\"\"}\n]\n",
    );
    assert_prints(
        &run(&queues(), "rabbitmqctl list_queues --formatter json_stream effective_policy_definition"),
        "{\"effective_policy_definition\":{\"message-ttl\":10}}\n{\"effective_policy_definition\":\"\"}\n",
    );
    let nested =
        r#"[{"name":"x","type":"direct","arguments":{"b":true,"f":1.5,"l":[1,"a"],"t":{"n":null}}}]"#;
    let stub = Stub::new(&[("GET /api/exchanges/%2F", 200, nested)]);
    assert_prints(
        &run(&stub, "rabbitmqctl list_exchanges --formatter json_stream arguments"),
        "{\"arguments\":[[\"b\",\"bool\",true],[\"f\",\"double\",1.5],\
         [\"l\",\"array\",[[\"long\",1],[\"longstr\",\"a\"]]],[\"t\",\"table\",[[\"n\",\"void\",\"undefined\"]]]]}\n",
    );
}

#[test]
fn formats_for_programs_and_eyes() {
    assert_prints(
        &run(&queues(), "rabbitmqctl list_queues --formatter csv name messages"),
        "\"name\",\"messages\"\n\"q1\",\"3\"\n\"q \"\"2\"\"\",\"0\"\n",
    );
    assert_prints(
        &run(&queues(), "rabbitmqctl list_queues --formatter json_stream name"),
        "{\"name\":\"q1\"}\n{\"name\":\"q \\\"2\\\"\"}\n",
    );
    assert_prints(
        &run(&queues(), "rabbitmqctl -q list_queues --formatter pretty_table name messages"),
        "┌───────┬──────────┐\n│ name  │ messages │\n├───────┼──────────┤\n│ q1    │ 3        │\n\
         ├───────┼──────────┤\n│ q \"2\" │ 0        │\n└───────┴──────────┘\n",
    );
}

#[test]
fn queues_are_chosen_by_state_and_node() {
    assert_prints(&run(&queues(), "rabbitmqctl -s list_queues --online name"), "q1\n");
    assert_prints(&run(&queues(), "rabbitmqctl -s list_queues --offline name"), "q \"2\"\n");
    assert_prints(&run(&queues(), "rabbitmqctl -s list_queues --local name"), "q1\nq \"2\"\n");
    assert_fails(&run(&queues(), "rabbitmqctl list_queues --online --offline"), 64, "cannot be used with");
}

#[test]
fn a_listing_without_rows_has_no_header() {
    assert_prints(&run(&queues(), "rabbitmqctl -q list_queues -p empty"), "");
    assert_prints(&run(&queues(), "rabbitmqctl -p empty list_queues --formatter json"), "[\n]\n");
    let stub = Stub::new(&[("GET /api/policies/%2F", 200, "[]")]);
    assert_prints(&run(&stub, "rabbitmqctl list_policies"), "Listing policies for vhost \"/\" ...\n\n");
    assert_prints(&run(&stub, "rabbitmqctl list_policies --formatter json"), "[]\n");
    assert_prints(&run(&stub, "rabbitmqctl -q list_policies --formatter pretty_table"), "");
}

#[test]
fn only_lines_with_tabs_lose_their_header_in_silence() {
    let csv = "\"name\"\n\"q1\"\n\"q \"\"2\"\"\"\n";
    assert_prints(&run(&queues(), "rabbitmqctl -s list_queues --formatter csv name"), csv);
    let pretty = run(&queues(), "rabbitmqctl -s list_queues --formatter pretty_table --online name");
    assert_prints(&pretty, "┌──────┐\n│ name │\n├──────┤\n│ q1   │\n└──────┘\n");
    let permissions = r#"[{"vhost":"/","exchange":"x","write":"^a","read":".*"}]"#;
    let stub = Stub::new(&[("GET /api/users/alice/topic-permissions", 200, permissions)]);
    let tabs = run(&stub, "rabbitmqctl -q list_user_topic_permissions alice");
    assert_prints(&tabs, "/\tx\t^a\t.*\n");
    let csv = run(&stub, "rabbitmqctl list_user_topic_permissions alice --formatter csv");
    assert_prints(&csv, "\"vhost\",\"exchange\",\"write\",\"read\"\n\"/\",\"x\",\"^a\",\".*\"\n");
}

#[test]
fn queues_that_answer_are_not_unresponsive() {
    let banner = "Listing unresponsive queues for vhost / ...\n";
    assert_prints(&run(&queues(), "rabbitmqctl list_unresponsive_queues name -t 5"), banner);
    assert_prints(&run(&queues(), "rabbitmqctl list_unresponsive_queues --formatter json"), "[\n]\n");
    assert_fails(&run(&queues(), "rabbitmqctl list_unresponsive_queues -p nosuch"), 65, "nosuch");
}

#[test]
fn what_is_missing_is_named() {
    let ran = run(&queues(), "rabbitmqctl list_queues -p nosuch");
    assert_fails(&ran, 65, "Virtual host 'nosuch' does not exist");
    assert_fails(&run(&queues(), "rabbitmqctl list_queues nosuch"), 64, "invalid value 'nosuch'");
    let ran = run(&queues(), "rabbitmqctl list_deprecated_features");
    assert_fails(&ran, 69, "knows no /api/deprecated-features");
    let ran = run(&queues(), "rabbitmqctl list_user_permissions nobody");
    assert_fails(&ran, 67, "User \"nobody\" does not exist");
}

#[test]
fn bindings_say_what_they_connect() {
    let bindings = r#"[{"source":"","vhost":"/","destination":"q1","destination_type":"queue",
        "routing_key":"q1","arguments":{},
        "properties_key":"q1"},{"source":"ex","vhost":"/","destination":"q1","destination_type":"queue",
        "routing_key":"a.#",        "arguments":{"b":true,"k":"v","n":5},"properties_key":"a.%23~pSITBw"}]"#;
    let stub = Stub::new(&[("GET /api/bindings/%2F", 200, bindings)]);
    assert_prints(
        &run(&stub, "rabbitmqctl list_bindings"),
        "Listing bindings for vhost /...\n\
         source_name\tsource_kind\tdestination_name\tdestination_kind\trouting_key\targuments\n\
         \texchange\tq1\tqueue\tq1\t[]\nex\texchange\tq1\tqueue\ta.#\t[{\"b\",true},{\"k\",\"v\"},{\"n\",5}]\n",
    );
}

#[test]
fn connections_channels_and_consumers_go_by_their_names() {
    let connections = r#"[{"name":"127.0.0.1:43302 -> 127.0.0.1:5677","peer_host":"127.0.0.1","peer_port":43302,
        "ssl":false,        "ssl_protocol":null,"state":"running","user":"guest","protocol":"AMQP 0-9-1",
        "client_properties":{"product":"P"}}]"#;
    let channels = r#"[{"name":"127.0.0.1:43302 -> 127.0.0.1:5677 (1)","connection_details":{"name":"c"},
        "consumer_count":2,"messages_unacknowledged":3,"user":"guest"}]"#;
    let consumers = r#"[{"arguments":{"x-priority":5},"ack_required":true,"active":true,"activity_status":"up",
        "channel_details":{"name":"c (2)"},"consumer_tag":"ct1","prefetch_count":3,
        "queue":{"name":"q1","vhost":"/"}}]"#;
    let stub = Stub::new(&[
        ("GET /api/connections", 200, connections),
        ("GET /api/channels", 200, channels),
        ("GET /api/consumers/%2F", 200, consumers),
    ]);
    assert_prints(
        &run(&stub, "rabbitmqctl list_connections"),
        "Listing connections ...\nuser\tpeer_host\tpeer_port\tstate\nguest\t127.0.0.1\t43302\trunning\n",
    );
    assert_prints(
        &run(
            &stub,
            "rabbitmqctl -s list_connections pid peer_port ssl ssl_protocol protocol client_properties",
        ),
        "<127.0.0.1:43302->127.0.0.1:5677>\t43302\tfalse\t\t{0,9,1}\t[{\"product\",\"P\"}]\n",
    );
    assert_prints(
        &run(&stub, "rabbitmqctl list_channels"),
        "Listing channels ...\npid\tuser\tconsumer_count\tmessages_unacknowledged\n\
         <127.0.0.1:43302->127.0.0.1:5677(1)>\tguest\t2\t3\n",
    );
    assert_prints(
        &run(&stub, "rabbitmqctl list_consumers"),
        "Listing consumers in vhost / ...\n\
         queue_name\tchannel_pid\tconsumer_tag\tack_required\tprefetch_count\tactive\targuments\n\
         q1\t<c(2)>\tct1\ttrue\t3\ttrue\t[{\"x-priority\",5}]\n",
    );
}

#[test]
fn users_vhosts_and_permissions() {
    let permissions = r#"[{"user":"guest","vhost":"/","configure":".*","write":".*","read":""}]"#;
    let vhosts = r#"[{"name":"/","description":"Default virtual host","tags":[],"tracing":false,
        "cluster_state":{"rabbit@box":"running"}},{"name":"v2","description":"A b","tags":"a,b","tracing":true}]"#;
    let stub = Stub::new(&[
        (
            "GET /api/users",
            200,
            r#"[{"name":"alice","tags":[]},{"name":"guest","tags":["administrator","x"]}]"#,
        ),
        ("GET /api/vhosts/%2F/permissions", 200, permissions),
        ("GET /api/users/guest/permissions", 200, permissions),
        ("GET /api/vhosts", 200, vhosts),
    ]);
    let users = "Listing users ...\nuser\ttags\nalice\t[]\nguest\t[administrator, x]\n";
    assert_prints(&run(&stub, "rabbitmqctl list_users"), users);
    assert_prints(
        &run(&stub, "rabbitmqctl list_permissions"),
        "Listing permissions for vhost \"/\" ...\nuser\tconfigure\twrite\tread\nguest\t.*\t.*\t\n",
    );
    assert_prints(
        &run(&stub, "rabbitmqctl list_user_permissions guest"),
        "Listing permissions for user \"guest\" ...\nvhost\tconfigure\twrite\tread\n/\t.*\t.*\t\n",
    );
    assert_prints(
        &run(&stub, "rabbitmqctl -q list_vhosts name description tags tracing cluster_state"),
        "name\tdescription\ttags\ttracing\tcluster_state\n\
         /\tDefault virtual host\t[]\tfalse\t[{rabbit@box, running}]\nv2\tA b\t[a, b]\ttrue\t\n",
    );
}

#[test]
fn policies_and_parameters_show_json() {
    let policy = r#"[{"vhost":"/","name":"p1","pattern":"^q","apply-to":"all",
        "definition":{"max-length":10},"priority":0}]"#;
    let parameters = r#"[{"value":{"pattern":"^q","priority":3},"vhost":"/","component":"operator_policy","name":"o2"},
        {"value":{},"vhost":"other","component":"operator_policy","name":"elsewhere"}]"#;
    let stub = Stub::new(&[
        ("GET /api/policies/%2F", 200, policy),
        ("GET /api/operator-policies/%2F", 200, policy),
        ("GET /api/parameters", 200, parameters),
        ("GET /api/vhosts/%2F", 200, r#"{"name":"/"}"#),
        ("GET /api/global-parameters", 200, r#"[{"name":"cluster_name","value":"newname"}]"#),
    ]);
    let rows =
        "vhost\tname\tpattern\tapply-to\tdefinition\tpriority\n/\tp1\t^q\tall\t{\"max-length\":10}\t0\n";
    let banner = "Listing policies for vhost \"/\" ...\n";
    assert_prints(&run(&stub, "rabbitmqctl list_policies"), &format!("{banner}{rows}"));
    let banner = "Listing operator policy overrides for vhost \"/\" ...\n";
    assert_prints(&run(&stub, "rabbitmqctl list_operator_policies"), &format!("{banner}{rows}"));
    assert_prints(
        &run(&stub, "rabbitmqctl list_policies --formatter json"),
        "[\n{\"vhost\":\"/\",\"name\":\"p1\",\"pattern\":\"^q\",\"apply-to\":\"all\",\
         \"definition\":\"{\\\"max-length\\\":10}\",\"priority\":0}\n]\n",
    );
    assert_prints(
        &run(&stub, "rabbitmqctl list_parameters"),
        "Listing runtime parameters for vhost \"/\" ...\ncomponent\tname\tvalue\n\
         operator_policy\to2\t{\"pattern\":\"^q\",\"priority\":3}\n",
    );
    let ran = run(&stub, "rabbitmqctl list_parameters -p nosuch");
    assert_fails(&ran, 65, "Virtual host 'nosuch' does not exist");
    assert_prints(
        &run(&stub, "rabbitmqctl list_global_parameters"),
        "Listing global runtime parameters ...\nname\tvalue\ncluster_name\t\"newname\"\n",
    );
}

#[test]
fn limits_are_shown_of_one_and_of_all() {
    let stub = Stub::new(&[
        ("GET /api/users/guest", 200, r#"{"name":"guest"}"#),
        ("GET /api/user-limits/guest", 200, "[]"),
        (
            "GET /api/user-limits",
            200,
            r#"[{"user":"alice","value":{"max-connections":5}},{"user":"bob","value":[]}]"#,
        ),
        ("GET /api/vhosts/v2", 200, r#"{"name":"v2"}"#),
        ("GET /api/overview", 200, r#"{"node":"rabbit@box"}"#),
        ("GET /api/vhost-limits/v2", 200, r#"[{"vhost":"v2","value":{"max-connections":3,"max-queues":7}}]"#),
    ]);
    let of_guest = "Listing limits for user \"guest\" ...\n{}\n";
    assert_prints(&run(&stub, "rabbitmqctl list_user_limits"), of_guest);
    assert_prints(&run(&stub, "rabbitmqctl list_user_limits --user guest"), of_guest);
    assert_prints(
        &run(&stub, "rabbitmqctl list_user_limits --global"),
        "Listing limits for all users ...\nuser\tlimits\nalice\t{\"max-connections\":5}\n",
    );
    assert_prints(
        &run(&stub, "rabbitmqctl list_vhost_limits -p v2"),
        "Listing limits for vhost \"v2\" ...\n{\"max-connections\":3,\"max-queues\":7}\n",
    );
    let json = run(&stub, "rabbitmqctl list_user_limits --formatter json");
    assert_prints(&json, "{\"message\":\"{}\"}\n");
    assert_prints(
        &run(&stub, "rabbitmqctl list_vhost_limits -p v2 --formatter json"),
        "{\"node\":\"rabbit@box\",\"result\":\"ok\",\
         \"value\":\"{\\\"max-connections\\\":3,\\\"max-queues\\\":7}\"}\n",
    );
}

#[test]
fn watch_prints_once_where_there_is_no_terminal() {
    assert_prints(
        &run(&queues(), "leveretctl watch"),
        "vhost\tname\tready\tunacked\tconsumers\tin/s\tout/s\tack/s\tstate\n\
         /\tq1\t0\t3\t1\t2.5\t0.0\t0.0\trunning\n/\tq \"2\"\t0\t0\t0\t0.0\t0.0\t0.0\tdown\n",
    );
    assert_fails(&run(&queues(), "leveretctl watch --interval 0"), 64, "--interval");
}

#[test]
fn names_neither_break_rows_nor_speak_to_the_terminal() {
    let queues = r#"[{"name":"a\tb\n\u001b[31m\u009b1m\u007f"}]"#;
    let stub = Stub::new(&[("GET /api/queues/%2F", 200, queues)]);
    assert_prints(&run(&stub, "rabbitmqctl -s list_queues name"), "a\\tb\\n\\u{1b}[31m\\u{9b}1m\\u{7f}\n");
    let csv = "\"name\"\n\"a\\tb\\n\\u{1b}[31m\\u{9b}1m\\u{7f}\"\n";
    assert_prints(&run(&stub, "rabbitmqctl -s list_queues --formatter csv name"), csv);
    let json = "{\"name\":\"a\\tb\\n\\u001b[31m\\u009b1m\\u007f\"}\n";
    assert_prints(&run(&stub, "rabbitmqctl -s list_queues --formatter json_stream name"), json);
    assert_prints(&run(&stub, "rabbitmqctl -s list_queues --formatter json name"), &format!("[\n{json}]\n"));
}

#[test]
fn names_are_escaped_in_paths() {
    let stub = Stub::new(&[("GET /api/exchanges/a%2Fb%20%C3%A4", 200, r#"[{"name":"","type":"direct"}]"#)]);
    assert_prints(&run_words(&stub, &["rabbitmqctl", "-s", "list_exchanges", "-p", "a/b ä"]), "\tdirect\n");
}
