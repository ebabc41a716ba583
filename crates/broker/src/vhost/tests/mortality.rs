//! Messages that expire, give way, are refused or rejected: a queue and its dead-letter queue beside a model of both,
//! with a clock that the test moves. Nothing is lost, nothing comes twice, nothing is delivered after its time, and
//! what died is in the dead-letter queue in the order of its death.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::delivery::Delivery;
use crate::message::{Body, MessageRef, MessageView};
use crate::queue::settings::{Overflow, QueueSettings};
use crate::queue::{Got, Settlement};
use crate::store::Store;
use crate::time::{ManualClock, Timestamp};
use crate::{Broker, MessageBatch};

#[derive(Clone, Debug)]
enum Step {
    /// Messages with times to live of their own, and sizes.
    Publish(Vec<(Option<u64>, usize)>),
    Advance(u64),
    Get,
    Settle(usize, Settlement),
    Purge,
    Apply(Limits),
    PageOut,
}

#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    ttl: Option<u64>,
    length: Option<u64>,
    bytes: Option<u64>,
    refuses: bool,
}

fn limits() -> impl Strategy<Value = Limits> {
    let option = |max: u64| prop::option::of(0..max);
    (option(40), option(6), option(60), any::<bool>()).prop_map(|(ttl, length, bytes, refuses)| Limits {
        ttl,
        length,
        bytes,
        refuses,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let settlement =
        prop_oneof![Just(Settlement::Settled), Just(Settlement::Rejected), Just(Settlement::Requeued)];
    prop_oneof![
        6 => prop::collection::vec((prop::option::of(0..50_u64), 0..30_usize), 1..6).prop_map(Step::Publish),
        3 => (1..30_u64).prop_map(Step::Advance),
        5 => Just(Step::Get),
        5 => (0..6_usize, settlement).prop_map(|(which, how)| Step::Settle(which, how)),
        1 => Just(Step::Purge),
        1 => limits().prop_map(Step::Apply),
        2 => Just(Step::PageOut),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    id: u32,
    size: usize,
    expires_at: Option<Timestamp>,
}

impl Known {
    fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

struct World {
    broker: Broker,
    vhost: Arc<Vhost>,
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    source: Arc<Queue>,
    target: Arc<Queue>,
    limits: Limits,
    next_id: u32,
    /// By the order in which they came.
    ready: VecDeque<Known>,
    held: Vec<(Known, MessageRef)>,
    dead: Vec<u32>,
}

impl World {
    fn new(limits: Limits) -> Self {
        let (store, clock) = (Arc::new(MemoryStore::default()), Arc::new(ManualClock::default()));
        let (kept, told): (Arc<dyn Store>, Arc<dyn Clock>) = (store.clone(), clock.clone());
        let broker = Broker::with(Services::with_clock(kept, told));
        let vhost = broker.create_vhost("/");
        vhost.add_queues(&["source", "target"]);
        let queue = |name| vhost.queue(name, OWNER).unwrap();
        let (source, target) = (queue("source"), queue("target"));
        let mut world = Self {
            broker,
            vhost: Arc::clone(&vhost),
            store,
            clock,
            source,
            target,
            limits,
            next_id: 0,
            ready: VecDeque::new(),
            held: Vec::new(),
            dead: Vec::new(),
        };
        world.apply(limits);
        world
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn apply(&mut self, limits: Limits) {
        self.limits = limits;
        self.source.apply(QueueSettings {
            message_ttl_ms: limits.ttl,
            max_length: limits.length,
            max_length_bytes: limits.bytes,
            overflow: if limits.refuses { Overflow::RejectPublish } else { Overflow::DropHead },
            dead_letter_exchange: Some("".into()),
            dead_letter_routing_key: Some("target".into()),
            ..QueueSettings::default()
        });
        self.settle_down();
    }

    fn is_exceeded(&self, more: usize, size: usize) -> bool {
        let bytes: usize = self.ready.iter().map(|known| known.size).sum::<usize>() + size;
        self.limits.length.is_some_and(|max| (self.ready.len() + more) as u64 > max)
            || self.limits.bytes.is_some_and(|max| bytes as u64 > max)
    }

    /// What the queue does by itself: the head expires, and gives way.
    fn settle_down(&mut self) {
        while self.ready.front().is_some_and(|known| known.has_expired(self.now())) {
            self.dead.extend(self.ready.pop_front().map(|known| known.id));
        }
        while !self.limits.refuses && self.is_exceeded(0, 0) && !self.ready.is_empty() {
            self.dead.extend(self.ready.pop_front().map(|known| known.id));
        }
        while self.ready.front().is_some_and(|known| known.has_expired(self.now())) {
            self.dead.extend(self.ready.pop_front().map(|known| known.id));
        }
    }

    fn publish(&mut self, messages: &[(Option<u64>, usize)]) {
        let mut batch = MessageBatch::default();
        let (mut refused, mut expected) = (Vec::new(), Vec::new());
        let sizes: usize = messages.iter().map(|(_, size)| size + 4).sum();
        let is_one_by_one = self.limits.refuses && self.is_exceeded(messages.len(), sizes);
        for (number, &(own, size)) in (0..).zip(messages) {
            let size = size + 4;
            let mut body = vec![0; size];
            body[..4].copy_from_slice(&self.next_id.to_le_bytes());
            let ttl = [own, self.limits.ttl].into_iter().flatten().min();
            let expires_at = ttl.map(|ttl| self.now().after_ms(ttl));
            let view = MessageView {
                names: b"\0\x06source",
                properties: b"\0\0",
                body: Body::Small(&body),
                persistent: true,
                extras: b"",
            };
            batch.push_expiring(&view, expires_at);
            let known = Known { id: self.next_id, size, expires_at };
            self.next_id += 1;
            if self.limits.refuses && self.is_exceeded(1, size) {
                expected.push(number);
                continue;
            }
            self.ready.push_back(known);
            // Those before have had their chance of a consumer.
            let (id, now) = (known.id, self.now());
            let is_over = |known: &Known| known.id < id && known.has_expired(now);
            while is_one_by_one && self.ready.front().is_some_and(is_over) {
                self.dead.extend(self.ready.pop_front().map(|known| known.id));
            }
        }
        self.source.publish_or_refuse(&mut batch, &mut refused);
        self.store.load_requested();
        assert_eq!(refused, expected);
        self.settle_down();
    }

    fn get(&mut self) {
        let got = loop {
            let hand_out = |delivery: Delivery<'_>, left| (delivery.reference, id_of(&delivery), left);
            match self.source.get(false, hand_out).unwrap() {
                Got::Absent => self.load(&self.source),
                Got::Empty => break None,
                Got::Message(got) => break Some(got),
            }
        };
        let expected = self.ready.pop_front();
        assert_eq!(got.map(|(_, id, _)| id), expected.map(|known| known.id));
        if let (Some((reference, _, left)), Some(known)) = (got, expected) {
            assert_eq!(left, self.ready.len());
            assert!(!known.has_expired(self.now()));
            self.held.push((known, reference));
        }
        self.settle_down();
    }

    fn settle(&mut self, which: usize, how: Settlement) {
        if self.held.is_empty() {
            return;
        }
        let (known, reference) = self.held.swap_remove(which % self.held.len());
        match how {
            Settlement::Settled => {}
            Settlement::Rejected => self.dead.push(known.id),
            Settlement::Requeued | Settlement::Failed | Settlement::Kept => {
                let place = self.ready.partition_point(|other| other.id < known.id);
                self.ready.insert(place, known);
            }
        }
        self.source.settle(None, how, &[reference]);
        self.settle_down();
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Publish(messages) => self.publish(messages),
            Step::Advance(milliseconds) => {
                self.clock.advance_ms(*milliseconds);
                self.broker.timers().run(self.now());
                self.settle_down();
            }
            Step::Get => self.get(),
            Step::Settle(which, how) => self.settle(*which, *how),
            Step::Purge => {
                self.source.purge().unwrap();
                self.ready.clear();
            }
            Step::Apply(limits) => self.apply(*limits),
            Step::PageOut => self.broker.page_out(0).unwrap(),
        }
        self.store.load_requested();
    }

    fn check(&self) {
        let (source, target) = (self.source.snapshot(), self.target.snapshot());
        assert_eq!((source.ready, source.unacked), (self.ready.len(), self.held.len()));
        let sum = |sizes: &mut dyn Iterator<Item = usize>| sizes.sum::<usize>() as u64;
        assert_eq!(source.ready_bytes, sum(&mut self.ready.iter().map(|known| known.size)));
        assert_eq!(source.unacked_bytes, sum(&mut self.held.iter().map(|(known, _)| known.size)));
        assert_eq!(target.ready, self.dead.len());
    }

    /// Brings the next message into memory.
    fn load(&self, queue: &Queue) {
        queue.when_loaded(Box::new(|| ()));
        self.store.load_requested();
    }

    /// All that died, in the order in which it came to the dead-letter queue.
    fn buried(&self) -> Vec<u32> {
        let mut buried = Vec::new();
        loop {
            match self.target.get(true, |delivery, _| id_of(&delivery)).unwrap() {
                Got::Message(id) => buried.push(id),
                Got::Empty => return buried,
                Got::Absent => self.load(&self.target),
            }
        }
    }
}

fn id_of(delivery: &Delivery<'_>) -> u32 {
    let body = delivery.message.body.to_vec();
    u32::from_le_bytes(*body.first_chunk().unwrap())
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_outlives_its_time(
        limits in limits(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(limits);
        for step in &steps {
            world.take(step);
            world.check();
        }
        let mut buried = world.buried();
        // A rejected message that has to be brought back from the disk first is overtaken by others.
        let mut dead = world.dead.clone();
        if !steps.iter().any(|step| matches!(step, Step::PageOut)) {
            prop_assert_eq!(&buried, &dead);
        }
        buried.sort_unstable();
        dead.sort_unstable();
        prop_assert_eq!(buried, dead);
        prop_assert_eq!(world.vhost.queues().len(), 2);
    }
}

#[test]
fn a_queue_that_nobody_uses_goes_at_its_time_and_not_before() {
    let mut world = World::new(Limits::default());
    let unused = QueueSettings { expires_ms: Some(100), ..QueueSettings::default() };
    world.source.apply(unused);
    let pass = |world: &mut World, milliseconds| {
        world.clock.advance_ms(milliseconds);
        world.broker.timers().run(world.clock.now());
        world.vhost.queue("source", OWNER).is_ok()
    };
    assert!(pass(&mut world, 99));
    world.vhost.add_queues(&["source"]);
    assert!(pass(&mut world, 99), "declared again");
    let sink = Arc::new(Idle::default());
    let consumer = consume(&world.source, &sink, false).unwrap();
    assert!(pass(&mut world, 500), "consumed from");
    world.vhost.cancel_consumer(&world.source, consumer);
    assert!(pass(&mut world, 99));
    world.get();
    assert!(pass(&mut world, 99), "asked for a message");
    assert!(!pass(&mut world, 1));
    assert_eq!(world.broker.timers().next(), None);
    assert_eq!(world.target.snapshot().ready, 0);
}

#[test]
fn however_many_have_expired_none_is_delivered() {
    let mut world = World::new(Limits::default());
    let count = 20_000;
    world.publish(&[(None, 0)]);
    for _ in 0..count / 100 {
        let mut batch = MessageBatch::default();
        let body = [0; 4];
        let view = MessageView {
            names: b"\0\x06source",
            properties: b"\0\0",
            body: Body::Small(&body),
            persistent: false,
            extras: b"",
        };
        (0..100).for_each(|_| batch.push_expiring(&view, Some(world.now().after_ms(1))));
        world.source.publish(&mut batch);
    }
    world.clock.advance_ms(5);
    let get = || world.source.get(true, |delivery, _| id_of(&delivery)).unwrap();
    assert_eq!((get(), get()), (Got::Message(0), Got::Empty));
    assert_eq!(world.source.snapshot().ready, 0);
    // What this thread left is the timer's.
    while world.broker.timers().next().is_some_and(|at| at <= world.now()) {
        world.broker.timers().run(world.now());
    }
    assert_eq!(world.target.snapshot().ready, count);
}

#[test]
fn queues_that_overflow_into_each_other_in_a_long_chain_take_no_stack() {
    let vhost = vhost();
    let count = 300;
    let name = |number: usize| format!("q{number}");
    for number in 0..=count {
        let queue = vhost.add_queue(queue(&name(number)), OWNER);
        queue.apply(QueueSettings {
            max_length: (number < count).then_some(0),
            dead_letter_exchange: Some("".into()),
            dead_letter_routing_key: Some(name(number + 1).into()),
            ..QueueSettings::default()
        });
    }
    let mut batch = MessageBatch::default();
    let body = Body::Small(b"x");
    let view = MessageView { names: b"\0\x02q0", properties: b"\0\0", body, persistent: false, extras: b"" };
    batch.push(&view);
    vhost.queue("q0", OWNER).unwrap().publish(&mut batch);
    assert_eq!(vhost.queue(&name(count), OWNER).unwrap().snapshot().ready, 1);
}
