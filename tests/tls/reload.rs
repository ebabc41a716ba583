//! SIGHUP: files are read again, connections stay, and a mistake changes nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use rustls::HandshakeKind;

use crate::amqp::{Client, TlsClient, tls};
use crate::authority::{Authority, Files, VERSIONS};
use crate::support::{Broker, PROGRAM_MAX};

const READ_AGAIN: &str = "certificates read again";

fn leaf(stream: &TlsClient) -> Vec<u8> {
    stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
}

#[test]
fn a_reload_under_load_changes_what_new_connections_see_alone() {
    let authority = Authority::new("us");
    let (old, new) = (authority.sign("old", &["localhost"]), authority.sign("new", &["localhost"]));
    let files = Files::new();
    files.put(&old);
    let mut broker = files.start(&[]);
    let port = broker.tls_port();
    let config = authority.client(VERSIONS);
    let stop = AtomicBool::new(false);
    let (begun, has_begun) = mpsc::channel();
    thread::scope(|scope| {
        let publishers: Vec<_> = (0..3)
            .map(|number| {
                let (config, stop, queue, begun) = (&config, &stop, format!("q{number}"), begun.clone());
                scope.spawn(move || {
                    let mut client = Client::open(tls(port, config, "localhost").unwrap()).unwrap();
                    let mut messages = 0;
                    client.declare(&queue).unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        client.publish(&queue, &[7; 2000]).unwrap();
                        client.await_confirm().unwrap();
                        assert_eq!(client.get(&queue).unwrap(), [7; 2000]);
                        messages += 1;
                        if messages == 1 {
                            begun.send(()).unwrap();
                        }
                    }
                })
            })
            .collect();
        publishers.iter().for_each(|_| has_begun.recv_timeout(PROGRAM_MAX).unwrap());
        let before = tls(port, &config, "localhost").unwrap();
        assert_eq!(leaf(&before), old.certificate.der().to_vec());
        for round in 0..4 {
            files.put(if round % 2 == 0 { &new } else { &old });
            broker.process().signal("HUP");
            broker.process().wait_for_line(READ_AGAIN, PROGRAM_MAX);
            let expected = if round % 2 == 0 { &new } else { &old };
            let after = tls(port, &config, "localhost").unwrap();
            assert_eq!(leaf(&after), expected.certificate.der().to_vec());
        }
        Client::open(before).unwrap();
        stop.store(true, Ordering::Relaxed);
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    });
}

#[test]
fn a_mistake_in_the_files_leaves_the_old_ones_in_force() {
    let authority = Authority::new("us");
    let (old, other) = (authority.sign("old", &["localhost"]), authority.sign("other", &["localhost"]));
    let files = Files::new();
    files.put(&old);
    let mut broker = files.start(&[]);
    let config = authority.client(VERSIONS);
    files.write("server-key.pem", &other.key.serialize_pem());
    broker.process().signal("HUP");
    let line = broker.process().wait_for_line("those in force stay so", PROGRAM_MAX);
    assert!(line.contains("does not belong to the certificate in"), "{line}");
    assert_eq!(leaf(&tls(broker.tls_port(), &config, "localhost").unwrap()), old.certificate.der().to_vec());
}

#[test]
fn sessions_from_before_a_reload_are_not_resumed() {
    let authority = Authority::new("us");
    let files = Files::new();
    files.put(&authority.sign("broker", &["localhost"]));
    let mut broker = files.start(&[]);
    let config = authority.client(VERSIONS);
    let kind = |broker: &mut Broker| {
        let mut client = Client::open(tls(broker.tls_port(), &config, "localhost").unwrap()).unwrap();
        client.declare("q").unwrap();
        client.stream.conn.handshake_kind()
    };
    kind(&mut broker);
    assert_eq!(kind(&mut broker), Some(HandshakeKind::Resumed));
    broker.process().signal("HUP");
    broker.process().wait_for_line(READ_AGAIN, PROGRAM_MAX);
    assert_ne!(kind(&mut broker), Some(HandshakeKind::Resumed));
}

#[test]
fn a_broker_without_certificates_survives_sighup() {
    let mut broker = Broker::start_with(&[]);
    broker.process().signal("HUP");
    broker.process().wait_for_line("there are no certificates to read again", PROGRAM_MAX);
    Client::open(crate::amqp::socket(broker.port)).unwrap();
}
