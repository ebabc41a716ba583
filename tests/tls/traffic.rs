//! What travels over TLS is what was sent, however it is cut into records.

use std::io::Write;
use std::thread;

use rustls::version::{TLS12, TLS13};

use crate::amqp::{Client, tls};
use crate::authority::{Authority, Files, VERSIONS};

/// A body whose octets say where they belong.
fn body(size: usize, seed: usize) -> Vec<u8> {
    (0..size).map(|index| (index * 31 + index / 251 + seed).to_le_bytes()[0]).collect()
}

#[test]
fn bodies_of_all_sizes_come_back_as_they_were() {
    let authority = Authority::new("us");
    let files = Files::new();
    files.put(&authority.sign("broker", &["localhost"]));
    let mut broker = files.start(&[]);
    for version in [&TLS12, &TLS13] {
        let stream = tls(broker.tls_port(), &authority.client(&[version]), "localhost").unwrap();
        let mut client = Client::open(stream).unwrap();
        client.declare("q").unwrap();
        let sizes = [0, 1, 16_000, 16_384, 16_385, 65_536, 131_064, 131_065, 1_000_000, 5_000_003];
        for (seed, size) in sizes.into_iter().enumerate() {
            let sent = body(size, seed);
            client.publish("q", &sent).unwrap();
            client.await_confirm().unwrap();
            assert!(client.get("q").unwrap() == sent, "a body of {size} octets was changed");
        }
    }
}

#[test]
fn both_directions_are_used_at_a_time() {
    let authority = Authority::new("us");
    let files = Files::new();
    files.put(&authority.sign("broker", &["localhost"]));
    let mut broker = files.start(&[]);
    let (port, config) = (broker.tls_port(), authority.client(VERSIONS));
    thread::scope(|scope| {
        for number in 0..4 {
            let (config, queue) = (&config, format!("q{number}"));
            scope.spawn(move || {
                let mut client = Client::open(tls(port, config, "localhost").unwrap()).unwrap();
                client.declare(&queue).unwrap();
                for round in 0..50 {
                    let sent: Vec<_> = (0..20).map(|seed| body(100 + 997 * seed, round)).collect();
                    sent.iter().for_each(|body| client.publish(&queue, body).unwrap());
                    client.await_confirms_up_to(20 * (round as u64 + 1)).unwrap();
                    for body in sent {
                        assert!(client.get(&queue).unwrap() == body);
                    }
                }
            });
        }
    });
}

#[test]
fn keys_that_are_changed_under_way_are_followed() {
    let authority = Authority::new("us");
    let files = Files::new();
    files.put(&authority.sign("broker", &["localhost"]));
    let mut broker = files.start(&[]);
    let stream = tls(broker.tls_port(), &authority.client(&[&TLS13]), "localhost").unwrap();
    let mut client = Client::open(stream).unwrap();
    client.declare("q").unwrap();
    for seed in 0..5 {
        // It asks the other side to change its key as well.
        client.stream.conn.refresh_traffic_keys().unwrap();
        client.stream.flush().unwrap();
        let sent = body(50_000, seed);
        client.publish("q", &sent).unwrap();
        client.await_confirm().unwrap();
        assert!(client.get("q").unwrap() == sent);
    }
}
