//! A `rabbitmq.conf` read as if its settings were ours: `key = value` lines, `#` comments, `$(VARIABLE)` in values,
//! or a directory of such files. What has no counterpart here is not an error, since the file was written for
//! another broker; it is told by name when the broker starts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::OPTIONS;
use super::error::ConfigError;
use super::option::{Origin, Setting};

/// What such a file says.
#[derive(Default)]
pub(super) struct RabbitmqConf {
    pub(super) settings: Vec<Setting>,
    /// Keys without a counterpart, with where they stand.
    pub(super) ignored: Vec<String>,
}

/// How the value of a key becomes one of ours.
enum Meaning {
    /// It is written the same way.
    Same(&'static str),
    /// A share such as 0.4.
    Share(&'static str),
    /// A size; RabbitMQ's units are powers of two where they end in iB or are single letters.
    Size(&'static str),
    /// A level of the log.
    Level(&'static str),
    /// A port, or an address with one.
    Address(&'static str),
}

/// COMPAT: keys that mean one of our options. Those of lists are handled where the file is read.
const KEYS: [(&str, Meaning); 33] = [
    ("load_definitions", Meaning::Same("load_definitions")),
    ("management.load_definitions", Meaning::Same("load_definitions")),
    ("definitions.local.path", Meaning::Same("load_definitions")),
    ("default_user", Meaning::Same("default_user")),
    ("default_pass", Meaning::Same("default_password")),
    ("default_vhost", Meaning::Same("default_vhost")),
    ("heartbeat", Meaning::Same("heartbeat_s")),
    ("frame_max", Meaning::Same("frame_max")),
    ("channel_max", Meaning::Same("channel_max")),
    ("max_channels_per_connection", Meaning::Same("channel_max")),
    ("max_connections", Meaning::Same("connections_max")),
    ("connection_max", Meaning::Same("connections_max")),
    ("handshake_timeout", Meaning::Same("handshake_timeout_ms")),
    ("max_message_size", Meaning::Same("message_bytes_max")),
    ("consumer_timeout", Meaning::Same("consumer_timeout_ms")),
    ("vm_memory_high_watermark.relative", Meaning::Share("memory_high_watermark_bytes")),
    ("vm_memory_high_watermark.absolute", Meaning::Size("memory_high_watermark_bytes")),
    ("disk_free_limit.relative", Meaning::Share("disk_free_limit_bytes")),
    ("disk_free_limit.absolute", Meaning::Size("disk_free_limit_bytes")),
    ("proxy_protocol", Meaning::Same("proxy_protocol")),
    ("ssl_options.certfile", Meaning::Same("tls_certificate")),
    ("ssl_options.keyfile", Meaning::Same("tls_key")),
    ("ssl_options.cacertfile", Meaning::Same("tls_ca_file")),
    ("prometheus.tcp.port", Meaning::Address("metrics_listen")),
    ("prometheus.ssl.port", Meaning::Address("metrics_tls_listen")),
    ("management.tcp.port", Meaning::Address("management_listen")),
    ("management.ssl.port", Meaning::Address("management_tls_listen")),
    ("management.path_prefix", Meaning::Same("management_path_prefix")),
    ("management.tcp.request_timeout", Meaning::Same("management_timeout_ms")),
    ("log.console.level", Meaning::Level("log")),
    ("log.default.level", Meaning::Level("log")),
    ("log.file.level", Meaning::Level("log")),
    ("log.level", Meaning::Level("log")),
];

/// Prefixes of keys that name a user each.
const LOOPBACK: &str = "loopback_users.";
const TCP_LISTENERS: &str = "listeners.tcp.";
const TLS_LISTENERS: &str = "listeners.ssl.";
const CORS_ORIGINS: &str = "management.cors.allow_origins.";

/// What TLS needs, for each listener of its own. Here all have the same: that of AMQP, or if there is none the first
/// one that there is. What differs is told of as meaning nothing.
const TLS_OPTIONS: &str = "ssl_options.";
const TLS_OPTIONS_OF_HTTP: [&str; 2] = ["management.ssl.", "prometheus.ssl."];

const TLS_NAMES: [&str; 5] = ["certfile", "keyfile", "cacertfile", "verify", "fail_if_no_peer_cert"];

/// COMPAT: whether a client's certificate is verified, and whether it must have one.
const VERIFY: &str = "ssl_options.verify";
const REQUIRE: &str = "ssl_options.fail_if_no_peer_cert";

/// Reads a file, or all of a directory that end in `.conf` in the order of their names.
pub(super) fn read(path: &Path, env: &BTreeMap<OsString, OsString>) -> Result<RabbitmqConf, ConfigError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |reason| ConfigError::FileUnreadable { path, reason }
    };
    let mut reading = Reading::new(env);
    if path.is_dir() {
        let entries = fs::read_dir(path).map_err(unreadable(path))?;
        let entries: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut files = entries.map_err(unreadable(path))?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).map_err(unreadable(&file))?;
            reading.file(&file, &text)?;
        }
    } else {
        let text = fs::read_to_string(path).map_err(unreadable(path))?;
        reading.file(path, &text)?;
    }
    Ok(reading.finish())
}

/// What was read so far.
struct Reading<'a> {
    env: &'a BTreeMap<OsString, OsString>,
    conf: RabbitmqConf,
    /// Addresses by the last part of their keys.
    listeners: Gathered<String>,
    tls_listeners: Gathered<String>,
    /// Origins by the last part of their keys.
    origins: Gathered<String>,
    /// Users, and whether they may connect from this machine only.
    loopback: Gathered<bool>,
    /// What is asked of clients' certificates.
    client_certificates: Gathered<bool>,
    /// What TLS of AMQP needs, as it was written.
    tls_options: BTreeMap<String, String>,
    /// What TLS of HTTP needs, and the whole key of each, with its file and line.
    of_http: Vec<(String, String, String, PathBuf, usize)>,
}

/// Values of several keys that make one of ours, and where the first one stands.
struct Gathered<T> {
    values: BTreeMap<String, T>,
    at: Option<Origin>,
}

impl<T> Default for Gathered<T> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), at: None }
    }
}

impl<T> Gathered<T> {
    fn add(&mut self, name: &str, value: T, origin: Origin) {
        self.at.get_or_insert(origin);
        self.values.insert(name.to_owned(), value);
    }
}

impl<'a> Reading<'a> {
    fn new(env: &'a BTreeMap<OsString, OsString>) -> Self {
        Self {
            env,
            conf: RabbitmqConf::default(),
            listeners: Gathered::default(),
            tls_listeners: Gathered::default(),
            origins: Gathered::default(),
            loopback: Gathered::default(),
            client_certificates: Gathered::default(),
            tls_options: BTreeMap::new(),
            of_http: Vec::new(),
        }
    }

    fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let origin = Origin::File(path.to_owned(), number);
            let Some((key, value)) = line.split_once('=') else {
                // What stands there instead is not told: it may be a password.
                let message = "expected key = value".to_owned();
                return Err(ConfigError::FileSyntax { origin, message });
            };
            let value = self.interpolated(unquoted(value), &origin)?;
            self.line(key.trim(), value, path, number);
        }
        Ok(())
    }

    fn line(&mut self, key: &str, value: String, path: &Path, number: usize) {
        let origin = Origin::File(path.to_owned(), number);
        if let Some(name) = key.strip_prefix(TCP_LISTENERS) {
            return self.listeners.add(name, address(&value), origin);
        }
        if let Some(name) = key.strip_prefix(TLS_LISTENERS) {
            return self.tls_listeners.add(name, address(&value), origin);
        }
        if let Some(name) = key.strip_prefix(CORS_ORIGINS) {
            return self.origins.add(name, value, origin);
        }
        if key == "loopback_users" && value == "none" {
            self.loopback = Gathered { values: BTreeMap::new(), at: Some(origin) };
            return;
        }
        if let Some(name) = key.strip_prefix(LOOPBACK) {
            return self.loopback.add(name, value == "true", origin);
        }
        let of_http = TLS_OPTIONS_OF_HTTP.iter().find_map(|prefix| key.strip_prefix(prefix));
        if let Some(name) = of_http.filter(|name| TLS_NAMES.contains(name)) {
            let name = format!("{TLS_OPTIONS}{name}");
            return self.of_http.push((name, value, key.to_owned(), path.to_owned(), number));
        }
        if key.starts_with(TLS_OPTIONS) {
            self.tls_options.insert(key.to_owned(), value.clone());
        }
        if [VERIFY, REQUIRE].contains(&key) {
            return self.client_certificates.add(
                key,
                ["verify_peer", "true"].contains(&value.as_str()),
                origin,
            );
        }
        let Some((_, meaning)) = KEYS.iter().find(|(known, _)| *known == key) else {
            self.conf.ignored.push(format!("{key} ({}:{number})", path.display()));
            return;
        };
        let (option, word) = match meaning {
            Meaning::Same(option) => (option, value),
            Meaning::Share(option) => (option, share(&value)),
            Meaning::Size(option) => (option, size(&value)),
            Meaning::Level(option) => (option, level(&value)),
            Meaning::Address(option) => (option, address(&value)),
        };
        self.set(option, word, origin);
    }

    fn set(&mut self, key: &str, word: String, origin: Origin) {
        // INVARIANT: KEYS names options there are, which a test looks after.
        if let Some(option) = OPTIONS.iter().find(|option| option.key == key) {
            self.conf.settings.push(Setting::from_word(option, word, origin));
        }
    }

    /// COMPAT: $(NAME) stands for the environment variable.
    fn interpolated(&self, value: &str, origin: &Origin) -> Result<String, ConfigError> {
        let mut out = String::new();
        let mut rest = value;
        while let Some((before, name, behind)) = rest
            .split_once("$(")
            .and_then(|(before, rest)| Some((before, rest.split_once(')')?)))
            .map(|(before, (name, behind))| (before, name, behind))
        {
            let found = self.env.get(&OsString::from(name)).and_then(|value| value.to_str());
            let Some(found) = found else {
                let message = format!("there is no environment variable {name}");
                return Err(ConfigError::FileSyntax { origin: origin.clone(), message });
            };
            out.push_str(before);
            out.push_str(found);
            rest = behind;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// What TLS of HTTP needs becomes what all need.
    fn share_tls_options(&mut self) {
        let has_amqps = !self.tls_options.is_empty() || self.tls_listeners.at.is_some();
        for (name, value, key, path, number) in std::mem::take(&mut self.of_http) {
            match self.tls_options.get(&name) {
                Some(shared) if *shared == value => {}
                None if !has_amqps => {
                    // COMPAT: that HTTP has TLS does not give it to AMQP.
                    self.tls_listeners.at.get_or_insert(Origin::File(path.clone(), number));
                    self.line(&name, value, &path, number);
                }
                _ => self.conf.ignored.push(format!("{key} ({}:{number})", path.display())),
            }
        }
    }

    fn finish(mut self) -> RabbitmqConf {
        self.share_tls_options();
        let lists = [
            ("amqp_listen", std::mem::take(&mut self.listeners)),
            ("amqps_listen", std::mem::take(&mut self.tls_listeners)),
            ("management_cors_allow_origins", std::mem::take(&mut self.origins)),
        ];
        for (option, Gathered { values, at }) in lists {
            if let Some(origin) = at {
                let list = values.into_values().collect::<Vec<_>>().join(",");
                self.set(option, if list.is_empty() { "none".to_owned() } else { list }, origin);
            }
        }
        let Gathered { values, at } = std::mem::take(&mut self.client_certificates);
        let is_set = |key: &str| values.get(key).copied().unwrap_or_default();
        let word = match (is_set(VERIFY), is_set(REQUIRE)) {
            (false, _) => "none",
            (true, false) => "optional",
            (true, true) => "required",
        };
        if let Some(origin) = at {
            self.set("tls_client_auth", word.to_owned(), origin);
        }
        if word == "none" {
            // It names who may have signed clients' certificates, and none is asked for.
            self.conf.settings.retain(|setting| setting.option.key != "tls_ca_file");
        }
        if let Gathered { values, at: Some(origin) } = std::mem::take(&mut self.loopback) {
            let users: Vec<_> = values.into_iter().filter_map(|(user, on)| on.then_some(user)).collect();
            let word = if users.is_empty() { "none".to_owned() } else { users.join(",") };
            self.set("loopback_users", word, origin);
        }
        self.conf
    }
}

/// The value without what may stand around and behind it.
fn unquoted(value: &str) -> &str {
    let value = value.trim();
    let quoted = ['\'', '"'].iter().find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote));
    quoted.unwrap_or_else(|| value.split_once(" #").map_or(value, |(value, _)| value.trim_end()))
}

/// COMPAT: a port alone is one on all addresses; RabbitMQ writes these as `:::5672` too.
fn address(value: &str) -> String {
    if value.bytes().all(|octet| octet.is_ascii_digit()) {
        return format!("0.0.0.0:{value}");
    }
    match value.rsplit_once(':') {
        Some((host, port)) if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        _ => value.to_owned(),
    }
}

/// A share as we write it; what is none is left for the check of the option to refuse.
fn share(value: &str) -> String {
    match value.parse::<f64>() {
        Ok(share) if (0.01..=10.0).contains(&share) => format!("{}%", (share * 100.0).round()),
        _ => value.to_owned(),
    }
}

/// COMPAT: `MB` is a million octets, `M`, `MiB` and `m` are 1024 times 1024.
fn size(value: &str) -> String {
    match value.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', 't', 'T']) {
        Some(number) if number.bytes().all(|octet| octet.is_ascii_digit()) => format!("{value}iB"),
        _ => value.to_owned(),
    }
}

/// COMPAT: RabbitMQ has more levels than we do.
fn level(value: &str) -> String {
    match value {
        "critical" | "alert" | "emergency" => "error".to_owned(),
        "notice" => "info".to_owned(),
        "warning" => "warn".to_owned(),
        "none" => "off".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::kind::Typed;
    use super::*;

    fn read_text(text: &str, env: &[(&str, &str)]) -> Result<RabbitmqConf, ConfigError> {
        let env = env.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        let mut reading = Reading::new(&env);
        reading.file(Path::new("rabbitmq.conf"), text)?;
        Ok(reading.finish())
    }

    fn words(conf: &RabbitmqConf) -> Vec<(&str, &str)> {
        let word = |setting: &Setting| match &setting.typed {
            Typed::Word(word) => word.clone().leak() as &str,
            other => panic!("{other:?}"),
        };
        conf.settings.iter().map(|setting| (setting.option.key, word(setting))).collect()
    }

    #[test]
    fn each_key_means_an_option_that_there_is() {
        for (key, meaning) in &KEYS {
            let (Meaning::Same(option)
            | Meaning::Share(option)
            | Meaning::Size(option)
            | Meaning::Level(option)
            | Meaning::Address(option)) = meaning;
            assert!(OPTIONS.iter().any(|known| known.key == *option), "{key} means {option}");
        }
    }

    #[test]
    fn a_file_for_the_other_broker_is_understood() {
        let text = "\
# a comment
listeners.tcp.default = 5673
listeners.tcp.other = ::1:5674
default_user = 'anna'   
default_pass = \"a # b\"
loopback_users.guest = false
heartbeat = 30 # seconds
vm_memory_high_watermark.relative = 0.6
disk_free_limit.relative = 1.5
disk_free_limit.absolute = 2GB
log.console.level = warning
max_message_size = 1048576
cluster_name = rabbit
";
        let conf = read_text(text, &[]).unwrap();
        let expected = [
            ("default_user", "anna"),
            ("default_password", "a # b"),
            ("heartbeat_s", "30"),
            ("memory_high_watermark_bytes", "60%"),
            ("disk_free_limit_bytes", "150%"),
            ("disk_free_limit_bytes", "2GB"),
            ("log", "warn"),
            ("message_bytes_max", "1048576"),
            ("amqp_listen", "0.0.0.0:5673,[::1]:5674"),
            ("loopback_users", "none"),
        ];
        assert_eq!(words(&conf), expected);
        assert_eq!(conf.ignored, ["cluster_name (rabbitmq.conf:13)"]);
    }

    #[test]
    fn settings_of_tls_become_ours() {
        let text = "\
listeners.ssl.default = 5671
ssl_options.cacertfile = ca.pem
ssl_options.certfile   = server.pem
ssl_options.keyfile    = key.pem
ssl_options.verify     = verify_peer
";
        let files = [("tls_ca_file", "ca.pem"), ("tls_certificate", "server.pem"), ("tls_key", "key.pem")];
        for (line, asked) in [("", "optional"), ("ssl_options.fail_if_no_peer_cert = true", "required")] {
            let conf = read_text(&format!("{text}{line}"), &[]).unwrap();
            let expected = [("amqps_listen", "0.0.0.0:5671"), ("tls_client_auth", asked)];
            assert_eq!(words(&conf), [&files[..], &expected[..]].concat());
        }
        let conf = read_text("ssl_options.cacertfile = ca.pem", &[]).unwrap();
        assert_eq!(words(&conf), [], "nobody's certificate is asked for");
        let conf = read_text(&text.replace("verify_peer", "verify_none"), &[]).unwrap();
        let expected = [("amqps_listen", "0.0.0.0:5671"), ("tls_client_auth", "none")];
        assert_eq!(words(&conf), [&files[1..], &expected[..]].concat());
    }

    #[test]
    fn tls_of_http_has_the_settings_of_amqp_or_all_have_its_own() {
        let http = "\
management.ssl.port     = 15671
management.ssl.certfile = server.pem
management.ssl.keyfile  = key.pem
prometheus.ssl.port     = 15691
prometheus.ssl.certfile = server.pem
";
        let conf = read_text(http, &[]).unwrap();
        let listeners = [("management_tls_listen", "0.0.0.0:15671"), ("metrics_tls_listen", "0.0.0.0:15691")];
        let files = [("tls_certificate", "server.pem"), ("tls_key", "key.pem")];
        assert_eq!(words(&conf), [&listeners[..], &files[..], &[("amqps_listen", "none")]].concat());
        assert_eq!(conf.ignored, [""; 0]);

        let both = format!(
            "listeners.ssl.default = 5671\nssl_options.certfile = server.pem\nssl_options.keyfile = other.pem\n{http}"
        );
        let conf = read_text(&both, &[]).unwrap();
        let files = [("tls_certificate", "server.pem"), ("tls_key", "other.pem")];
        let expected = [&files[..], &listeners[..], &[("amqps_listen", "0.0.0.0:5671")]].concat();
        assert_eq!(words(&conf), expected);
        assert_eq!(conf.ignored, ["management.ssl.keyfile (rabbitmq.conf:6)"]);
    }

    #[test]
    fn settings_of_the_management_become_ours() {
        let text = "\
management.path_prefix = /rabbit
management.cors.allow_origins.2 = https://b
management.cors.allow_origins.1 = https://a
management.cors.max_age = 60
";
        let conf = read_text(text, &[]).unwrap();
        let expected =
            [("management_path_prefix", "/rabbit"), ("management_cors_allow_origins", "https://a,https://b")];
        assert_eq!(words(&conf), expected);
        assert_eq!(conf.ignored, ["management.cors.max_age (rabbitmq.conf:4)"]);
    }

    #[test]
    fn values_may_name_environment_variables() {
        let conf = read_text("default_pass = a$(SECRET)b$(SECRET)", &[("SECRET", "xy")]).unwrap();
        assert_eq!(words(&conf), [("default_password", "axybxy")]);
        let error = read_text("\ndefault_pass = $(MISSING)", &[]).err().unwrap();
        assert_eq!(error.to_string(), "rabbitmq.conf:2: there is no environment variable MISSING");
    }

    #[test]
    fn what_is_no_setting_is_told_with_its_line() {
        let error = read_text("heartbeat 30", &[]).err().unwrap();
        assert_eq!(error.to_string(), "rabbitmq.conf:1: expected key = value");
    }

    #[test]
    fn sizes_and_levels_are_written_our_way() {
        assert_eq!(["512M", "1GiB", "3GB", "7"].map(size), ["512MiB", "1GiB", "3GB", "7"]);
        assert_eq!(["critical", "debug", "none"].map(level), ["error", "debug", "off"]);
        assert_eq!(
            ["5672", "localhost:1", ":::5672"].map(address),
            ["0.0.0.0:5672", "127.0.0.1:1", "[::]:5672"]
        );
    }
}
