//! `sh -c` with the command lines that health checks in compose files and probes have.

use crate::stub::{Ran, Stub, run_words};

fn healthy() -> Stub {
    Stub::new(&[
        ("GET /api/overview", 200, r#"{"node":"n@h"}"#),
        ("GET /api/nodes/n%40h", 200, r#"{"name":"n@h","running":true}"#),
        ("GET /api/health/checks/local-alarms", 200, r#"{"status":"ok"}"#),
    ])
}

fn unwell() -> Stub {
    let alarms = r#"{"status":"failed","alarms":[{"resource":"memory","node":"n@h"}]}"#;
    Stub::new(&[
        ("GET /api/overview", 200, r#"{"node":"n@h"}"#),
        ("GET /api/health/checks/local-alarms", 503, alarms),
    ])
}

fn sh(stub: &Stub, script: &str) -> Ran {
    run_words(stub, &["/bin/sh", "-c", script])
}

#[test]
fn health_checks_end_with_the_code_of_a_shell() {
    for (script, healthy_code, unwell_code) in [
        ("rabbitmq-diagnostics -q ping", 0, 0),
        ("rabbitmq-diagnostics -q ping && rabbitmq-diagnostics -q check_local_alarms", 0, 69),
        ("/bin/rabbitmq-diagnostics -q check_local_alarms || exit 1", 0, 1),
        ("rabbitmqctl node_health_check > /dev/null 2>&1 || false", 1, 1),
        ("rabbitmq-diagnostics check_local_alarms; exit", 0, 69),
        ("rabbitmq-diagnostics check_local_alarms; true", 0, 0),
        ("bash -c 'rabbitmq-diagnostics -q check_local_alarms'", 0, 69),
    ] {
        assert_eq!(sh(&healthy(), script).code, healthy_code, "{script}");
        assert_eq!(sh(&unwell(), script).code, unwell_code, "{script}");
    }
    let probe = ["/bin/bash", "-ec", "rabbitmq-diagnostics check_local_alarms; rabbitmq-diagnostics -q ping"];
    assert_eq!(run_words(&unwell(), &probe).code, 69);
}

#[test]
fn output_goes_where_the_script_says() {
    let ran = sh(&healthy(), "rabbitmq-diagnostics -q ping 2>&1");
    assert_eq!((ran.out.as_str(), ran.errors.as_str()), ("Ping succeeded\n", ""));
    let ran = sh(&healthy(), "rabbitmq-diagnostics -q ping >/dev/null");
    assert_eq!((ran.code, ran.out.as_str(), ran.errors.as_str()), (0, "", ""));
    let ran = sh(&unwell(), "rabbitmq-diagnostics -q check_local_alarms 2>&1");
    assert_eq!((ran.out.as_str(), ran.errors.as_str()), ("Error:\nMemory alarm on node n@h\n", ""));
}

#[test]
fn what_a_shell_can_do_beyond_that_is_refused() {
    for (words, code) in [
        (vec!["sh", "-c", "curl -f localhost"], 127),
        (vec!["sh", "-c", "rabbitmqctl list_queues | head"], 2),
        (vec!["sh", "-c", "rabbitmqctl list_queues > file"], 2),
        (vec!["sh", "-c", "rabbitmq-diagnostics -p $PORT ping"], 2),
        (vec!["sh", "script.sh"], 2),
        (vec!["bash"], 2),
        (vec!["sh", "-c"], 2),
        (vec!["sh", "-x", "-c", "true"], 2),
    ] {
        let ran = run_words(&healthy(), &words);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{words:?}");
        assert!(ran.errors.contains("leveretctl"), "{ran:?}");
    }
}
