//! `amqp://user:password@host:port/vhost`, with the defaults that RabbitMQ's clients use.
//! Parsed once from the command line, handed to `client`.

use std::fmt;
use std::str::FromStr;

/// Where a broker is and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uri {
    /// User name, decoded.
    pub(crate) user: String,
    /// Password, decoded.
    pub(crate) password: String,
    /// Host name or address, without the brackets of an IPv6 address.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// Virtual host, decoded.
    pub(crate) vhost: String,
}

impl Uri {
    /// `host:port` in the form that the resolver takes.
    pub(crate) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Uri {
    /// Without the password: this goes into reports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "amqp://{}@{}/{}", self.user, self.address(), self.vhost.replace('/', "%2f"))
    }
}

impl FromStr for Uri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("amqps://") {
            return Err("TLS is not measured here: use amqp://".to_owned());
        }
        let rest = text.strip_prefix("amqp://").ok_or("a URI begins with amqp://")?;
        let rest = rest.split('?').next().unwrap_or_default();
        let (authority, vhost) = match rest.split_once('/') {
            // COMPAT: a lone trailing slash names the empty vhost for some clients; nobody measures that
            // one, so it means the default here.
            Some((authority, vhost)) if !vhost.is_empty() => (authority, decode(vhost)?),
            Some((authority, _)) => (authority, "/".to_owned()),
            None => (rest, "/".to_owned()),
        };
        let (user, password, place) = match authority.rsplit_once('@') {
            Some((login, place)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, "guest"));
                (decode(user)?, decode(password)?, place)
            }
            None => ("guest".to_owned(), "guest".to_owned(), authority),
        };
        let (host, port) = split_port(place)?;
        Ok(Self { user, password, host, port, vhost })
    }
}

/// Takes `host`, `host:port` or `[v6]:port` apart.
fn split_port(place: &str) -> Result<(String, u16), String> {
    let (host, port) = if let Some(v6) = place.strip_prefix('[') {
        let (host, rest) = v6.split_once(']').ok_or("an IPv6 address ends with ]")?;
        (host, rest.strip_prefix(':'))
    } else {
        match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        }
    };
    let port = match port {
        Some(digits) => digits.parse().map_err(|_| format!("{digits:?} is not a port"))?,
        None => 5672,
    };
    let host = if host.is_empty() { "localhost" } else { host };
    Ok((host.to_owned(), port))
}

/// Percent-decoding.
fn decode(text: &str) -> Result<String, String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let digits = [rest.next(), rest.next()].map(|digit| digit.and_then(|d| (d as char).to_digit(16)));
        let [Some(high), Some(low)] = digits else {
            return Err(format!("{text:?} has a % without two hexadecimal digits"));
        };
        octets.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    String::from_utf8(octets).map_err(|_| format!("{text:?} does not decode to UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn every_part_is_taken() {
        let uri = parsed("amqp://alice:s%40crt@broker.example:5673/orders");
        assert_eq!(uri.user, "alice");
        assert_eq!(uri.password, "s@crt");
        assert_eq!(uri.address(), "broker.example:5673");
        assert_eq!(uri.vhost, "orders");
    }

    #[test]
    fn absent_parts_have_the_usual_defaults() {
        let uri = parsed("amqp://localhost");
        assert_eq!((uri.user.as_str(), uri.password.as_str()), ("guest", "guest"));
        assert_eq!((uri.port, uri.vhost.as_str()), (5672, "/"));
        assert_eq!(parsed("amqp://localhost/%2f").vhost, "/");
        assert_eq!(parsed("amqp://localhost/").vhost, "/");
    }

    #[test]
    fn an_ipv6_address_keeps_its_brackets_for_the_resolver() {
        assert_eq!(parsed("amqp://[::1]:5000/x").address(), "[::1]:5000");
        assert_eq!(parsed("amqp://[::1]").port, 5672);
    }

    #[test]
    fn what_is_not_an_amqp_uri_is_refused() {
        for text in
            ["http://localhost", "amqps://localhost", "amqp://h:port", "amqp://u%4:p@h", "amqp://[::1"]
        {
            assert!(text.parse::<Uri>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        assert_eq!(parsed("amqp://a:secret@h/%2f").to_string(), "amqp://a@h:5672/%2f");
    }
}
