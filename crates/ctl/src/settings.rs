//! Where the broker is and who asks: from the command line, the environment and `~/.leveretctl.toml`, the
//! former before the latter, and where none says anything what a fresh broker on this machine takes, be it one that was
//! told otherwise by the same environment.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgMatches;
use serde::Deserialize;

use crate::api::Endpoint;
use crate::failure::{Exit, Failure};
use crate::{Environment, Terminal};

/// The HTTP API of a broker on this machine.
const URL: &str = "http://127.0.0.1:15672";

/// The user of a fresh broker, whose password is the same.
const GUEST: &str = "guest";

/// COMPAT: how long the tools of RabbitMQ wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The configuration file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    url: Option<String>,
    user: Option<String>,
    password: Option<String>,
    ca_file: Option<PathBuf>,
    insecure: Option<bool>,
    timeout: Option<f64>,
}

impl File {
    /// The file that is named, or that in the home folder if there is one.
    fn read(named: Option<&str>, environment: &Environment) -> Result<Self, Failure> {
        let path = match (named, environment.get("HOME")) {
            (Some(path), _) => PathBuf::from(path),
            (None, Some(home)) => Path::new(&home).join(".leveretctl.toml"),
            (None, None) => return Ok(Self::default()),
        };
        if named.is_none() && !path.exists() {
            return Ok(Self::default());
        }
        let wrong = |problem: String| Failure::new(Exit::Config, format!("{}: {problem}", path.display()));
        let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        toml::from_str(&text).map_err(|error| wrong(error.to_string()))
    }
}

/// What the broker's own variables say. In its container the tools see them too.
struct Beside {
    url: Option<String>,
    /// Its certificate is not looked at.
    insecure: bool,
    /// The broker has no HTTP API.
    is_off: bool,
    user: Option<String>,
    password: Option<String>,
}

impl Beside {
    fn of(environment: &Environment) -> Self {
        let either = |own, of_rabbitmq| environment.get(own).or_else(|| environment.get(of_rabbitmq));
        let listener = |name, scheme| environment.get(name).and_then(|listen| url_of(scheme, &listen));
        let plain = listener("LEVERET_MANAGEMENT_LISTEN", "http");
        let is_off = environment.get("LEVERET_MANAGEMENT_LISTEN").is_some_and(|listen| listen == "none");
        let tls = listener("LEVERET_MANAGEMENT_TLS_LISTEN", "https").filter(|_| is_off);
        Self {
            // Its certificate has the name under which others know the broker. On the way to oneself nobody sits
            // between who could not read what comes without TLS as well.
            insecure: tls.as_ref().is_some_and(|(_, is_loopback)| *is_loopback),
            is_off: is_off && tls.is_none(),
            url: plain.or(tls).map(|(url, _)| url),
            user: either("LEVERET_DEFAULT_USER", "RABBITMQ_DEFAULT_USER"),
            password: either("LEVERET_DEFAULT_PASSWORD", "RABBITMQ_DEFAULT_PASS"),
        }
    }
}

/// How a listener is reached from its own machine, and whether by its loopback; none if it is no address with a port.
fn url_of(scheme: &str, listen: &str) -> Option<(String, bool)> {
    let mut address: SocketAddr = listen.split(',').next()?.trim().parse().ok()?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Some((format!("{scheme}://{address}"), address.ip().is_loopback()))
}

/// What the command line and the rest say. `given` looks a flag up.
///
/// # Errors
/// A file cannot be read or makes no sense, or there is no password.
pub(crate) fn endpoint(
    given: &Given<'_>,
    environment: &Environment,
    terminal: &mut dyn Terminal,
) -> Result<Endpoint, Failure> {
    let file = File::read(given.text("config"), environment)?;
    let pick = |flag: &str, variable: &str, from_file: Option<String>| {
        given.text(flag).map(str::to_owned).or_else(|| environment.get(variable)).or(from_file)
    };
    let beside = Beside::of(environment);
    let named = pick("url", "LEVERET_URL", file.url);
    let is_beside = named.is_none();
    if is_beside && beside.is_off {
        let text = "the broker here has no HTTP API (LEVERET_MANAGEMENT_LISTEN is none): set that to 127.0.0.1:15672, \
                    or name another broker with --url or LEVERET_URL";
        return Err(Failure::new(Exit::Unavailable, text));
    }
    let url = named.or(beside.url).unwrap_or_else(|| URL.to_owned());
    let default_user = beside.user.unwrap_or_else(|| GUEST.to_owned());
    let named_user = pick("username", "LEVERET_USER", file.user);
    let named_password = pick("password", "LEVERET_PASSWORD", file.password);
    let is_login_named = named_user.is_some() || named_password.is_some();
    let user = named_user.unwrap_or_else(|| default_user.clone());
    let of_default = beside.password.filter(|_| user == default_user);
    let password = match named_password.or(of_default) {
        Some(password) => password,
        None if user == GUEST => GUEST.to_owned(),
        None => terminal.password(&format!("Password of {user}: "))?.ok_or_else(|| {
            Failure::usage(format!(
                "no password for user '{user}': give --password, or LEVERET_PASSWORD in the environment"
            ))
        })?,
    };
    let ca_file = given.text("ca-file").map(str::to_owned).or_else(|| environment.get("LEVERET_CA_FILE"));
    let ca_file = ca_file.map(PathBuf::from).or(file.ca_file);
    let authorities = ca_file.as_ref().map(|path| {
        fs::read(path).map_err(|error| Failure::new(Exit::Data, format!("{}: {error}", path.display())))
    });
    let timeout = match given.text("timeout") {
        Some(text) => parse_timeout(text)?,
        None => match file.timeout {
            Some(seconds) => parse_timeout(&seconds.to_string())?,
            None => Some(TIMEOUT),
        },
    };
    // Who names authorities wants the certificate looked at.
    let insecure = given.flag("insecure")
        || file.insecure.unwrap_or(false)
        || (is_beside && beside.insecure && ca_file.is_none());
    let authorities = authorities.transpose()?;
    Ok(Endpoint { url, user, password, is_login_named, authorities, insecure, timeout })
}

/// Seconds, or `infinity`.
fn parse_timeout(text: &str) -> Result<Option<Duration>, Failure> {
    if text == "infinity" {
        return Ok(None);
    }
    let seconds = text.parse::<f64>().ok().filter(|&seconds| seconds > 0.0);
    let timeout = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    timeout
        .map(Some)
        .ok_or_else(|| Failure::usage(format!("--timeout {text}: a number of seconds, or infinity")))
}

/// What was given on the command line, before the verb or behind it.
pub(crate) struct Given<'a> {
    /// Before the verb.
    pub(crate) before: &'a ArgMatches,
    /// Behind it, which counts more.
    pub(crate) behind: &'a ArgMatches,
}

impl Given<'_> {
    /// The value of an option or an argument, if it was given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let find = |matches| -> Option<&String> { ArgMatches::try_get_one(matches, name).ok().flatten() };
        find(self.behind).or_else(|| find(self.before)).map(String::as_str)
    }

    /// Whether a flag was given.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let is_in =
            |matches: &ArgMatches| matches.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or(false);
        is_in(self.behind) || is_in(self.before)
    }
}
