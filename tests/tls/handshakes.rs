//! Who is let in and who is not, and what the log says of it.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use crate::amqp::{Client, PATIENCE, socket, tls};
use crate::authority::{Authority, Files, Signed, VERSIONS};
use crate::support::{Broker, PROGRAM_MAX};

/// A broker for `localhost` by this authority.
fn usual(authority: &Authority, more: &[&str]) -> (Broker, Files) {
    started(&authority.sign("broker", &["localhost"]), more)
}

fn started(signed: &Signed, more: &[&str]) -> (Broker, Files) {
    let files = Files::new();
    files.put(signed);
    (files.start(more), files)
}

/// Reads until the broker closes.
fn await_end(stream: &mut impl Read) -> Vec<u8> {
    let mut octets = Vec::new();
    let _ = stream.read_to_end(&mut octets);
    octets
}

#[test]
fn both_versions_carry_amqp() {
    let authority = Authority::new("us");
    let (mut broker, _files) = usual(&authority, &[]);
    for version in [&TLS12, &TLS13] {
        let stream = tls(broker.tls_port(), &authority.client(&[version]), "localhost").unwrap();
        assert_eq!(stream.conn.protocol_version(), Some(version.version));
        let mut client = Client::open(stream).unwrap();
        client.declare("q").unwrap();
        client.publish("q", b"over TLS").unwrap();
        client.await_confirm().unwrap();
        assert_eq!(client.get("q").unwrap(), b"over TLS");
    }
}

#[test]
fn a_client_that_does_not_trust_the_certificate_is_logged() {
    let authority = Authority::new("us");
    let (mut broker, _files) = usual(&authority, &[]);
    let port = broker.tls_port();
    let error = tls(port, &Authority::new("others").client(VERSIONS), "localhost").unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    let reason = "it does not trust the authority of the server's certificate";
    broker.process().wait_for_line(reason, PROGRAM_MAX);
    let error = tls(port, &authority.client(VERSIONS), "elsewhere").unwrap_err();
    assert!(
        error.to_string().contains("NotValidForName") || error.to_string().contains("elsewhere"),
        "{error}"
    );
    broker.process().wait_for_line("it does not accept the server's certificate", PROGRAM_MAX);
}

#[test]
fn an_expired_certificate_is_warned_of_and_refused_by_clients() {
    let authority = Authority::new("us");
    let (mut broker, _files) = started(&authority.sign_expired("broker", &["localhost"]), &[]);
    let log = broker.process().stderr_so_far();
    assert!(log.contains("the certificate has expired: clients will refuse it"), "{log}");
    let error = tls(broker.tls_port(), &authority.client(VERSIONS), "localhost").unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
    broker.process().wait_for_line("the server's certificate has expired", PROGRAM_MAX);
}

#[test]
fn who_has_to_show_a_certificate_has_to_show_a_good_one() {
    let (authority, others) = (Authority::new("us"), Authority::new("others"));
    let files = Files::new();
    let ca = files.write("ca.pem", &authority.pem());
    files.put(&authority.sign("broker", &["localhost"]));
    let flags = ["--tls-client-auth", "required", "--tls-ca-file", &ca, "--log", "info,leveret_server=debug"];
    let mut broker = files.start(&flags);
    let port = broker.tls_port();
    for version in [&TLS12, &TLS13] {
        let cases = [
            (authority.client(&[version]), "the client has shown no certificate"),
            (
                authority.client_with(&others.sign("shop", &[]), &[version]),
                "the client's certificate comes from none of the authorities in tls_ca_file",
            ),
            (
                authority.client_with(&authority.sign_expired("shop", &[]), &[version]),
                "the client's certificate has expired",
            ),
        ];
        for (client, reason) in cases {
            // With 1.3, the client learns of it only after it believes to be done.
            assert!(tls(port, &client, "localhost").and_then(Client::open).is_err(), "{reason}");
            broker.process().wait_for_line(reason, PROGRAM_MAX);
        }
        let shop = authority.client_with(&authority.sign("shop", &[]), &[version]);
        Client::open(tls(port, &shop, "localhost").unwrap()).unwrap();
        broker.process().wait_for_line("subject=\"CN=shop\" common_name=\"shop\"", PROGRAM_MAX);
    }
}

#[test]
fn who_may_show_a_certificate_need_not_but_must_not_show_a_wrong_one() {
    let (authority, others) = (Authority::new("us"), Authority::new("others"));
    let files = Files::new();
    let ca = files.write("ca.pem", &authority.pem());
    files.put(&authority.sign("broker", &["localhost"]));
    let mut broker = files.start(&["--tls-client-auth", "optional", "--tls-ca-file", &ca]);
    let port = broker.tls_port();
    Client::open(tls(port, &authority.client(VERSIONS), "localhost").unwrap()).unwrap();
    let shop = authority.client_with(&authority.sign("shop", &[]), VERSIONS);
    Client::open(tls(port, &shop, "localhost").unwrap()).unwrap();
    let stranger = authority.client_with(&others.sign("shop", &[]), VERSIONS);
    assert!(tls(port, &stranger, "localhost").and_then(Client::open).is_err());
}

/// What a client of TLS 1.1 begins with: its version, random octets, no session, one cipher suite, no compression.
fn hello_of_1_1() -> Vec<u8> {
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut handshake = vec![1, 0, 0, u8::try_from(hello.len()).expect("a length of one octet")];
    handshake.extend(hello);
    let mut record = vec![0x16, 3, 1, 0, u8::try_from(handshake.len()).expect("a length of one octet")];
    record.extend(handshake);
    record
}

#[test]
fn tls_1_1_is_refused_with_an_alert() {
    let (mut broker, _files) = usual(&Authority::new("us"), &[]);
    let mut stream = socket(broker.tls_port());
    stream.write_all(&hello_of_1_1()).unwrap();
    let answer = await_end(&mut stream);
    assert_eq!((answer.first(), answer.len()), (Some(&0x15), 7), "an alert, not {answer:?}");
    broker.process().wait_for_line("the client speaks neither TLS 1.2 nor 1.3", PROGRAM_MAX);
}

#[test]
fn amqp_on_the_tls_port_and_tls_on_the_amqp_port_are_told_apart() {
    let authority = Authority::new("us");
    let (mut broker, _files) = usual(&authority, &[]);
    let mut stream = socket(broker.tls_port());
    stream.write_all(b"AMQP\0\0\x09\x01").unwrap();
    let answer = await_end(&mut stream);
    assert_eq!(answer.first(), Some(&0x15), "an alert, not {answer:?}");
    broker.process().wait_for_line("the client speaks AMQP without TLS", PROGRAM_MAX);
    assert!(tls(broker.port, &authority.client(VERSIONS), "localhost").is_err());
    broker.process().wait_for_line("the client speaks TLS, and this port does not", PROGRAM_MAX);
    let mut stream = socket(broker.tls_port());
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    await_end(&mut stream);
    broker.process().wait_for_line("it began with \"GET / HT\"", PROGRAM_MAX);
}

#[test]
fn a_handshake_that_stalls_ends_and_holds_nobody_up() {
    let authority = Authority::new("us");
    let (mut broker, _files) = usual(&authority, &["--handshake-timeout-ms", "1500"]);
    let port = broker.tls_port();
    let mut stalled: Vec<_> = (0..40)
        .map(|number| {
            let mut stream = socket(port);
            let hello = hello_of_1_1();
            stream.write_all(&hello[..number % hello.len()]).unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    Client::open(tls(port, &authority.client(VERSIONS), "localhost").unwrap()).unwrap();
    assert!(begun.elapsed() < PATIENCE);
    for stream in &mut stalled {
        await_end(stream);
    }
    assert!(begun.elapsed() < Duration::from_millis(1500) + PATIENCE);
    broker.process().wait_for_line("handshake not completed in 1500 ms", PROGRAM_MAX);
}

#[test]
fn sessions_are_resumed() {
    let authority = Authority::new("us");
    let (mut broker, _files) = usual(&authority, &[]);
    for version in [&TLS12, &TLS13] {
        let client = authority.client(&[version]);
        let kind = |broker: &mut Broker| {
            let mut client = Client::open(tls(broker.tls_port(), &client, "localhost").unwrap()).unwrap();
            // So that a ticket that comes behind the handshake has been read.
            client.declare("q").unwrap();
            client.stream.conn.handshake_kind()
        };
        let first = kind(&mut broker);
        assert!(
            matches!(first, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)),
            "{first:?}"
        );
        assert_eq!(kind(&mut broker), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn each_host_name_has_its_certificate() {
    let authority = Authority::new("us");
    let files = Files::new();
    files.put(&authority.sign("default", &["localhost"]));
    for (name, hosts) in [("one", &["one.test"][..]), ("any", &["*.many.test"])] {
        let signed = authority.sign(name, hosts);
        files.write(&format!("further/{name}.crt"), &signed.certificate.pem());
        files.write(&format!("further/{name}.key"), &signed.key.serialize_pem());
    }
    let further = files.0.join("further");
    let mut broker = files.start(&["--tls-sni-dir", further.to_str().unwrap()]);
    let port = broker.tls_port();
    for host in ["localhost", "one.test", "two.many.test"] {
        Client::open(tls(port, &authority.client(VERSIONS), host).unwrap()).unwrap();
    }
    assert!(tls(port, &authority.client(VERSIONS), "two.test").is_err());
}
