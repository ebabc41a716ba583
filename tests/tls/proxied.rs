//! The PROXY protocol in front of AMQP and of TLS, as proxies really send it: octets before the client's first.

use std::io::{Read, Write};
use std::net::TcpStream;

use leveret_codec::proxy::SIGNATURE;

use crate::amqp::{Client, socket, tls_over};
use crate::authority::{Authority, Files, VERSIONS};
use crate::support::{Broker, PROGRAM_MAX};

fn behind(port: u16, header: &[u8]) -> TcpStream {
    let mut stream = socket(port);
    stream.write_all(header).expect("the broker takes it");
    stream
}

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("a short header").to_be_bytes();
    [&SIGNATURE[..], &[0x20 | command, family], &length, rest].concat()
}

fn broker() -> Broker {
    Broker::start_with(&["--proxy-protocol", "--loopback-users", "none"])
}

#[test]
fn the_address_in_the_header_is_the_peers() {
    let mut broker = broker();
    let v4 = binary(1, 0x11, b"\xc6\x33\x64\x01\xc6\x33\x64\x02\x30\x39\x16\x28\x04\0\x01\0");
    let mut rest = [[0x20, 1, 0xd, 0xb8].as_slice(), &[0; 11], &[9], &[0; 15], &[1]].concat();
    rest.extend([0x30, 0x3a, 0x16, 0x28]);
    let v6 = binary(1, 0x21, &rest);
    let headers: [(&[u8], &str); 4] = [
        (b"PROXY TCP4 203.0.113.7 203.0.113.8 56324 5672\r\n", "peer=203.0.113.7:56324"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::8 56325 5672\r\n", "peer=[2001:db8::7]:56325"),
        (&v4, "peer=198.51.100.1:12345"),
        (&v6, "peer=[2001:db8::9]:12346"),
    ];
    for (header, peer) in headers {
        Client::open(behind(broker.port, header)).unwrap();
        let line = broker.process().wait_for_line("connection opened", PROGRAM_MAX);
        assert!(line.contains(peer), "{line}");
    }
}

#[test]
fn a_header_in_pieces_and_in_one_piece_with_what_follows_is_the_same() {
    let mut broker = broker();
    let header = b"PROXY TCP4 203.0.113.7 203.0.113.8 56324 5672\r\n";
    let mut stream = socket(broker.port);
    for octet in header {
        stream.write_all(&[*octet]).unwrap();
    }
    Client::open(stream).unwrap();
    broker.process().wait_for_line("connection opened", PROGRAM_MAX);
    let mut stream = behind(broker.port, &[&header[..], b"AMQP\0\0\x09\x01"].concat());
    let mut first = [0; 7];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(first[..3], [1, 0, 0], "the frame of connection.start");
}

#[test]
fn a_proxy_that_speaks_for_itself_keeps_its_address() {
    let mut broker = broker();
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), binary(0, 0, &[])] {
        Client::open(behind(broker.port, &header)).unwrap();
        let line = broker.process().wait_for_line("connection opened", PROGRAM_MAX);
        assert!(line.contains("peer=127.0.0.1:"), "{line}");
    }
}

#[test]
fn who_may_come_from_this_machine_alone_is_judged_by_the_header() {
    let mut broker = Broker::start_with(&["--proxy-protocol"]);
    Client::open(behind(broker.port, b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n")).unwrap();
    assert!(Client::open(behind(broker.port, b"PROXY TCP4 203.0.113.7 203.0.113.8 1 2\r\n")).is_err());
    broker.process().wait_for_line("NotFromHere", PROGRAM_MAX);
}

#[test]
fn a_missing_or_malformed_header_ends_the_connection() {
    let mut broker = broker();
    let headers: [(&[u8], &str); 3] = [
        (b"AMQP\0\0\x09\x01", "closing: no PROXY protocol header"),
        (b"PROXY TCP4 here there 1 2\r\n", "closing: a malformed PROXY protocol line"),
        (&binary(1, 0x11, &[0; 4]), "closing: a PROXY protocol header too short for its addresses"),
    ];
    for (header, reason) in headers {
        let mut stream = behind(broker.port, header);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"", "nobody is answered who is not known");
        broker.process().wait_for_line(reason, PROGRAM_MAX);
    }
}

#[test]
fn a_header_that_nobody_asked_for_is_told_apart() {
    let mut broker = Broker::start_with(&[]);
    let mut stream = behind(broker.port, b"PROXY TCP4 203.0.113.7 203.0.113.8 1 2\r\n");
    let _ = stream.read_to_end(&mut Vec::new());
    broker.process().wait_for_line("a PROXY protocol header, and proxy_protocol is not set", PROGRAM_MAX);
}

#[test]
fn tls_follows_the_header() {
    let authority = Authority::new("us");
    let files = Files::new();
    files.put(&authority.sign("broker", &["localhost"]));
    let mut broker = files.start(&["--proxy-protocol", "--loopback-users", "none"]);
    let stream = behind(broker.tls_port(), b"PROXY TCP4 203.0.113.7 203.0.113.8 56324 5671\r\n");
    Client::open(tls_over(stream, &authority.client(VERSIONS), "localhost").unwrap()).unwrap();
    let line = broker.process().wait_for_line("connection opened", PROGRAM_MAX);
    assert!(line.contains("peer=203.0.113.7:56324"), "{line}");
}
