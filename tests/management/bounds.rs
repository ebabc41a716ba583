//! What one client cannot take from all others: memory, by what it sends and by what it does not read, and time.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Api, base64, read_answer};

/// What is answered at once, even by a slow machine.
const AT_ONCE: Duration = Duration::from_secs(3);

const PUBLISH: &str = "exchanges/%2F/amq.default/publish";

/// Sends the head of a request alone, which announces a body.
fn announce(api: &Api, method: &str, path: &str, length: usize) -> TcpStream {
    let mut socket = api.connect();
    let login = api.login_header();
    let head = format!("{method} /api/{path} HTTP/1.1\r\nHost: x\r\n{login}Content-Length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).expect("octets can be sent");
    socket
}

/// Publishes messages of this length that take six times of it as JSON.
fn fill(api: &Api, queue: &str, count: usize, length: usize) {
    api.expect(201, "PUT", &format!("queues/%2F/{queue}"), Some("{}"));
    let payload = base64(&vec![1; length]);
    let message =
        json!({"routing_key": queue, "properties": {}, "payload": payload, "payload_encoding": "base64"});
    for _ in 0..count {
        api.expect(200, "POST", PUBLISH, Some(&message.to_string()));
    }
}

#[test]
fn who_may_not_do_it_is_refused_before_the_body_comes() {
    let api = Api::start();
    api.expect(201, "PUT", "users/low", Some(r#"{"password":"low","tags":"management"}"#));
    api.expect(201, "PUT", "users/none", Some(r#"{"password":"none","tags":"management"}"#));
    let nothing = r#"{"configure":"","write":"","read":""}"#;
    api.expect(201, "PUT", "permissions/%2F/low", Some(nothing));
    for (name, is_in_vhost) in [("low", true), ("none", false)] {
        let user = api.as_user(name, name);
        for (method, path) in [
            ("PUT", "queues/%2F/q"),
            ("PUT", "exchanges/%2F/e"),
            ("POST", "queues/%2F/q/get"),
            ("POST", PUBLISH),
            ("PUT", "vhosts/v"),
            ("PUT", "policies/%2F/p"),
            ("POST", "definitions"),
        ] {
            let mut socket = announce(&user, method, path, 100_000);
            let refused = read_answer(&mut socket, false);
            let expected = if path == PUBLISH && is_in_vhost { 400 } else { 401 };
            assert_eq!(refused.status, expected, "{name}: {method} {path}: {}", refused.reason());
        }
    }
}

#[test]
fn bodies_are_as_large_as_what_they_are_for_and_have_as_many_values_as_can_be_held() {
    let api = Api::start();
    let padded = |length: usize| format!("{{{}}}", " ".repeat(length - 2));
    api.expect(201, "PUT", "queues/%2F/q", Some(&padded(256 * 1024)));
    let refused = api.expect(400, "PUT", "queues/%2F/q", Some(&padded(256 * 1024 + 1)));
    assert_eq!(refused.reason(), "Exceeded HTTP request body size limit of 262144 bytes");
    let refused = api.expect(400, "PUT", "queues/%2F/q", Some(&padded(8_000_000)));
    assert_eq!(
        refused.reason(),
        "Exceeded HTTP request body size limit of 262144 bytes",
        "it is sent to the end"
    );
    let mut chunked = api.connect();
    let head = format!(
        "PUT /api/queues/%2F/q HTTP/1.1\r\nHost: x\r\n{}Transfer-Encoding: chunked\r\n\r\n",
        api.login_header()
    );
    let body = format!("50000\r\n{}\r\n0\r\n\r\n", padded(0x50000));
    chunked.write_all(format!("{head}{body}").as_bytes()).expect("it is read to the end");
    assert_eq!(read_answer(&mut chunked, false).status, 400);

    fill(&api, "large", 1, 4_000_000);
    api.expect(204, "POST", "definitions", Some(&padded(4_000_000)));
    let values = format!("{{\"a\":[{}0]}}", "0,".repeat(6_000_000));
    for path in [PUBLISH, "definitions"] {
        assert_eq!(api.expect(400, "POST", path, Some(&values)).reason(), "the body has too many values");
    }
}

#[test]
fn messages_are_fetched_up_to_the_octets_of_the_answer() {
    let api = Api::start();
    fill(&api, "q", 8, 2_000_000);
    let get = |ackmode: &str| {
        let body = json!({"ackmode": ackmode, "count": 8, "encoding": "auto"}).to_string();
        let answer = api.expect(200, "POST", "queues/%2F/q/get", Some(&body));
        let messages = answer.json();
        let all_are_whole =
            messages.as_array().expect("a list").iter().all(|one| one["payload_bytes"] == 2_000_000);
        assert!(all_are_whole);
        (messages.as_array().map_or(0, Vec::len), answer.body.len())
    };
    let (count, length) = get("reject_requeue_true");
    assert_eq!(count, 6, "of {length} octets");
    assert_eq!(get("ack_requeue_false").0, 6);
    assert_eq!(get("ack_requeue_false").0, 2, "what was not shown is there");
}

#[test]
fn large_answers_that_nobody_reads_hold_up_neither_checks_nor_changes_nor_others_for_ever() {
    let api = Api::start_with(&["--management-timeout-ms", "5000"]);
    let body = json!({"ackmode": "reject_requeue_true", "count": 8, "encoding": "auto"}).to_string();
    let queues = ["a", "b", "c", "d"];
    queues.iter().for_each(|queue| fill(&api, queue, 6, 2_000_000));
    let unread = queues.map(|queue| {
        let mut socket = announce(&api, "POST", &format!("queues/%2F/{queue}/get"), body.len());
        socket.write_all(body.as_bytes()).expect("octets can be sent");
        if queue == "a" {
            socket.peek(&mut [0; 1]).expect("an answer begins");
        }
        socket
    });
    // The first one has room, and is not read; the others take a place each until there is room again.
    let begun = Instant::now();
    for path in ["whoami", "overview", "health/checks/alarms", "health/checks/port-listener/1", "queues"] {
        let asked = Instant::now();
        assert!(matches!(api.get(path).status, 200 | 503), "{path}");
        assert!(asked.elapsed() < AT_ONCE, "{path}: {:?}", asked.elapsed());
    }
    api.expect(201, "PUT", "queues/%2F/other", Some("{}"));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    // Who does not read is cut off, and who does gets all of it.
    let answer = api.expect(200, "POST", "queues/%2F/a/get", Some(&body));
    assert_eq!(answer.json().as_array().map(Vec::len), Some(6));
    assert!(begun.elapsed() > Duration::from_millis(4500), "there was room: {:?}", begun.elapsed());
    drop(unread);
}

#[test]
fn columns_orders_and_patterns_are_few_and_short() {
    let api = Api::start();
    api.expect(201, "PUT", "queues/%2F/q", Some("{}"));
    let mut columns = "name".to_owned();
    for number in 1..100 {
        let _ = write!(columns, ",c{number}");
    }
    assert_eq!(api.fetch(&format!("queues?columns={columns}")), json!([{"name": "q"}]));
    api.expect(400, "GET", &format!("queues?columns={columns},z"), None);
    api.expect(400, "GET", &format!("queues/%2F/q?columns={columns},z"), None);
    let deep = ["a"; 16].join(".");
    assert_eq!(api.fetch(&format!("queues?columns={deep}")), json!([{}]));
    api.expect(400, "GET", &format!("queues?columns={deep}.a"), None);
    api.expect(200, "GET", &format!("queues?sort={deep}"), None);
    api.expect(400, "GET", &format!("queues?sort={deep}.a"), None);
    let long = "a".repeat(1025);
    api.expect(400, "GET", &format!("queues?page=1&use_regex=true&name={long}"), None);
    assert_eq!(
        api.fetch("queues?columns=name,arguments,name")[0],
        json!({"name": "q", "arguments": Value::Object(serde_json::Map::new())})
    );
}
