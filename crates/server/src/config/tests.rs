//! The configuration as an operator meets it: every option from every source, every mistake with its text.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/CONFIGURATION.md");

const NOTHING: &[&str] = &[];
const NO_ENV: &[(&str, &str)] = &[];

/// A directory of its own for one test, gone when the test is over.
pub(super) struct TempDir(PathBuf);

impl TempDir {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("leveret-config-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn load_from(flags: &[&str], env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let args = std::iter::once("leveret").chain(flags.iter().copied());
    let env = env.iter().map(|&(name, value)| (name.into(), value.into()));
    load(args.map(OsString::from), env).map(|loaded| loaded.config)
}

fn task(args: &[&str]) -> Task {
    load(std::iter::once("leveret").chain(args.iter().copied()).map(OsString::from), []).unwrap().task
}

fn load_from_file(text: &str) -> Result<Config, ConfigError> {
    let dir = TempDir::new();
    let path = dir.write("leveret.toml", text);
    load_from(&["--config", &path], NO_ENV)
}

/// The message of a mistake in a file, with the directory of the file cut off.
fn file_mistake(text: &str) -> String {
    let error = load_from_file(text).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let message = error.to_string();
    let start = message.find("leveret.toml").unwrap();
    message[start..].to_owned()
}

fn mistake(flags: &[&str], env: &[(&str, &str)]) -> String {
    let error = load_from(flags, env).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

/// One value other than the default for an option.
struct Sample {
    key: &'static str,
    word: &'static str,
    toml: &'static str,
    arrived: fn(&Config) -> bool,
}

const fn sample(
    key: &'static str,
    word: &'static str,
    toml: &'static str,
    arrived: fn(&Config) -> bool,
) -> Sample {
    Sample { key, word, toml, arrived }
}

const SAMPLES: &[Sample] = &[
    sample("data_dir", "/srv/q", "'/srv/q'", |c| c.data_dir == Path::new("/srv/q")),
    sample("amqp_listen", "127.0.0.1:0, [::1]:5", "['127.0.0.1:0', '[::1]:5']", |c| {
        c.amqp_listen == ["127.0.0.1:0".parse().unwrap(), "[::1]:5".parse().unwrap()]
    }),
    sample("amqps_listen", "[::]:5", "['[::]:5']", |c| c.amqps_addresses() == ["[::]:5".parse().unwrap()]),
    sample("tls_certificate", "/c", "'/c'", |c| c.tls_certificate.as_deref() == Some(Path::new("/c"))),
    sample("tls_key", "/k", "'/k'", |c| c.tls_key.as_deref() == Some(Path::new("/k"))),
    sample("tls_sni_dir", "/s", "'/s'", |c| c.tls_sni_dir.as_deref() == Some(Path::new("/s"))),
    sample("tls_client_auth", "required", "'required'", |c| c.tls_client_auth == ClientAuth::Required),
    sample("tls_ca_file", "/a", "'/a'", |c| c.tls_ca_file.as_deref() == Some(Path::new("/a"))),
    sample("tls_login_from", "common_name", "'common_name'", |c| c.tls_login_from == LoginFrom::CommonName),
    sample("tls_dev_certificate", "true", "true", |c| c.tls_dev_certificate),
    sample("proxy_protocol", "true", "true", |c| c.proxy_protocol),
    sample("management_listen", "none", "['127.0.0.1:0']", |c| {
        c.management_listen.is_empty() || c.management_listen == ["127.0.0.1:0".parse().unwrap()]
    }),
    sample("management_tls_listen", "[::]:6", "['[::]:6']", |c| {
        c.management_tls_listen == ["[::]:6".parse().unwrap()]
    }),
    sample("management_timeout_ms", "250", "250", |c| c.management_timeout_ms == 250),
    sample("management_connections_max", "7", "7", |c| c.management_connections_max == 7),
    sample("management_path_prefix", "/a/b.c", "'/a/b.c'", |c| c.management_path_prefix == "/a/b.c"),
    sample("management_cors_allow_origins", "https://a, *", "['https://a', '*']", |c| {
        c.management_cors_allow_origins == ["https://a", "*"]
    }),
    sample("metrics_listen", "none", "['127.0.0.1:0']", |c| {
        c.metrics_listen.is_empty() || c.metrics_listen == ["127.0.0.1:0".parse().unwrap()]
    }),
    sample("metrics_tls_listen", "[::]:7", "['[::]:7']", |c| {
        c.metrics_tls_listen == ["[::]:7".parse().unwrap()]
    }),
    sample("log", "warn,leveret_server=trace", "'warn,leveret_server=trace'", |c| {
        c.log == "warn,leveret_server=trace"
    }),
    sample("log_format", "json", "'json'", |c| c.log_format == LogFormat::Json),
    sample("default_user", "hare", "'hare'", |c| c.default_user == "hare"),
    sample("default_password", "a,b", "'a,b'", |c| c.default_password == "a,b"),
    sample("default_vhost", "field", "'field'", |c| c.default_vhost == "field"),
    sample("load_definitions", "/etc/d.json", "'/etc/d.json'", |c| {
        c.load_definitions.as_deref() == Some(Path::new("/etc/d.json"))
    }),
    sample("loopback_users", "a, b", "['a', 'b']", |c| c.loopback_users == ["a", "b"]),
    sample("event_exchange", "true", "true", |c| c.event_exchange),
    sample("heartbeat_s", "0", "0", |c| c.heartbeat_s == 0),
    sample("frame_max", "8192", "8192", |c| c.frame_max == 8192),
    sample("channel_max", "0", "0", |c| c.channel_max == 65535),
    sample("handshake_timeout_ms", "250", "250", |c| c.handshake_timeout_ms == 250),
    sample("message_bytes_max", "512MiB", "'512MiB'", |c| c.message_bytes_max == 536_870_912),
    sample("connections_max", "7", "7", |c| c.connections_max == Some(7)),
    sample("outbound_bytes_max", "65536", "65_536", |c| c.outbound_bytes_max == 65536),
    sample("consumer_timeout_ms", "5000", "5_000", |c| c.consumer_timeout_ms == Some(5000)),
    sample("memory_high_watermark_bytes", "2GB", "'2GB'", |c| c.memory_high_watermark_bytes == 2_000_000_000),
    sample("message_cache_bytes", "1GiB", "'1GiB'", |c| c.message_cache_bytes == 1 << 30),
    sample("disk_free_limit_bytes", "0", "0", |c| c.disk_free_limit_bytes == 0),
    sample("sync", "os", "'os'", |c| c.sync == SyncMode::Os),
    sample("sync_interval_ms", "1", "1", |c| c.sync_interval_ms == 1),
    sample("journal_bytes_max", "16MiB", "'16MiB'", |c| c.journal_bytes_max == 16 << 20),
    sample("closing_timeout_ms", "5", "0x5", |c| c.closing_timeout_ms == 5),
    sample("worker_threads", "3", "3", |c| c.worker_threads == Some(3)),
];

/// What has to be set besides for some of the samples to be right.
const FOR_TLS: [(&str, &str); 4] = [
    ("LEVERET_TLS_CERTIFICATE", "/other"),
    ("LEVERET_TLS_KEY", "/other"),
    ("LEVERET_TLS_CLIENT_AUTH", "optional"),
    ("LEVERET_TLS_CA_FILE", "/other"),
];

/// The environment in which a sample is tried.
fn companions(key: &str) -> Vec<(&'static str, &'static str)> {
    let needs_certificate = ["amqps_listen", "management_tls_listen", "metrics_tls_listen"].contains(&key);
    let is_of_tls = needs_certificate || key.starts_with("tls_") && key != "tls_dev_certificate";
    let mut companions = if is_of_tls { FOR_TLS.to_vec() } else { Vec::new() };
    companions.extend((key == "default_user").then_some(("LEVERET_DEFAULT_PASSWORD", "secret")));
    companions.retain(|(name, _)| *name != format!("LEVERET_{}", key.to_uppercase()));
    companions
}

#[test]
fn every_option_takes_effect_from_every_source() {
    let sampled: Vec<_> = SAMPLES.iter().map(|sample| sample.key).collect();
    let declared: Vec<_> = OPTIONS.iter().map(|option| option.key).collect();
    assert_eq!(sampled, declared);

    let defaults = load_from(NOTHING, NO_ENV).unwrap();
    for Sample { key, word, toml, arrived } in SAMPLES {
        assert!(!arrived(&defaults), "{key}: the sample is the default");
        let flag = format!("--{}={word}", key.replace('_', "-"));
        let mut env = companions(key);
        assert!(arrived(&load_from(&[&flag], &env).unwrap()), "{flag}");
        let dir = TempDir::new();
        let path = dir.write("leveret.toml", &format!("{key} = {toml}"));
        assert!(arrived(&load_from(&["--config", &path], &env).unwrap()), "{key} = {toml}");
        let variable = format!("LEVERET_{}", key.to_uppercase());
        env.push((&variable, word));
        assert!(arrived(&load_from(NOTHING, &env).unwrap()), "{variable}");
    }
}

#[test]
fn defaults_are_those_of_rabbitmq() {
    let config = load_from(NOTHING, NO_ENV).unwrap();
    assert_eq!(config.data_dir, Path::new("./leveret-data"));
    assert_eq!(config.amqp_listen, ["0.0.0.0:5672".parse().unwrap()]);
    assert_eq!(config.management_listen, ["0.0.0.0:15672".parse().unwrap()]);
    assert_eq!(config.metrics_listen, ["0.0.0.0:15692".parse().unwrap()]);
    assert_eq!((config.log.as_str(), config.log_format), ("info", LogFormat::Text));
    assert_eq!((config.default_user.as_str(), config.default_password.as_str()), ("guest", "guest"));
    assert_eq!(config.default_vhost, "/");
    assert_eq!(config.loopback_users, ["guest"]);
    assert!(!config.event_exchange);
    assert_eq!((config.heartbeat_s, config.frame_max, config.channel_max), (60, 131_072, 2047));
    assert_eq!((config.handshake_timeout_ms, config.closing_timeout_ms), (10_000, 30_000));
    assert_eq!(config.message_bytes_max, 16_777_216);
    assert_eq!(config.connections_max, None);
    assert_eq!(config.outbound_bytes_max, 262_144);
    assert_eq!(config.consumer_timeout_ms, Some(1_800_000));
    assert_eq!(config.memory_high_watermark_bytes, memory::total_bytes() / 100 * 40);
    assert_eq!(config.disk_free_limit_bytes, 50_000_000);
    assert_eq!(config.worker_threads, None);
}

#[test]
fn what_is_confirmed_is_synced_unless_somebody_asks_for_less() {
    let config = load_from(NOTHING, NO_ENV).unwrap();
    assert_eq!((config.sync, config.sync_interval_ms), (SyncMode::Always, 200));
    assert_eq!(config.journal_bytes_max, 128 << 20);
    assert_eq!(config.message_cache_bytes, memory::total_bytes() / 100 * 20);
    assert_eq!(load_from(&["--sync", "interval"], NO_ENV).unwrap().sync, SyncMode::Interval);
}

#[test]
fn flags_override_environment_overrides_file_overrides_defaults() {
    let dir = TempDir::new();
    let path = dir.write("leveret.toml", "heartbeat_s = 1\nframe_max = 10001\nchannel_max = 11\n");
    let env =
        [("LEVERET_CONFIG", path.as_str()), ("LEVERET_FRAME_MAX", "10002"), ("LEVERET_CHANNEL_MAX", "12")];
    let config = load_from(&["--channel-max", "13"], &env).unwrap();
    assert_eq!(config.heartbeat_s, 1);
    assert_eq!(config.frame_max, 10002);
    assert_eq!(config.channel_max, 13);
    assert_eq!(config.default_user, "guest");
}

#[test]
fn config_flag_overrides_config_variable() {
    let dir = TempDir::new();
    let path = dir.write("leveret.toml", "heartbeat_s = 9");
    let config = load_from(&["--config", &path], &[("LEVERET_CONFIG", "/no/such/file")]).unwrap();
    assert_eq!(config.heartbeat_s, 9);
}

#[test]
fn flag_that_repeats_the_default_still_overrides() {
    let config = load_from(&["--heartbeat-s", "60"], &[("LEVERET_HEARTBEAT_S", "5")]).unwrap();
    assert_eq!(config.heartbeat_s, 60);
}

#[test]
fn loopback_users_none_or_empty_lifts_the_restriction() {
    for word in ["none", ""] {
        assert!(load_from(NOTHING, &[("LEVERET_LOOPBACK_USERS", word)]).unwrap().loopback_users.is_empty());
        assert!(load_from(&["--loopback-users", word], NO_ENV).unwrap().loopback_users.is_empty());
    }
    for line in ["loopback_users = []", "loopback_users = 'none'", "loopback_users = ['none']"] {
        assert!(load_from_file(line).unwrap().loopback_users.is_empty(), "{line}");
    }
}

#[test]
fn tls_is_spoken_once_there_is_a_certificate() {
    let addresses = |flags: &[&str]| load_from(flags, NO_ENV).unwrap().amqps_addresses();
    let usual = ["0.0.0.0:5671".parse().unwrap()];
    assert_eq!(addresses(&[]), []);
    assert_eq!(addresses(&["--tls-certificate", "/c", "--tls-key", "/k"]), usual);
    assert_eq!(addresses(&["--tls-dev-certificate"]), usual);
    assert_eq!(addresses(&["--tls-dev-certificate", "true", "--amqps-listen", "none"]), []);
    assert_eq!(addresses(&["--tls-dev-certificate", "false"]), []);
    let alone = load_from(&["--tls-dev-certificate", "--amqp-listen", "none"], NO_ENV).unwrap();
    assert!(alone.amqp_listen.is_empty());
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let own = ["--tls-certificate", "/c", "--tls-key", "/k"];
    let wrong: [(&[&str], &str); 11] = [
        (&["--tls-certificate", "/c"], "tls_certificate and tls_key belong together"),
        (&["--tls-key", "/k"], "tls_certificate and tls_key belong together"),
        (&[&own[..], &["--tls-dev-certificate"]].concat(), "tls_dev_certificate takes the place"),
        (&["--amqps-listen", "[::]:5671"], "amqps_listen needs tls_certificate"),
        (&["--management-tls-listen", "[::]:15671"], "management_tls_listen needs tls_certificate"),
        (&["--metrics-tls-listen", "[::]:15691"], "metrics_tls_listen needs tls_certificate"),
        (&["--tls-sni-dir", "/s"], "tls_sni_dir needs tls_certificate"),
        (&["--tls-client-auth", "required"], "tls_client_auth needs tls_certificate"),
        (&[&own[..], &["--tls-client-auth", "required"]].concat(), "tls_client_auth needs tls_ca_file"),
        (&[&own[..], &["--tls-ca-file", "/a"]].concat(), "tls_ca_file is for tls_client_auth"),
        (&["--amqp-listen", "none"], "amqp_listen and amqps_listen are both none"),
    ];
    for (flags, expected) in wrong {
        let message = mistake(flags, NO_ENV);
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn sizes_are_read_with_and_without_units() {
    let sizes = [
        ("70000", 70_000),
        ("70000B", 70_000),
        ("64KiB", 65_536),
        ("64 kib", 65_536),
        ("65KB", 65_000),
        ("3MiB", 3_145_728),
        ("3MB", 3_000_000),
    ];
    for (word, octets) in sizes {
        let flag = format!("--message-bytes-max={word}");
        assert_eq!(load_from(&[&flag], NO_ENV).unwrap().message_bytes_max, octets, "{word}");
    }
    let gibibytes = load_from(&["--memory-high-watermark-bytes", "3GiB"], NO_ENV).unwrap();
    assert_eq!(gibibytes.memory_high_watermark_bytes, 3 << 30);
}

#[test]
fn memory_watermark_takes_a_share_of_the_memory() {
    let config = load_from(&["--memory-high-watermark-bytes", "100%"], NO_ENV).unwrap();
    let memory = memory::total_bytes();
    assert!(config.memory_high_watermark_bytes <= memory);
    assert!(config.memory_high_watermark_bytes > memory - 100);
}

#[test]
fn values_that_no_kind_takes_are_refused() {
    let wrong = [
        ("--data-dir", ""),
        ("--amqp-listen", ""),
        ("--amqp-listen", "localhost:5672"),
        ("--amqp-listen", "0.0.0.0:5672,"),
        ("--amqps-listen", "5671"),
        ("--tls-key", ""),
        ("--tls-client-auth", "yes"),
        ("--tls-dev-certificate", "yes"),
        ("--log", "info,=="),
        ("--log-format", "JSON"),
        ("--default-user", ""),
        ("--default-vhost", ""),
        ("--loopback-users", "guest,,other"),
        ("--heartbeat-s", "65536"),
        ("--heartbeat-s", "-1"),
        ("--heartbeat-s", "1.5"),
        ("--frame-max", "0"),
        ("--frame-max", "8191"),
        ("--frame-max", "536870913"),
        ("--channel-max", "65536"),
        ("--handshake-timeout-ms", "0"),
        ("--message-bytes-max", "513MiB"),
        ("--message-bytes-max", "0"),
        ("--message-bytes-max", "MiB"),
        ("--message-bytes-max", "1M"),
        ("--message-bytes-max", "99999999999999TiB"),
        ("--connections-max", "4294967296"),
        ("--outbound-bytes-max", "65535"),
        ("--memory-high-watermark-bytes", "0%"),
        ("--memory-high-watermark-bytes", "101%"),
        ("--memory-high-watermark-bytes", "%"),
        ("--message-cache-bytes", "0%"),
        ("--disk-free-limit-bytes", "0%"),
        ("--sync", "never"),
        ("--sync-interval-ms", "0"),
        ("--journal-bytes-max", "15MiB"),
        ("--closing-timeout-ms", "3600001"),
        ("--worker-threads", "1025"),
    ];
    for (flag, value) in wrong {
        let message = mistake(&[&format!("{flag}={value}")], NO_ENV);
        assert!(message.starts_with(&format!("flag {flag}: ")), "{message}");
        assert!(message.contains(&format!(" = {value:?}: expected ")), "{message}");
    }
}

#[test]
fn wrong_value_names_source_key_value_and_what_is_accepted() {
    assert_eq!(
        mistake(&["--heartbeat-s", "-1"], NO_ENV),
        r#"flag --heartbeat-s: heartbeat_s = "-1": expected a whole number from 0 to 65535 (seconds)"#
    );
    assert_eq!(
        mistake(NOTHING, &[("LEVERET_FRAME_MAX", "4096")]),
        "environment variable LEVERET_FRAME_MAX: frame_max = \"4096\": \
         expected a size from 8KiB to 512MiB (plain octets, or with a unit as in 64KiB or 2MB)"
    );
    assert_eq!(
        file_mistake("# comment\n\nlog_format = 'xml'\n"),
        "leveret.toml:3: log_format = 'xml': expected text or json"
    );
}

#[test]
fn wrong_types_in_the_file_are_refused() {
    let wrong = [
        ("heartbeat_s = '60'", "heartbeat_s = '60': expected a whole number"),
        ("heartbeat_s = -1", "heartbeat_s = -1: expected a whole number"),
        ("heartbeat_s = 6.0", "heartbeat_s = 6.0: expected a whole number"),
        ("heartbeat_s = true", "heartbeat_s = true: expected a whole number"),
        ("heartbeat_s = [60]", "heartbeat_s = [60]: expected a whole number"),
        ("channel_max = 99999999999999999999", "channel_max = 99999999999999999999: expected a whole number"),
        ("default_user = 1", "default_user = 1: expected a name"),
        ("data_dir = 1979-05-27", "data_dir = 1979-05-27: expected a path"),
        ("amqp_listen = []", "amqp_listen = []: expected one or more addresses"),
        ("amqp_listen = 5672", "amqp_listen = 5672: expected one or more addresses"),
        ("loopback_users = ['a', 1]", "loopback_users = ['a', 1]: expected names"),
        ("loopback_users = [\n'a', 1]", "loopback_users = [ …: expected names"),
        ("log = { level = 'info' }", "log = { level = 'info' }: expected error, warn"),
        ("[log]\nlevel = 'info'", "log = [log]: expected error, warn"),
    ];
    for (text, expected) in wrong {
        let message = file_mistake(text);
        assert!(message.starts_with(&format!("leveret.toml:1: {expected}")), "{message}");
    }
}

#[test]
fn unknown_key_is_refused_with_its_line_and_the_nearest_key() {
    assert_eq!(
        file_mistake("heartbeat_s = 1\n\nframe-max = 9000\n"),
        "leveret.toml:3: unknown key \"frame-max\"; did you mean frame_max?"
    );
    assert_eq!(
        file_mistake("zzz = 1"),
        "leveret.toml:1: unknown key \"zzz\"; leveret --help lists all options"
    );
    assert_eq!(
        mistake(NOTHING, &[("LEVERET_DEFAULT_PASS", "x")]),
        "unknown environment variable LEVERET_DEFAULT_PASS; did you mean LEVERET_DEFAULT_PASSWORD?"
    );
    assert_eq!(
        file_mistake("heartbeat_s = 1\n[listen]\namqp = ''"),
        "leveret.toml:2: unknown key \"listen\"; did you mean amqp_listen?"
    );
}

#[test]
fn first_mistake_of_a_file_is_the_one_reported() {
    let message = file_mistake("zzz = 1\naaa = 1\n");
    assert!(message.starts_with("leveret.toml:1: unknown key \"zzz\""), "{message}");
}

#[test]
fn unknown_variable_is_refused_with_the_nearest_one() {
    assert_eq!(
        mistake(NOTHING, &[("LEVERET_HEARTBEAT", "5")]),
        "unknown environment variable LEVERET_HEARTBEAT; did you mean LEVERET_HEARTBEAT_S?"
    );
    assert_eq!(
        mistake(NOTHING, &[("LEVERET_CONFIG_FILE", "x")]),
        "unknown environment variable LEVERET_CONFIG_FILE; did you mean LEVERET_CONFIG?"
    );
    assert_eq!(
        mistake(NOTHING, &[("LEVERET_QQ", "5")]),
        "unknown environment variable LEVERET_QQ; leveret --help lists all options"
    );
}

#[test]
fn variables_of_others_are_left_alone() {
    let env = [
        ("PATH", "/bin"),
        ("RABBITMQ_NODENAME", "x"),
        ("LEVERET_URL", "http://localhost:15672"),
        ("LEVERET_USER", "shop"),
        ("LEVERET_PASSWORD", "secret"),
        ("LEVERET_CA_FILE", "/etc/ca.pem"),
        ("LEVERET_TEST_PORT", "1"),
        ("LEVERET_TESTS_SEED", "1"),
        ("LEVERET_SERVICE_HOST", "10.0.0.1"),
        ("LEVERET_SERVICE_PORT", "5672"),
        ("LEVERET_SERVICE_PORT_AMQP", "5672"),
        ("LEVERET_PORT", "tcp://10.0.0.1:5672"),
        ("LEVERET_PORT_5672_TCP_ADDR", "10.0.0.1"),
        ("LEVERET_HEADLESS_PORT", "tcp://10.0.0.1:5672"),
    ];
    assert_eq!(load_from(NOTHING, &env).unwrap().default_user, "guest");
    let message = mistake(NOTHING, &[("LEVERET_PORT", "5672")]);
    assert!(message.starts_with("unknown environment variable LEVERET_PORT;"), "{message}");
}

#[test]
fn the_first_user_of_a_container_made_for_rabbitmq_is_taken_unless_ours_is_named() {
    let env = [
        ("LEVERET_DEFAULT_USER", "hare"),
        ("RABBITMQ_DEFAULT_USER", "rabbit"),
        ("RABBITMQ_DEFAULT_PASS", "secret"),
        ("RABBITMQ_DEFAULT_VHOST", "field"),
    ];
    let config = load_from(NOTHING, &env).unwrap();
    let user = (config.default_user.as_str(), config.default_password.as_str());
    assert_eq!((user, config.default_vhost.as_str()), (("hare", "secret"), "field"));
    assert_eq!(load_from(NOTHING, &env[1..]).unwrap().default_user, "rabbit");
}

#[test]
fn whoever_the_image_is_given_a_password_for_may_come_from_anywhere_unless_something_says_otherwise() {
    let guest = ("RABBITMQ_DEFAULT_PASS", "guest");
    assert!(load_from(NOTHING, &[guest]).unwrap().loopback_users.is_empty());
    let ours = load_from(NOTHING, &[guest, ("LEVERET_LOOPBACK_USERS", "guest")]).unwrap();
    assert_eq!(ours.loopback_users, ["guest"]);
    let dir = TempDir::new();
    let path = dir.write("leveret.toml", "loopback_users = ['guest']");
    assert_eq!(load_from(&["--config", &path], &[guest]).unwrap().loopback_users, ["guest"]);
}

#[test]
fn a_user_who_may_come_from_anywhere_needs_a_password_that_somebody_chose() {
    let message = mistake(&["--default-user", "hare"], NO_ENV);
    assert_eq!(message, "default_user may log in from anywhere: set default_password as well");
    let chosen = [("LEVERET_DEFAULT_PASSWORD", "guest")];
    assert!(load_from(&["--default-user", "hare"], &chosen).is_ok());
    assert!(load_from(&["--default-user", "hare", "--loopback-users", "hare"], NO_ENV).is_ok());
    assert!(load_from(&["--default-user", "hare", "--load-definitions", "d.json"], NO_ENV).is_ok());
}

#[test]
fn the_limit_of_free_disk_takes_a_share_of_the_memory() {
    let config = load_from(&["--disk-free-limit-bytes", "150%"], NO_ENV).unwrap();
    assert_eq!(config.disk_free_limit_bytes, memory::total_bytes() / 100 * 150);
    let message = mistake(&["--disk-free-limit-bytes", "1001%"], NO_ENV);
    assert!(message.contains("from 1% to 1000%"), "{message}");
    let message = mistake(&["--disk-free-limit-bytes", "2PB"], NO_ENV);
    assert!(message.contains("at most 1024TiB"), "{message}");
}

#[cfg(unix)]
#[test]
fn variable_that_is_not_unicode_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let env = [(OsString::from("LEVERET_DEFAULT_USER"), OsString::from_vec(vec![b'a', 0xff]))];
    let message = load([OsString::from("leveret")], env).unwrap_err().to_string();
    assert!(message.starts_with("environment variable LEVERET_DEFAULT_USER: default_user = "), "{message}");
}

#[test]
fn unknown_flag_is_refused_with_the_nearest_one() {
    let message = mistake(&["--frame-mx", "9000"], NO_ENV);
    assert!(message.contains("unexpected argument '--frame-mx'"), "{message}");
    assert!(message.contains("--frame-max"), "{message}");
}

#[test]
fn file_that_is_missing_or_no_toml_is_refused() {
    let message = mistake(&["--config", "/no/such/leveret.toml"], NO_ENV);
    assert!(
        message.starts_with("cannot read the configuration file \"/no/such/leveret.toml\": "),
        "{message}"
    );
    let message = file_mistake("heartbeat_s = 1\ndefault_password = hush\n");
    assert!(message.starts_with("leveret.toml:2: "), "{message}");
    assert!(!message.contains("hush") && !message.contains('\n'), "{message}");
    let message = file_mistake("heartbeat_s = 1\nheartbeat_s = 2\n");
    assert!(message.starts_with("leveret.toml:2: ") && message.contains("duplicate"), "{message}");
}

#[test]
fn passwords_stay_out_of_debug_output_and_messages() {
    let config = load_from(&["--default-password", "hush"], NO_ENV).unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("default_password: \"(hidden)\"") && !shown.contains("hush"), "{shown}");
    assert!(shown.contains("default_user: \"guest\""), "{shown}");
    assert_eq!(
        mistake(&["--default-password="], NO_ENV),
        "flag --default-password: default_password = (hidden): expected a text that is not empty"
    );
    assert_eq!(
        file_mistake("default_password = 4711"),
        "leveret.toml:1: default_password = (hidden): expected a text that is not empty"
    );
}

#[test]
fn help_lists_every_option_with_default_and_variable() {
    let help = load_from(&["--help"], NO_ENV).unwrap_err();
    assert_eq!(help.exit_code(), 0);
    let help = help.to_string();
    for option in OPTIONS {
        let value = if option.is_switch() { "[<VALUE>]" } else { "<VALUE>" };
        assert!(help.contains(&format!("--{} {value}", option.flag())), "{}", option.key);
        let sources = format!("[env: {}] [default: {}]", option.env(), option.default);
        assert!(help.contains(&sources), "{}", option.key);
    }
    assert!(help.contains("--config <FILE>") && help.contains("[env: LEVERET_CONFIG]"));
}

#[test]
fn check_takes_the_data_directory_from_everywhere_and_no_other_flag() {
    assert_eq!((task(&[]), task(&["--data-dir", "x"])), (Task::Serve, Task::Serve));
    assert_eq!((task(&["check"]), task(&["check", "--data-dir", "x"])), (Task::Check, Task::Check));
    let dir = TempDir::new();
    let path = dir.write("leveret.toml", "data_dir = '/from/file'\nheartbeat_s = 7");
    let data_dir = |args: &[&str]| load_from(args, NO_ENV).unwrap().data_dir;
    assert_eq!(data_dir(&["check"]), Path::new("./leveret-data"));
    assert_eq!(data_dir(&["check", "--config", &path]), Path::new("/from/file"));
    assert_eq!(data_dir(&["check", "--config", &path, "--data-dir", "/flag"]), Path::new("/flag"));
    let variable = load_from(&["check"], &[("LEVERET_DATA_DIR", "/variable")]).unwrap();
    assert_eq!(variable.data_dir, Path::new("/variable"));
    for wrong in [["check", "--frame-max", "9000"], ["--frame-max", "9000", "check"], ["check", "it", "now"]]
    {
        mistake(&wrong, NO_ENV);
    }
    let message = mistake(&["check", "--data-dri", "x"], NO_ENV);
    assert!(message.contains("--data-dir"), "{message}");
    mistake(&["chek"], NO_ENV);
    let help = load_from(&["check", "--help"], NO_ENV).unwrap_err();
    assert_eq!(help.exit_code(), 0);
    assert!(
        help.to_string().contains("[env: LEVERET_DATA_DIR]") && help.to_string().contains("Exits with 0")
    );
    assert!(load_from(&["--help"], NO_ENV).unwrap_err().to_string().contains("  check"));
}

#[test]
fn version_is_that_of_the_package() {
    let version = load_from(&["--version"], NO_ENV).unwrap_err();
    assert_eq!(version.exit_code(), 0);
    assert_eq!(version.to_string(), format!("leveret {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_example_of_the_document_loads() {
    let example = DOCUMENT.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let config = load_from_file(example).unwrap();
    assert_eq!(config.amqp_listen.len(), 2);
    assert_eq!(config.message_bytes_max, 64 << 20);
}

#[test]
fn the_document_has_exactly_the_table_of_options() {
    let in_document: Vec<_> = DOCUMENT.lines().filter(|line| line.starts_with("| `")).collect();
    let declared: Vec<_> = OPTIONS.iter().map(row).collect();
    let rows = declared.join("\n");
    assert!(in_document == declared, "the rows of docs/CONFIGURATION.md should be:\n{rows}");
}

fn row(option: &option::OptionSpec) -> String {
    let doc: Vec<_> = option.doc.iter().map(|line| line.trim()).collect();
    let accepts = (option.accepts)();
    format!("| `{}` | `{}` | {accepts} | {} |", option.key, option.default, doc.join(" "))
}

#[test]
fn the_printed_configuration_is_one_that_can_be_loaded() {
    let dir = TempDir::new();
    let conf = dir.write("rabbitmq.conf", "heartbeat = 30\nlisteners.tcp.1 = 127.0.0.1:5673\nfoo = 1\n");
    let args = [
        "leveret",
        "--rabbitmq-conf",
        &conf,
        "--print-config",
        "--frame-max",
        "64KiB",
        "--default-vhost",
        "a\"b",
    ];
    let loaded = load(args.map(OsString::from), []).unwrap();
    assert_eq!(loaded.task, Task::PrintConfig);
    assert_eq!(loaded.ignored, [format!("foo ({conf}:3)")]);
    assert!(loaded.printed.ends_with(&format!("\n# ignored: foo ({conf}:3)\n")), "{}", loaded.printed);
    let line = |key: &str| loaded.printed.lines().find(|line| line.contains(key)).unwrap().to_owned();
    assert_eq!(line("heartbeat_s"), format!("heartbeat_s = 30 # {conf}:1"));
    assert_eq!(line("frame_max"), "frame_max = \"64KiB\" # flag --frame-max");
    assert_eq!(line("default_password"), "# default_password = (hidden)");
    let again = load_from_file(&loaded.printed).unwrap();
    assert_eq!(format!("{again:?}"), format!("{:?}", loaded.config));
}

#[test]
fn a_file_of_rabbitmq_gives_way_to_all_other_sources() {
    let dir = TempDir::new();
    let conf = dir.write("conf.d/10-a.conf", "heartbeat = 30\nchannel_max = 7\n");
    dir.write("conf.d/20-b.conf", "heartbeat = 31\nframe_max = 65536\n");
    dir.write("conf.d/readme.txt", "not read");
    let folder = Path::new(&conf).parent().unwrap().to_str().unwrap();
    let config = load_from(&["--frame-max", "131072"], &[("LEVERET_RABBITMQ_CONF", folder)]).unwrap();
    assert_eq!((config.heartbeat_s, config.channel_max, config.frame_max), (31, 7, 131_072));
    let error = load_from(&["--rabbitmq-conf", &dir.write("bad.conf", "heartbeat = often\n")], NO_ENV);
    let text = error.err().unwrap().to_string();
    assert!(text.contains("bad.conf:1: heartbeat_s = \"often\": expected a whole number"), "{text}");
}
