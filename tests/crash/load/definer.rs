//! Those who declare and delete while others publish: one for queues, exchanges and bindings, one for a queue
//! with messages in it, and one whose queues must not be found again.

use std::io;

use leveret_codec::FieldTable;
use leveret_codec::method::{Method, MethodId, exchange, queue};

use crate::ledger::{Answer, BindingName, Definitions, PublishLog, QueueEvent, Standing};
use crate::load::{CHURNED_QUEUE, FLEETING_QUEUES, fleeting_queue};
use crate::message::{Content, Key, random_size};
use crate::random::Random;
use crate::wire::{Wire, binding, deletion, durable_exchange, durable_queue};

/// What can be declared.
const QUEUES: [&str; 8] = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"];
const EXCHANGES: [(&str, &str); 4] = [("x0", "direct"), ("x1", "topic"), ("x2", "direct"), ("x3", "topic")];

/// Definitions that are changed at most in one round.
const CHANGES_MAX: usize = 2_000;

/// How often the queue with messages is filled at most in one round.
pub(super) const LIVES_MAX: usize = 300;

/// Declares and deletes.
pub(super) struct Definer {
    wire: Wire,
    definitions: Definitions,
    random: Random,
}

impl Definer {
    pub(super) fn open(port: u16, definitions: Definitions, random: Random) -> io::Result<Self> {
        Ok(Self { wire: Wire::open(port)?, definitions, random })
    }

    /// Changes definitions until the broker dies: those of its own that it knows of.
    pub(super) fn run(mut self) -> (Definitions, io::Result<()>) {
        let ended = (0..CHANGES_MAX).try_for_each(|_| self.change());
        let is_own = |name: &String| QUEUES.contains(&name.as_str());
        self.definitions.queues.retain(|name, _| is_own(name));
        (self.definitions, ended)
    }

    fn change(&mut self) -> io::Result<()> {
        let (&queue, &(exchange, exchange_type)) = (self.random.pick(&QUEUES), self.random.pick(&EXCHANGES));
        match self.random.below(10) {
            0..2 => self.change_queue(queue),
            2 => self.change_exchange(exchange, exchange_type),
            _ => self.change_binding(exchange, queue),
        }
    }

    fn change_queue(&mut self, queue: &str) -> io::Result<()> {
        let was_there = self.definitions.queue(queue) == Standing::There;
        self.definitions.set_queue(queue, Standing::Unsure);
        if was_there {
            self.definitions.set_bindings_of(queue, Standing::Unsure);
            self.wire.call(&deletion(queue), MethodId::QUEUE_DELETE_OK)?;
            self.definitions.set_bindings_of(queue, Standing::Gone);
            self.definitions.set_queue(queue, Standing::Gone);
        } else {
            self.wire.declare(durable_queue(queue))?;
            self.definitions.set_queue(queue, Standing::There);
        }
        Ok(())
    }

    fn change_exchange(&mut self, exchange: &str, exchange_type: &str) -> io::Result<()> {
        let was_there = self.definitions.exchange(exchange) == Standing::There;
        self.definitions.set_exchange(exchange, Standing::Unsure);
        if was_there {
            self.definitions.set_bindings_of(exchange, Standing::Unsure);
            let delete = exchange::Delete { exchange, if_unused: false, no_wait: false };
            self.wire.call(&Method::ExchangeDelete(delete), MethodId::EXCHANGE_DELETE_OK)?;
            self.definitions.set_bindings_of(exchange, Standing::Gone);
            self.definitions.set_exchange(exchange, Standing::Gone);
        } else {
            let declare = Method::ExchangeDeclare(durable_exchange(exchange, exchange_type));
            self.wire.call(&declare, MethodId::EXCHANGE_DECLARE_OK)?;
            self.definitions.set_exchange(exchange, Standing::There);
        }
        Ok(())
    }

    fn change_binding(&mut self, exchange: &str, queue: &str) -> io::Result<()> {
        let ends = [self.definitions.exchange(exchange), self.definitions.queue(queue)];
        if ends != [Standing::There; 2] {
            return Ok(());
        }
        let name = BindingName::new(exchange, queue);
        let key = name.routing_key();
        let was_there = self.definitions.binding(&name) == Standing::There;
        self.definitions.set_binding(&name, Standing::Unsure);
        if was_there {
            let arguments = FieldTable::new();
            let unbind = queue::Unbind { queue, exchange, routing_key: &key, arguments };
            self.wire.call(&Method::QueueUnbind(unbind), MethodId::QUEUE_UNBIND_OK)?;
            self.definitions.set_binding(&name, Standing::Gone);
        } else {
            self.wire.call(&binding(queue, exchange, &key), MethodId::QUEUE_BIND_OK)?;
            self.definitions.set_binding(&name, Standing::There);
        }
        Ok(())
    }
}

/// Fills a queue, and empties it in more than one way.
pub(super) struct Churner {
    wire: Wire,
    standing: Standing,
    publishers: Vec<u32>,
    random: Random,
    events: Vec<QueueEvent>,
    /// Publishes so far, which is the tag of the last one.
    tag: u64,
    /// It was purged, and nothing was confirmed since.
    purged: bool,
}

impl Churner {
    pub(super) fn open(
        port: u16,
        standing: Standing,
        publishers: Vec<u32>,
        random: Random,
    ) -> io::Result<Self> {
        let wire = Wire::open_confirming(port)?;
        Ok(Self { wire, standing, publishers, random, events: Vec::new(), tag: 0, purged: false })
    }

    /// Goes on until the broker dies: what happened, and whether the queue exists.
    pub(super) fn run(mut self) -> (Vec<QueueEvent>, Standing, io::Result<()>) {
        let ended = std::mem::take(&mut self.publishers).into_iter().try_for_each(|number| self.live(number));
        (self.events, self.standing, ended)
    }

    fn live(&mut self, number: u32) -> io::Result<()> {
        if self.standing != Standing::There {
            self.standing = Standing::Unsure;
            self.wire.declare(durable_queue(CHURNED_QUEUE))?;
            self.standing = Standing::There;
        }
        self.publish(number)?;
        match self.random.below(3) {
            0 => {
                self.events.push(QueueEvent::Dropping);
                self.standing = Standing::Unsure;
                self.wire.call(&deletion(CHURNED_QUEUE), MethodId::QUEUE_DELETE_OK)?;
                self.standing = Standing::Gone;
                self.events.push(QueueEvent::Dropped);
            }
            1 => {
                self.events.push(QueueEvent::Dropping);
                let purge = queue::Purge { queue: CHURNED_QUEUE, no_wait: false };
                self.wire.call(&Method::QueuePurge(purge), MethodId::QUEUE_PURGE_OK)?;
                self.purged = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn publish(&mut self, number: u32) -> io::Result<()> {
        let count = self.random.between(1, 40);
        let random = &mut self.random;
        let message = |sequence: u32| {
            let key = Key { publisher: number, sequence };
            Content { key, size: random_size(random), persistent: true }
        };
        let contents: Vec<Content> = (0..u32::try_from(count).expect("few")).map(message).collect();
        let log = |answer| {
            let published = contents.iter().map(|&content| (content, answer)).collect();
            QueueEvent::Published(PublishLog { queues: vec![CHURNED_QUEUE.to_owned()], published })
        };
        self.events.push(log(Answer::Awaited));
        contents.iter().for_each(|content| self.wire.push_message("", CHURNED_QUEUE, content));
        self.wire.flush()?;
        let (first, last) = (self.tag + 1, self.tag + count);
        self.tag = last;
        let (all_taken, _) = self.wire.await_confirms(first..=last)?;
        if all_taken {
            self.events.pop();
            // The purge came before what is confirmed now.
            if std::mem::take(&mut self.purged) {
                self.events.push(QueueEvent::Dropped);
            }
            self.events.push(log(Answer::Confirmed));
        }
        Ok(())
    }
}

/// Declares queues that end with the broker, and fills them with what would be kept elsewhere.
pub(super) fn keep_fleeting_queues(wire: &mut Wire, publisher: u32) -> io::Result<()> {
    let mut tag = 0;
    for (sequence, queue) in (0..).zip(FLEETING_QUEUES) {
        wire.declare(fleeting_queue(queue))?;
        let key = Key { publisher, sequence };
        wire.push_message("", queue, &Content { key, size: 1_000, persistent: true });
        wire.flush()?;
        tag += 1;
        wire.await_confirms(tag..=tag)?;
    }
    // Until the broker dies.
    match wire.next_before(std::time::Instant::now() + std::time::Duration::from_secs(600)) {
        Ok(other) => Err(io::Error::other(format!("{other:?}"))),
        Err(error) => Err(error),
    }
}
