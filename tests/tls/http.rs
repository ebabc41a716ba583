//! HTTP over TLS: the API and the metrics have the certificates of AMQP, ask for those of clients as AMQP does, and end
//! what is no TLS at once.

use std::io::{self, Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};

use crate::amqp::{PATIENCE, socket, tls};
use crate::authority::{Authority, Files, VERSIONS};
use crate::support::{Broker, PROGRAM_MAX, Running, listening_port};

const LISTENERS: [&str; 4] =
    ["--management-tls-listen", "127.0.0.1:0", "--metrics-tls-listen", "127.0.0.1:0"];

/// guest with the password guest.
const LOGIN: &str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n";

/// The port of a listener that the log tells of.
fn port(broker: &mut Broker, what: &str) -> u16 {
    let log = broker.process().stderr_so_far();
    let line = log.lines().find(|line| line.contains(&format!("listening for {what}")));
    line.and_then(listening_port).unwrap_or_else(|| panic!("no listener for {what} in:\n{log}"))
}

fn api_port(broker: &mut Broker) -> u16 {
    port(broker, "the HTTP API with TLS")
}

/// Sends one request and reads to the end, which has to be one that TLS tells of.
fn ask(port: u16, config: &Arc<ClientConfig>, request: &str) -> io::Result<String> {
    let mut stream = tls(port, config, "localhost")?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{LOGIN}Connection: close\r\n\r\n")
}

#[test]
fn the_api_and_the_metrics_are_served_in_both_versions() {
    let authority = Authority::new("us");
    let files = Files::new();
    files.put(&authority.sign("broker", &["localhost"]));
    let mut broker = files.start(&LISTENERS);
    let (api, metrics) = (api_port(&mut broker), port(&mut broker, "scrapers of metrics with TLS"));
    for version in [&TLS12, &TLS13] {
        let config = authority.client(&[version]);
        let answer = ask(api, &config, &get("/api/overview")).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains(r#""protocol":"https""#), "{answer}");
        assert!(answer.contains(r#""protocol":"https/prometheus""#), "{answer}");
        let page = ask(metrics, &config, &get("/metrics")).unwrap();
        assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("rabbitmq_build_info"), "{page}");
    }
    let error = ask(api, &Authority::new("others").client(VERSIONS), &get("/api/overview")).unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    broker
        .process()
        .wait_for_line("it does not trust the authority of the server's certificate", PROGRAM_MAX);
}

#[test]
fn large_bodies_and_several_requests_go_through_one_session() {
    let authority = Authority::new("us");
    let files = Files::new();
    files.put(&authority.sign("broker", &["localhost"]));
    let mut broker = files.start(&LISTENERS);
    let queue = r#""vhost":"/","durable":true,"auto_delete":false,"arguments":{}"#;
    let queues: Vec<String> =
        (0..3000).map(|number| format!(r#"{{"name":"queue-{number}",{queue}}}"#)).collect();
    let body = format!(r#"{{"queues":[{}]}}"#, queues.join(","));
    let mut stream = tls(api_port(&mut broker), &authority.client(VERSIONS), "localhost").unwrap();
    let head =
        format!("POST /api/definitions HTTP/1.1\r\nHost: x\r\n{LOGIN}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 204");
    stream.write_all(get("/api/queues").as_bytes()).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let rest = String::from_utf8_lossy(&rest);
    let (_, listed) =
        rest.split_once("HTTP/1.1 200 ").unwrap_or_else(|| panic!("no second answer in {rest:.2000}"));
    let (_, json) = listed.split_once("\r\n\r\n").unwrap();
    let listed: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(listed.as_array().map(Vec::len), Some(3000));
}

#[test]
fn a_client_without_a_certificate_is_refused_where_one_is_required() {
    let (authority, others) = (Authority::new("us"), Authority::new("others"));
    let files = Files::new();
    files.put(&authority.sign("broker", &["localhost"]));
    let ca_file = files.write("ca.pem", &authority.pem());
    let asked = ["--tls-client-auth", "required", "--tls-ca-file", &ca_file];
    let mut broker = files.start(&[&LISTENERS[..], &asked].concat());
    let port = api_port(&mut broker);
    let known = authority.client_with(&authority.sign("shop", &[]), VERSIONS);
    let answer = ask(port, &known, &get("/api/whoami")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    ask(port, &authority.client(VERSIONS), &get("/api/whoami")).unwrap_err();
    broker.process().wait_for_line("the client has shown no certificate", PROGRAM_MAX);
    let foreign = authority.client_with(&others.sign("shop", &[]), VERSIONS);
    ask(port, &foreign, &get("/api/whoami")).unwrap_err();
    broker.process().wait_for_line("comes from none of the authorities", PROGRAM_MAX);
}

#[test]
fn after_a_reload_new_connections_see_the_new_certificate() {
    let authority = Authority::new("us");
    let (old, new) = (authority.sign("old", &["localhost"]), authority.sign("new", &["localhost"]));
    let files = Files::new();
    files.put(&old);
    let mut broker = files.start(&LISTENERS);
    let (port, config) = (api_port(&mut broker), authority.client(VERSIONS));
    let mut open = tls(port, &config, "localhost").unwrap();
    files.put(&new);
    broker.process().signal("HUP");
    broker.process().wait_for_line("certificates read again", PROGRAM_MAX);
    let shown = tls(port, &config, "localhost").unwrap();
    assert_eq!(shown.conn.peer_certificates().unwrap()[0].to_vec(), new.certificate.der().to_vec());
    assert_eq!(open.conn.peer_certificates().unwrap()[0].to_vec(), old.certificate.der().to_vec());
    open.write_all(get("/api/whoami").as_bytes()).unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn who_speaks_no_tls_or_nothing_at_all_is_ended() {
    let authority = Authority::new("us");
    let files = Files::new();
    files.put(&authority.sign("broker", &["localhost"]));
    let mut broker = files.start(&[&LISTENERS[..], &["--handshake-timeout-ms", "500"]].concat());
    let port = api_port(&mut broker);
    let begun = Instant::now();
    let mut plain = socket(port);
    plain.write_all(get("/api/overview").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    // SPEC: RFC 8446, 6: an alert, and nothing of HTTP.
    assert_eq!(answer.first(), Some(&0x15), "{answer:?}");
    drop(plain);
    broker.process().wait_for_line("does not speak TLS: it began with", PROGRAM_MAX);
    let mut silent = socket(port);
    let mut nothing = Vec::new();
    let _ = silent.read_to_end(&mut nothing);
    assert_eq!(nothing, b"");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    broker.process().wait_for_line("TLS handshake for HTTP not completed", PROGRAM_MAX);
    let answer = ask(port, &authority.client(VERSIONS), &get("/api/whoami")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn leveretctl_trusts_an_authority_that_it_is_told_of_and_no_other() {
    let authority = Authority::new("us");
    let files = Files::new();
    files.put(&authority.sign("broker", &["localhost"]));
    let (ours, theirs) =
        (files.write("ca.pem", &authority.pem()), files.write("others.pem", &Authority::new("others").pem()));
    let mut broker = files.start(&LISTENERS);
    let url = format!("https://localhost:{}", api_port(&mut broker));
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveretctl"));
        command.args(["--url", &url]).args(more).args(["-q", "list_vhosts", "name"]).env_remove("HOME");
        Running::spawn(command).wait(Duration::from_secs(60))
    };
    let trusted = run(&["--ca-file", &ours]);
    assert!(trusted.status.success() && trusted.stdout.lines().any(|line| line == "/"), "{}", trusted.stderr);
    assert!(run(&["--insecure"]).status.success());
    for untrusted in [run(&[]), run(&["--ca-file", &theirs])] {
        assert_eq!(untrusted.status.code(), Some(69), "{}", untrusted.stderr);
        assert!(untrusted.stderr.contains("no TLS connection with"), "{}", untrusted.stderr);
    }
}

#[test]
fn the_check_of_certificates_tells_which_end_soon_also_after_a_reload() {
    let authority = Authority::new("us");
    let files = Files::new();
    files.put(&authority.sign("broker", &["localhost"]));
    let mut broker = files.start(&LISTENERS);
    let (port, config) = (api_port(&mut broker), authority.client(VERSIONS));
    let check = |period: &str| {
        let answer =
            ask(port, &config, &get(&format!("/api/health/checks/certificate-expiration/{period}"))).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().to_owned();
        (status, serde_json::from_str::<serde_json::Value>(body).unwrap())
    };
    assert_eq!(check("10/years").0, "200");
    let (status, failed) = check("5000/years");
    assert_eq!((status.as_str(), &failed["reason"]), ("503", &"Certificates expiring".into()));
    let expired = failed["expired"].as_array().unwrap();
    let protocols: Vec<_> = expired.iter().map(|one| one["protocol"].as_str().unwrap()).collect();
    assert_eq!(protocols, ["amqp/ssl", "https/prometheus", "https"]);
    assert_eq!(expired[2]["port"], port);
    assert!(expired[2]["certfile"].as_str().unwrap().ends_with("server.pem"));

    files.put(&authority.sign_until("broker", &["localhost"], 2100));
    broker.process().signal("HUP");
    broker.process().wait_for_line("certificates read again", PROGRAM_MAX);
    assert_eq!(check("20/years").0, "200");
    let (status, failed) = check("100/years");
    assert_eq!(status, "503");
    assert_eq!(failed["expired"][0]["certfile_expires_on"], serde_json::json!(["2100-01-01 00:00:00"]));
}
