//! Listeners on addresses of IPv6, alone and beside those of IPv4.

use std::net::{TcpListener, TcpStream};

use crate::support::{Broker, possible};
use crate::wire::Peer;

/// A broker that listens there, for HTTP too if that is said; none where the machine has no IPv6.
fn broker(listen: &str, management_listen: &str) -> Option<Broker> {
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let flags = ["--amqp-listen", listen, "--management-listen", management_listen];
    possible("IPv6", has_ipv6).then(|| Broker::start_with(&flags))
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
    let Some(mut broker) = broker("[::1]:0", "none") else { return };
    connect(&mut broker, &["::1"]);
}

#[test]
fn any_address_of_ipv6_is_any_of_ipv4_as_well() {
    let Some(mut broker) = broker("[::]:0", "none") else { return };
    connect(&mut broker, &["::1", "127.0.0.1"]);
}

#[test]
fn any_address_of_ipv6_goes_with_any_of_ipv4_on_the_same_port() {
    // Both at a time, so that they are two.
    let free = [(); 2].map(|()| TcpListener::bind("0.0.0.0:0").expect("there are free ports"));
    let [amqp, http] = free.map(|listener| listener.local_addr().expect("it has an address").port());
    let ipv4_first = |port| format!("0.0.0.0:{port},[::]:{port}");
    let ipv6_first = |port| format!("[::]:{port},0.0.0.0:{port}");
    for (listen, management_listen) in
        [(ipv4_first(amqp), ipv6_first(http)), (ipv6_first(amqp), ipv4_first(http))]
    {
        let Some(mut broker) = broker(&listen, &management_listen) else { return };
        connect(&mut broker, &["::1", "127.0.0.1"]);
        for host in ["::1", "127.0.0.1"] {
            TcpStream::connect((host, http)).expect("the API takes connections");
        }
    }
}
