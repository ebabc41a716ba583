//! What the operator may set: the table of all options, each stated once, and how they are loaded.
//!
//! `main` hands over the command line and the environment; the broker gets a checked [`Config`] that is
//! never read again from its sources. `sources` gathers what was typed, `kind` says what a value must
//! look like, `option` makes the two structs out of the table. Nothing here opens sockets or starts logs.

mod error;
mod kind;
pub(crate) mod memory;
mod option;
mod rabbitmq;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use leveret_broker::limits::TIME_MS_MAX;

pub use error::ConfigError;
pub use option::Origin;

use option::options;

/// Smallest largest frame that may be negotiated.
// COMPAT: RabbitMQ 4.1 and later refuse less.
const FRAME_MAX_LEAST: u64 = 8 * 1024;

/// Largest body that RabbitMQ can be configured to take; no frame and no message needs more.
const BODY_BYTES_LIMIT: u64 = 512 * 1024 * 1024;

/// Least room for a connection's outbound buffer: below, writes become too small to be worth a system call.
const OUTBOUND_BYTES_LEAST: u64 = 64 * 1024;

/// Most room for a connection's outbound buffer. More would only hide a consumer that does not read.
const OUTBOUND_BYTES_LIMIT: u64 = 1024 * 1024 * 1024;

/// Largest configurable limit of free disk space, more than any disk has: one pebibyte.
const DISK_FREE_LIMIT: u64 = 1 << 50;

/// Shortest journal. Below, one checkpoint would follow the other.
const JOURNAL_BYTES_LEAST: u64 = 16 * 1024 * 1024;

/// Longest journal. A start after a crash reads all of it.
const JOURNAL_BYTES_LIMIT: u64 = 64 * 1024 * 1024 * 1024;

/// Longest configurable wait, so that no wait is without an end: one hour.
const WAIT_MS_LIMIT: u64 = 60 * 60 * 1000;

/// More worker threads than any machine has cores for.
const WORKER_THREADS_LIMIT: u64 = 1024;

options! {
    /// Directory for everything the broker keeps on disk. It is made if it does not exist.
    data_dir: PathBuf = "./leveret-data", kind::path();

    /// Addresses that AMQP clients connect to without TLS. Port 0 picks a free port.
    amqp_listen: Vec<SocketAddr> = "0.0.0.0:5672", kind::addresses_or_none();

    /// Addresses that AMQP clients connect to with TLS 1.2 or 1.3. auto is 0.0.0.0:5671 where there is a certificate,
    /// and none where there is not.
    amqps_listen: Option<Vec<SocketAddr>> = "auto", kind::addresses_or_auto();

    /// PEM file with the server's certificate, followed by those that lead to its authority. This file and all that
    /// follow are read again on SIGHUP.
    tls_certificate: Option<PathBuf> = "none", kind::path_or_none();

    /// PEM file with the private key of tls_certificate, not encrypted.
    tls_key: Option<PathBuf> = "none", kind::path_or_none();

    /// Folder with further certificates NAME.crt and their keys NAME.key, each for the host names that stand in it and
    /// that a client asks for (SNI).
    tls_sni_dir: Option<PathBuf> = "none", kind::path_or_none();

    /// Whether clients show a certificate: none does, a client may (optional), or each has to (required). One that is
    /// shown has to come from tls_ca_file.
    tls_client_auth: ClientAuth = "none",
        kind::choice(&[
            ("none", ClientAuth::None),
            ("optional", ClientAuth::Optional),
            ("required", ClientAuth::Required),
        ]);

    /// PEM file with the authorities that clients' certificates may come from.
    tls_ca_file: Option<PathBuf> = "none", kind::path_or_none();

    /// Which part of a client's certificate names the user that it logs in by EXTERNAL: all of its subject, as
    /// CN=shop,O=Example, or the common name in it alone.
    tls_login_from: LoginFrom = "distinguished_name", kind::choice(&[
        ("distinguished_name", LoginFrom::DistinguishedName),
        ("common_name", LoginFrom::CommonName),
    ]);

    /// For development: makes an authority of its own and certificates for localhost, in tls-development in data_dir,
    /// and uses them.
    tls_dev_certificate: bool = "false", kind::boolean();

    /// Whether each AMQP connection begins with a PROXY protocol header (version 1 or 2) that says whose it is. Only
    /// for listeners that nobody but a proxy can reach: the header is believed.
    proxy_protocol: bool = "false", kind::boolean();

    /// Addresses that the management HTTP API is served on. Port 0 picks a free port; none turns it off.
    management_listen: Vec<SocketAddr> = "0.0.0.0:15672", kind::addresses_or_none();

    /// Addresses that the same API is served on with TLS, by the certificates and the checks of clients' certificates
    /// that AMQP has. Its usual port is 15671.
    management_tls_listen: Vec<SocketAddr> = "none", kind::addresses_or_none();

    /// Time that a client of the HTTP API has to send the head of a request, or to send nothing between two, as much
    /// for each MiB of a body, and as much to take some of its answer, in milliseconds.
    management_timeout_ms: u64 = "30000", kind::number(1..=WAIT_MS_LIMIT, "milliseconds");

    /// Connections to the HTTP API that are served at a time; others wait. An address has three quarters at most.
    management_connections_max: usize = "1024", kind::number(1..=u64::from(u16::MAX), "connections");

    /// What the paths of the HTTP API have before /api, for proxies that pass on a part of a site: /rabbit makes it
    /// /rabbit/api.
    management_path_prefix: String = "none", kind::path_prefix_or_none();

    /// Origins of pages that browsers let use the HTTP API, each a scheme, a host and maybe a port; * for all, which
    /// are not given the logins that a browser remembers.
    management_cors_allow_origins: Vec<String> = "none", kind::names_or_none();

    /// Addresses where Prometheus finds metrics, for which nobody has to log in. Port 0 picks a free port.
    metrics_listen: Vec<SocketAddr> = "0.0.0.0:15692", kind::addresses_or_none();

    /// Addresses of the same metrics with TLS, by the certificates and checks of the others. Their usual port is 15691.
    metrics_tls_listen: Vec<SocketAddr> = "none", kind::addresses_or_none();

    /// What is logged: one level for everything, or levels per module.
    log: String = "info", kind::log_directives();

    /// Form of the log lines: text for people, json for collectors.
    log_format: LogFormat = "text", kind::choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);

    /// User that is made when the broker starts for the first time, who may do everything. From then on it is a user
    /// like any other: what is changed here later does not change it.
    default_user: String = "guest", kind::name();

    /// Password of the default user. Prefer the file or the environment: other users of the machine
    /// can read a command line.
    default_password: String = "guest", kind::text();

    /// Virtual host that is made when the broker starts for the first time.
    default_vhost: String = "/", kind::name();

    /// JSON file of definitions, in the form that RabbitMQ exports, to be imported at each start; nothing is ever
    /// deleted by it. With such a file there is no default user and no default virtual host.
    load_definitions: Option<PathBuf> = "none", kind::path_or_none();

    /// Users that may connect from this machine only.
    loopback_users: Vec<String> = "guest", kind::names_or_none();

    /// Whether what happens in the broker (queues, exchanges, bindings, connections, channels and consumers that come
    /// and go, logins, alarms) is published to the exchange amq.rabbitmq.event of the default virtual host.
    event_exchange: bool = "false", kind::boolean();

    /// Heartbeat suggested to clients, in seconds; 0 suggests none. A client may choose another value.
    heartbeat_s: u16 = "60", kind::number(0..=u64::from(u16::MAX), "seconds");

    /// Largest frame offered to clients, in octets.
    frame_max: u32 = "131072", kind::size(FRAME_MAX_LEAST..=BODY_BYTES_LIMIT);

    /// Channels that one connection may open; 0 means all that the protocol can number, 65535.
    channel_max: u16 = "2047", kind::number(0..=u64::from(u16::MAX), "channels").map(channels_or_all);

    /// Time that a client has from connecting until its virtual host is open, in milliseconds.
    handshake_timeout_ms: u64 = "10000", kind::number(1..=WAIT_MS_LIMIT, "milliseconds");

    /// Largest message body that is taken, in octets.
    message_bytes_max: u64 = "16MiB", kind::size(1..=BODY_BYTES_LIMIT);

    /// Connections that may be open at a time; 0 means no limit.
    connections_max: Option<u32> = "0",
        kind::number(0..=u64::from(u32::MAX), "connections").map(some_unless_zero);

    /// Octets that one connection may have waiting to be written before its consumers are passed over.
    outbound_bytes_max: usize = "256KiB", kind::size(OUTBOUND_BYTES_LEAST..=OUTBOUND_BYTES_LIMIT);

    /// Time after which a delivery that is not acknowledged ends its channel, in milliseconds, so that a consumer
    /// that hangs does not keep messages for ever; 0 means never. Found up to two minutes late. A queue may say
    /// otherwise.
    consumer_timeout_ms: Option<u64> = "1800000",
        kind::number(0..=TIME_MS_MAX, "milliseconds").map(some_unless_zero);

    /// Octets of messages in memory above which publishers are blocked; 0 blocks them always. A share is one
    /// of the machine's memory, or of the container's limit if that is lower.
    memory_high_watermark_bytes: u64 = "40%", kind::size_or_memory_share(0..=u64::MAX, 100, memory::total_bytes);

    /// Octets of messages above which ready ones leave memory for the disk, the ones to be delivered last first. A
    /// share as above. Less costs a disk read per 64 KiB of backlog that is consumed.
    message_cache_bytes: u64 = "20%", kind::size_or_memory_share(0..=u64::MAX, 100, memory::total_bytes);

    /// Octets that must stay free on the disk of data_dir: below, publishers are blocked; 0 blocks them never. Too
    /// little risks a full disk, which stops publishing all the same, and other programs with it.
    disk_free_limit_bytes: u64 =
        "50MB", kind::size_or_memory_share(0..=DISK_FREE_LIMIT, 1000, memory::total_bytes);

    /// When what was published is safe. always: before it is confirmed, at the cost of waiting for the disk, many
    /// messages at a time. interval: a power loss takes what was confirmed within sync_interval_ms. os: a power
    /// loss takes what the system had not written, mostly some 30 seconds. The end of the process alone, be it
    /// killed, takes nothing that was confirmed in any of the three.
    sync: SyncMode = "always",
        kind::choice(&[("always", SyncMode::Always), ("interval", SyncMode::Interval), ("os", SyncMode::Os)]);

    /// Time between two syncs with sync = "interval", in milliseconds: as much confirmed work is at risk.
    sync_interval_ms: u64 = "200", kind::number(1..=WAIT_MS_LIMIT, "milliseconds");

    /// Octets of the journal above which its oldest part is written to blocks. More takes that much disk and makes a
    /// start after a crash longer; less writes messages twice that would have been consumed soon.
    journal_bytes_max: u64 = "128MiB", kind::size(JOURNAL_BYTES_LEAST..=JOURNAL_BYTES_LIMIT);

    /// Time that a connection being closed has for its close-ok or its last write, in milliseconds.
    closing_timeout_ms: u64 = "30000", kind::number(1..=WAIT_MS_LIMIT, "milliseconds");

    /// Threads that serve connections; 0 means one per core.
    worker_threads: Option<usize> = "0",
        kind::number(0..=WORKER_THREADS_LIMIT, "threads").map(some_unless_zero);
}

/// Where TLS is spoken when there is a certificate and nobody says otherwise.
// COMPAT: the port that RabbitMQ's clients know.
const AMQPS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5671);

impl Config {
    /// Addresses that AMQP clients connect to with TLS; none without a certificate.
    pub fn amqps_addresses(&self) -> Vec<SocketAddr> {
        match &self.amqps_listen {
            Some(addresses) => addresses.clone(),
            None if self.has_certificate() => vec![AMQPS_LISTEN],
            None => Vec::new(),
        }
    }

    fn has_certificate(&self) -> bool {
        self.tls_certificate.is_some() || self.tls_dev_certificate
    }

    /// Whether options that are right by themselves go together.
    fn check_together(self) -> Result<Self, ConfigError> {
        let wants_client_certificates = self.tls_client_auth != ClientAuth::None;
        let mistakes = [
            (
                self.tls_certificate.is_some() != self.tls_key.is_some(),
                "tls_certificate and tls_key belong together: set both or none",
            ),
            (
                self.tls_certificate.is_some() && self.tls_dev_certificate,
                "tls_dev_certificate takes the place of tls_certificate: set one of them",
            ),
            (
                !self.amqps_addresses().is_empty() && !self.has_certificate(),
                "amqps_listen needs tls_certificate and tls_key, or tls_dev_certificate",
            ),
            (
                !self.management_tls_listen.is_empty() && !self.has_certificate(),
                "management_tls_listen needs tls_certificate and tls_key, or tls_dev_certificate",
            ),
            (
                !self.metrics_tls_listen.is_empty() && !self.has_certificate(),
                "metrics_tls_listen needs tls_certificate and tls_key, or tls_dev_certificate",
            ),
            (
                self.tls_sni_dir.is_some() && !self.has_certificate(),
                "tls_sni_dir needs tls_certificate and tls_key for clients that name no host",
            ),
            (
                wants_client_certificates && !self.has_certificate(),
                "tls_client_auth needs tls_certificate and tls_key",
            ),
            (
                wants_client_certificates && self.tls_ca_file.is_none() && !self.tls_dev_certificate,
                "tls_client_auth needs tls_ca_file",
            ),
            (
                self.tls_ca_file.is_some() && !wants_client_certificates,
                "tls_ca_file is for tls_client_auth = \"optional\" or \"required\"",
            ),
            (
                self.amqp_listen.is_empty() && self.amqps_addresses().is_empty(),
                "amqp_listen and amqps_listen are both none: nobody could connect",
            ),
        ];
        match mistakes.into_iter().find(|(is_mistaken, _)| *is_mistaken) {
            Some((_, message)) => Err(ConfigError::Contradiction(message)),
            None => Ok(self),
        }
    }
}

/// Whether clients of a TLS listener show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They are asked, and may have none.
    Optional,
    /// They are refused without.
    Required,
}

/// What of a certificate names a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFrom {
    /// All of the subject.
    DistinguishedName,
    /// The common name in the subject.
    CommonName,
}

/// When the journal is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Before anything in it is confirmed.
    Always,
    /// From time to time.
    Interval,
    /// When the system does.
    Os,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What the program was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// To be a broker.
    Serve,
    /// To verify what a broker that is not running keeps on disk.
    Check,
    /// To tell the configuration in force.
    PrintConfig,
}

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// What the program is to do.
    pub task: Task,
    /// The configuration.
    pub config: Config,
    /// The same as a configuration file, with where each value comes from.
    pub printed: String,
    /// Keys of a RabbitMQ configuration file that mean nothing here, with where they stand.
    pub ignored: Vec<String>,
}

/// What the program is to do, and the configuration from the defaults, a file of RabbitMQ, the file, the environment
/// and the command line, each of which overrides the ones before. The first argument is the program's own name.
///
/// # Errors
/// Whatever the operator must set right, and requests for help or the version: see [`ConfigError`].
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, ConfigError> {
    let (task, flags) = sources::flags(args)?;
    let env: BTreeMap<OsString, OsString> = env.into_iter().collect();
    let variables = sources::variables(env.clone())?;

    let mut raw = RawConfig::defaults();
    raw.overlay(sources::of_image(&env));
    let mut ignored = Vec::new();
    if let Some(path) = flags.rabbitmq_conf.as_ref().or(variables.rabbitmq_conf.as_ref()) {
        let conf = rabbitmq::read(path, &env)?;
        raw.overlay(conf.settings);
        ignored = conf.ignored;
    }
    if let Some(path) = flags.config_file.as_ref().or(variables.config_file.as_ref()) {
        raw.overlay(sources::file(path)?);
    }
    raw.overlay(variables.settings);
    raw.overlay(flags.settings);
    let config = raw.check()?.check_together()?;
    let is_named = raw.default_user.origin != Origin::Default;
    let has_password = raw.default_password.origin != Origin::Default || config.load_definitions.is_some();
    if is_named && !has_password && !config.loopback_users.contains(&config.default_user) {
        let text = "default_user may log in from anywhere: set default_password as well";
        return Err(ConfigError::Contradiction(text));
    }
    let ignored_lines = ignored.iter().map(|key| format!("# ignored: {key}\n"));
    let printed = raw.all().map(|setting| setting.toml_line() + "\n").chain(ignored_lines).collect();
    Ok(Loaded { task, config, printed, ignored })
}

fn channels_or_all(channels: u16) -> u16 {
    if channels == 0 { u16::MAX } else { channels }
}

fn some_unless_zero<N: PartialEq + Default>(number: N) -> Option<N> {
    (number != N::default()).then_some(number)
}
