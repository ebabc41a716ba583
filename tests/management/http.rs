//! A small HTTP client that says exactly what it is told to, and a broker with its API.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Running, listening_port, tool, unique_dir};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long a broker may take to start.
const START_MAX: Duration = Duration::from_secs(60);

/// A server with an API.
pub(crate) struct Api {
    pub(crate) port: u16,
    pub(crate) amqp_port: u16,
    /// Name and password, with a colon between.
    login: String,
    broker: Option<Running>,
    /// Where the broker keeps what it has.
    data_dir: PathBuf,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body, which has to be JSON.
    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}: {text}", self.head))
    }

    /// What a refusal gives as its reason.
    pub(crate) fn reason(&self) -> Value {
        self.json()["reason"].clone()
    }
}

impl Api {
    /// Starts the binary with an API on a free port.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        Self::start_in(unique_dir("management"), flags)
    }

    /// Ends the broker in good order and starts it again.
    pub(crate) fn restart(&mut self) {
        if let Some(mut broker) = self.broker.take() {
            broker.signal("TERM");
            broker.wait_for_exit(START_MAX);
        }
        *self = Self::start_in(self.data_dir.clone(), &[]);
    }

    fn start_in(data_dir: PathBuf, flags: &[&str]) -> Self {
        let mut command = tool(env!("CARGO_BIN_EXE_leveret"));
        command.args(["--amqp-listen", "127.0.0.1:0", "--management-listen", "127.0.0.1:0"]);
        command.args(["--metrics-listen", "none", "--data-dir"]);
        command.arg(&data_dir).args(flags).env("NO_COLOR", "1");
        let mut broker = Running::spawn(command);
        let mut port_of = |text: &str| {
            let line = broker.wait_for_line(text, START_MAX);
            listening_port(&line).unwrap_or_else(|| panic!("no port in {line}"))
        };
        let amqp_port = port_of("listening for AMQP connections");
        let port = port_of("listening for the HTTP API");
        broker.wait_for_line("Server startup complete", START_MAX);
        Self { port, amqp_port, login: "guest:guest".to_owned(), broker: Some(broker), data_dir }
    }

    /// One that runs already.
    pub(crate) fn at(port: u16, amqp_port: u16) -> Self {
        Self { port, amqp_port, login: "guest:guest".to_owned(), broker: None, data_dir: PathBuf::new() }
    }

    /// Waits for a line of the log of a broker that was started here.
    pub(crate) fn wait_for_line(&mut self, text: &str) -> String {
        self.broker.as_mut().expect("a broker that was started here").wait_for_line(text, ANSWER_MAX)
    }

    /// A connection on which nothing was said yet.
    pub(crate) fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).expect("the API takes connections");
        socket.set_read_timeout(Some(ANSWER_MAX)).expect("a timeout can be set");
        socket
    }

    /// The header line by which this user logs in.
    pub(crate) fn login_header(&self) -> String {
        format!("Authorization: Basic {}\r\n", base64(self.login.as_bytes()))
    }

    /// The same, for another user.
    pub(crate) fn as_user(&self, name: &str, password: &str) -> Self {
        Self { login: format!("{name}:{password}"), ..Self::at(self.port, self.amqp_port) }
    }

    /// Sends a request to a path under `/api/`.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        self.request_with(method, path, body, "")
    }

    /// The same with further header lines.
    pub(crate) fn request_with(&self, method: &str, path: &str, body: Option<&str>, headers: &str) -> Answer {
        let body = body.unwrap_or_default();
        let head = format!(
            "{method} /api/{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {}\r\nConnection: \
             close\r\nContent-Length: {}\r\n{headers}\r\n",
            base64(self.login.as_bytes()),
            body.len()
        );
        self.raw(format!("{head}{body}").as_bytes(), method == "HEAD")
    }

    /// Sends octets and reads one answer.
    pub(crate) fn raw(&self, octets: &[u8], is_head: bool) -> Answer {
        let mut socket = self.connect();
        // A server that refuses early may close while this is still sent.
        let _ = socket.write_all(octets);
        read_answer(&mut socket, is_head)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, None)
    }

    /// What is there, which has to be there.
    pub(crate) fn fetch(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "GET {path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// Sends a request that has to be answered with this status.
    pub(crate) fn expect(&self, status: u16, method: &str, path: &str, body: Option<&str>) -> Answer {
        let answer = self.request(method, path, body);
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{method} {path} {body:?}: {text}");
        answer
    }

    /// Asks until it is so.
    pub(crate) fn wait_for(&self, path: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            let answer = self.get(path);
            if answer.status == 200 {
                let value = answer.json();
                if is_so(&value) {
                    return value;
                }
            }
            let text = String::from_utf8_lossy(&answer.body);
            assert!(Instant::now() < deadline, "not in time: {what}; last: {} {text}", answer.status);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Reads one answer to its end.
pub(crate) fn read_answer(socket: &mut TcpStream, is_head: bool) -> Answer {
    let mut received = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&received[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let length = if is_head { 0 } else { length.unwrap_or(0) };
            if received.len() >= end + 4 + length {
                let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
                let body = received[end + 4..end + 4 + length].to_vec();
                return Answer {
                    status: status.unwrap_or_else(|| panic!("no status in {head}")),
                    head,
                    body,
                };
            }
        }
        let read = socket.read(&mut buffer).unwrap_or_else(|error| {
            panic!("no answer: {error}; so far: {}", String::from_utf8_lossy(&received))
        });
        assert!(read > 0, "closed without an answer; so far: {}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&buffer[..read]);
    }
}

/// Octets in base64.
pub(crate) fn base64(octets: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in octets.chunks(3) {
        let number =
            group.iter().enumerate().fold(0_u32, |sum, (at, &octet)| sum | u32::from(octet) << (16 - 8 * at));
        for digit in 0..4 {
            if digit <= group.len() {
                text.push(char::from(DIGITS[(number >> (18 - 6 * digit)) as usize & 63]));
            } else {
                text.push('=');
            }
        }
    }
    text
}
