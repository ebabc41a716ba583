//! A server that says what a RabbitMQ said when it was asked the same, and remembers what it was asked; and the way
//! to run one command line against it.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use leveret_ctl::{Environment, Terminal};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How long the other side may take; only a broken test waits for it.
const SOCKET_MAX: Duration = Duration::from_secs(20);

/// Authorization of guest with the password guest.
const GUEST: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";

/// A request that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Method and path.
    pub(crate) what: String,
    /// Its body.
    pub(crate) body: String,
    /// The header `X-Reason`.
    pub(crate) reason: Option<String>,
}

/// The server.
pub(crate) struct Stub {
    /// Where it listens.
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    /// A server with these answers: method and path, status, body. What is not among them is not found.
    pub(crate) fn new(answers: &[(&str, u16, &str)]) -> Self {
        Self::start(answers, None)
    }

    /// The same over TLS.
    pub(crate) fn with_tls(answers: &[(&str, u16, &str)], tls: ServerConfig) -> Self {
        Self::start(answers, Some(Arc::new(tls)))
    }

    fn start(answers: &[(&str, u16, &str)], tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().expect("it is bound"));
        let answers: HashMap<String, (u16, String)> = answers
            .iter()
            .map(|(what, status, body)| ((*what).to_owned(), (*status, (*body).to_owned())))
            .collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { break };
                // A client that goes away is what some tests are about.
                let _ = accept(stream, tls.as_ref(), &answers, &log);
            }
        });
        Self { url, asked }
    }

    /// What was asked so far but for reads.
    pub(crate) fn changes(&self) -> Vec<Asked> {
        let asked = self.asked.lock().expect("no thread panics with it");
        asked.iter().filter(|asked| !asked.what.starts_with("GET ")).cloned().collect()
    }

    /// The only change that was asked for.
    pub(crate) fn change(&self) -> Asked {
        let changes = self.changes();
        assert_eq!(changes.len(), 1, "{changes:?}");
        changes.into_iter().next().expect("there is one")
    }
}

/// Shakes hands where that is asked for, and answers one request.
fn accept(
    stream: TcpStream,
    tls: Option<&Arc<ServerConfig>>,
    answers: &HashMap<String, (u16, String)>,
    asked: &Mutex<Vec<Asked>>,
) -> io::Result<()> {
    stream.set_read_timeout(Some(SOCKET_MAX))?;
    let Some(tls) = tls else { return serve(stream, answers, asked) };
    let connection = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    serve(&mut stream, answers, asked)?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Answers one request.
fn serve(
    stream: impl Read + Write,
    answers: &HashMap<String, (u16, String)>,
    asked: &Mutex<Vec<Asked>>,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let what = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let octets = headers.get("content-length").map_or(0, |text| text.parse().expect("a number"));
    let mut body = vec![0; octets];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let reason = headers.get("x-reason").cloned();
    let (status, answer) = if headers.get("authorization").map(String::as_str) == Some(GUEST) {
        asked.lock().expect("no thread panics with it").push(Asked { what: what.clone(), body, reason });
        let missing = (404, r#"{"error":"Object Not Found","reason":"Not Found"}"#.to_owned());
        answers.get(&what).cloned().unwrap_or(missing)
    } else {
        (401, r#"{"error":"not_authorized","reason":"Login failed"}"#.to_owned())
    };
    let mut stream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{answer}",
        answer.len()
    )?;
    stream.flush()
}

/// What came of a command line.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code.
    pub(crate) code: u8,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) errors: String,
}

/// Who sits in front: nobody, with something that comes in or without.
struct Nobody {
    input: Option<&'static str>,
}

impl Terminal for Nobody {
    fn sees_output(&self) -> bool {
        false
    }

    fn sees_errors(&self) -> bool {
        false
    }

    fn password(&mut self, _: &str) -> io::Result<Option<String>> {
        Ok(None)
    }

    fn input(&mut self) -> Option<Box<dyn Read>> {
        self.input.map(|input| Box::new(input.as_bytes()) as Box<dyn Read>)
    }
}

/// Runs a command line whose words have no spaces in them.
pub(crate) fn run(stub: &Stub, line: &str) -> Ran {
    run_words(stub, &line.split_whitespace().collect::<Vec<_>>())
}

/// Runs a command line.
pub(crate) fn run_words(stub: &Stub, words: &[&str]) -> Ran {
    run_with(words, &[("LEVERET_URL", &stub.url)], None)
}

/// Runs a command line with an environment and what comes in.
pub(crate) fn run_with(words: &[&str], variables: &[(&str, &str)], input: Option<&'static str>) -> Ran {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let code =
        leveret_ctl::run(&words, &Environment::new(variables), &mut out, &mut errors, &mut Nobody { input });
    let text = |octets: Vec<u8>| String::from_utf8(octets).expect("output is text");
    Ran { code, out: text(out), errors: text(errors) }
}

/// Panics unless a command line succeeded with this output.
pub(crate) fn assert_prints(ran: &Ran, expected: &str) {
    assert_eq!((ran.code, ran.errors.as_str()), (0, ""), "{ran:?}");
    assert_eq!(ran.out, expected);
}

/// Panics unless a command line failed with this code, and this text on standard error.
pub(crate) fn assert_fails(ran: &Ran, code: u8, expected: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.errors.starts_with("Error:\n"), "{ran:?}");
    assert!(ran.errors.contains(expected), "{ran:?}");
}
