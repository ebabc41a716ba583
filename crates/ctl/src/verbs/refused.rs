//! Verbs of RabbitMQ's tools that cannot be done over HTTP, or make no sense here. Each is refused with what to do
//! instead: a script must not go on as if it had been done.

use super::Refusal;

/// There are no nodes to join.
const NO_CLUSTER: &str = "a broker is one node, there is no cluster to change";
/// Only Erlang has it.
const NO_ERLANG: &str = "the broker is not written in Erlang";
/// What is evaluated most is a health check, or a password.
const NO_EVAL: &str = "the broker is not written in Erlang; check_running, check_local_alarms, alarms, \
    authenticate_user, status and environment say what scripts evaluate expressions for";
/// HTTP cannot stop a process.
const NO_PROCESS: &str = "starting and stopping is done by what supervises the broker (systemd, a container)";
/// Replicas are elsewhere.
const NO_REPLICAS: &str = "queues have no replicas on other nodes";
/// Logs are the supervisor's.
const NO_LOGS: &str = "the broker logs to standard output, look where its supervisor keeps that";

const fn refusal(name: &'static str, reason: &'static str) -> Refusal {
    Refusal { name, reason }
}

pub(super) const REFUSALS: &[Refusal] = &[
    refusal("join_cluster", NO_CLUSTER),
    refusal("forget_cluster_node", NO_CLUSTER),
    refusal("change_cluster_node_type", NO_CLUSTER),
    refusal("rename_cluster_node", NO_CLUSTER),
    refusal("update_cluster_nodes", NO_CLUSTER),
    refusal("discover_peers", NO_CLUSTER),
    refusal("force_boot", NO_CLUSTER),
    refusal("reset", "stop the broker and remove its data directory"),
    refusal("force_reset", "stop the broker and remove its data directory"),
    refusal("stop", NO_PROCESS),
    refusal("shutdown", NO_PROCESS),
    refusal("stop_app", NO_PROCESS),
    refusal("start_app", NO_PROCESS),
    refusal("wait", "there is no file with a process id to look at; await_startup waits for the broker"),
    refusal("restart_vhost", "a vhost has no process that could be restarted"),
    refusal("suspend_listeners", "listeners cannot be suspended"),
    refusal("resume_listeners", "listeners cannot be suspended, so there is none to resume"),
    refusal("eval", NO_EVAL),
    refusal("eval_file", NO_EVAL),
    refusal("exec", NO_ERLANG),
    refusal("force_gc", "there is no garbage collector"),
    refusal("hipe_compile", NO_ERLANG),
    refusal("observer", NO_ERLANG),
    refusal("remote_shell", NO_ERLANG),
    refusal("runtime_thread_stats", NO_ERLANG),
    refusal("maybe_stuck", NO_ERLANG),
    refusal("command_line_arguments", NO_ERLANG),
    refusal("schema_info", "there is no Mnesia database"),
    refusal("metadata_store_status", "there is no Khepri database"),
    refusal("erlang_cookie_hash", NO_ERLANG),
    refusal("erlang_cookie_sources", NO_ERLANG),
    refusal("autocomplete", "completion prints what a shell needs to complete command lines"),
    refusal("encode", "values in the configuration are not encrypted"),
    refusal("decode", "values in the configuration are not encrypted"),
    refusal("list_ciphers", "values in the configuration are not encrypted"),
    refusal("list_hashes", "values in the configuration are not encrypted"),
    refusal("rotate_logs", NO_LOGS),
    refusal("log_tail", NO_LOGS),
    refusal("log_tail_stream", NO_LOGS),
    refusal("set_log_level", "the level is set where the broker is started"),
    refusal("consume_event_stream", "events are messages: bind a queue to the event exchange"),
    refusal("os_env", "use environment"),
    refusal("certificates", "use check_certificate_expiration"),
    refusal("cipher_suites", "they cannot be chosen; see the documentation on TLS"),
    refusal("tls_versions", "they are TLS 1.2 and 1.3, and cannot be chosen"),
    refusal("resolve_hostname", "nodes do not look each other up"),
    refusal("resolver_info", "nodes do not look each other up"),
    refusal("list_network_interfaces", "the API does not tell; ask the operating system"),
    refusal("sync_queue", "classic queues are not mirrored, as in RabbitMQ 4"),
    refusal("cancel_sync_queue", "classic queues are not mirrored, as in RabbitMQ 4"),
    refusal("add_member", NO_REPLICAS),
    refusal("delete_member", NO_REPLICAS),
    refusal("grow", NO_REPLICAS),
    refusal("shrink", NO_REPLICAS),
    refusal("transfer_leadership", NO_REPLICAS),
    refusal("quorum_status", NO_REPLICAS),
    refusal("reclaim_quorum_memory", NO_REPLICAS),
    refusal("force_checkpoint", NO_REPLICAS),
    refusal("peek", "use a consumer, or the management page, to look at messages"),
];
