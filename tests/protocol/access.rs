//! Who may do what: every operation with every combination of permissions, topic permissions, limits, and logins.
//!
//! The users come from `access.json`. A RabbitMQ that is to run these as the referee has it imported before, and says
//! so by
//! `LEVERET_TEST_ACCESS=1`; without, they run against Leveret.

use leveret_codec::method::{Method, MethodId, basic, channel, connection, exchange, queue};
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef, FieldValue};

use crate::refusals::refused;
use crate::say::{
    Say, bind, consume, consuming, declare, declared, delete, deleted, exchange_bind, exchange_declare,
    exchange_delete, exchange_unbind, get, publish, purge, unbind,
};
use crate::support::Broker;
use crate::wire::{Peer, unique};

const USERS: [&str; 8] = ["may-nothing", "may-c", "may-w", "may-cw", "may-r", "may-cr", "may-wr", "may-cwr"];

fn broker() -> Broker {
    if std::env::var_os("LEVERET_TEST_ACCESS").is_some() {
        return Broker::start();
    }
    let definitions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol/access.json");
    Broker::start_with(&["--load-definitions", definitions])
}

/// As far as the answer to connection.open.
fn opening(broker: &Broker, user: &str, password: &str, vhost: &str) -> Peer {
    let mut peer = Peer::start(broker);
    peer.send_start_ok("PLAIN", format!("\0{user}\0{password}").as_bytes(), true);
    peer.recv_tune();
    peer.send(0, connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 });
    peer.send(0, connection::Open { virtual_host: vhost });
    peer
}

fn open(broker: &Broker, user: &str) -> Peer {
    let mut peer = opening(broker, user, "p", "acl");
    peer.expect(0, connection::OpenOk);
    peer.open_channel(1);
    peer
}

/// What an operation asks for: permission, kind and name of the resource, in the order in which they are looked at.
type Needs<'a> = &'a [(&'a str, &'a str, &'a str)];

/// Says a method and expects its answer, or the refusal of the first permission that the user has not.
#[track_caller]
fn try_method<'a, 'b>(
    peer: &mut Peer,
    user: &str,
    needs: Needs<'_>,
    method: impl Say<'a>,
    answer: impl Say<'b>,
) {
    match missing(peer, user, needs) {
        None => peer.ask(1, method, answer),
        Some(text) => refused(peer, method, 403, &text),
    }
}

fn missing(peer: &Peer, user: &str, needs: Needs<'_>) -> Option<String> {
    let letters = user.strip_prefix("may-").filter(|letters| *letters != "nothing").unwrap_or_default();
    let (permission, kind, name) =
        needs.iter().find(|(permission, ..)| !letters.contains(&permission[..1]))?;
    let access = access(peer, permission);
    Some(format!("ACCESS_REFUSED - {access} to {kind} '{name}' in vhost 'acl' refused for user '{user}'"))
}

fn access(peer: &Peer, permission: &str) -> String {
    peer.either(format!("{permission} access"), "access".to_owned(), "RabbitMQ 4 names the permission")
}

#[test]
fn declaring_and_deleting_ask_for_configure_and_what_it_leads_to() {
    let broker = broker();
    for user in USERS {
        let mut peer = open(&broker, user);
        let p = &mut peer;
        let durable = exchange::Declare { durable: true, ..exchange_declare("x", "direct") };
        try_method(p, user, &[("configure", "exchange", "x")], durable, exchange::DeclareOk);
        let name = unique("e");
        let arguments = FieldTable::new().with("alternate-exchange", "alt");
        let with_alternate =
            exchange::Declare { auto_delete: true, arguments, ..exchange_declare(&name, "direct") };
        let needs = [
            ("configure", "exchange", name.as_str()),
            ("read", "exchange", &name),
            ("write", "exchange", "alt"),
        ];
        try_method(p, user, &needs, with_alternate, exchange::DeclareOk);
        try_method(p, user, &[("configure", "exchange", &name)], exchange_delete(&name), exchange::DeleteOk);

        let durable = queue::Declare { durable: true, ..declare("q") };
        try_method(p, user, &[("configure", "queue", "q")], durable, declared("q", 0, 0));
        let name = unique("d");
        let arguments = FieldTable::new().with("x-dead-letter-exchange", "alt");
        let with_dead_letters = queue::Declare { exclusive: true, arguments, ..declare(&name) };
        let needs =
            [("configure", "queue", name.as_str()), ("read", "queue", &name), ("write", "exchange", "alt")];
        try_method(p, user, &needs, with_dead_letters, declared(&name, 0, 0));
        try_method(p, user, &[("configure", "queue", &name)], delete(&name), deleted(0));
        peer.close();
    }
}

#[test]
fn binding_asks_for_write_on_the_destination_and_read_on_the_source() {
    let broker = broker();
    for user in USERS {
        let mut peer = open(&broker, user);
        let p = &mut peer;
        let needs = [("write", "queue", "q"), ("read", "exchange", "x")];
        try_method(p, user, &needs, bind("q", "x", "k"), queue::BindOk);
        try_method(p, user, &needs, unbind("q", "x", "k"), queue::UnbindOk);
        let needs = [("write", "exchange", "y"), ("read", "exchange", "x")];
        try_method(p, user, &needs, exchange_bind("y", "x", "k"), exchange::BindOk);
        try_method(p, user, &needs, exchange_unbind("y", "x", "k"), exchange::UnbindOk);
        // What is bound to the default exchange is looked at before it is told that nothing can be.
        let text = missing(p, user, &[("write", "queue", "q")]);
        let text =
            text.unwrap_or("ACCESS_REFUSED - operation not permitted on the default exchange".to_owned());
        refused(p, bind("q", "", "k"), 403, &text);
        peer.close();
    }
}

#[test]
fn taking_messages_asks_for_read_on_the_queue() {
    let broker = broker();
    for user in USERS {
        let mut peer = open(&broker, user);
        let needs = [("read", "queue", "q")];
        let consumer = basic::Consume { no_ack: true, ..consume("q", "tag") };
        try_method(&mut peer, user, &needs, get("q"), basic::GetEmpty);
        try_method(&mut peer, user, &needs, purge("q"), queue::PurgeOk { message_count: 0 });
        try_method(&mut peer, user, &needs, consumer, consuming("tag"));
        peer.close();
    }
}

#[test]
fn publishing_asks_for_write_on_the_exchange_before_it_is_looked_for() {
    let broker = broker();
    for user in USERS {
        let mut peer = open(&broker, user);
        for (exchange, shown) in [("x", "x"), ("", "amq.default"), ("y", "y"), ("missing", "missing")] {
            peer.open_channel(9);
            peer.send_message(9, publish(exchange, "nowhere"), Properties::default(), "body");
            let text = missing(&peer, user, &[("write", "exchange", shown)]);
            let not_found = || "NOT_FOUND - no exchange 'missing' in vhost 'acl'".to_owned();
            let (code, text) = match (text, exchange) {
                (Some(text), _) => (403, text),
                (None, "missing") => (404, not_found()),
                (None, _) => {
                    // Twice, so that the second one goes by the route that was remembered.
                    peer.send_message(9, publish(exchange, "nowhere"), Properties::default(), "body");
                    let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
                    peer.ask(9, close, channel::CloseOk);
                    continue;
                }
            };
            peer.expect_channel_close(9, code, &text, MethodId::BASIC_PUBLISH);
        }
        peer.close();
    }
}

#[test]
fn a_passive_declare_asks_for_any_permission() {
    let broker = broker();
    for user in USERS {
        let mut peer = open(&broker, user);
        let is_asked = peer.either(true, false, "RabbitMQ asks for a permission as of 4.2.6");
        let text = missing(&peer, user, &[("configure", "exchange", "x")])
            .filter(|_| is_asked && user == "may-nothing");
        let passive = || exchange::Declare { passive: true, ..exchange_declare("x", "direct") };
        match text {
            None => peer.ask(1, passive(), exchange::DeclareOk),
            Some(text) => refused(&mut peer, passive(), 403, &text),
        }
        let text = missing(&peer, user, &[("configure", "queue", "q")])
            .filter(|_| is_asked && user == "may-nothing");
        let passive = || queue::Declare { passive: true, ..declare("q") };
        match text {
            None => peer.ask(1, passive(), declared("q", 0, 0)),
            Some(text) => refused(&mut peer, passive(), 403, &text),
        }
        peer.close();
    }
}

#[test]
fn a_name_that_the_broker_makes_is_checked_and_patterns_are_anchored_only_if_they_say_so() {
    let broker = broker();
    let mut peer = open(&broker, "names");
    peer.send(1, queue::Declare { exclusive: true, ..declare("") });
    let received = peer.recv();
    let Method::ChannelClose(close) = received.method() else { panic!("no close: {received:?}") };
    let configure = access(&peer, "configure");
    let text = format!("ACCESS_REFUSED - {configure} to queue 'amq.gen-");
    assert!(close.reply_code == 403 && close.reply_text.starts_with(&text), "{close:?}");
    peer.send(1, channel::CloseOk);
    peer.open_channel(1);
    let name = unique("mine");
    peer.ask(1, queue::Declare { exclusive: true, ..declare(&name) }, declared(&name, 0, 0));
    let name = unique("not-mine");
    let text =
        format!("ACCESS_REFUSED - {configure} to queue '{name}' in vhost 'acl' refused for user 'names'");
    refused(&mut peer, declare(&name), 403, &text);
    peer.send_message(1, publish("", "nowhere"), Properties::default(), "body");
    peer.ask(1, basic::Qos { prefetch_size: 0, prefetch_count: 1, global: false }, basic::QosOk);
    peer.close();
}

#[test]
fn topic_permissions_are_for_each_routing_key() {
    let broker = broker();
    let mut peer = open(&broker, "topical");
    let (read, write) = (access(&peer, "read"), access(&peer, "write"));
    let p = &mut peer;
    let text = |access: &str, key: &str| {
        format!(
            "ACCESS_REFUSED - {access} to topic '{key}' in exchange 'topics' in vhost 'acl' refused for user 'topical'"
        )
    };
    p.ask(1, bind("q", "topics", "public.news"), queue::BindOk);
    p.ask(1, unbind("q", "topics", "public.news"), queue::UnbindOk);
    refused(p, bind("q", "topics", "private"), 403, &text(&read, "private"));
    for _ in 0..2 {
        p.send_message(1, publish("topics", "topical.news"), Properties::default(), "body");
    }
    p.ask(1, basic::Qos { prefetch_size: 0, prefetch_count: 1, global: false }, basic::QosOk);
    p.open_channel(9);
    p.send_message(9, publish("topics", "other.news"), Properties::default(), "body");
    p.expect_channel_close(9, 403, &text(&write, "other.news"), MethodId::BASIC_PUBLISH);
    let headers = FieldTable::new().with("CC", FieldValue::Array(vec!["elsewhere".into()])).encoded();
    let properties = Properties { headers: FieldTableRef::parse(&headers).ok(), ..Properties::default() };
    if p.either(true, false, "RabbitMQ 4 asks for copies too") {
        p.open_channel(9);
        p.send_message(9, publish("topics", "topical.news"), properties, "body");
        p.expect_channel_close(9, 403, &text(&write, "elsewhere"), MethodId::BASIC_PUBLISH);
    }
    // Exchanges without topic permissions take any key.
    p.send_message(1, publish("amq.topic", "other.news"), Properties::default(), "body");
    p.ask(1, basic::Qos { prefetch_size: 0, prefetch_count: 1, global: false }, basic::QosOk);
    peer.close();
}

/// COMPAT: RabbitMQ says so when all of it is there.
#[test]
fn a_large_body_is_refused_before_it_comes() {
    let broker = broker();
    let mut peer = open(&broker, "may-cr");
    let text = format!(
        "ACCESS_REFUSED - {} to exchange 'x' in vhost 'acl' refused for user 'may-cr'",
        access(&peer, "write")
    );
    if !peer.either(true, false, "nothing is kept for who may not publish it") {
        return;
    }
    for channel in [1, 2] {
        if channel > 1 {
            peer.open_channel(channel);
        }
        peer.send(channel, publish("x", "k"));
        peer.send_header(channel, 60, 16 * 1024 * 1024);
        peer.expect_channel_close(channel, 403, &text, MethodId::BASIC_PUBLISH);
    }
    peer.close();
}

#[test]
fn opening_a_vhost_asks_for_permissions_there_and_room_within_the_limits() {
    let broker = broker();
    let not_opened = |user: &str, vhost: &str, text: &str| {
        let mut peer = opening(&broker, user, "p", vhost);
        peer.expect_close(530, text, MethodId::CONNECTION_OPEN);
    };
    not_opened("may-cwr", "/", "NOT_ALLOWED - access to vhost '/' refused for user 'may-cwr'");
    not_opened("may-cwr", "none", "NOT_ALLOWED - vhost none not found");
    let text =
        "NOT_ALLOWED - access to vhost 'full' refused for user 'may-cwr': connection limit (0) is reached";
    not_opened("may-cwr", "full", text);
    let mut peer = open(&broker, "single");
    let text = "NOT_ALLOWED - connection refused for user 'single': user connection limit (1) is reached";
    not_opened("single", "acl", text);
    peer.open_channel(2);
    peer.send(3, channel::Open);
    let limit = peer.either("2", "(2)", "the parentheses went with RabbitMQ 4");
    let text = format!(
        "NOT_ALLOWED - number of channels opened for user 'single' has reached the maximum allowed user limit of \
         {limit}"
    );
    peer.expect_close(530, &text, MethodId::NONE);
    open(&broker, "single").close();
}

#[test]
fn a_vhost_takes_no_more_queues_than_its_limit_says() {
    let broker = broker();
    let mut peer = open(&broker, "may-cwr");
    let names = [unique("one"), unique("two"), unique("three")];
    for name in &names[..2] {
        peer.ask(1, queue::Declare { exclusive: true, ..declare(name) }, declared(name, 0, 0));
    }
    let text = format!(
        "PRECONDITION_FAILED - cannot declare queue '{}': queue limit in vhost 'acl' (3) is reached",
        names[2]
    );
    refused(&mut peer, declare(&names[2]), 406, &text);
    peer.ask(1, queue::Declare { exclusive: true, ..declare(&names[0]) }, declared(&names[0], 0, 0));
    peer.close();
}

#[test]
fn who_has_no_password_or_another_or_does_not_exist_is_refused_alike() {
    let broker = broker();
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker \
                logfile.";
    for (user, password) in [("blank", ""), ("blank", "p"), ("may-c", "P"), ("nobody", "p"), ("may-c", "")] {
        let mut peer = Peer::start(&broker);
        peer.send_start_ok("PLAIN", format!("\0{user}\0{password}").as_bytes(), true);
        peer.expect_close(403, text, MethodId::NONE);
    }
}
