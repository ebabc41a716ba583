//! A publisher: confirms in a window, or transactions. It notes what it is about to say before it says it, and
//! every answer when it comes.

use std::collections::BTreeSet;
use std::io;

use leveret_codec::method::{Method, MethodId, tx};

use crate::ledger::{Answer, PublishLog};
use crate::message::{Content, Key, random_size};
use crate::random::Random;
use crate::wire::{Incoming, Wire};

/// What one publisher publishes at most in one round, so that reading it again does not take for ever.
const MESSAGES_MAX: usize = 4_000;
const BYTES_MAX: usize = 6 * 1024 * 1024;

/// Where messages go.
pub(super) struct Target {
    exchange: String,
    routing_key: String,
    queues: Vec<String>,
}

impl Target {
    pub(super) fn new(exchange: &str, routing_key: &str, queues: &[&str]) -> Self {
        let queues = queues.iter().map(|&queue| queue.to_owned()).collect();
        Self { exchange: exchange.to_owned(), routing_key: routing_key.to_owned(), queues }
    }
}

pub(super) struct Publisher {
    wire: Wire,
    number: u32,
    target: Target,
    random: Random,
    published: Vec<(Content, Answer)>,
    bytes: usize,
    /// Tags of publishes whose confirm has not come.
    awaited: BTreeSet<u64>,
}

impl Publisher {
    /// One that uses confirms.
    pub(super) fn confirming(port: u16, number: u32, target: Target, random: Random) -> io::Result<Self> {
        Ok(Self::new(Wire::open_confirming(port)?, number, target, random))
    }

    /// One that uses transactions.
    pub(super) fn transacted(port: u16, number: u32, target: Target, random: Random) -> io::Result<Self> {
        let mut wire = Wire::open(port)?;
        wire.call(&Method::TxSelect(tx::Select), MethodId::TX_SELECT_OK)?;
        Ok(Self::new(wire, number, target, random))
    }

    fn new(wire: Wire, number: u32, target: Target, random: Random) -> Self {
        Self { wire, number, target, random, published: Vec::new(), bytes: 0, awaited: BTreeSet::new() }
    }

    /// Publishes until the broker dies or enough was said.
    pub(super) fn run(mut self) -> (PublishLog, io::Result<()>) {
        let ended = self.publish_in_a_window();
        (self.into_log(), ended)
    }

    /// The same in transactions.
    pub(super) fn run_in_transactions(mut self) -> (PublishLog, io::Result<()>) {
        let ended = self.publish_in_transactions();
        (self.into_log(), ended)
    }

    fn into_log(self) -> PublishLog {
        PublishLog { queues: self.target.queues, published: self.published }
    }

    fn is_done(&self) -> bool {
        self.published.len() >= MESSAGES_MAX || self.bytes >= BYTES_MAX
    }

    fn publish_in_a_window(&mut self) -> io::Result<()> {
        let window: usize = *self.random.pick(&[1, 10, 100, 500]);
        while !self.is_done() {
            for _ in 0..=self.random.below(window.div_ceil(2)) {
                self.push(Answer::Awaited);
                self.awaited.insert(self.published.len() as u64);
            }
            self.wire.flush()?;
            while self.awaited.len() > window / 2 {
                self.take_confirm()?;
            }
        }
        while !self.awaited.is_empty() {
            self.take_confirm()?;
        }
        Ok(())
    }

    fn push(&mut self, answer: Answer) {
        let sequence = u32::try_from(self.published.len()).expect("few messages");
        let size = random_size(&mut self.random);
        let persistent = !self.random.one_in(12);
        let content = Content { key: Key { publisher: self.number, sequence }, size, persistent };
        self.published.push((content, answer));
        self.bytes += size;
        self.wire.push_message(&self.target.exchange, &self.target.routing_key, &content);
    }

    fn take_confirm(&mut self) -> io::Result<()> {
        let Incoming::Confirm { tag, multiple, taken } = self.wire.next()? else {
            return Err(io::Error::other("something came to a publisher that is no confirm"));
        };
        let settled: Vec<u64> =
            self.awaited.iter().copied().filter(|&one| one == tag || multiple && one < tag).collect();
        if settled.is_empty() {
            return Err(io::Error::other(format!("tag {tag} was confirmed and is not awaited")));
        }
        for one in settled {
            self.awaited.remove(&one);
            let index = usize::try_from(one).expect("a count") - 1;
            if taken {
                self.published[index].1 = Answer::Confirmed;
            }
        }
        Ok(())
    }

    fn publish_in_transactions(&mut self) -> io::Result<()> {
        while !self.is_done() {
            let first = self.published.len();
            for _ in 0..=self.random.below(20) {
                self.push(Answer::Withdrawn);
            }
            if self.random.one_in(2) {
                self.wire.flush()?;
            }
            if self.random.one_in(6) {
                self.wire.call(&Method::TxRollback(tx::Rollback), MethodId::TX_ROLLBACK_OK)?;
                continue;
            }
            self.answered(first, Answer::Awaited);
            self.wire.call(&Method::TxCommit(tx::Commit), MethodId::TX_COMMIT_OK)?;
            self.answered(first, Answer::Confirmed);
        }
        Ok(())
    }

    fn answered(&mut self, first: usize, answer: Answer) {
        self.published[first..].iter_mut().for_each(|(_, known)| *known = answer);
    }
}
