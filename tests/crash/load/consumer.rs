//! A consumer. Acks are not answered, so that now and then it publishes something behind them and waits for the
//! confirm: what was acknowledged before is safe then.

use std::collections::VecDeque;
use std::io;

use leveret_codec::method::{Method, basic, queue};

use crate::ledger::{Answer, ConsumeLog, PublishLog, Settled};
use crate::load::SYNC_QUEUE;
use crate::message::{Content, Key};
use crate::random::Random;
use crate::wire::{Delivery, Incoming, Wire, durable_queue};

/// Deliveries that may be unacknowledged.
const PREFETCH: u16 = 200;

/// Deliveries that one who holds them holds.
const HELD: usize = 150;

/// Acks between two questions whether they are safe.
const ACKS_PER_SYNC: usize = 100;

/// How it settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// One ack each.
    AckEach,
    /// One ack for many.
    AckMany,
    /// Some are put back once.
    Requeue,
    /// Many are held, acks come late and in any order.
    Hold,
}

pub(super) struct Consumer {
    wire: Wire,
    queue: String,
    manner: Manner,
    random: Random,
    deliveries: Vec<(Content, bool, Settled)>,
    /// Delivery tags and places in `deliveries`, oldest first.
    unacked: VecDeque<(u64, usize)>,
    /// Places that were acknowledged and not asked about yet.
    acked: Vec<usize>,
    /// Places that the confirm of the last publish makes safe.
    syncing: Option<Vec<usize>>,
    /// What was published to learn that.
    number: u32,
    published: Vec<(Content, Answer)>,
    faults: Vec<String>,
}

impl Consumer {
    pub(super) fn open(
        port: u16,
        queue: &str,
        manner: Manner,
        number: u32,
        random: Random,
    ) -> io::Result<Self> {
        let mut wire = Wire::open_confirming(port)?;
        wire.consume(queue, PREFETCH)?;
        Ok(Self {
            wire,
            queue: queue.to_owned(),
            manner,
            random,
            deliveries: Vec::new(),
            unacked: VecDeque::new(),
            acked: Vec::new(),
            syncing: None,
            number,
            published: Vec::new(),
            faults: Vec::new(),
        })
    }

    /// Consumes until the broker dies.
    pub(super) fn run(mut self) -> (ConsumeLog, PublishLog, Vec<String>, io::Result<()>) {
        let ended = self.consume();
        let log = ConsumeLog { queue: self.queue, deliveries: self.deliveries };
        let syncs = PublishLog { queues: vec![SYNC_QUEUE.to_owned()], published: self.published };
        (log, syncs, self.faults, ended)
    }

    fn consume(&mut self) -> io::Result<()> {
        loop {
            match self.wire.next()? {
                Incoming::Delivery(delivery) => self.settle(&delivery),
                Incoming::Confirm { taken, .. } => self.synced(taken),
                Incoming::Method(payload) => match Method::decode(&payload) {
                    Ok(Method::QueueDeclareOk(_)) => {}
                    other => return Err(io::Error::other(format!("{other:?}"))),
                },
                other => return Err(io::Error::other(format!("{other:?}"))),
            }
            if self.acked.len() >= ACKS_PER_SYNC && self.syncing.is_none() {
                self.sync();
            }
            if !self.wire.has_received() {
                self.wire.flush()?;
            }
        }
    }

    fn settle(&mut self, delivery: &Delivery) {
        match Content::read(delivery) {
            Ok(content) => {
                self.unacked.push_back((delivery.tag, self.deliveries.len()));
                self.deliveries.push((content, delivery.redelivered, Settled::No));
            }
            Err(text) => return self.faults.push(format!("queue {}, while it ran: {text}", self.queue)),
        }
        match self.manner {
            Manner::AckEach => self.ack(0),
            Manner::AckMany => {
                if self.unacked.len() > self.random.below(50) {
                    self.ack_all();
                }
            }
            Manner::Requeue => {
                if !delivery.redelivered && self.random.one_in(5) {
                    // A quorum queue tells the two apart.
                    let delivery_tag = delivery.tag;
                    self.wire.push(&match self.random.one_in(2) {
                        true => {
                            Method::BasicNack(basic::Nack { delivery_tag, multiple: false, requeue: true })
                        }
                        false => Method::BasicReject(basic::Reject { delivery_tag, requeue: true }),
                    });
                    self.unacked.pop_back();
                } else {
                    self.ack(self.unacked.len() - 1);
                }
            }
            Manner::Hold => {
                if self.unacked.len() > HELD {
                    for _ in 0..50 {
                        let place = self.random.below(self.unacked.len());
                        self.ack(place);
                    }
                }
            }
        }
    }

    fn ack(&mut self, place: usize) {
        let Some((tag, index)) = self.unacked.remove(place) else { return };
        self.wire.push_ack(tag, false);
        self.deliveries[index].2 = Settled::Sent;
        self.acked.push(index);
    }

    fn ack_all(&mut self) {
        let Some(&(tag, _)) = self.unacked.back() else { return };
        self.wire.push_ack(tag, true);
        for (_, index) in std::mem::take(&mut self.unacked) {
            self.deliveries[index].2 = Settled::Sent;
            self.acked.push(index);
        }
    }

    /// Asks for a queue, so that the broker does what it was told before, and publishes behind that.
    fn sync(&mut self) {
        let declare = queue::Declare { passive: true, ..durable_queue(SYNC_QUEUE) };
        self.wire.push(&Method::QueueDeclare(declare));
        let sequence = u32::try_from(self.published.len()).expect("few messages");
        let content = Content { key: Key { publisher: self.number, sequence }, size: 1, persistent: true };
        self.published.push((content, Answer::Awaited));
        self.wire.push_message("", SYNC_QUEUE, &content);
        self.syncing = Some(std::mem::take(&mut self.acked));
    }

    fn synced(&mut self, taken: bool) {
        let Some(acked) = self.syncing.take() else {
            return self.faults.push(format!("the consumer of {} got a confirm too many", self.queue));
        };
        if !taken {
            return;
        }
        if let Some((_, answer)) = self.published.last_mut() {
            *answer = Answer::Confirmed;
        }
        acked.into_iter().for_each(|index| self.deliveries[index].2 = Settled::Safe);
    }
}
