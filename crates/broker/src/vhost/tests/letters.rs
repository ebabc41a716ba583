//! Dead letters that none may be lost of: published again until every queue has taken them, and to none twice.

use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef};

use super::*;
use crate::delivery::Delivery;
use crate::message::{Body, MessageView};
use crate::queue::{Got, Settlement};
use crate::services::Services;
use crate::store::MemoryStore;
use crate::time::{Clock, ManualClock};
use crate::{Broker, MessageBatch};

/// A queue `source` that buries what has expired in the exchange `graves`, until all queues bound to it have it.
struct World {
    clock: Arc<ManualClock>,
    broker: Broker,
    vhost: Arc<Vhost>,
}

impl World {
    fn new(graves: FieldTable) -> Self {
        let clock = Arc::new(ManualClock::default());
        clock.advance_ms(1_000_000);
        let services = Services::with_clock(Arc::<MemoryStore>::default(), Arc::<ManualClock>::clone(&clock));
        let broker = Broker::with(services);
        let vhost = broker.create_vhost("/");
        let declaration = ExchangeDeclaration {
            name: "graves",
            exchange_type: "fanout",
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: graves,
        };
        vhost.declare_exchange(declaration).unwrap();
        let world = Self { clock, broker, vhost };
        let arguments = FieldTable::new()
            .with("x-queue-type", "quorum")
            .with("x-overflow", "reject-publish")
            .with("x-dead-letter-strategy", "at-least-once")
            .with("x-dead-letter-exchange", "graves");
        world.declare("source", arguments);
        world
    }

    fn declare(&self, name: &str, arguments: FieldTable) -> Arc<Queue> {
        let declaration =
            QueueDeclaration { name, durable: true, exclusive: false, auto_delete: false, arguments };
        self.vhost.declare_queue(declaration, ConnectionId(9)).unwrap().0
    }

    /// A queue that gets letters, of which it has a place for so many.
    fn grave(&self, name: &str, places: i64) -> Arc<Queue> {
        let arguments = FieldTable::new().with("x-max-length", places).with("x-overflow", "reject-publish");
        let queue = self.declare(name, arguments);
        let target = BindingTarget::Queue(name.into());
        self.vhost.bind("graves", &target, "", &FieldTable::new(), ConnectionId(9)).unwrap();
        queue
    }

    /// Publishes a message that expires after so many milliseconds.
    fn publish(&self, id: &str, expires_after_ms: u64) {
        let headers = FieldTable::new().with("x-deduplication-header", id).encoded();
        let mut properties = Vec::new();
        let headers = FieldTableRef::parse(&headers).ok();
        Properties { headers, ..Properties::default() }.encode(&mut properties);
        let mut batch = MessageBatch::default();
        let view = MessageView {
            names: b"\0\x06source",
            properties: &properties,
            body: Body::Small(id.as_bytes()),
            persistent: true,
            extras: &[],
        };
        batch.push_expiring(&view, Some(self.clock.now().after_ms(expires_after_ms)));
        self.queue("source").publish(&mut batch);
    }

    fn queue(&self, name: &str) -> Arc<Queue> {
        self.vhost.queue(name, ConnectionId(9)).unwrap()
    }

    fn advance(&self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.clock.advance_ms(1);
            while self.broker.timers().next().is_some_and(|at| at <= self.clock.now()) {
                self.broker.timers().run(self.clock.now());
            }
        }
    }

    fn take(&self, name: &str) -> String {
        let queue = self.queue(name);
        let body = |delivery: Delivery<'_>, _| (delivery.reference, delivery.message.body.to_vec());
        let Ok(Got::Message((reference, body))) = queue.get(false, body) else {
            panic!("nothing in {name}");
        };
        queue.settle(None, Settlement::Settled, &[reference]);
        String::from_utf8(body).unwrap()
    }

    fn left(&self) -> usize {
        self.queue("source").snapshot().dying
    }
}

#[test]
fn a_queue_that_has_a_letter_does_not_get_it_again_while_another_has_no_place() {
    let world = World::new(FieldTable::new());
    let (wide, narrow) = (world.grave("wide", 10), world.grave("narrow", 1));
    world.publish("first", 10);
    world.publish("second", 20);
    world.advance(30);
    assert_eq!((wide.snapshot().ready, narrow.snapshot().ready, world.left()), (2, 1, 1));
    world.advance(5_000);
    assert_eq!((wide.snapshot().ready, narrow.snapshot().ready, world.left()), (2, 1, 1));
    assert_eq!(world.take("narrow"), "first");
    world.advance(1_000);
    assert_eq!((wide.snapshot().ready, narrow.snapshot().ready, world.left()), (2, 1, 0));
    assert_eq!(world.take("narrow"), "second");
}

/// A ring for something else comes before the one for the letters, and must not be the last.
#[test]
fn letters_are_published_again_after_another_message_has_expired_meanwhile() {
    let world = World::new(FieldTable::new());
    let narrow = world.grave("narrow", 1);
    world.publish("first", 10);
    world.advance(20);
    world.publish("second", 500);
    world.publish("third", 1_000);
    world.advance(500);
    assert_eq!((narrow.snapshot().ready, world.left()), (1, 1));
    world.advance(600);
    assert_eq!((narrow.snapshot().ready, world.left()), (1, 2));
    for body in ["first", "second", "third"] {
        assert_eq!(world.take("narrow"), body);
        world.advance(1_100);
    }
    assert_eq!((narrow.snapshot().ready, world.left()), (0, 0));
}

#[test]
fn an_exchange_that_drops_duplicates_knows_a_letter_once_all_have_it() {
    let world = World::new(FieldTable::new().with("x-message-deduplication", true));
    world.publish("early", 10);
    world.advance(20);
    assert_eq!(world.left(), 1, "there is no queue yet");
    let narrow = world.grave("narrow", 1);
    world.advance(1_000);
    assert_eq!((narrow.snapshot().ready, world.left()), (1, 0));
    world.publish("late", 10);
    world.advance(20);
    assert_eq!((narrow.snapshot().ready, world.left()), (1, 1), "no place");
    assert_eq!(world.take("narrow"), "early");
    world.advance(1_100);
    assert_eq!(world.take("narrow"), "late");
    world.publish("late", 10);
    world.advance(20);
    assert_eq!((narrow.snapshot().ready, world.left()), (0, 0), "a duplicate is done with");
}

#[test]
fn a_queue_that_is_stopped_has_not_taken_a_letter() {
    let world = World::new(FieldTable::new());
    let wide = world.grave("wide", 10);
    world.publish("kept", 10);
    wide.stop("damaged".to_owned());
    world.advance(2_500);
    assert_eq!(world.left(), 1);
}
