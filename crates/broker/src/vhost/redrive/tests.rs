//! Redriving what expired, with messages on disk, in steps, by header, and with consumers beside it.

use leveret_codec::table::FieldTable;

use super::*;
use crate::Broker;
use crate::exchange::BindingTarget;
use crate::message::Body;
use crate::names::ConnectionId;
use crate::queue::Got;
use crate::services::Services;
use crate::store::MemoryStore;
use crate::time::{Clock, ManualClock};
use crate::vhost::QueueDeclaration;

const OWNER: ConnectionId = ConnectionId(9);

/// A queue `q`, bound to amq.direct by `k`, whose messages expire after a second and die into `dead`.
struct World {
    clock: Arc<ManualClock>,
    store: Arc<MemoryStore>,
    broker: Broker,
    vhost: Arc<Vhost>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        clock.advance_ms(1_000_000);
        let store = Arc::new(MemoryStore::default());
        let services =
            Services::with_clock(Arc::<MemoryStore>::clone(&store), Arc::<ManualClock>::clone(&clock));
        let broker = Broker::with(services);
        let vhost = broker.create_vhost("/");
        let world = Self { clock, store, broker, vhost };
        let dying = FieldTable::new()
            .with("x-message-ttl", 1_000)
            .with("x-dead-letter-exchange", "")
            .with("x-dead-letter-routing-key", "dead");
        world.declare("q", dying);
        world.declare("dead", FieldTable::new());
        world
            .vhost
            .bind("amq.direct", &BindingTarget::Queue("q".into()), "k", &FieldTable::new(), OWNER)
            .unwrap();
        world
    }

    fn declare(&self, name: &str, arguments: FieldTable) -> Arc<Queue> {
        let declaration =
            QueueDeclaration { name, durable: true, exclusive: false, auto_delete: false, arguments };
        self.vhost.declare_queue(declaration, OWNER).unwrap().0
    }

    fn queue(&self, name: &str) -> Arc<Queue> {
        self.vhost.queue(name, OWNER).unwrap()
    }

    /// Publishes messages that then die.
    fn lose(&self, numbers: Range<u64>) {
        for number in numbers {
            let headers = FieldTable::new().with("parity", i64::try_from(number % 2).unwrap()).encoded();
            let mut properties = Vec::new();
            Properties { headers: FieldTableRef::parse(&headers).ok(), ..Properties::default() }
                .encode(&mut properties);
            let mut batch = MessageBatch::default();
            let view = MessageView {
                names: b"\x0aamq.direct\x01k",
                properties: &properties,
                body: Body::Small(&number.to_le_bytes()),
                persistent: true,
                extras: &[],
            };
            batch.push_expiring(&view, Some(self.clock.now().after_ms(1_000)));
            self.queue("q").publish(&mut batch);
        }
        self.clock.advance_ms(1_000);
        while self.broker.timers().next().is_some_and(|at| at <= self.clock.now()) {
            self.broker.timers().run(self.clock.now());
        }
    }

    /// Redrives while a thread of the store's brings back what is on disk.
    fn redrive(&self, redrive: &Redrive) -> Redriven {
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::SeqCst) {
                    self.store.load_requested();
                    std::thread::yield_now();
                }
            });
            let redriven = self.vhost.redrive("dead", redrive, &RedriveProgress::default());
            is_done.store(true, Ordering::SeqCst);
            redriven.unwrap()
        })
    }

    /// Exchange, key and number of all that is ready in a queue.
    fn take_all(&self, queue: &str) -> Vec<(String, u64)> {
        let queue = self.queue(queue);
        let read = |message: &MessageView<'_>| {
            let names = [message.exchange(), message.routing_key()].map(String::from_utf8_lossy).join("/");
            let number = message.body.to_vec().first_chunk().map(|octets| u64::from_le_bytes(*octets));
            (names, number.unwrap())
        };
        std::iter::from_fn(|| {
            loop {
                match queue.get(true, |delivery, _| read(&delivery.message)).unwrap() {
                    Got::Message(message) => return Some(message),
                    Got::Empty => return None,
                    Got::Absent => self.store.load_requested(),
                }
            }
        })
        .collect()
    }

    fn numbers(&self, queue: &str) -> Vec<u64> {
        self.take_all(queue).into_iter().map(|(_, number)| number).collect()
    }
}

const BACK: Redrive = Redrive { limit: None, matching: None, to: RedriveTo::LastQueue };

#[test]
fn messages_go_back_to_where_they_died_in_order_and_as_they_were() {
    let world = World::new();
    world.lose(0..1_000);
    assert_eq!(world.queue("dead").snapshot().ready, 1_000);
    world.broker.page_out(0).unwrap();
    let redriven = world.redrive(&BACK);
    assert_eq!(redriven, Redriven { moved: 1_000, ..Redriven::default() });
    let expected: Vec<_> = (0..1_000).map(|number| ("amq.direct/k".to_owned(), number)).collect();
    assert_eq!(world.take_all("q"), expected);
    let dead = world.queue("dead").snapshot();
    assert_eq!((dead.ready, dead.unacked, dead.ready_bytes, dead.unacked_bytes), (0, 0, 0, 0));
}

#[test]
fn redriven_messages_live_as_long_as_new_ones_and_die_again() {
    let world = World::new();
    world.lose(0..3);
    assert_eq!(world.redrive(&BACK).moved, 3);
    world.clock.advance_ms(999);
    world.broker.timers().run(world.clock.now());
    assert_eq!(world.queue("q").snapshot().ready, 3);
    world.clock.advance_ms(1);
    world.broker.timers().run(world.clock.now());
    assert_eq!(world.numbers("dead"), [0, 1, 2]);
}

#[test]
fn only_so_many_and_only_those_that_match_are_moved_and_the_rest_stays_in_place() {
    let world = World::new();
    world.lose(0..600);
    let odd = Some(("parity".to_owned(), FieldValue::I8(1)));
    let redriven = world.redrive(&Redrive { matching: odd, ..BACK });
    assert_eq!((redriven.moved, redriven.skipped), (300, 300));
    let was_redelivered = |queue: &Queue| {
        let taken = queue.get(false, |delivery, _| (delivery.redelivered, delivery.reference)).unwrap();
        let Got::Message((redelivered, reference)) = taken else { panic!("a message is there") };
        queue.settle(None, Settlement::Requeued, &[reference]);
        redelivered
    };
    let dead = world.queue("dead");
    assert!(!was_redelivered(&dead), "nobody has had it");
    assert!(was_redelivered(&dead), "somebody has");
    let none = Some(("parity".to_owned(), FieldValue::I8(7)));
    assert_eq!(world.redrive(&Redrive { matching: none, ..BACK }).skipped, 300);
    assert!(was_redelivered(&dead), "that is not forgotten");
    assert_eq!(world.numbers("q"), (0..600).filter(|number| number % 2 == 1).collect::<Vec<_>>());
    let redriven = world.redrive(&Redrive { limit: Some(10), ..BACK });
    assert_eq!(redriven, Redriven { moved: 10, ..Redriven::default() });
    assert_eq!(world.numbers("q"), (0..20).step_by(2).collect::<Vec<_>>());
    assert_eq!(world.numbers("dead"), (20..600).step_by(2).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_moved_stays_and_says_why() {
    let world = World::new();
    world.lose(0..4);
    let mut batch = MessageBatch::default();
    batch.push(&MessageView {
        names: b"\x00\x04dead",
        properties: &[0, 0],
        body: Body::Small(&9_u64.to_le_bytes()),
        persistent: true,
        extras: &[],
    });
    world.queue("dead").publish(&mut batch);
    let full = FieldTable::new().with("x-max-length", 1).with("x-overflow", "reject-publish");
    world.vhost.delete_queue("q", OWNER, false, false).unwrap();
    let gone = world.redrive(&BACK);
    let expected = [(RedriveFailure::NoDeath, 1), (RedriveFailure::QueueGone, 4)];
    assert_eq!((gone.moved, gone.failed), (0, BTreeMap::from(expected)));
    world.declare("q", full);
    let first = world.redrive(&Redrive { to: RedriveTo::FirstQueue, ..BACK });
    let expected = [(RedriveFailure::NoDeath, 1), (RedriveFailure::Refused, 3)];
    assert_eq!((first.moved, first.failed), (1, BTreeMap::from(expected)));
    let nowhere = RedriveTo::Exchange { exchange: "amq.topic".to_owned(), routing_key: "k".to_owned() };
    let nowhere = world.redrive(&Redrive { to: nowhere, ..BACK });
    assert_eq!(nowhere.failed, BTreeMap::from([(RedriveFailure::NotRouted, 4)]));
    assert_eq!(world.numbers("dead"), [1, 2, 3, 9], "in their places");
    assert_eq!(world.numbers("q"), [0]);
}

#[test]
fn messages_go_where_they_are_sent() {
    let world = World::new();
    world.lose(0..5);
    world.declare("other", FieldTable::new());
    let to = RedriveTo::Exchange { exchange: String::new(), routing_key: "other".to_owned() };
    assert_eq!(world.redrive(&Redrive { to, ..BACK }).moved, 5);
    assert_eq!(world.take_all("other").remove(0), ("/other".to_owned(), 0));
    let missing = RedriveTo::Exchange { exchange: "missing".to_owned(), routing_key: String::new() };
    let progress = RedriveProgress::default();
    let refused = world.vhost.redrive("dead", &Redrive { to: missing, ..BACK }, &progress);
    assert!(matches!(refused, Err(BrokerError::ExchangeNotFound { .. })));
    assert!(matches!(world.vhost.redrive("none", &BACK, &progress), Err(BrokerError::QueueNotFound { .. })));
}

#[test]
fn it_can_be_stopped() {
    let world = World::new();
    world.lose(0..1_000);
    let progress = RedriveProgress::default();
    progress.stop();
    let redriven = world.vhost.redrive("dead", &BACK, &progress).unwrap();
    assert_eq!((redriven.moved, redriven.is_stopped, progress.moved()), (0, true, 0));
    assert_eq!(world.queue("dead").snapshot().ready, 1_000);
}

/// By hand: `cargo test --release -p leveret-broker -- --ignored --nocapture million`.
#[test]
#[ignore = "a million messages"]
fn a_million_messages_are_moved_in_steps() {
    let world = World::new();
    world.lose(0..1_000_000);
    let started = std::time::Instant::now();
    let redriven = world.redrive(&BACK);
    println!("{} moved in {:?}", redriven.moved, started.elapsed());
    assert_eq!(redriven.moved, 1_000_000);
}
