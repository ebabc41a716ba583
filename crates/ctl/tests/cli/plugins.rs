//! rabbitmq-plugins, and the same behind `leveretctl plugins`.

use crate::stub::{Stub, assert_fails, assert_prints, run};

fn stub() -> Stub {
    Stub::new(&[
        ("GET /api/overview", 200, r#"{"node":"rabbit@box","rabbitmq_version":"4.2.0"}"#),
        (
            "GET /api/nodes/rabbit%40box",
            200,
            r#"{"enabled_plugins":["rabbitmq_management","rabbitmq_event_exchange"]}"#,
        ),
    ])
}

#[test]
fn what_is_built_in_is_listed() {
    assert_prints(
        &run(&stub(), "rabbitmq-plugins list"),
        "Listing plugins with pattern \".*\" ...\n Configured: E = explicitly enabled; e = implicitly enabled\n \
         | Status: * = running on rabbit@box\n |/\n\
         [E*] rabbitmq_event_exchange 4.2.0\n[E*] rabbitmq_management     4.2.0\n",
    );
    assert_prints(&run(&stub(), "rabbitmq-plugins list -q -E -m management"), "rabbitmq_management\n");
    for pattern in ["^rabbitmq_management$", "rabbitmq_man.*", "rabbitmq_management\\b"] {
        let listed = run(&stub(), &format!("rabbitmq-plugins list -q -m {pattern}"));
        assert_prints(&listed, "rabbitmq_management\n");
    }
    assert_fails(&run(&stub(), "rabbitmq-plugins list ("), 70, "the pattern '('");
    assert_prints(&run(&stub(), "leveretctl plugins -q list -m event"), "rabbitmq_event_exchange\n");
}

#[test]
fn is_enabled_asks_for_all_of_them() {
    assert_prints(
        &run(&stub(), "rabbitmq-plugins is_enabled rabbitmq_management"),
        "Asking node rabbit@box if plugin rabbitmq_management is enabled...\n\
         Plugin rabbitmq_management is enabled on node rabbit@box\n",
    );
    let ran = run(&stub(), "rabbitmq-plugins is_enabled rabbitmq_management rabbitmq_mqtt");
    assert_fails(&ran, 69, "Plugin rabbitmq_mqtt is not enabled on node rabbit@box.");
}

#[test]
fn nothing_can_be_added() {
    let ran = run(&stub(), "rabbitmq-plugins -q enable rabbitmq_management");
    assert_prints(&ran, "Plugin configuration unchanged: these are built in, and always enabled.\n");
    // What Leveret has without saying so is known here.
    let leveret = r#"{"node":"rabbit@box","rabbitmq_version":"4.2.0","product_name":"Leveret"}"#;
    let leveret = Stub::new(&[
        ("GET /api/overview", 200, leveret),
        ("GET /api/nodes/rabbit%40box", 200, r#"{"enabled_plugins":[]}"#),
    ]);
    assert_eq!(run(&leveret, "rabbitmq-plugins enable rabbitmq_consistent_hash_exchange").code, 0);
    assert_fails(&run(&stub(), "rabbitmq-plugins enable rabbitmq_mqtt"), 70, "rabbitmq_mqtt: not built into");
    // As when an image is built: no broker runs.
    let nowhere = Stub::new(&[]);
    let ran = run(&nowhere, "rabbitmq-plugins -q enable --offline rabbitmq_management rabbitmq_prometheus");
    assert_prints(&ran, "Plugin configuration unchanged: these are built in, and always enabled.\n");
    assert_fails(&run(&nowhere, "rabbitmq-plugins --offline enable nosuch"), 64, "unexpected argument");
    assert_fails(&run(&nowhere, "rabbitmq-plugins enable --offline nosuch"), 70, "nosuch: not built into");
}
