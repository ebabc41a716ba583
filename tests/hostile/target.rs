//! The broker under attack, and what must hold after each one: a stranger still works, nothing panicked, the
//! log says what happened once, and memory came back.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::Broker;
use crate::wire::{PATIENCE, Wire};

pub(crate) const MIB: u64 = 1024 * 1024;

/// A broker of a test's own.
pub(crate) struct Target {
    pub(crate) broker: Broker,
    pub(crate) port: u16,
}

impl Target {
    pub(crate) fn start(flags: &[&str]) -> Self {
        let broker = Broker::start_with(flags);
        let port = broker.port;
        let mut target = Self { broker, port };
        // What the first connections and their threads allocate for good is no growth.
        for _ in 0..4 {
            target.assert_works();
        }
        target
    }

    pub(crate) fn rss(&mut self) -> u64 {
        self.broker.process().rss_bytes()
    }

    /// A client that does nothing wrong still gets what it asks for; and nothing has panicked.
    pub(crate) fn assert_works(&mut self) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let queue = format!("works-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut wire = Wire::open(self.port);
        assert_eq!(wire.declare(&queue), 0);
        wire.publish(&queue, b"still there");
        let message = wire.get(&queue).expect("what was published is there");
        assert_eq!(message.body, b"still there");
        wire.delete(&queue);
        wire.close();
        self.assert_sane_log();
    }

    /// Nothing panicked so far.
    pub(crate) fn assert_sane_log(&mut self) {
        let log = self.broker.process().stderr_so_far();
        for word in ["panicked", " ERROR "] {
            assert!(!log.contains(word), "{word} in the broker's log:\n{log}");
        }
    }

    /// The warnings that name this peer, as soon as there is one.
    pub(crate) fn warnings_about(&mut self, peer: std::net::SocketAddr) -> Vec<String> {
        let name = format!("peer={peer}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.broker.process().stderr_so_far();
            let about = |line: &&str| line.contains("WARN") && names_peer(line, &name);
            let found: Vec<String> = log.lines().filter(about).map(str::to_owned).collect();
            if !found.is_empty() {
                return found;
            }
            assert!(Instant::now() < deadline, "no warning about {peer} in:\n{log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until memory is at most `limit` again. Meanwhile a client works, as an allocator gives back what
    /// is free when it has something to do.
    pub(crate) fn await_rss(&mut self, limit: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rss = self.rss();
            if rss <= limit {
                return;
            }
            assert!(Instant::now() < deadline, "{} MiB in use, not {} MiB", rss / MIB, limit / MIB);
            self.assert_works();
        }
    }

    /// The most memory in use while `attack` runs.
    pub(crate) fn peak_rss<R>(&mut self, attack: impl FnOnce() -> R + Send) -> (u64, R)
    where
        R: Send,
    {
        std::thread::scope(|scope| {
            let attack = scope.spawn(attack);
            let mut peak = 0;
            while !attack.is_finished() {
                peak = peak.max(self.rss());
                std::thread::sleep(Duration::from_millis(2));
            }
            let result = attack.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (peak.max(self.rss()), result)
        })
    }
}

/// Whether the log line carries this field and not one that merely begins like it.
fn names_peer(line: &str, name: &str) -> bool {
    line.match_indices(name)
        .any(|(at, _)| !line[at + name.len()..].starts_with(|next: char| next.is_ascii_digit()))
}
