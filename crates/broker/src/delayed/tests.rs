//! Delayed exchanges on a clock that the tests move: against a model that knows when each message is due, and what
//! each promise says by name.

use std::collections::BTreeSet;

use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef, FieldValue};
use proptest::prelude::*;

use super::*;
use crate::exchange::BindingTarget;
use crate::exchange::addressing::Addressing;
use crate::message::{Body, MessageView};
use crate::names::ConnectionId;
use crate::queue::Got;
use crate::queue::messages::PageOut;
use crate::store::MemoryStore;
use crate::time::{Clock, ManualClock};
use crate::vhost::{ExchangeDeclaration, QueueDeclaration, Vhost};
use crate::{Broker, BrokerError};

const OWNER: ConnectionId = ConnectionId(7);
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A vhost with the delayed fanout exchange `x`, bound to the queue `q`.
struct World {
    clock: Arc<ManualClock>,
    store: Arc<MemoryStore>,
    broker: Broker,
    vhost: Arc<Vhost>,
    queue: Arc<Queue>,
}

fn declaration<'a>(name: &'a str, arguments: FieldTable) -> ExchangeDeclaration<'a> {
    ExchangeDeclaration {
        name,
        exchange_type: "x-delayed-message",
        durable: true,
        auto_delete: false,
        internal: false,
        arguments,
    }
}

impl World {
    fn new(real_type: &str) -> Self {
        let clock = Arc::new(ManualClock::default());
        // Not at the beginning of any bucket.
        clock.advance_ms(20_000 * DAY + 5 * HOUR + 17 * MINUTE + 12_345);
        let store = Arc::new(MemoryStore::default());
        let services =
            Services::with_clock(Arc::<MemoryStore>::clone(&store), Arc::<ManualClock>::clone(&clock));
        let broker = Broker::with(services);
        let vhost = broker.create_vhost("/");
        let arguments = FieldTable::new().with("x-delayed-type", real_type);
        vhost.declare_exchange(declaration("x", arguments)).unwrap();
        let queue = declare(&vhost, "q");
        bind(&vhost, "x", "q", "key");
        Self { clock, store, broker, vhost, queue }
    }

    fn now(&self) -> u64 {
        self.clock.now().0
    }

    fn publish(&self, body: &str, headers: FieldTable) {
        self.publish_to("x", "key", body, headers, &[]).unwrap();
    }

    /// As a channel does it; whether it was routed.
    fn publish_to(
        &self,
        exchange: &str,
        key: &str,
        body: &str,
        headers: FieldTable,
        copies: &[String],
    ) -> Result<bool, BrokerError> {
        let octets = headers.encoded();
        let headers = FieldTableRef::parse(&octets).ok();
        let mut properties = Vec::new();
        Properties { headers, delivery_mode: Some(2), ..Properties::default() }.encode(&mut properties);
        let mut names = vec![exchange.len() as u8];
        names.extend(exchange.bytes());
        names.push(key.len() as u8);
        names.extend(key.bytes());
        let mut keys = vec![key];
        keys.extend(copies.iter().map(String::as_str));
        let route = self.vhost.route(exchange, &Addressing::new(&keys, &properties))?;
        let kept = due::with_blind_copies(&properties, copies);
        let body = Body::Small(body.as_bytes());
        for queue in &route.queues {
            let properties = if queue.is_hidden() { kept.as_deref() } else { None }.unwrap_or(&properties);
            let message = MessageView { names: &names, properties, body, persistent: true, extras: &[] };
            let mut batch = MessageBatch::default();
            match route.deliver_at.filter(|_| queue.is_hidden()) {
                Some(at) => batch.push_delayed(&message, at),
                None => batch.push(&message),
            }
            queue.publish(&mut batch);
        }
        Ok(route.routed)
    }

    /// Lets time pass, and everything happen that is due by then.
    fn pass(&self, milliseconds: u64) {
        self.clock.advance_ms(milliseconds);
        loop {
            self.broker.timers().run(self.clock.now());
            let is_loading = self.store.is_wanted();
            self.store.load_requested();
            let is_due = self.broker.timers().next().is_some_and(|at| at <= self.clock.now());
            if !is_loading && !is_due {
                return;
            }
        }
    }

    /// All that has come, in order.
    fn bodies(&self) -> Vec<String> {
        bodies(&self.queue)
    }

    fn waiting(&self) -> usize {
        self.vhost.delayed().iter().map(|delayed| delayed.messages).sum()
    }

    fn buckets(&self) -> usize {
        self.vhost.all_queues().len() - self.vhost.queues().len()
    }
}

fn declare(vhost: &Vhost, name: &str) -> Arc<Queue> {
    let arguments = FieldTable::new();
    let declaration =
        QueueDeclaration { name, durable: true, exclusive: false, auto_delete: false, arguments };
    vhost.declare_queue(declaration, OWNER).unwrap().0
}

fn bind(vhost: &Vhost, exchange: &str, queue: &str, key: &str) {
    vhost.bind(exchange, &BindingTarget::Queue(queue.into()), key, &FieldTable::new(), OWNER).unwrap();
}

fn bodies(queue: &Queue) -> Vec<String> {
    let body = |message: &MessageView<'_>| String::from_utf8(message.body.to_vec()).unwrap();
    std::iter::from_fn(|| match queue.get(true, |delivery, _| body(&delivery.message)).unwrap() {
        Got::Message(body) => Some(body),
        Got::Empty => None,
        Got::Absent => panic!("nobody paged it out"),
    })
    .collect()
}

fn delay(milliseconds: u64) -> FieldTable {
    FieldTable::new().with("x-delay", i64::try_from(milliseconds).unwrap())
}

#[test]
fn a_message_comes_when_it_is_due_and_not_before() {
    let world = World::new("direct");
    world.publish("at once", FieldTable::new());
    world.publish("not late", delay(0));
    world.publish("two", delay(2_000));
    world.publish("one", delay(1_000));
    assert_eq!(world.bodies(), ["at once", "not late"]);
    assert_eq!(world.waiting(), 2);
    world.pass(999);
    assert_eq!(world.bodies(), [""; 0]);
    world.pass(1);
    assert_eq!(world.bodies(), ["one"]);
    world.pass(1_000);
    assert_eq!(world.bodies(), ["two"]);
    assert_eq!(world.waiting(), 0);
}

#[test]
fn buckets_go_when_their_time_is_over() {
    let world = World::new("direct");
    for milliseconds in [10, 5 * MINUTE, 5 * HOUR, 5 * DAY] {
        world.publish("m", delay(milliseconds));
    }
    assert_eq!(world.buckets(), 4);
    world.pass(6 * DAY);
    assert_eq!(world.bodies(), ["m"; 4]);
    world.pass(2 * DAY);
    assert_eq!(world.buckets(), 0);
    assert_eq!(world.broker.timers().next(), None, "nothing is left to do");
}

#[test]
fn a_bucket_is_kept_for_as_long_as_somebody_may_publish_to_it() {
    let world = World::new("direct");
    let octets = delay(1_000).encoded();
    let headers = FieldTableRef::parse(&octets).ok();
    let mut properties = Vec::new();
    Properties { headers, delivery_mode: Some(2), ..Properties::default() }.encode(&mut properties);
    // A transaction that is committed late.
    let route = world.vhost.route("x", &Addressing::new(&["key"], &properties)).unwrap();
    world.pass(DAY);
    assert_eq!(world.buckets(), 1);
    let body = Body::Small(b"late");
    let message =
        MessageView { names: b"\x01x\x03key", properties: &properties, body, persistent: true, extras: &[] };
    let mut batch = MessageBatch::default();
    batch.push_delayed(&message, route.deliver_at.unwrap());
    route.queues[0].publish(&mut batch);
    drop(route);
    world.pass(0);
    assert_eq!(world.bodies(), ["late"]);
    world.pass(DAY);
    assert_eq!(world.buckets(), 0);
}

#[test]
fn it_is_routed_by_what_is_bound_when_it_is_due_with_what_it_came_with() {
    let world = World::new("topic");
    let other = declare(&world.vhost, "other");
    let headers = delay(1_000).with("CC", FieldValue::Array(vec!["open".into()])).with("k", "v");
    let copies = ["open".to_owned(), "blind".to_owned()];
    assert!(world.publish_to("x", "some.key", "m", headers, &copies).unwrap(), "it is not unroutable");
    bind(&world.vhost, "x", "other", "blind");
    world.pass(1_000);
    let seen = other.get(true, |delivery, _| {
        let message = delivery.message;
        let headers = Properties::decode(message.properties).unwrap().headers.unwrap().to_owned();
        let names = [message.exchange(), message.routing_key()]
            .map(|name| String::from_utf8_lossy(name).into_owned());
        (names, headers, message.extras.is_empty())
    });
    let Got::Message((names, headers, has_no_extras)) = seen.unwrap() else { panic!("it is not there") };
    assert_eq!(names, ["x".to_owned(), "some.key".to_owned()]);
    assert_eq!(headers.get("x-delay"), Some(&FieldValue::I32(-1_000)));
    assert_eq!((headers.get("k").and_then(FieldValue::as_str), headers.get("BCC")), (Some("v"), None));
    assert!(has_no_extras);
    assert_eq!(world.bodies(), [""; 0], "the key did not match its binding");
}

#[test]
fn its_time_to_live_and_its_alternate_exchange_begin_when_it_is_due() {
    let world = World::new("direct");
    let arguments =
        FieldTable::new().with("x-delayed-type", "direct").with("alternate-exchange", "amq.fanout");
    world.vhost.declare_exchange(declaration("with", arguments)).unwrap();
    bind(&world.vhost, "amq.fanout", "q", "");
    assert!(world.publish_to("with", "nowhere", "m", delay(50), &[]).unwrap());
    assert_eq!(world.bodies(), [""; 0]);
    world.pass(50);
    assert_eq!(world.bodies(), ["m"]);

    let octets = delay(HOUR).encoded();
    let headers = FieldTableRef::parse(&octets).ok();
    let mut properties = Vec::new();
    Properties { headers, expiration: Some(b"1000"), ..Properties::default() }.encode(&mut properties);
    let message = MessageView {
        names: b"\x01x\x03key",
        properties: &properties,
        body: Body::Small(b"m"),
        persistent: true,
        extras: &[],
    };
    let now = world.clock.now();
    let mut due = MessageBatch::default();
    push_due(&mut due, &message, now);
    assert_eq!(due.iter().next().unwrap().expires_at(), Some(now.after_ms(1_000)));
}

#[test]
fn a_message_that_comes_by_way_of_another_exchange_is_delayed_too() {
    let world = World::new("fanout");
    let to = BindingTarget::Exchange("x".into());
    world.vhost.bind("amq.direct", &to, "key", &FieldTable::new(), OWNER).unwrap();
    bind(&world.vhost, "amq.direct", "q", "key");
    world.publish_to("amq.direct", "key", "m", delay(100), &[]).unwrap();
    assert_eq!(world.bodies(), ["m"]);
    world.pass(100);
    assert_eq!(world.bodies(), ["m"]);
}

#[test]
fn what_waits_is_told_and_purged_and_goes_with_its_exchange() {
    let world = World::new("direct");
    for milliseconds in [500, 2 * MINUTE, 3 * DAY] {
        world.publish("12345", delay(milliseconds));
    }
    world.pass(0);
    let snapshot = world.vhost.delayed().remove(0);
    assert_eq!((snapshot.messages, snapshot.body_bytes), (3, 15));
    assert_eq!(snapshot.next_due, Some(Timestamp(world.now() + 500)));
    assert_eq!(world.vhost.purge_delayed("x"), Ok(3));
    assert_eq!(world.waiting(), 0);
    world.pass(4 * DAY);
    assert_eq!(world.bodies(), [""; 0]);
    assert_eq!(world.vhost.purge_delayed("amq.direct"), Ok(0));
    assert!(world.vhost.purge_delayed("missing").is_err());

    world.publish("m", delay(500));
    world.publish("m", delay(5 * DAY));
    world.vhost.delete_exchange("x", false).unwrap();
    assert_eq!((world.buckets(), world.vhost.delayed()), (0, vec![]));
    world.pass(6 * DAY);
    assert_eq!(world.bodies(), [""; 0]);
    assert_eq!(world.broker.memory().bytes(), 0);
}

#[test]
fn no_client_reaches_a_bucket() {
    let world = World::new("direct");
    world.publish("m", delay(500));
    let hidden = world.vhost.all_queues().into_iter().find(|queue| queue.is_hidden()).unwrap();
    let name = hidden.spec.name.as_str();
    assert_eq!(world.vhost.queues().len(), 1);
    assert!(matches!(world.vhost.queue(name, OWNER), Err(BrokerError::QueueNotFound { .. })));
    assert!(!world.publish_to("", name, "m", FieldTable::new(), &[]).unwrap());
    assert_eq!(world.vhost.delete_queue(name, OWNER, false, false).unwrap().0, 0);
    let target = BindingTarget::Queue(name.into());
    assert!(world.vhost.bind("amq.direct", &target, "", &FieldTable::new(), OWNER).is_err());
    assert_eq!(world.waiting(), 1);
}

#[test]
fn the_real_type_is_checked() {
    let world = World::new("direct");
    let declare = |real_type: Option<FieldValue>| {
        let mut arguments = FieldTable::new();
        real_type.into_iter().for_each(|real_type| arguments.set("x-delayed-type", real_type));
        world.vhost.declare_exchange(declaration("y", arguments)).map(|_| ())
    };
    assert_eq!(declare(None), Err(BrokerError::DelayedTypeMissing));
    assert_eq!(declare(Some(FieldValue::I32(1))), Err(BrokerError::DelayedTypeMissing));
    assert_eq!(declare(Some("x-delayed-message".into())), Err(BrokerError::DelayedTwice));
    assert_eq!(declare(Some("strange".into())).unwrap_err().to_string(), "unknown exchange type 'strange'");
    assert_eq!(declare(Some("x-consistent-hash".into())), Ok(()));
    let refused = world.publish_to("x", "key", "m", delay(crate::limits::TIME_MS_MAX + 1), &[]);
    assert_eq!(refused.unwrap_err(), BrokerError::DelayTooLong { delay_ms: crate::limits::TIME_MS_MAX + 1 });
    assert_eq!(world.buckets(), 0);
}

#[test]
fn a_backlog_on_disk_comes_in_order_when_its_time_was_over_long_ago() {
    let world = World::new("direct");
    let count = 20_000_u64;
    for number in 0..count {
        // Published in the reverse of the order in which they are due, over four hours.
        world.publish(&number.to_string(), delay(5 * HOUR - number * 700));
        if number.is_multiple_of(1_000) {
            world.broker.page_out(0).unwrap();
        }
    }
    world.broker.page_out(0).unwrap();
    assert_eq!(world.broker.memory().bytes(), 0);
    world.pass(6 * HOUR);
    let expected: Vec<_> = (0..count).rev().map(|number| number.to_string()).collect();
    assert_eq!(world.bodies(), expected);
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u64, bool),
    Pass(u64),
    PageOut,
    Purge,
}

fn milliseconds() -> impl Strategy<Value = u64> {
    prop_oneof![0..3_u64, 0..2_000_u64, 0..3 * MINUTE, 0..3 * HOUR, 0..5 * DAY]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (milliseconds(), any::<bool>()).prop_map(|(delay, absolute)| Step::Publish(delay, absolute)),
        4 => milliseconds().prop_map(Step::Pass),
        1 => Just(Step::PageOut),
        1 => prop::bool::weighted(0.1).prop_map(|purge| if purge { Step::Purge } else { Step::PageOut }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn what_has_come_is_what_is_due_in_the_order_of_its_time(steps in prop::collection::vec(step(), 1..80)) {
        let world = World::new("fanout");
        // Due time and number of what must still come.
        let mut model: BTreeSet<(u64, u64)> = BTreeSet::new();
        let mut number = 0;
        for step in steps {
            match step {
                Step::Publish(milliseconds, absolute) => {
                    let at = world.now() + milliseconds;
                    let headers = match absolute {
                        true => FieldTable::new().with("x-deliver-at", i64::try_from(at).unwrap()),
                        false => delay(milliseconds),
                    };
                    number += 1;
                    // In what comes now, that which is due now comes before this.
                    world.publish(&number.to_string(), headers);
                    model.insert((at, number));
                }
                Step::Pass(milliseconds) => world.pass(milliseconds),
                Step::PageOut => {
                    for queue in world.vhost.all_queues().iter().filter(|queue| queue.is_hidden()) {
                        queue.page_out(PageOut::All, usize::MAX).unwrap();
                    }
                }
                Step::Purge => {
                    let waiting = model.iter().filter(|(at, _)| *at > world.now()).count();
                    world.pass(0);
                    prop_assert_eq!(world.vhost.purge_delayed("x"), Ok(waiting));
                    let now = world.now();
                    model.retain(|(at, _)| *at <= now);
                }
            }
            let later = model.split_off(&(world.now() + 1, 0));
            let due = std::mem::replace(&mut model, later).into_iter();
            let due: Vec<_> = due.map(|(_, number)| number.to_string()).collect();
            prop_assert_eq!(world.bodies(), due);
            prop_assert_eq!(world.waiting(), model.len());
        }
        world.pass(6 * DAY);
        let rest: Vec<_> = model.into_iter().map(|(_, number)| number.to_string()).collect();
        prop_assert_eq!(world.bodies(), rest);
    }
}

/// Takes messages at once and notes how late they are.
struct Lateness(Arc<dyn Clock>, Mutex<Vec<u64>>);

impl DeliverySink for Lateness {
    fn deliver(&self, source: &mut DeliverySource<'_>) -> SinkState {
        while let Some(delivery) = source.next_delivery() {
            let Body::Small(body) = delivery.message.body else { continue };
            let due = body.first_chunk().map_or(0, |due| u64::from_le_bytes(*due));
            self.1.lock().push(self.0.now().0 - due);
        }
        SinkState::Open
    }

    fn cancel(&self) {}
}

/// By hand: `cargo test --release -p leveret-broker -- --ignored --nocapture lateness`.
#[test]
#[ignore = "a measurement, on a quiet machine"]
#[expect(clippy::too_many_lines, reason = "a program of its own, read from top to bottom")]
fn lateness_at_fifty_thousand_a_second() {
    let services = Services::new(Arc::new(MemoryStore::default()));
    let clock = Arc::clone(&services.clock);
    let broker = Broker::with(services);
    let vhost = broker.create_vhost("/");
    vhost.declare_exchange(declaration("x", FieldTable::new().with("x-delayed-type", "direct"))).unwrap();
    let queue = declare(&vhost, "q");
    bind(&vhost, "x", "q", "key");
    let sink = Arc::new(Lateness(Arc::clone(&clock), Mutex::default()));
    let id = ConsumerId::next();
    let consumer = Arc::<Lateness>::clone(&sink);
    queue
        .consume(ConsumerSpec {
            id,
            holder: ConsumerHolder { connection: OWNER, channel: 1, tag: Arc::from("c") },
            sink: consumer,
            no_ack: true,
            exclusive: false,
            prefetch: 0,
            priority: 0,
            arguments: Box::default(),
        })
        .unwrap();
    queue.resume(id);
    let (seconds, rate) = (10, 50_000);
    let publisher = std::thread::spawn({
        let clock = Arc::clone(&clock);
        move || {
            for _ in 0..seconds * 1000 {
                let started = std::time::Instant::now();
                let mut batches: BTreeMap<crate::QueueId, (Arc<Queue>, MessageBatch)> = BTreeMap::new();
                for _ in 0..rate / 1000 {
                    let due = clock.now().0 + fastrand::u64(1_000..5_000);
                    let headers =
                        FieldTable::new().with("x-deliver-at", i64::try_from(due).unwrap()).encoded();
                    let mut properties = Vec::new();
                    let headers = FieldTableRef::parse(&headers).ok();
                    Properties { headers, delivery_mode: Some(2), ..Properties::default() }
                        .encode(&mut properties);
                    let route = vhost.route("x", &Addressing::new(&["key"], &properties)).unwrap();
                    let mut body = [0; 100];
                    body[..8].copy_from_slice(&due.to_le_bytes());
                    let message = MessageView {
                        names: b"\x01x\x03key",
                        properties: &properties,
                        body: Body::Small(&body),
                        persistent: true,
                        extras: &[],
                    };
                    let queue = &route.queues[0];
                    let (_, batch) = batches
                        .entry(queue.id)
                        .or_insert_with(|| (Arc::clone(queue), MessageBatch::default()));
                    batch.push_delayed(&message, route.deliver_at.unwrap());
                }
                batches.values_mut().for_each(|(queue, batch)| _ = queue.publish(batch));
                std::thread::sleep(std::time::Duration::from_millis(1).saturating_sub(started.elapsed()));
            }
        }
    });
    let count = seconds * rate;
    let began = std::time::Instant::now();
    let mut busy = std::time::Duration::ZERO;
    while sink.1.lock().len() < count {
        assert!(began.elapsed().as_secs() < 60);
        let started = std::time::Instant::now();
        broker.timers().run(clock.now());
        busy += started.elapsed();
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
    publisher.join().unwrap();
    let mut late = std::mem::take(&mut *sink.1.lock());
    late.sort_unstable();
    let at = |share: usize| late[(late.len() - 1) * share / 1000];
    println!(
        "{count} in {:?}: median {} ms, 99 % {} ms, 99.9 % {} ms, most {} ms; timers busy {busy:?}",
        began.elapsed(),
        at(500),
        at(990),
        at(999),
        at(1000)
    );
}
