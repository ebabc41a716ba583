//! What nobody should send: refused in RabbitMQ's form, and the API goes on.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::http::{Api, base64, read_answer};

/// Flags of a broker whose clients have little time.
const HURRIED: [&str; 2] = ["--management-timeout-ms", "400"];

/// Reads to the end, be it one in order or not.
fn read_to_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    if let Err(error) = socket.read_to_end(&mut octets) {
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "left open: {error}");
    }
    octets
}

#[test]
fn without_a_good_login_there_is_401_and_nothing_else() {
    let api = Api::start();
    let nobody = api.raw(b"GET /api/overview HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false);
    assert_eq!((nobody.status, nobody.body.len()), (401, 0));
    assert_eq!(nobody.header("www-authenticate"), Some("Basic realm=\"RabbitMQ Management\""));
    for login in ["guest:wrong", "nobody:guest", "guest:", ":"] {
        let (name, password) = login.split_once(':').expect("a colon");
        let refused = api.as_user(name, password).get("overview");
        assert_eq!(refused.status, 401, "{login}");
        assert_eq!(refused.json()["error"], "not_authorized", "{login}");
    }
    for header in ["Bearer abc", "Basic ", "Basic !!!", "Basic Z3Vlc3Q=", "Basi\u{1}"] {
        let request = format!(
            "GET /api/overview HTTP/1.1\r\nHost: x\r\nAuthorization: {header}\r\nConnection: close\r\n\r\n"
        );
        let status = api.raw(request.as_bytes(), false).status;
        assert!(matches!(status, 400 | 401), "{header}: {status}");
    }
    assert_eq!(
        api.raw(b"GET /api/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false).status,
        200
    );
}

#[test]
fn bodies_that_are_not_what_is_asked_for_are_refused_with_a_reason() {
    let api = Api::start();
    for body in ["{", "[]", "1", "nul", "{\"a\":}", "\u{0}"] {
        let refused = api.expect(400, "PUT", "queues/%2F/q", Some(body));
        assert_eq!(refused.reason(), "not_json", "{body}");
    }
    let twice = api.expect(400, "PUT", "queues/%2F/q", Some(r#""{}""#)).reason();
    assert!(twice.as_str().is_some_and(|reason| reason.contains("doubly-JSON-encoded")), "{twice}");
    for percent in ["queues/%2F/%", "queues/%2F/%4", "queues/%2F/%zz"] {
        api.expect(400, "PUT", percent, Some("{}"));
    }
    let no_tags = api.expect(400, "PUT", "users/u", Some("{}"));
    assert_eq!(no_tags.reason(), "tags_not_present");
    let refused = api.expect(400, "PUT", "queues/%2F/q", Some(r#"{"durable":"maybe"}"#));
    assert_eq!(refused.reason(), serde_json::json!(["not_boolean", "maybe"]));
    for body in [r#"{"arguments":1}"#, r#"{"arguments":{"x-message-ttl":"x"}}"#, r#"{"auto_delete":1}"#] {
        api.expect(400, "PUT", "queues/%2F/q", Some(body));
    }
    api.expect(400, "PUT", "exchanges/%2F/e", Some(r#"{"type":"nope"}"#));
    api.expect(400, "PUT", "exchanges/%2F/e", Some(r#"{"type":1}"#));
    api.expect(401, "PUT", "queues/%2F/amq.q", Some("{}"));
    api.expect(400, "PUT", "policies/%2F/p", Some(r#"{"pattern":"(","definition":{"max-length":1}}"#));
    api.expect(400, "PUT", "policies/%2F/p", Some(r#"{"pattern":"a","definition":{"nope":1}}"#));
    api.expect(400, "PUT", "policies/%2F/p", Some(r#"{"pattern":"a"}"#));
    api.expect(400, "PUT", "users/u", Some(r#"{"password":"p"}"#));
    api.expect(400, "PUT", "users/u", Some(r#"{"tags":"","password":"p","password_hash":"aaaa"}"#));
    api.expect(400, "PUT", "users/u", Some(r#"{"tags":"","password_hash":"!!"}"#));
    api.expect(400, "PUT", "permissions/%2F/guest", Some(r#"{"configure":"("}"#));
    api.expect(400, "PUT", "vhost-limits/%2F/max-queues", Some(r#"{"value":"x"}"#));
    api.expect(400, "POST", "definitions", Some(r#"{"queues":[{"nam":"q"}]}"#));
    api.expect(200, "GET", "overview", None);
}

#[test]
fn what_is_nested_too_deeply_is_refused_and_what_is_not_survives_a_restart() {
    let mut api = Api::start();
    let nested =
        |levels: usize| format!("{}1{}", r#"{"federation-upstream":"#.repeat(levels), "}".repeat(levels));
    let requests = |levels: usize| {
        let deep = nested(levels);
        [
            ("PUT", "queues/%2F/q", format!(r#"{{"durable":true,"arguments":{deep}}}"#)),
            ("PUT", "exchanges/%2F/e", format!(r#"{{"type":"topic","durable":true,"arguments":{deep}}}"#)),
            ("POST", "bindings/%2F/e/amq.topic/q/known", format!(r#"{{"arguments":{deep}}}"#)),
            ("PUT", "policies/%2F/p", format!(r#"{{"pattern":"a","definition":{deep}}}"#)),
            ("PUT", "global-parameters/g", format!(r#"{{"value":{deep}}}"#)),
        ]
    };
    let document = |levels: usize| {
        let deep = nested(levels);
        format!(
            r#"{{"queues":[{{"name":"d","vhost":"/","arguments":{deep}}}],"exchanges":[{{"name":"d","vhost":"/",
            "type":"topic","arguments":{deep}}}],"policies":[{{"name":"d","vhost":"/","pattern":"d","definition":
            {deep}}}],"global_parameters":[{{"name":"d","value":{deep}}}]}}"#
        )
    };
    api.expect(201, "PUT", "queues/%2F/known", Some(r#"{"durable":true}"#));
    for levels in [66, 70, 100, 120] {
        for (method, path, body) in requests(levels) {
            let reason = api.expect(400, method, path, Some(&body)).reason();
            assert!(reason.as_str().is_some_and(|reason| reason.contains("nested too deeply")), "{reason}");
        }
        let reason = api.expect(400, "POST", "definitions", Some(&document(levels))).reason();
        assert!(reason.as_str().is_some_and(|reason| reason.contains("nested too deeply")), "{reason}");
    }
    for (method, path, body) in requests(62) {
        api.expect(201, method, path, Some(&body));
    }
    api.expect(204, "POST", "definitions", Some(&document(62)));
    let paths = ["queues/%2F/q", "queues/%2F/d", "exchanges/%2F/e", "policies/%2F/d", "global-parameters/d"];
    let shown = |api: &Api| {
        paths.map(|path| {
            let value = api.fetch(path);
            let kept = ["arguments", "definition", "value"].map(|key| value[key].clone());
            serde_json::json!(kept)
        })
    };
    let before = shown(&api);
    api.restart();
    assert_eq!(shown(&api), before);
}

#[test]
fn paths_are_taken_apart_before_they_are_decoded() {
    let api = Api::start();
    api.expect(201, "PUT", "queues/%2F/a%2Fb%2F..%2Fc%3F%23%25", Some("{}"));
    assert_eq!(api.fetch("queues/%2f/a%2Fb%2F..%2Fc%3F%23%25")["name"], "a/b/../c?#%");
    for path in ["queues/%2F/..", "queues/../nodes", "..", "queues/%2F/q/nope", "nope", "", "queues/%2F/%ff"]
    {
        let status = api.get(path).status;
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
    api.expect(404, "GET", "queues/%2F/%00", None);
    api.expect(405, "PATCH", "queues/%2F/q", None);
    let refused = api.expect(405, "POST", "overview", None);
    assert_eq!(refused.header("allow"), Some("HEAD, GET, OPTIONS"));
    let options = api.expect(200, "OPTIONS", "queues/%2F/q", None);
    assert_eq!(options.header("allow"), Some("HEAD, GET, PUT, DELETE, OPTIONS"));
    let head = api.expect(200, "HEAD", "overview", None);
    assert!(head.header("content-length").is_some_and(|length| length != "0"));
}

#[test]
fn too_much_is_refused() {
    let api = Api::start();
    let login = base64(b"guest:guest");
    let announced = format!(
        "PUT /api/queues/%2F/q HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\nContent-Length: \
         20000001\r\nConnection: close\r\n\r\n"
    );
    let refused = api.raw(announced.as_bytes(), false);
    assert_eq!(refused.status, 400);
    assert!(refused.reason().as_str().is_some_and(|reason| reason.contains("body size limit")));

    let mut many = String::from("GET /api/overview HTTP/1.1\r\nHost: x\r\n");
    for number in 0..200 {
        let _ = write!(many, "X-{number}: x\r\n");
    }
    assert_eq!(api.raw(format!("{many}\r\n").as_bytes(), false).status, 431);
    let long = format!("GET /api/overview HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    assert_eq!(api.raw(long.as_bytes(), false).status, 431);
    let path = format!("GET /api/{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(200_000));
    assert!((400..500).contains(&api.raw(path.as_bytes(), false).status));
}

#[test]
fn one_that_takes_its_time_keeps_nobody_from_being_answered() {
    let api = Api::start();
    let mut slow = api.connect();
    slow.write_all(b"GET /api/over").expect("octets can be sent");
    api.expect(200, "GET", "overview", None);
    slow.write_all(b"view HTTP/1.1\r\nHost: x\r\n\r\n").expect("octets can be sent");
    assert_eq!(read_answer(&mut slow, false).status, 401);
}

#[test]
fn who_says_nothing_or_never_comes_to_the_end_of_a_head_is_cut_off() {
    let api = Api::start_with(&HURRIED);
    for said in ["", "GET /api/overview HTTP/1.1\r\nHost: x\r\n"] {
        let mut socket = api.connect();
        socket.write_all(said.as_bytes()).expect("octets can be sent");
        let answer = read_to_end(&mut socket);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
    // A head that grows a little at a time has no more time than one that does not.
    let mut dripping = api.connect();
    let begun = Instant::now();
    let mut rest = b"GET /api/overview HTTP/1.1\r\nX-Long: ".iter().chain(std::iter::repeat(&b'x'));
    dripping.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
    loop {
        let is_sent = rest.next().is_some_and(|&octet| dripping.write_all(&[octet]).is_ok());
        let read = dripping.read(&mut [0; 1024]);
        if !is_sent
            || matches!(&read, Ok(0))
            || read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
        {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "left open");
    }
    // A connection between two requests.
    let mut idle = api.connect();
    let request = format!("GET /api/whoami HTTP/1.1\r\nHost: x\r\n{}\r\n", api.login_header());
    idle.write_all(request.as_bytes()).expect("octets can be sent");
    assert_eq!(read_answer(&mut idle, false).status, 200);
    assert_eq!(read_to_end(&mut idle), b"");
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let api = Api::start_with(&HURRIED);
    let head = format!("PUT /api/queues/%2F/q HTTP/1.1\r\nHost: x\r\n{}", api.login_header());
    for rest in ["Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"] {
        let mut socket = api.connect();
        socket.write_all(format!("{head}{rest}").as_bytes()).expect("octets can be sent");
        let refused = read_answer(&mut socket, false);
        assert_eq!((refused.status, refused.json()["error"].as_str()), (408, Some("timeout")), "{rest}");
        assert_eq!(read_to_end(&mut socket), b"", "the connection is closed");
    }
    api.expect(404, "GET", "queues/%2F/q", None);
}

#[test]
fn an_answer_that_nobody_reads_is_given_up() {
    let mut api =
        Api::start_with(&["--management-timeout-ms", "1000", "--log", "info,leveret_management=debug"]);
    let queues: Vec<String> = (0..10_000)
        .map(|number| {
            format!(
                r#"{{"name":"q{number}","vhost":"/","durable":false,"auto_delete":false,"arguments":{{}}}}"#
            )
        })
        .collect();
    api.expect(204, "POST", "definitions", Some(&format!(r#"{{"queues":[{}]}}"#, queues.join(","))));
    let mut socket = api.connect();
    let request = format!("GET /api/queues HTTP/1.1\r\nHost: x\r\n{}\r\n", api.login_header());
    socket.write_all(request.as_bytes()).expect("octets can be sent");
    let line = api.wait_for_line("a connection to the HTTP API failed");
    assert!(line.contains("the peer does not read"), "{line}");
    // What the system had taken by then is all that comes.
    let received = read_to_end(&mut socket);
    let whole = api.get("queues").body.len();
    assert!(received.len() < whole, "{} of {whole} octets", received.len());
}

#[test]
fn connections_beyond_the_limit_wait_for_a_place() {
    let api = Api::start_with(&["--management-connections-max", "3"]);
    let mut idle: Vec<_> = (0..3).map(|_| api.connect()).collect();
    // Each has its place when it is answered.
    for socket in &mut idle {
        socket.write_all(b"GET /api/version HTTP/1.1\r\nHost: x\r\n\r\n").expect("octets can be sent");
        assert_eq!(read_answer(socket, false).status, 200);
    }
    let mut waiting = api.connect();
    waiting.write_all(b"GET /api/version HTTP/1.1\r\nHost: x\r\n\r\n").expect("octets can be sent");
    waiting.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout can be set");
    let early = waiting.read(&mut [0; 1024]).map_err(|error| error.kind());
    assert!(matches!(early, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{early:?}");
    idle.pop();
    waiting.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
    assert_eq!(read_answer(&mut waiting, false).status, 200);
}

#[test]
fn queries_that_make_no_sense_are_refused() {
    let api = Api::start();
    let refused = api.expect(400, "GET", "queues?page=0", None);
    assert_eq!(refused.json()["error"], "invalid_pagination_parameters");
    api.expect(400, "GET", "queues?page=x", None);
    api.expect(400, "GET", "queues?page=1&page_size=501", None);
    assert_eq!(api.expect(400, "GET", "queues?page=9", None).json()["error"], "page_out_of_range");
    let large =
        "health/checks/quorum-queues-without-elected-leaders/all-vhosts/pattern/(.%7B1000%7D)%7B1000%7D";
    for path in
        ["queues?page=1&name=(&use_regex=true", "queues?page=1&name=(.{1000}){1000}&use_regex=true", large]
    {
        api.expect(400, "GET", path, None);
    }
    api.expect(200, "GET", "queues?sort=no.such&columns=no.such,name", None);
    api.expect(200, "GET", "overview?lengths_age=x&lengths_incr=-1", None);
    api.expect(
        200,
        "GET",
        "overview?lengths_age=18446744073709551615&lengths_incr=18446744073709551615",
        None,
    );
}

#[test]
fn no_body_is_waited_for_where_none_is_looked_at() {
    let api = Api::start();
    let login = api.login_header();
    for (head, status) in [
        ("GET /api/version HTTP/1.1\r\n".to_owned(), 200),
        ("POST /api/version HTTP/1.1\r\n".to_owned(), 405),
        ("PUT /api/queues/%2F/q HTTP/1.1\r\n".to_owned(), 401),
        (format!("GET /api/whoami HTTP/1.1\r\n{login}"), 200),
        (format!("DELETE /api/queues/%2F/q HTTP/1.1\r\n{login}"), 404),
    ] {
        let announced = format!("{head}Host: x\r\nContent-Length: 20000000\r\n\r\n");
        // None of it is sent: who waited for it would not answer.
        assert_eq!(api.raw(announced.as_bytes(), false).status, status, "{head}");
    }
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let api = Api::start_with(&["--management-cors-allow-origins", "https://tools.example"]);
    let send = |method: &str, path: &str, origin: &str| {
        api.request_with(method, path, Some("{}"), &format!("Origin: {origin}\r\n")).status
    };
    for origin in ["https://other.example", "null", "http://localhost:8080"] {
        assert_eq!(send("PUT", "queues/%2F/q", origin), 403, "{origin}");
        assert_eq!(send("POST", "definitions", origin), 403, "{origin}");
        assert_eq!(send("GET", "overview", origin), 200, "{origin}");
    }
    api.expect(404, "GET", "queues/%2F/q", None);
    assert_eq!(send("PUT", "queues/%2F/q", "https://tools.example"), 201);
    assert_eq!(send("DELETE", "queues/%2F/q", "http://localhost"), 204);
    assert_eq!(send("DELETE", "queues/%2F/q", "http://other.example"), 403);
}

#[test]
fn names_that_no_frame_holds_are_refused() {
    let api = Api::start();
    let (long, longest) = ("n".repeat(256), "n".repeat(255));
    api.expect(201, "PUT", &format!("queues/%2F/{longest}"), Some("{}"));
    let policy = r#"{"pattern":"a","definition":{"max-length":1}}"#;
    let key = format!(r#"{{"routing_key":"{long}"}}"#);
    let document = format!(r#"{{"queues":[{{"name":"{long}","vhost":"/"}}]}}"#);
    for (method, path, body) in [
        ("PUT", format!("queues/%2F/{long}"), "{}"),
        ("PUT", format!("exchanges/%2F/{long}"), r#"{"type":"topic"}"#),
        ("PUT", format!("policies/%2F/{long}"), policy),
        ("PUT", format!("operator-policies/%2F/{long}"), policy),
        ("PUT", format!("global-parameters/{long}"), r#"{"value":1}"#),
        ("PUT", format!("vhosts/{long}"), "{}"),
        ("PUT", format!("users/{long}"), r#"{"tags":"","password":"p"}"#),
        ("POST", format!("bindings/%2F/e/amq.topic/q/{longest}"), &key),
        ("POST", "definitions".to_owned(), &document),
    ] {
        let reason = api.expect(400, method, &path, Some(body)).reason();
        assert!(reason.as_str().is_some_and(|reason| reason.contains("255")), "{reason}");
    }
}
