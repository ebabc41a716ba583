//! Queues that drop duplicates: an id is known exactly while its message is in the queue, whichever way that leaves.

use std::collections::BTreeSet;

use leveret_codec::properties::Properties;
use leveret_codec::table::FieldTableRef;
use proptest::prelude::*;

use super::*;
use crate::delivery::Delivery;
use crate::message::{Body, MessageBatch, MessageView};
use crate::queue::{Got, Settlement};
use crate::time::ManualClock;
use crate::{Broker, MessageRef};

struct World {
    broker: Broker,
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    queue: Arc<Queue>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Published {
    Taken,
    Dropped,
    Refused,
}

use Published::{Dropped, Refused, Taken};

fn unique() -> FieldTable {
    arguments("x-message-deduplication", true)
}

fn properties(id: Option<u8>, priority: u8) -> Vec<u8> {
    let headers = id.map(|id| FieldTable::new().with("x-deduplication-header", i32::from(id)).encoded());
    let headers = headers.as_ref().and_then(|octets| FieldTableRef::parse(octets).ok());
    let mut octets = Vec::new();
    Properties { headers, priority: Some(priority), ..Properties::default() }.encode(&mut octets);
    octets
}

impl World {
    /// A queue `q` with these arguments.
    fn new(arguments: FieldTable) -> Self {
        let (store, clock) = (Arc::new(MemoryStore::default()), Arc::new(ManualClock::default()));
        let (kept, told): (Arc<dyn Store>, Arc<dyn Clock>) = (store.clone(), clock.clone());
        let broker = Broker::with(Services::with_clock(kept, told));
        let vhost = broker.create_vhost("/");
        let queue = vhost.add_queue(QueueDeclaration { arguments, ..queue("q") }, OWNER);
        Self { broker, store, clock, queue }
    }

    /// Publishes messages of one priority together, with ids and times to live.
    fn publish(&self, priority: u8, messages: &[(Option<u8>, Option<u64>)]) -> Vec<Published> {
        let level = self.queue.spec.level_of(&properties(None, priority));
        let mut batch = MessageBatch::for_level(&self.queue.spec, level);
        for &(id, ttl) in messages {
            let message = MessageView {
                names: b"\0\x01q",
                properties: &properties(id, priority),
                body: Body::Small(b"body"),
                persistent: true,
                extras: b"",
            };
            batch.push_expiring(&message, ttl.map(|ttl| self.clock.now().after_ms(ttl)));
        }
        let before = self.queue.snapshot().counters;
        let mut refused = Vec::new();
        self.queue.publish_or_refuse(&mut batch, &mut refused);
        assert!(batch.is_empty());
        let after = self.queue.snapshot().counters;
        let (taken, dropped) = (after.published - before.published, after.duplicates - before.duplicates);
        let refusals = refused.len() as u64;
        // What comes back through the dead-letter exchange is counted as well.
        assert!(taken + dropped + refusals >= messages.len() as u64);
        match (messages.len(), dropped, refusals) {
            (1, 0, 0) => vec![Taken],
            (1, 1, _) => vec![Dropped],
            (1, ..) => vec![Refused],
            _ => refused.iter().map(|_| Refused).collect(),
        }
    }

    fn publish_id(&self, id: u8) -> Published {
        self.publish(0, &[(Some(id), None)])[0]
    }

    fn get(&self, no_ack: bool) -> Option<(MessageRef, Option<u8>)> {
        loop {
            let hand_out = |delivery: Delivery<'_>, _| {
                let properties = Properties::decode(delivery.message.properties).unwrap();
                let id = properties.headers.and_then(|table| table.get("x-deduplication-header"));
                (delivery.reference, id.and_then(|id| id.as_integer()).map(|id| id as u8))
            };
            match self.queue.get(no_ack, hand_out).unwrap() {
                Got::Message(message) => return Some(message),
                Got::Empty => return None,
                Got::Absent => {
                    self.queue.when_loaded(Box::new(|| ()));
                    self.store.load_requested();
                }
            }
        }
    }

    fn settle(&self, how: Settlement, message: MessageRef) {
        self.queue.settle(None, how, &[message]);
        self.store.load_requested();
    }

    fn advance(&self, milliseconds: u64) {
        self.clock.advance_ms(milliseconds);
        self.broker.timers().run(self.clock.now());
        self.store.load_requested();
    }
}

#[test]
fn an_id_is_free_again_when_its_message_has_left() {
    let world = World::new(unique().with("x-max-priority", 2));
    assert_eq!([world.publish_id(1), world.publish_id(1), world.publish_id(2)], [Taken, Dropped, Taken]);
    assert_eq!(world.publish(2, &[(Some(1), None)]), [Dropped], "another priority is the same queue");
    let none = [(None, None); 2];
    world.publish(0, &none);
    assert_eq!((world.queue.snapshot().ready, world.queue.known_ids()), (4, 2), "no id is no duplicate");
    let (first, _) = world.get(false).unwrap();
    assert_eq!(world.publish_id(1), Dropped, "unacked");
    world.settle(Settlement::Requeued, first);
    assert_eq!(world.publish_id(1), Dropped, "requeued");
    let (first, _) = world.get(false).unwrap();
    world.settle(Settlement::Settled, first);
    assert_eq!(world.publish_id(1), Taken, "acked");
    assert_eq!(world.get(true).unwrap().1, Some(2));
    assert_eq!(world.publish_id(2), Taken, "delivered without acks");
    world.queue.purge().unwrap();
    assert_eq!([world.publish_id(1), world.publish_id(2)], [Taken; 2], "purged");
    let rejected = world.get(false).unwrap().0;
    world.settle(Settlement::Rejected, rejected);
    assert_eq!([world.publish_id(1), world.publish_id(2)], [Taken, Dropped], "rejected");
    assert_eq!(world.queue.snapshot().counters.duplicates, 5);
    let vhost = world.broker.vhost("/").unwrap();
    vhost.drop_queue("q").unwrap();
    assert_eq!(world.queue.known_ids(), 0, "deleted");
}

#[test]
fn an_id_is_free_when_its_message_expires_or_gives_way_or_was_refused() {
    let world = World::new(unique().with("x-max-length", 1));
    assert_eq!(world.publish(0, &[(Some(1), Some(10))]), [Taken]);
    world.advance(9);
    assert_eq!(world.publish_id(1), Dropped);
    world.advance(1);
    assert_eq!([world.publish_id(1), world.publish_id(2), world.publish_id(1)], [Taken; 3], "each gives way");
    assert_eq!(world.queue.known_ids(), 1);
    let world = World::new(unique().with("x-max-length", 1).with("x-overflow", "reject-publish"));
    assert_eq!([world.publish_id(1), world.publish_id(2), world.publish_id(1)], [Taken, Refused, Dropped]);
    world.get(true).unwrap();
    assert_eq!(world.publish_id(2), Taken);
    world.get(true).unwrap();
    // One of each in a batch: what is refused makes no duplicate of the next.
    assert_eq!(world.publish(0, &[(Some(1), None), (Some(2), None), (Some(2), None)]), [Refused; 2]);
}

#[test]
fn a_dead_letter_that_comes_back_at_once_is_no_duplicate_of_itself() {
    let world = World::new(unique().with("x-dead-letter-exchange", ""));
    assert_eq!(world.publish_id(1), Taken);
    for _ in 0..3 {
        let (message, id) = world.get(false).unwrap();
        assert_eq!(id, Some(1));
        world.settle(Settlement::Rejected, message);
        assert_eq!((world.queue.snapshot().ready, world.queue.known_ids()), (1, 1));
    }
    assert_eq!(world.publish_id(1), Dropped);
}

#[derive(Clone, Debug)]
enum Step {
    /// Messages of one priority, with ids and times to live.
    Publish(u8, Vec<(Option<u8>, Option<u64>)>),
    Advance(u64),
    Get(bool),
    Settle(usize, Settlement),
    Purge,
    PageOut,
}

fn step() -> impl Strategy<Value = Step> {
    let settlement =
        prop_oneof![Just(Settlement::Settled), Just(Settlement::Rejected), Just(Settlement::Requeued)];
    let message = ((0..8_u8).prop_map(Some), prop::option::of(0..30_u64));
    prop_oneof![
        6 => (0..3_u8, prop::collection::vec(message, 1..6)).prop_map(|(level, all)| Step::Publish(level, all)),
        3 => (1..20_u64).prop_map(Step::Advance),
        4 => any::<bool>().prop_map(Step::Get),
        4 => (0..6_usize, settlement).prop_map(|(which, how)| Step::Settle(which, how)),
        1 => Just(Step::Purge),
        2 => Just(Step::PageOut),
    ]
}

proptest! {
    #[test]
    fn every_id_is_there_once_and_known_while_it_is(
        length in prop::option::of(1..6_i64),
        refuses in any::<bool>(),
        comes_back in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut arguments = unique().with("x-max-priority", 2);
        length.into_iter().for_each(|length| arguments.set("x-max-length", length));
        if refuses {
            arguments.set("x-overflow", "reject-publish");
        }
        if comes_back {
            arguments.set("x-dead-letter-exchange", "");
        }
        let world = World::new(arguments);
        let mut held = Vec::new();
        for step in steps {
            match step {
                Step::Publish(priority, messages) => _ = world.publish(priority, &messages),
                Step::Advance(milliseconds) => world.advance(milliseconds),
                Step::Get(no_ack) => held.extend(world.get(no_ack).filter(|_| !no_ack)),
                Step::Settle(which, how) if !held.is_empty() => {
                    let (message, _) = held.swap_remove(which % held.len());
                    world.settle(how, message);
                }
                Step::Settle(..) => {}
                Step::Purge => _ = world.queue.purge().unwrap(),
                Step::PageOut => world.broker.page_out(0).unwrap(),
            }
            world.store.load_requested();
            let snapshot = world.queue.snapshot();
            prop_assert_eq!(snapshot.unacked, held.len());
            prop_assert_eq!(world.queue.known_ids(), snapshot.ready + snapshot.unacked);
        }
        let mut ids: Vec<_> = held.iter().map(|(_, id)| *id).collect();
        ids.extend(std::iter::from_fn(|| world.get(true)).map(|(_, id)| id));
        let distinct: BTreeSet<_> = ids.iter().collect();
        prop_assert_eq!(distinct.len(), ids.len());
        prop_assert_eq!(world.queue.known_ids(), held.len());
    }
}
