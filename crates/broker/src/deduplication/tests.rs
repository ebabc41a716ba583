//! What an exchange drops and what it does not, published as a channel does it.

use leveret_codec::properties::Properties;

use super::*;
use crate::exchange::BindingTarget;
use crate::exchange::addressing::Addressing;
use crate::names::ConnectionId;
use crate::services::Services;
use crate::store::MemoryStore;
use crate::time::ManualClock;
use crate::vhost::{ExchangeDeclaration, QueueDeclaration, Vhost};
use crate::{Broker, Queue};

const OWNER: ConnectionId = ConnectionId(8);

struct World {
    clock: Arc<ManualClock>,
    broker: Broker,
    vhost: Arc<Vhost>,
}

fn declare(vhost: &Vhost, exchange_type: &str, arguments: FieldTable) -> Result<(), BrokerError> {
    let declaration = ExchangeDeclaration {
        name: "x",
        exchange_type,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments,
    };
    vhost.declare_exchange(declaration).map(|_| ())
}

fn enabled() -> FieldTable {
    FieldTable::new().with(ENABLED, true)
}

impl World {
    /// A vhost whose exchange `x` drops duplicates and leads to the queue `q`.
    fn new(arguments: FieldTable, queue_arguments: FieldTable) -> (Self, Arc<Queue>) {
        let clock = Arc::new(ManualClock::default());
        clock.advance_ms(1_000_000);
        let store = Arc::new(MemoryStore::default());
        let broker = Broker::with(Services::with_clock(store, Arc::<ManualClock>::clone(&clock)));
        let vhost = broker.create_vhost("/");
        declare(&vhost, "fanout", arguments).unwrap();
        let declaration = QueueDeclaration {
            name: "q",
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: queue_arguments,
        };
        let queue = vhost.declare_queue(declaration, OWNER).unwrap().0;
        vhost.bind("x", &BindingTarget::Queue("q".into()), "", &FieldTable::new(), OWNER).unwrap();
        (Self { clock, broker, vhost }, queue)
    }

    /// Whether the message was dropped as a duplicate, or else taken.
    fn publish(&self, headers: &FieldTable) -> Published {
        self.publish_as(headers, true)
    }

    fn publish_as(&self, headers: &FieldTable, persistent: bool) -> Published {
        let octets = headers.encoded();
        let mut properties = Vec::new();
        Properties { headers: FieldTableRef::parse(&octets).ok(), ..Properties::default() }
            .encode(&mut properties);
        let mut route = self.vhost.route("x", &Addressing::new(&[""], &properties)).unwrap();
        if route.known_at.is_some() {
            assert!(route.routed && route.queues.is_empty() && route.new_ids.is_empty());
            return Published::Dropped;
        }
        let mut taken = Published::Taken;
        let ids = route.take_new_ids(persistent);
        let hand_over = || {
            let body = Body::Small(b"m");
            let message =
                MessageView { names: b"\x01x\x00", properties: &properties, body, persistent, extras: &[] };
            for queue in &route.queues {
                let (mut batch, mut refused) = (MessageBatch::default(), Vec::new());
                batch.push(&message);
                queue.publish_or_refuse(&mut batch, &mut refused);
                if !refused.is_empty() {
                    taken = Published::Refused;
                }
            }
            (taken == Published::Taken).then_some(JournalPosition::SAFE)
        };
        publish_once(&ids, hand_over).expect("nobody else published it");
        taken
    }

    fn publish_id(&self, id: impl Into<FieldValue>) -> Published {
        self.publish(&FieldTable::new().with(HEADER, id))
    }

    fn duplicates(&self) -> u64 {
        self.vhost.deduplication().iter().map(|known| known.duplicates).sum()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Published {
    Taken,
    Dropped,
    Refused,
}

use Published::{Dropped, Refused, Taken};

#[test]
fn a_message_with_an_id_that_came_before_is_dropped_and_counted() {
    let (world, queue) = World::new(enabled(), FieldTable::new());
    assert_eq!(
        [world.publish_id("a"), world.publish_id("b"), world.publish_id("a")],
        [Taken, Taken, Dropped]
    );
    assert_eq!(
        [world.publish_id(5_i32), world.publish_id(5_i64), world.publish_id("5")],
        [Taken, Dropped, Taken]
    );
    assert_eq!(
        [world.publish_id(true), world.publish_id(true), world.publish_id(1.5)],
        [Taken, Dropped, Taken]
    );
    for _ in 0..2 {
        assert_eq!(world.publish(&FieldTable::new()), Taken, "it has no id");
        assert_eq!(world.publish_id(FieldTable::new()), Taken, "that is none");
    }
    assert_eq!((queue.snapshot().ready, world.duplicates()), (10, 3));
}

#[test]
fn ids_are_over_after_their_time_and_give_way_to_newer_ones() {
    let arguments = enabled().with(CACHE_SIZE, 2).with(CACHE_TTL, "1000");
    let (world, _) = World::new(arguments, FieldTable::new());
    assert_eq!([world.publish_id("a"), world.publish_id("b"), world.publish_id("c")], [Taken; 3]);
    assert_eq!(
        [world.publish_id("c"), world.publish_id("b"), world.publish_id("a")],
        [Dropped, Dropped, Taken]
    );
    world.clock.advance_ms(1_000);
    world.broker.timers().run(world.clock.now());
    assert_eq!(world.publish_id("c"), Taken);
    let for_long = FieldTable::new().with(HEADER, "long").with(CACHE_TTL, 5_000);
    assert_eq!(world.publish(&for_long), Taken);
    world.clock.advance_ms(4_999);
    world.broker.timers().run(world.clock.now());
    assert_eq!([world.publish_id("long"), world.publish_id("c")], [Dropped, Taken]);
}

#[test]
fn ids_are_kept_where_no_client_reaches_them_and_as_many_as_are_known() {
    let (world, _) = World::new(enabled().with(CACHE_SIZE, 3), FieldTable::new());
    (0..10).for_each(|number| assert_eq!(world.publish_id(number), Taken));
    let hidden: Vec<_> = world.vhost.all_queues().into_iter().filter(|queue| queue.is_hidden()).collect();
    assert_eq!(hidden.len(), 1);
    assert_eq!((hidden[0].snapshot().ready, hidden[0].is_durable()), (3, true));
    // As a restart reads them, from the disk as well.
    world.broker.page_out(0).unwrap();
    let mut kept = Vec::new();
    hidden[0].visit_ready(&mut |_, _, message| kept.push(message.body.to_vec()));
    let known = [7_i64, 8, 9].map(|number| [&b"i"[..], &number.to_be_bytes()].concat());
    assert_eq!(kept, known);
    // A message that a restart does not find again must not be taken for one that is there.
    assert_eq!(world.publish_as(&FieldTable::new().with(HEADER, "transient"), false), Taken);
    assert_eq!(world.publish_id("transient"), Dropped);
    let mut newest = Vec::new();
    hidden[0].visit_ready(&mut |_, _, message| newest = message.body.to_vec());
    assert_eq!(newest, known[2]);
    world.vhost.delete_exchange("x", false).unwrap();
    assert_eq!((world.vhost.all_queues().len(), world.vhost.deduplication()), (1, vec![]));
}

#[test]
fn what_was_refused_may_come_again() {
    let full = FieldTable::new().with("x-max-length", 1).with("x-overflow", "reject-publish");
    let (world, queue) = World::new(enabled(), full);
    assert_eq!(
        [world.publish_id("a"), world.publish_id("b"), world.publish_id("b")],
        [Taken, Refused, Refused]
    );
    queue.purge().unwrap();
    assert_eq!([world.publish_id("b"), world.publish_id("b")], [Taken, Dropped]);
}

#[test]
fn of_two_that_come_at_once_one_is_routed_again() {
    let (world, _) = World::new(enabled(), FieldTable::new());
    let octets = FieldTable::new().with(HEADER, "a").encoded();
    let mut properties = Vec::new();
    Properties { headers: FieldTableRef::parse(&octets).ok(), ..Properties::default() }
        .encode(&mut properties);
    let route = world.vhost.route("x", &Addressing::new(&[""], &properties)).unwrap();
    assert_eq!(world.publish_id("a"), Taken);
    assert_eq!(publish_once(&route.new_ids, || panic!("it is known")), None);
}

#[test]
fn a_dead_letter_that_comes_back_to_its_exchange_is_a_duplicate() {
    let circle = FieldTable::new().with("x-max-length", 1).with("x-dead-letter-exchange", "x");
    let (world, queue) = World::new(enabled(), circle);
    assert_eq!([world.publish_id("a"), world.publish_id("b")], [Taken, Taken]);
    assert_eq!((queue.snapshot().ready, world.duplicates()), (1, 1));
}

#[test]
fn arguments_are_checked() {
    let (world, _) = World::new(enabled(), FieldTable::new());
    world.vhost.delete_exchange("x", false).unwrap();
    let refused =
        |exchange_type, arguments| declare(&world.vhost, exchange_type, arguments).unwrap_err().to_string();
    let not_a_flag = FieldTable::new().with(ENABLED, "yes");
    assert_eq!(
        refused("direct", not_a_flag),
        "invalid type 'longstr' for arg 'x-message-deduplication' in exchange 'x' in vhost '/'"
    );
    let own_type = |arguments| refused("x-message-deduplication", arguments);
    let missing = "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0";
    assert_eq!(own_type(FieldTable::new()), missing);
    for value in [FieldValue::I32(0), FieldValue::I32(-1), "many".into(), FieldValue::Void] {
        let text = "Invalid argument, 'x-cache-size' must be an integer greater than 0";
        assert_eq!(refused("topic", enabled().with(CACHE_SIZE, value)), text);
    }
    assert_eq!(
        refused("topic", enabled().with(CACHE_SIZE, 10_000_001)),
        "invalid argument 'x-cache-size': more than 10000000"
    );
    let ttl = "Invalid argument, 'x-cache-ttl' must be an integer greater than 0";
    assert_eq!(own_type(FieldTable::new().with(CACHE_SIZE, "5").with(CACHE_TTL, 0)), ttl);
    assert_eq!(
        declare(&world.vhost, "x-message-deduplication", FieldTable::new().with(CACHE_SIZE, "5")),
        Ok(())
    );
    assert_eq!(world.vhost.deduplication().len(), 1);
}
