//! Verbs that change something: what they announce, and the requests they make.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::stub::{Asked, Stub, assert_fails, assert_prints, run, run_with, run_words};

const ALICE: &str = r#"{"name":"alice","password_hash":"aGFzaA==",
    "hashing_algorithm":"rabbit_password_hashing_sha256","tags":["a","b"]}"#;

/// A change without a reason.
fn asked(what: &str, body: &str) -> Asked {
    Asked { what: what.to_owned(), body: body.to_owned(), reason: None }
}

#[test]
fn a_user_is_added_unless_there_is_one() {
    let stub = Stub::new(&[("PUT /api/users/alice", 201, ""), ("GET /api/users/bob", 200, "{}")]);
    assert_prints(
        &run(&stub, "rabbitmqctl add_user alice secret"),
        "Adding user \"alice\" ...\nDone. Don't forget to grant the user permissions to some virtual hosts! \
         See 'rabbitmqctl help set_permissions' to learn more.\n",
    );
    assert_eq!(stub.change(), asked("PUT /api/users/alice", r#"{"password":"secret","tags":""}"#));
    assert_fails(&run(&stub, "rabbitmqctl add_user bob secret"), 70, "User \"bob\" already exists");
    assert_eq!(stub.changes().len(), 1);
}

#[test]
fn a_user_with_an_empty_password_has_a_hash_that_fits_none() {
    let stub = Stub::new(&[("PUT /api/users/alice", 201, "")]);
    assert_prints(&run_words(&stub, &["rabbitmqctl", "-q", "add_user", "alice", ""]), "");
    assert_eq!(stub.change(), asked("PUT /api/users/alice", r#"{"password_hash":"","tags":""}"#));
}

#[test]
fn a_password_comes_from_standard_input_where_none_is_given() {
    let stub = Stub::new(&[("PUT /api/users/alice", 201, "")]);
    let (words, url) = (["rabbitmqctl", "-q", "add_user", "alice"], [("LEVERET_URL", stub.url.as_str())]);
    assert_prints(&run_with(&words, &url, Some("from input\nnot this\n")), "");
    assert_eq!(stub.change().body, r#"{"password":"from input","tags":""}"#);
    let ran = run_with(&words, &url, Some(""));
    assert_fails(&ran, 65, "Password is not provided via argument or stdin");
}

#[test]
fn a_hash_is_taken_as_it_is() {
    let stub = Stub::new(&[("PUT /api/users/bob", 201, "")]);
    let hash = "BMT6cj/MsI+4UOBtsPPQWpQfk7ViRLj4VqpMTxu54FU3qa1G";
    assert_prints(&run(&stub, &format!("rabbitmqctl -q add_user bob --pre-hashed-password {hash}")), "");
    assert_eq!(stub.change().body, format!(r#"{{"password_hash":"{hash}","tags":""}}"#));
    assert_fails(&run(&stub, "rabbitmqctl add_user bob --pre-hashed-password !!"), 65, "base64");
}

#[test]
fn tags_leave_the_password_and_a_password_leaves_the_tags() {
    let stub = Stub::new(&[("GET /api/users/alice", 200, ALICE), ("PUT /api/users/alice", 204, "")]);
    assert_prints(
        &run(&stub, "rabbitmqctl set_user_tags alice administrator monitoring"),
        "Setting tags for user \"alice\" to [administrator, monitoring] ...\n",
    );
    assert_prints(&run(&stub, "rabbitmqctl -q change_password alice new"), "");
    assert_prints(&run(&stub, "rabbitmqctl -q clear_password alice"), "");
    let bodies: Vec<String> = stub.changes().into_iter().map(|asked| asked.body).collect();
    assert_eq!(
        bodies,
        [
            concat!(
                r#"{"password_hash":"aGFzaA==","hashing_algorithm":"rabbit_password_hashing_sha256","#,
                r#""tags":"administrator,monitoring"}"#
            ),
            r#"{"tags":"a,b","password":"new"}"#,
            r#"{"password_hash":"","tags":"a,b"}"#,
        ]
    );
    assert_fails(&run(&stub, "rabbitmqctl change_password nobody new"), 67, "User \"nobody\" does not exist");
}

#[test]
fn a_login_is_tried_with_what_was_given() {
    let stub = Stub::new(&[("GET /api/whoami", 200, r#"{"name":"guest"}"#)]);
    let success = "Authenticating user \"guest\" ...\nSuccess\n";
    assert_prints(&run(&stub, "rabbitmqctl authenticate_user guest guest"), success);
    let ran = run(&stub, "rabbitmqctl authenticate_user guest wrong");
    assert_fails(&ran, 65, "failed to authenticate user \"guest\"\nuser 'guest' - invalid credentials");
    // The password was right, and only the tag is missing.
    let denied = r#"{"error":"not_authorized","reason":"Not management user"}"#;
    let stub = Stub::new(&[("GET /api/whoami", 401, denied)]);
    assert_prints(&run(&stub, "rabbitmqctl authenticate_user guest guest"), success);
}

#[test]
fn permissions_are_set_and_cleared() {
    let missing = r#"{"error":"bad_request","reason":"vhost_or_user_not_found"}"#;
    let stub = Stub::new(&[
        ("PUT /api/permissions/%2F/alice", 201, ""),
        ("DELETE /api/permissions/%2F/alice", 204, ""),
        ("PUT /api/permissions/nosuch/alice", 400, missing),
        ("PUT /api/permissions/%2F/nobody", 400, r#"{"error":"bad_request","reason":"no_such_user"}"#),
        ("PUT /api/topic-permissions/%2F/alice", 201, ""),
        ("GET /api/users/alice", 200, ALICE),
    ]);
    assert_prints(
        &run_words(&stub, &["rabbitmqctl", "set_permissions", "alice", "-a.*", "b", ""]),
        "Setting permissions for user \"alice\" in vhost \"/\" ...\n",
    );
    let body = r#"{"configure":"-a.*","write":"b","read":""}"#;
    assert_eq!(stub.change(), asked("PUT /api/permissions/%2F/alice", body));
    assert_prints(
        &run(&stub, "rabbitmqctl clear_permissions alice"),
        "Clearing permissions for user \"alice\" in vhost \"/\" ...\n",
    );
    let ran = run(&stub, "rabbitmqctl set_permissions -p nosuch alice a b c");
    assert_fails(&ran, 65, "Virtual host 'nosuch' does not exist");
    assert_fails(&run(&stub, "rabbitmqctl set_permissions nobody a b c"), 67, "User \"nobody\"");
    assert_prints(
        &run(&stub, "rabbitmqctl set_topic_permissions alice ex w r"),
        "Setting topic permissions on \"ex\" for user \"alice\" in vhost \"/\" ...\n",
    );
    let ran = run(&stub, "rabbitmqctl set_permissions alice");
    assert_fails(&ran, 64, "required arguments were not provided");
}

#[test]
fn a_vhost_keeps_what_is_not_changed() {
    let known =
        r#"{"name":"v","description":"D","tags":["x","y"],"default_queue_type":"undefined","tracing":false}"#;
    let stub = Stub::new(&[
        ("GET /api/vhosts/v", 200, known),
        ("PUT /api/vhosts/v", 204, ""),
        ("PUT /api/vhosts/new", 201, ""),
        ("DELETE /api/vhosts/v", 204, ""),
    ]);
    assert_prints(&run(&stub, "rabbitmqctl add_vhost v"), "Adding vhost \"v\" ...\n");
    assert_eq!(stub.changes(), []);
    assert_prints(&run(&stub, "rabbitmqctl -q add_vhost new --tags a,b --default-queue-type quorum"), "");
    assert_prints(
        &run(&stub, "rabbitmqctl trace_on -p v"),
        "Starting tracing for vhost \"v\" ...\nTrace enabled for vhost v\n",
    );
    assert_prints(
        &run(&stub, "rabbitmqctl set_vhost_tags v one two"),
        "Setting tags for virtual host \"v\" to [one, two] ...\n",
    );
    assert_prints(&run(&stub, "rabbitmqctl delete_vhost v"), "Deleting vhost \"v\" ...\n");
    let bodies: Vec<String> = stub.changes().into_iter().map(|asked| asked.body).collect();
    assert_eq!(
        bodies,
        [
            r#"{"tags":"a,b","default_queue_type":"quorum"}"#,
            r#"{"description":"D","tags":"x,y","tracing":true}"#,
            r#"{"description":"D","tags":"one,two"}"#,
            "",
        ]
    );
    assert_fails(&run(&stub, "rabbitmqctl delete_vhost nosuch"), 65, "Virtual host 'nosuch' does not exist");
    assert_fails(&run(&stub, "rabbitmqctl trace_on -p nosuch"), 65, "Virtual host 'nosuch' does not exist");
}

#[test]
fn limits_of_a_vhost_are_replaced() {
    let stub = Stub::new(&[
        ("GET /api/vhosts/v", 200, "{}"),
        ("GET /api/vhost-limits/v", 200, r#"[{"vhost":"v","value":{"max-connections":3}}]"#),
        ("PUT /api/vhost-limits/v/max-queues", 204, ""),
        ("DELETE /api/vhost-limits/v/max-connections", 204, ""),
    ]);
    assert_prints(
        &run(&stub, r#"rabbitmqctl set_vhost_limits -p v {"max-queues":7}"#),
        "Setting vhost limits to \"{\"max-queues\":7}\" for vhost \"v\" ...\n",
    );
    assert_eq!(
        stub.changes(),
        [
            asked("PUT /api/vhost-limits/v/max-queues", r#"{"value":7}"#),
            asked("DELETE /api/vhost-limits/v/max-connections", ""),
        ]
    );
    assert_fails(
        &run(&stub, r#"rabbitmqctl set_vhost_limits -p v {"max-queues":"x"}"#),
        69,
        "should be an integer",
    );
    assert_fails(&run(&stub, "rabbitmqctl set_vhost_limits -p v nojson"), 69, "JSON decoding error");
    assert_eq!(stub.changes().len(), 2);
}

#[test]
fn policies_are_set_and_cleared() {
    let invalid = r#"{"error":"bad_request",
        "reason":"Validation failed\n\n[{&lt;&lt;\"bogus\"&gt;&gt;,1}] are not recognised policy settings\n"}"#;
    let stub = Stub::new(&[
        ("PUT /api/policies/v/p", 201, ""),
        ("PUT /api/policies/%2F/p", 400, invalid),
        ("DELETE /api/policies/v/p", 204, ""),
    ]);
    assert_prints(
        &run(
            &stub,
            r#"rabbitmqctl set_policy -p v --priority -3 --apply-to queues p ^a {"message-ttl":1000}"#,
        ),
        "Setting policy \"p\" for pattern \"^a\" to \"{\"message-ttl\":1000}\" with priority \"-3\" \
         for vhost \"v\" ...\n",
    );
    let body = r#"{"pattern":"^a","definition":{"message-ttl":1000},"priority":-3,"apply-to":"queues"}"#;
    assert_eq!(stub.change(), asked("PUT /api/policies/v/p", body));
    assert_fails(
        &run(&stub, r#"rabbitmqctl set_policy p ^a {"bogus":1}"#),
        69,
        "Validation failed\n\n[{<<\"bogus\">>,1}] are not recognised policy settings\n",
    );
    assert_prints(
        &run(&stub, "rabbitmqctl clear_policy -p v p"),
        "Clearing policy \"p\" on vhost \"v\" ...\n",
    );
    assert_fails(&run(&stub, "rabbitmqctl clear_policy p"), 69, "Parameter does not exist");
    assert_fails(&run(&stub, "rabbitmqctl set_policy p ^a [1]"), 69, "not a JSON object");
    assert_fails(&run(&stub, "rabbitmqctl set_policy --priority x p ^a {}"), 64, "--priority");
}

#[test]
fn queues_are_deleted_and_purged() {
    let in_use = r#"{"error":"bad_request","reason":"queue 'busy' in vhost '/' in use"}"#;
    let stub = Stub::new(&[
        ("GET /api/queues/%2F/q", 200, r#"{"messages_ready":4}"#),
        ("DELETE /api/queues/%2F/q", 204, ""),
        ("DELETE /api/queues/%2F/q?if-empty=true", 400, r#"{"reason":"queue 'q' in vhost '/' not empty"}"#),
        ("GET /api/queues/%2F/busy", 200, "{}"),
        ("DELETE /api/queues/%2F/busy?if-unused=true", 400, in_use),
        ("DELETE /api/queues/%2F/q/contents", 204, ""),
    ]);
    assert_prints(
        &run(&stub, "rabbitmqctl delete_queue q"),
        "Deleting queue 'q' on vhost '/' ...\nQueue was successfully deleted with 4 ready messages\n",
    );
    assert_fails(&run(&stub, "rabbitmqctl delete_queue --if-empty q"), 64, "Queue is not empty");
    assert_fails(&run(&stub, "rabbitmqctl delete_queue --if-unused busy"), 64, "Queue is in use");
    assert_fails(&run(&stub, "rabbitmqctl delete_queue nosuch"), 64, "Queue not found");
    assert_prints(&run(&stub, "rabbitmqctl purge_queue q"), "Purging queue 'q' in vhost '/' ...\n");
    assert_fails(&run(&stub, "rabbitmqctl purge_queue nosuch"), 69, "not_found");
}

#[test]
fn dry_runs_announce_and_ask_for_nothing() {
    let stub = Stub::new(&[]);
    let announced = "Deleting queue 'q' on vhost '/' ...\n";
    assert_prints(&run(&stub, "rabbitmqctl --dry-run delete_queue q"), announced);
    assert_prints(&run(&stub, "rabbitmqctl delete_queue q --dry-run -q"), "");
    assert_eq!(stub.changes(), []);
}

#[test]
fn connections_are_closed_with_the_reason() {
    let connections =
        r#"[{"name":"a -> b","vhost":"/","user":"guest"},{"name":"c -> d","vhost":"v","user":"alice"}]"#;
    let stub = Stub::new(&[
        ("GET /api/connections", 200, connections),
        ("DELETE /api/connections/a%20-%3E%20b", 204, ""),
        ("DELETE /api/connections/c%20-%3E%20d", 204, ""),
    ]);
    let close = ["rabbitmqctl", "close_connection", "a -> b", "too old"];
    assert_prints(&run_words(&stub, &close), "Closing connection a -> b, reason: too old...\n");
    assert_eq!(stub.change().reason.as_deref(), Some("too old"));
    assert_prints(
        &run(&stub, "rabbitmqctl close_all_connections -p v bye"),
        "Closing all connections in vhost v, reason: bye...\nClosed 1 connections\n",
    );
    assert_prints(
        &run(&stub, "rabbitmqctl -q close_all_connections --global --limit 1 bye"),
        "Closed 1 connections\n",
    );
    assert_prints(
        &run(&stub, "rabbitmqctl close_all_user_connections alice bye"),
        "Closing connections of user alice, reason: bye...\n",
    );
    let closed: Vec<String> = stub.changes().into_iter().map(|asked| asked.what).collect();
    let (first, second) = ("DELETE /api/connections/a%20-%3E%20b", "DELETE /api/connections/c%20-%3E%20d");
    assert_eq!(closed, [first, second, first, second]);
    assert_fails(&run(&stub, "rabbitmqctl close_connection nosuch bye"), 69, "no connection 'nosuch'");
}

#[test]
fn a_connection_is_closed_by_what_is_listed_as_its_process() {
    let stub = Stub::new(&[
        (
            "GET /api/connections",
            200,
            r#"[{"name":"a -> b","user":"guest"},{"name":"a -> bc","user":"guest"}]"#,
        ),
        ("DELETE /api/connections/a%20-%3E%20b", 204, ""),
    ]);
    let listed = run(&stub, "rabbitmqctl -s list_connections pid user");
    let pid = listed.out.split_whitespace().next().unwrap();
    assert_eq!(pid, "<a->b>");
    assert_prints(&run(&stub, &format!("rabbitmqctl -q close_connection {pid} bye")), "");
    assert_eq!(stub.change().what, "DELETE /api/connections/a%20-%3E%20b");
    // One that has ended meanwhile is closed.
    assert_prints(&run(&stub, "rabbitmqctl -q close_connection <a->x> bye"), "");
    assert_eq!(stub.changes().len(), 1);
}

#[test]
fn definitions_go_out_and_come_in() {
    let folder = std::env::temp_dir().join(format!("leveret-ctl-definitions-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("definitions.json");
    let path = file.to_str().unwrap();
    let stub = Stub::new(&[
        ("GET /api/definitions", 200, r#"{"rabbit_version":"4.2.0","users":[],"queues":[]}"#),
        ("POST /api/definitions", 204, ""),
    ]);
    let exported = format!("Exporting definitions in JSON to a file at \"{path}\" ...\n");
    assert_prints(&run_words(&stub, &["rabbitmqctl", "export_definitions", path]), &exported);
    // There are hashes of passwords in it.
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(written, r#"{"rabbit_version":"4.2.0","users":[],"queues":[]}"#);
    assert_prints(&run(&stub, "rabbitmqctl export_definitions -"), &format!("{written}\n"));

    let imported = format!("Importing definitions in JSON from a file at \"{path}\" ...\n");
    assert_prints(&run_words(&stub, &["rabbitmqctl", "import_definitions", path]), &imported);
    assert_eq!(stub.change(), asked("POST /api/definitions", &written));
    let url = [("LEVERET_URL", stub.url.as_str())];
    let from_input = run_with(&["rabbitmqctl", "-q", "import_definitions"], &url, Some("{}"));
    assert_prints(&from_input, "");
    let broken = run_with(&["rabbitmqctl", "import_definitions", "-"], &url, Some("{\n\"users\": ]"));
    assert_fails(&broken, 65, "line 2 column");
    assert_eq!(stub.changes().len(), 2);
    assert_fails(&run(&stub, "rabbitmqctl import_definitions /no/such/file"), 65, "does not exist");
    assert_fails(&run(&stub, "rabbitmqctl export_definitions --format erlang x"), 64, "erlang");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn limits_of_memory_and_disk_take_sizes() {
    let stub = Stub::new(&[
        ("GET /api/overview", 200, r#"{"node":"leveret@box"}"#),
        ("PUT /api/leveret/limits", 204, ""),
    ]);
    assert_prints(
        &run(&stub, "rabbitmqctl set_vm_memory_high_watermark 0.000000001"),
        "Setting memory threshold on leveret@box to 1e-9 ...\n",
    );
    assert_prints(
        &run(&stub, "rabbitmqctl set_vm_memory_high_watermark absolute 2GB"),
        "Setting memory threshold on leveret@box to 2GB bytes ...\n",
    );
    assert_prints(&run(&stub, "rabbitmqctl -q set_disk_free_limit 50MiB"), "");
    assert_prints(&run(&stub, "rabbitmqctl -q set_disk_free_limit mem_relative 0.5"), "");
    let bodies: Vec<String> = stub.changes().into_iter().map(|asked| asked.body).collect();
    assert_eq!(
        bodies,
        [
            r#"{"memory_high_watermark":1e-9}"#,
            r#"{"memory_high_watermark":2000000000}"#,
            r#"{"disk_free_limit":52428800}"#,
            r#"{"disk_free_limit":{"mem_relative":0.5}}"#,
        ]
    );
    for wrong in ["1.5", "x", "absolute 2XX", "relative 0.5"] {
        assert_fails(
            &run(&stub, &format!("rabbitmqctl set_vm_memory_high_watermark {wrong}")),
            65,
            "Bad argument",
        );
    }
}

#[test]
fn dead_letters_are_redriven_in_steps_until_none_is_left_to_move() {
    let stub = Stub::new(&[
        ("GET /api/queues/%2F/dead", 200, r#"{"messages_ready":2500}"#),
        ("POST /api/leveret/redrive/%2F/dead", 200, r#"{"moved":1000,"left":1500}"#),
        ("GET /api/queues/%2F/stuck", 200, r#"{"messages_ready":2500}"#),
        ("POST /api/leveret/redrive/%2F/stuck", 200, r#"{"moved":3,"left":2497}"#),
        ("GET /api/queues/%2F/elsewhere", 200, r#"{"messages_ready":1}"#),
    ]);
    assert_prints(
        &run(&stub, "leveretctl redrive dead --count 2000 --header x=y"),
        "Redriving messages of queue 'dead' in vhost '/' ...\nMoved 2000 messages, 1500 are left\n",
    );
    let step = asked("POST /api/leveret/redrive/%2F/dead", r#"{"count":1000,"header":{"x":"y"}}"#);
    assert_eq!(stub.changes(), [step.clone(), step]);
    assert_prints(&run(&stub, "leveretctl -q redrive stuck"), "Moved 3 messages, 2497 are left\n");
    assert_eq!(stub.changes()[2].body, r#"{"count":1000,"header":null}"#);
    assert_fails(&run(&stub, "leveretctl redrive nosuch"), 69, "no queue 'nosuch' in vhost '/'");
    assert_fails(&run(&stub, "leveretctl redrive elsewhere"), 69, "it is no Leveret");
    assert_fails(&run(&stub, "leveretctl redrive dead --header x"), 64, "--header x");
}

#[test]
fn parameters_and_flags() {
    let flags = r#"[{"name":"on","state":"enabled","stability":"stable"},
        {"name":"off","state":"disabled","stability":"stable"}]"#;
    let stub = Stub::new(&[
        ("GET /api/overview", 200, r#"{"node":"rabbit@box"}"#),
        ("PUT /api/parameters/shovel/%2F/s", 201, ""),
        ("PUT /api/global-parameters/g", 201, ""),
        ("PUT /api/cluster-name", 204, ""),
        ("GET /api/feature-flags", 200, flags),
        ("PUT /api/feature-flags/off/enable", 204, ""),
    ]);
    assert_prints(
        &run(&stub, r#"rabbitmqctl set_parameter shovel s {"a":1}"#),
        "Setting runtime parameter \"s\" for component \"shovel\" to \"{\"a\":1}\" in vhost \"/\" ...\n",
    );
    assert_prints(
        &run(&stub, r#"rabbitmqctl set_global_parameter g "text""#),
        "Setting global runtime parameter \"g\" to \"\"text\"\" ...\n",
    );
    assert_prints(&run(&stub, "rabbitmqctl set_cluster_name n"), "Setting cluster name to n ...\n");
    assert_prints(&run(&stub, "rabbitmqctl enable_feature_flag all"), "Enabling all feature flags ...\n");
    let changes: Vec<String> = stub.changes().into_iter().map(|asked| asked.body).collect();
    assert_eq!(
        changes,
        [
            r#"{"value":{"a":1},"vhost":"/","component":"shovel","name":"s"}"#,
            r#"{"name":"g","value":"text"}"#,
            r#"{"name":"n"}"#,
            r#"{"name":"off"}"#,
        ]
    );
    let ran = run(&stub, "rabbitmqctl enable_feature_flag nosuch");
    assert_fails(&ran, 64, "This feature flag is not supported by node rabbit@box");
    assert_fails(&run(&stub, "rabbitmqctl clear_parameter shovel x"), 69, "Parameter does not exist");
}
