//! A scraper: asks the real binary over HTTP, octet by octet.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Broker, PROGRAM_MAX, listening_port};
use crate::text::Page;

/// How long one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// A broker with a port for scrapers.
pub(crate) struct Scraped {
    pub(crate) broker: Broker,
    pub(crate) port: u16,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is UTF-8")
    }
}

impl Scraped {
    pub(crate) fn start() -> Self {
        let mut broker = Broker::start_with(&["--metrics-listen", "127.0.0.1:0"]);
        let log = broker.process().output();
        let line =
            log.lines().find(|line| line.contains("listening for scrapers")).expect("the port is logged");
        let port = listening_port(line).unwrap_or_else(|| panic!("no port in: {line}"));
        Self { broker, port }
    }

    /// Asks with further lines of a head, each with its end.
    pub(crate) fn ask(&self, method: &str, path: &str, lines: &str) -> Answer {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).expect("the port answers");
        socket.set_read_timeout(Some(ANSWER_MAX)).expect("a timeout can be set");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        socket.write_all(request.as_bytes()).expect("a request can be sent");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("an answer comes, and the connection ends");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("the head ends");
        let (head, body) = answer.split_at(end + 4);
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer { status: status.unwrap_or_else(|| panic!("no status: {head}")), head, body: body.to_vec() }
    }

    /// A page, which has to be one.
    pub(crate) fn page(&self, path: &str) -> Page {
        let answer = self.ask("GET", path, "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
        Page::read(&answer.text())
    }

    /// Asks for a page until it is as expected: counts are shown at the end of a run of frames.
    pub(crate) fn page_when(&self, path: &str, is_there: impl Fn(&Page) -> bool) -> Page {
        let deadline = Instant::now() + PROGRAM_MAX;
        loop {
            let page = self.page(path);
            if is_there(&page) {
                return page;
            }
            assert!(Instant::now() < deadline, "not what was waited for: {:#?}", page.values);
        }
    }
}
