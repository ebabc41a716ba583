//! Listeners on addresses of IPv6, alone and beside those of IPv4.

use std::net::TcpListener;

use crate::support::{Broker, possible};
use crate::wire::Peer;

/// A broker that listens there; none where the machine has no IPv6.
fn broker(listen: &str) -> Option<Broker> {
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    possible("IPv6", has_ipv6).then(|| Broker::start_with(&["--amqp-listen", listen]))
}

/// Opens a connection to each of these hosts, as a user who may only do so from the same machine.
fn connect(broker: &mut Broker, hosts: &[&str]) {
    for host in hosts {
        (*host).clone_into(&mut broker.host);
        Peer::with_channel(broker).close();
    }
}

#[test]
fn a_listener_of_ipv6_takes_clients_from_the_same_machine() {
    let Some(mut broker) = broker("[::1]:0") else { return };
    connect(&mut broker, &["::1"]);
}

#[test]
fn any_address_of_ipv6_is_any_of_ipv4_as_well() {
    let Some(mut broker) = broker("[::]:0") else { return };
    connect(&mut broker, &["::1", "127.0.0.1"]);
}

#[test]
fn any_address_of_ipv6_goes_with_any_of_ipv4_on_the_same_port() {
    let free = TcpListener::bind("0.0.0.0:0").and_then(|listener| listener.local_addr());
    let port = free.expect("there is a free port").port();
    for listen in [format!("0.0.0.0:{port},[::]:{port}"), format!("[::]:{port},0.0.0.0:{port}")] {
        let Some(mut broker) = broker(&listen) else { return };
        connect(&mut broker, &["::1", "127.0.0.1"]);
    }
}
