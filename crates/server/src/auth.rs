//! Who may log in, and how they say so: SASL PLAIN and AMQPLAIN.

use std::net::IpAddr;

use leveret_codec::table::{FieldTable, FieldValue};
use subtle::ConstantTimeEq;

use crate::config::Config;

/// Mechanisms offered in connection.start.
pub(crate) const MECHANISMS: &str = "PLAIN AMQPLAIN";

/// What a client logs in with.
#[derive(PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Vec<u8>,
}

/// Why a login did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginRefusal {
    /// A mechanism that is not offered.
    UnknownMechanism,
    /// A response that is not in the mechanism's form.
    MalformedResponse,
    /// Unknown user or wrong password.
    WrongCredentials,
    /// A user that may come from this machine alone.
    NotFromHere,
}

/// The user that a response names; empty if it names none.
pub(crate) fn user_of(mechanism: &str, response: &[u8]) -> String {
    let credentials = match mechanism {
        "PLAIN" => plain(response),
        "AMQPLAIN" => amqplain(response),
        _ => None,
    };
    credentials.map(|credentials| credentials.user).unwrap_or_default()
}

/// Checks a login and gives the user's name.
pub(crate) fn authenticate(
    config: &Config,
    mechanism: &str,
    response: &[u8],
    peer: IpAddr,
) -> Result<String, LoginRefusal> {
    let credentials = match mechanism {
        "PLAIN" => plain(response),
        "AMQPLAIN" => amqplain(response),
        _ => return Err(LoginRefusal::UnknownMechanism),
    };
    let credentials = credentials.ok_or(LoginRefusal::MalformedResponse)?;
    let same_user = credentials.user.as_bytes().ct_eq(config.default_user.as_bytes());
    let same_password = credentials.password.as_slice().ct_eq(config.default_password.as_bytes());
    // COMPAT: a blank password never opens anything.
    if !bool::from(same_user & same_password) || credentials.password.is_empty() {
        return Err(LoginRefusal::WrongCredentials);
    }
    if config.loopback_users.contains(&credentials.user) && !is_loopback(peer) {
        return Err(LoginRefusal::NotFromHere);
    }
    Ok(credentials.user)
}

/// Whether `secret` may take the place of what a connection logged in with.
pub(crate) fn accepts_secret(config: &Config, secret: &[u8]) -> bool {
    bool::from(secret.ct_eq(config.default_password.as_bytes())) && !secret.is_empty()
}

fn is_loopback(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

/// `authzid NUL user NUL password`. COMPAT: only an empty authzid.
fn plain(response: &[u8]) -> Option<Credentials> {
    let rest = response.strip_prefix(b"\0")?;
    let end = rest.iter().position(|&octet| octet == 0)?;
    let (user, password) = (rest.get(..end)?, rest.get(end + 1..)?);
    if password.contains(&0) {
        return None;
    }
    Some(Credentials { user: String::from_utf8(user.to_vec()).ok()?, password: password.to_vec() })
}

/// A field table without its length, with LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Option<Credentials> {
    let table = FieldTable::decode(response).ok()?;
    let text = |key| match table.get(key)? {
        FieldValue::LongString(octets) | FieldValue::Bytes(octets) => Some(octets.clone()),
        _ => None,
    };
    Some(Credentials { user: String::from_utf8(text("LOGIN")?).ok()?, password: text("PASSWORD")? })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn config() -> Config {
        crate::config::load([OsString::from("leveret")], []).unwrap().config
    }

    fn login(mechanism: &str, response: &[u8], peer: &str) -> Result<String, LoginRefusal> {
        authenticate(&config(), mechanism, response, peer.parse().unwrap())
    }

    #[test]
    fn guest_gets_in_from_this_machine_alone() {
        assert_eq!(login("PLAIN", b"\0guest\0guest", "127.0.0.1"), Ok("guest".to_owned()));
        assert_eq!(login("PLAIN", b"\0guest\0guest", "::ffff:127.0.0.1"), Ok("guest".to_owned()));
        assert_eq!(login("PLAIN", b"\0guest\0guest", "192.0.2.1"), Err(LoginRefusal::NotFromHere));
    }

    #[test]
    fn wrong_and_malformed_logins_are_refused() {
        let here = "127.0.0.1";
        assert_eq!(login("PLAIN", b"\0guest\0wrong", here), Err(LoginRefusal::WrongCredentials));
        assert_eq!(login("PLAIN", b"\0other\0guest", here), Err(LoginRefusal::WrongCredentials));
        assert_eq!(login("PLAIN", b"\0guest\0", here), Err(LoginRefusal::WrongCredentials));
        assert_eq!(login("PLAIN", b"id\0guest\0guest", here), Err(LoginRefusal::MalformedResponse));
        assert_eq!(login("PLAIN", b"guest", here), Err(LoginRefusal::MalformedResponse));
        assert_eq!(login("AMQPLAIN", b"\x05LOGIN", here), Err(LoginRefusal::MalformedResponse));
        assert_eq!(login("plain", b"\0guest\0guest", here), Err(LoginRefusal::UnknownMechanism));
    }

    #[test]
    fn amqplain_reads_a_table() {
        let table = FieldTable::new().with("LOGIN", "guest").with("PASSWORD", "guest");
        assert_eq!(login("AMQPLAIN", &table.encoded(), "127.0.0.1"), Ok("guest".to_owned()));
    }
}
