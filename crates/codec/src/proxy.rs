//! The header that a proxy sends before the octets of its client, so that the server knows whose they are: the
//! PROXY protocol, in its first version a line, in its second binary.
//!
//! ```text
//!   v1   "PROXY TCP4 192.0.2.1 192.0.2.9 56324 5672\r\n"    or TCP6, or UNKNOWN and anything
//!   v2   ┌───────────┬────────────────┬──────────────┬────────┬───────────┬────────────┐
//!        │ signature │ version 4 bits │ family 4     │ length │ addresses │ extensions │
//!        │ 12 octets │ command 4 bits │ transport 4  │ u16    │ by family │ skipped    │
//!        └───────────┴────────────────┴──────────────┴────────┴───────────┴────────────┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// What the binary form begins with: nothing that any protocol would say.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What the readable form begins with.
const LINE_PREFIX: &[u8] = b"PROXY ";

/// Longest line with its end.
// SPEC: section 2.1, 107 octets.
const LINE_BYTES_MAX: usize = 107;

/// Octets of the binary form before its addresses.
const FIXED_BYTES: usize = 16;

/// Longest binary form that is taken: extensions may hold a whole certificate, and nothing larger.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;

const _: () = assert!(LINE_BYTES_MAX <= HEADER_BYTES_MAX);

/// The ends of the connection that a proxy passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where the client connected from.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// What a proxy says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client's connection; none where the proxy speaks for itself (as it does to see whether the server is
    /// well) or does not know: then the connection's own addresses hold.
    pub addresses: Option<Addresses>,
}

/// Why octets are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// They begin with neither form.
    #[error("no PROXY protocol header")]
    Missing,
    /// The line does not end where it has to.
    #[error("a PROXY protocol line without an end")]
    LineTooLong,
    /// The line has a protocol, an address or a port that is none.
    #[error("a malformed PROXY protocol line")]
    MalformedLine,
    /// The binary form has another version than 2.
    #[error("PROXY protocol version {0}, which is not known")]
    UnknownVersion(u8),
    /// The binary form has a command that is neither LOCAL nor PROXY.
    #[error("PROXY protocol command {0}, which is not known")]
    UnknownCommand(u8),
    /// The binary form is shorter than its addresses.
    #[error("a PROXY protocol header too short for its addresses")]
    TooShort,
    /// The binary form is longer than [`HEADER_BYTES_MAX`].
    #[error("a PROXY protocol header of {0} octets, which is too long")]
    TooLong(usize),
}

/// The header at the front of `octets` and how many octets it takes, or none if more have to come first. That is so for
/// at most [`HEADER_BYTES_MAX`] octets.
///
/// # Errors
/// Whatever comes, it will be no header.
pub fn decode(octets: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    if begins_alike(octets, &SIGNATURE) {
        decode_binary(octets)
    } else if begins_alike(octets, LINE_PREFIX) {
        decode_line(octets)
    } else {
        Err(ProxyError::Missing)
    }
}

/// Whether `octets` begins with `prefix`, or could once there are more of them.
fn begins_alike(octets: &[u8], prefix: &[u8]) -> bool {
    octets.iter().zip(prefix).all(|(octet, expected)| octet == expected)
}

fn decode_line(octets: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    let within = octets.get(..LINE_BYTES_MAX).unwrap_or(octets);
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if octets.len() < LINE_BYTES_MAX { Ok(None) } else { Err(ProxyError::LineTooLong) };
    };
    let line = within.get(LINE_PREFIX.len()..end).and_then(|line| std::str::from_utf8(line).ok());
    let addresses = line.and_then(addresses_of_line).ok_or(ProxyError::MalformedLine)?;
    Ok(Some((ProxyHeader { addresses }, end + 2)))
}

/// The addresses behind the prefix of a line, of which it may have none; none at all if it is malformed.
fn addresses_of_line(line: &str) -> Option<Option<Addresses>> {
    let mut words = line.split(' ');
    let protocol = words.next()?;
    if protocol == "UNKNOWN" {
        // SPEC: section 2.1, what follows is not looked at.
        return Some(None);
    }
    let mut address = || match protocol {
        "TCP4" => words.next()?.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => words.next()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || words.next().and_then(port_of_word);
    let (source_port, destination_port) = (port()?, port()?);
    let addresses = Addresses {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    };
    words.next().is_none().then_some(Some(addresses))
}

/// SPEC: section 2.1, a decimal number without a sign or leading zeros.
fn port_of_word(word: &str) -> Option<u16> {
    let is_plain =
        word.bytes().all(|octet| octet.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    is_plain.then(|| u16::from_str(word).ok()).flatten()
}

fn decode_binary(octets: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    let Some(&[version_and_command, family, high, low]) = octets.get(SIGNATURE.len()..FIXED_BYTES) else {
        return Ok(None);
    };
    if version_and_command >> 4 != 2 {
        return Err(ProxyError::UnknownVersion(version_and_command >> 4));
    }
    let is_local = match version_and_command & 0x0f {
        0 => true,
        1 => false,
        command => return Err(ProxyError::UnknownCommand(command)),
    };
    let size = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if size > HEADER_BYTES_MAX {
        return Err(ProxyError::TooLong(size));
    }
    let Some(rest) = octets.get(FIXED_BYTES..size) else { return Ok(None) };
    // SPEC: section 2.2, families that are not TCP over IP are as good as unknown, and a LOCAL has no addresses.
    let addresses = match family {
        _ if is_local => None,
        0x11 => Some(addresses_at::<4>(rest).ok_or(ProxyError::TooShort)?),
        0x21 => Some(addresses_at::<16>(rest).ok_or(ProxyError::TooShort)?),
        _ => None,
    };
    Ok(Some((ProxyHeader { addresses }, size)))
}

/// Both addresses of `N` octets each, then both ports.
fn addresses_at<const N: usize>(octets: &[u8]) -> Option<Addresses>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = octets.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    Some(Addresses {
        source: SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes(*destination_port)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxied(source: &str, destination: &str) -> ProxyHeader {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        ProxyHeader { addresses: Some(Addresses { source, destination }) }
    }

    fn line(Addresses { source, destination }: Addresses) -> Vec<u8> {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (source.ip(), destination.ip());
        format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut octets = SIGNATURE.to_vec();
        octets.extend([0x20 | command, family]);
        octets.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        octets.extend_from_slice(rest);
        octets
    }

    fn binary_addresses(Addresses { source, destination }: Addresses, extensions: &[u8]) -> Vec<u8> {
        let octets_of = |address: SocketAddr| match address.ip() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let mut rest = [octets_of(source), octets_of(destination)].concat();
        rest.extend(source.port().to_be_bytes());
        rest.extend(destination.port().to_be_bytes());
        rest.extend_from_slice(extensions);
        binary(1, if source.is_ipv4() { 0x11 } else { 0x21 }, &rest)
    }

    #[test]
    fn lines_of_the_first_version_are_read() {
        let found = decode(b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 5672\r\nAMQP").unwrap();
        assert_eq!(found, Some((proxied("192.0.2.1:56324", "192.0.2.9:5672"), 43)));
        let found = decode(b"PROXY TCP6 2001:db8::1 ::1 1 0\r\n").unwrap();
        assert_eq!(found, Some((proxied("[2001:db8::1]:1", "[::1]:0"), 32)));
        for unknown in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ffff::1 what 1 2\r\n"] {
            let found = decode(unknown).unwrap();
            assert_eq!(found, Some((ProxyHeader { addresses: None }, unknown.len())));
        }
    }

    #[test]
    fn malformed_lines_are_refused() {
        let lines: [&[u8]; 10] = [
            b"PROXY \r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.9 1\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2 3\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.9 1 65536\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.9 +1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.9 01 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 192.0.2.1 192.0.2.9 1 2\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.9 1 2\r\n",
            b"PROXY TCP4  192.0.2.1 192.0.2.9 1 2\r\n",
        ];
        for line in lines {
            assert_eq!(decode(line), Err(ProxyError::MalformedLine), "{}", line.escape_ascii());
        }
        let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; LINE_BYTES_MAX]].concat();
        assert_eq!(decode(&endless), Err(ProxyError::LineTooLong));
        assert_eq!(decode(b"AMQP\0\0\x09\x01"), Err(ProxyError::Missing));
        assert_eq!(decode(b"\x16\x03\x01"), Err(ProxyError::Missing));
    }

    #[test]
    fn the_longest_line_is_taken() {
        let line = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_MAX - 16));
        assert_eq!(line.len(), LINE_BYTES_MAX);
        assert!(decode(line.as_bytes()).unwrap().is_some());
    }

    #[test]
    fn binary_headers_without_addresses_are_taken() {
        let local = binary(0, 0, &[]);
        assert_eq!(decode(&local).unwrap(), Some((ProxyHeader { addresses: None }, 16)));
        let unix = binary(1, 0x31, &[0; 216]);
        assert_eq!(decode(&unix).unwrap(), Some((ProxyHeader { addresses: None }, 232)));
    }

    #[test]
    fn malformed_binary_headers_are_refused() {
        assert_eq!(decode(&binary(2, 0x11, &[0; 12])), Err(ProxyError::UnknownCommand(2)));
        assert_eq!(decode(&binary(1, 0x11, &[0; 11])), Err(ProxyError::TooShort));
        assert_eq!(decode(&binary(1, 0x21, &[0; 35])), Err(ProxyError::TooShort));
        let too_long = binary(1, 0x11, &vec![0; HEADER_BYTES_MAX]);
        assert_eq!(decode(&too_long), Err(ProxyError::TooLong(HEADER_BYTES_MAX + 16)));
        let mut version = binary(1, 0x11, &[0; 12]);
        version[12] = 0x11;
        assert_eq!(decode(&version), Err(ProxyError::UnknownVersion(1)));
    }

    fn any_addresses() -> impl Strategy<Value = Addresses> {
        let v4 = any::<([u8; 4], u16, [u8; 4], u16)>()
            .prop_map(|(from, a, to, b)| Addresses { source: (from, a).into(), destination: (to, b).into() });
        let v6 = any::<([u8; 16], u16, [u8; 16], u16)>()
            .prop_map(|(from, a, to, b)| Addresses { source: (from, a).into(), destination: (to, b).into() });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_once_it_is_whole(
            addresses in any_addresses(),
            extensions in prop::collection::vec(any::<u8>(), 0..64),
            behind in prop::collection::vec(any::<u8>(), 0..16),
        ) {
            for header in [line(addresses), binary_addresses(addresses, &extensions)] {
                for length in 0..header.len() {
                    prop_assert_eq!(decode(&header[..length]), Ok(None));
                }
                let expected = ProxyHeader { addresses: Some(addresses) };
                let octets = [header.clone(), behind.clone()].concat();
                prop_assert_eq!(decode(&octets), Ok(Some((expected, header.len()))));
            }
        }

        #[test]
        fn no_octets_are_waited_for_without_an_end(
            is_line in any::<bool>(),
            behind in prop::collection::vec(any::<u8>(), HEADER_BYTES_MAX..HEADER_BYTES_MAX + 9),
        ) {
            let prefix = if is_line { LINE_PREFIX } else { &SIGNATURE };
            prop_assert_ne!(decode(&[prefix, &behind].concat()), Ok(None));
        }
    }
}
