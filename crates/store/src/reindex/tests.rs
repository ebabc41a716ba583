//! A broker's catalog is lost: everything that was confirmed and not settled is there again, once, in order, with all
//! definitions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use leveret_broker::message::Body;
use leveret_broker::queue::{Got, Settlement};
use leveret_broker::store::{JournalPosition, Store};
use leveret_broker::vhost::QueueDeclaration;
use leveret_broker::{Broker, ConnectionId, MessageBatch, MessageView, Queue};
use leveret_codec::table::FieldTable;
use proptest::prelude::*;

use super::*;
use crate::catalog::{Catalog, SimulatedCatalog, read_snapshot};
use crate::disk::SimulatedDisk;
use crate::disk::simulated::Survival;
use crate::journal::{Journal, SyncMode};
use crate::keeper::Keeper;
use crate::loader::Loaders;
use crate::store::{DurableStore, OpenError, Parts, StoreOptions};

const CONNECTION: ConnectionId = ConnectionId(1);
const VHOST: &str = "/";

fn options() -> StoreOptions {
    StoreOptions {
        data_dir: "/data".into(),
        sync: SyncMode::Always,
        journal_bytes_max: 4 << 20,
        segment_bytes: 512 << 10,
        reserve_bytes: 0,
    }
}

/// A broker without a keeper's thread: what that does, the test does.
struct World {
    disk: SimulatedDisk,
    catalog: SimulatedCatalog,
    store: Arc<DurableStore>,
    broker: Arc<Broker>,
    keeper: Keeper,
    /// What is in each queue and what may be there again, as numbers of messages in the order of publishing.
    live: BTreeMap<String, BTreeSet<u64>>,
    published: BTreeMap<String, BTreeSet<u64>>,
    number: u64,
}

impl World {
    fn new() -> Self {
        let disk = SimulatedDisk::new(3);
        disk.create_dir(Path::new("/data")).unwrap();
        // As the first start makes it.
        crate::catalog::write_snapshot::<Vec<u8>, Vec<u8>>(&disk, Path::new("/data"), &[]).unwrap();
        let mut world = Self::open(disk, SimulatedCatalog::default()).unwrap();
        world.broker.create_vhost(VHOST);
        for name in ["one", "two"] {
            world.declare(name);
        }
        world.wait_until_safe(JournalPosition::SAFE);
        world
    }

    fn open(disk: SimulatedDisk, catalog: SimulatedCatalog) -> Result<Self, OpenError> {
        let parts = Parts {
            disk: Arc::new(disk.clone()),
            entries: catalog.entries()?,
            catalog: Box::new(catalog.clone()),
            lock: None,
            loaders: Loaders::none(),
            start_journal: Journal::start,
        };
        let (store, recovered) = DurableStore::open_parts(options(), parts)?;
        let broker = Arc::new(Broker::new(Arc::clone(&store) as Arc<dyn Store>));
        assert!(broker.restore(recovered.definitions, recovered.queues).is_empty());
        let keeper = store.keeper(Arc::clone(&broker));
        let (live, published) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { disk, catalog, store, broker, keeper, live, published, number: 0 })
    }

    fn declare(&mut self, name: &str) {
        let arguments = FieldTable::new();
        let declaration =
            QueueDeclaration { name, durable: true, exclusive: false, auto_delete: false, arguments };
        self.broker.vhost(VHOST).unwrap().declare_queue(declaration, CONNECTION).unwrap();
        self.live.entry(name.to_owned()).or_default();
        self.published.entry(name.to_owned()).or_default();
    }

    fn delete(&mut self, name: &str) {
        self.broker.vhost(VHOST).unwrap().delete_queue(name, CONNECTION, false, false).unwrap();
        self.live.remove(name);
        self.published.remove(name);
    }

    fn queue(&self, name: &str) -> Arc<Queue> {
        self.broker.vhost(VHOST).unwrap().queue(name, CONNECTION).unwrap()
    }

    /// Publishes persistent messages, every fifth transient, and waits until they are safe.
    fn publish(&mut self, name: &str, count: u64, bytes: usize) {
        let mut batch = MessageBatch::default();
        for _ in 0..count {
            self.number += 1;
            let mut body = self.number.to_le_bytes().to_vec();
            body.resize(bytes.max(8), self.number as u8);
            let persistent = !self.number.is_multiple_of(5);
            let body = Body::Small(&body);
            batch.push(&MessageView {
                names: b"\0\x01k",
                properties: &[0, 0],
                body,
                persistent,
                extras: b"",
            });
            if persistent {
                self.live.get_mut(name).unwrap().insert(self.number);
                self.published.get_mut(name).unwrap().insert(self.number);
            }
        }
        let position = self.queue(name).publish(&mut batch);
        self.wait_until_safe(position);
    }

    /// What is settled is safe as well.
    fn wait_until_safe(&self, position: JournalPosition) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.store.safe() < position.max(self.store.journal.end()) {
            assert!(Instant::now() < deadline, "the journal stands still");
            std::thread::yield_now();
        }
    }

    fn take(&mut self, name: &str, count: usize) {
        let queue = self.queue(name);
        for _ in 0..count {
            let Some((number, persistent, _)) = take(&queue, true) else { break };
            assert!(self.live.get_mut(name).unwrap().remove(&number) || !persistent, "{number} is not due");
        }
        self.wait_until_safe(JournalPosition::SAFE);
    }

    /// The machine goes off, and with it the catalog: what is left is the snapshot, the journal and the blocks.
    fn lose_catalog(self, survival: Survival) -> (Self, Reindexed) {
        let Self { disk, store, broker, keeper, live, published, number, .. } = self;
        let disk = disk.crash(survival);
        drop((keeper, broker, store));
        let (catalog, reindexed) = make_anew(&disk).unwrap();
        let world = Self::open(disk, catalog).unwrap();
        (Self { live, published, number, ..world }, reindexed)
    }

    fn restart(self) -> Self {
        let Self { disk, catalog, store, broker, keeper, live, published, number } = self;
        let (disk, catalog) = (disk.crash(Survival::DropAll), catalog.restart());
        drop((keeper, broker, store));
        let world = Self::open(disk, catalog).unwrap();
        Self { live, published, number, ..world }
    }

    /// Everything in every queue is what it must be; it is left there.
    fn verify(&self) {
        let names: BTreeSet<String> =
            self.broker.queues().iter().map(|queue| queue.spec.name.to_string()).collect();
        assert_eq!(names, self.live.keys().cloned().collect());
        for (name, live) in &self.live {
            let queue = self.queue(name);
            let (mut found, mut references) = (Vec::new(), Vec::new());
            while let Some((number, _, reference)) = take(&queue, false) {
                found.push(number);
                references.push(reference);
            }
            assert_eq!(queue.stopped(), None);
            assert!(
                found.is_sorted_by(|one, next| one < next),
                "order and no duplicates in {name}: {found:?}"
            );
            let found: BTreeSet<u64> = found.into_iter().collect();
            let lost: Vec<_> = live.difference(&found).collect();
            assert!(lost.is_empty(), "lost in {name}: {lost:?}");
            assert!(found.is_subset(&self.published[name]), "more in {name} than was published persistent");
            queue.settle(None, Settlement::Requeued, &references);
        }
    }

    fn step(mut self, op: &Op) -> Self {
        match *op {
            Op::Publish(queue, count, bytes) => self.publish(queue, count, bytes),
            Op::Take(queue, count) => self.take(queue, count),
            Op::LeaveUnacked(queue) => _ = take(&self.queue(queue), false),
            Op::Checkpoint => self.keeper.checkpoint(JournalPosition::NEVER).unwrap(),
            Op::CheckpointHalf => {
                let middle = self.keeper.replay_from.0.midpoint(self.store.journal.end().0);
                self.keeper.checkpoint(JournalPosition(middle)).unwrap();
            }
            Op::PageOut => self.broker.page_out(0).unwrap(),
            Op::Compact => self.keeper.compact().unwrap(),
            Op::Declare(queue) => {
                self.declare(queue);
                self.wait_until_safe(JournalPosition::SAFE);
            }
            Op::Delete(queue) if self.live.contains_key(queue) => {
                self.delete(queue);
                self.wait_until_safe(JournalPosition::SAFE);
            }
            Op::Delete(_) => {}
            Op::Restart => return self.restart(),
            Op::Lose => {
                let (world, reindexed) = self.lose_catalog(Survival::DropAll);
                assert_eq!(reindexed.damage, Vec::<String>::new());
                world.verify();
                return world;
            }
        }
        self
    }
}

#[derive(Clone, Debug)]
enum Op {
    Publish(&'static str, u64, usize),
    Take(&'static str, usize),
    LeaveUnacked(&'static str),
    Checkpoint,
    CheckpointHalf,
    PageOut,
    Compact,
    Declare(&'static str),
    Delete(&'static str),
    Restart,
    Lose,
}

/// The next message of a queue: its number, whether it is persistent, and its reference.
fn take(queue: &Queue, no_ack: bool) -> Option<(u64, bool, leveret_broker::MessageRef)> {
    for _ in 0..3 {
        let got = queue.get(no_ack, |delivery, _| {
            let body = delivery.message.body.to_vec();
            let number = u64::from_le_bytes(*body.first_chunk().unwrap());
            assert!(body.get(8..) == Some(&vec![number as u8; body.len() - 8]), "message {number} is torn");
            (number, delivery.message.persistent, delivery.reference)
        });
        match got {
            Ok(Got::Message(message)) => return Some(message),
            Ok(Got::Absent) => queue.load(),
            Ok(Got::Empty) | Err(_) => return None,
        }
    }
    panic!("the next message does not come into memory");
}

/// What a start does when the database is damaged.
fn make_anew(disk: &SimulatedDisk) -> Result<(SimulatedCatalog, Reindexed), CatalogError> {
    let snapshot = read_snapshot(disk, Path::new("/data"))?.expect("there always is one");
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (entries, reindexed) = reindex(&shared, &options().segments(), Path::new("/data"), snapshot)?;
    let mut catalog = SimulatedCatalog::default();
    let changes: Vec<_> = entries.into_iter().map(|(key, value)| entries::Change::put(key, value)).collect();
    catalog.commit(&changes)?;
    Ok((catalog, reindexed))
}

#[test]
fn blocks_and_what_the_journal_has_beside_them_are_found_again() {
    let mut world = World::new();
    world.publish("one", 300, 9_000);
    world.publish("two", 10, 100);
    world.take("one", 120);
    world.keeper.checkpoint(JournalPosition::NEVER).unwrap();
    assert!(world.store.journal.begins_at().0 > 512, "the journal has lost its beginning");
    world.publish("one", 7, 100);
    world.take("one", 20);
    let (world, reindexed) = world.lose_catalog(Survival::DropAll);
    let id = world.queue("one").id;
    assert!(reindexed.queues[&id].messages >= 160, "{reindexed:?}");
    assert_eq!((reindexed.unclaimed.len(), reindexed.damage.len()), (0, 0));
    world.verify();
    world.restart().verify();
}

#[test]
fn all_that_comes_out_of_blocks_is_marked_redelivered() {
    let mut world = World::new();
    world.publish("one", 150, 9_000);
    world.keeper.checkpoint(JournalPosition::NEVER).unwrap();
    let (world, _) = world.lose_catalog(Survival::DropAll);
    let queue = world.queue("one");
    queue.load();
    let redelivered = queue.get(true, |delivery, _| delivery.redelivered).unwrap();
    assert!(matches!(redelivered, Got::Message(true)));
    let world = world.restart();
    let queue = world.queue("one");
    queue.load();
    let redelivered = queue.get(true, |delivery, _| delivery.redelivered).unwrap();
    assert!(matches!(redelivered, Got::Message(true)), "after another start as well");
}

#[test]
fn definitions_are_in_the_snapshot_before_the_journal_loses_them() {
    let mut world = World::new();
    for round in 0..4 {
        let name = format!("late {round}");
        world.declare(&name);
        world.publish("one", 150, 9_000);
        world.keeper.checkpoint(JournalPosition::NEVER).unwrap();
        let snapshot = read_snapshot(&world.disk, Path::new("/data")).unwrap().unwrap();
        let contents = Contents::of(snapshot);
        let queues =
            contents.definitions.iter().filter(|one| matches!(one, Definition::PutQueue(..))).count();
        assert_eq!(queues, 3 + round);
        assert!(contents.blocks.is_empty() && contents.meta.replay_from == world.keeper.replay_from);
        assert!(contents.definitions.iter().any(|one| matches!(one, Definition::PutVhost(..))));
    }
    world.lose_catalog(Survival::DropAll).0.verify();
}

#[test]
fn messages_of_a_queue_that_is_defined_nowhere_are_kept_and_told() {
    let mut world = World::new();
    world.publish("one", 150, 9_000);
    world.publish("two", 150, 9_000);
    world.keeper.checkpoint(JournalPosition::NEVER).unwrap();
    let one = world.queue("one").id;
    let disk = world.disk.clone();
    // A snapshot of nobody's making: the queue is missing in it.
    let mut snapshot = read_snapshot(&disk, Path::new("/data")).unwrap().unwrap();
    snapshot.retain(|(key, _)| !key.ends_with(b"\x03one"));
    crate::catalog::write_snapshot(&disk, Path::new("/data"), &snapshot).unwrap();
    world.live.remove("one");
    let (world, reindexed) = world.lose_catalog(Survival::DropAll);
    assert_eq!(reindexed.unclaimed.keys().collect::<Vec<_>>(), [&one]);
    assert!(reindexed.unclaimed[&one].messages >= 150);
    world.verify();
    let kept = segments::kept_files(&world.disk, &options().segments().dir).unwrap();
    assert!(!kept.is_empty());
    let mut world = world.restart();
    world.take("two", 200);
    world.keeper.checkpoint(JournalPosition::NEVER).unwrap();
    world.declare("three");
    assert!(world.queue("three").id > one, "what is left of a queue is no other's");
    let files = segments::durable_files(&world.disk, &options().segments().dir).unwrap();
    assert!(kept.iter().all(|kept| files.iter().any(|(number, _)| number == kept)), "{kept:?} {files:?}");
}

#[test]
fn a_damaged_block_stops_its_queue_and_no_other() {
    let mut world = World::new();
    world.publish("one", 150, 9_000);
    world.keeper.checkpoint(JournalPosition::NEVER).unwrap();
    world.publish("two", 150, 9_000);
    world.keeper.checkpoint(JournalPosition::NEVER).unwrap();
    let (_, path) = segments::durable_files(&world.disk, &options().segments().dir).unwrap().remove(0);
    assert!(world.disk.corrupt(&path, 5_000, b"other octets"));
    let (world, reindexed) = world.lose_catalog(Survival::DropAll);
    assert_eq!(reindexed.damage.len(), 1, "{reindexed:?}");
    while take(&world.queue("one"), true).is_some() {}
    assert!(world.queue("one").stopped().is_some());
    let two = world.queue("two");
    assert_eq!((two.stopped(), two.snapshot().ready), (None, 120));
}

#[test]
fn a_block_that_was_cut_off_and_is_in_the_journal_is_no_damage() {
    let mut world = World::new();
    world.publish("one", 50, 9_000);
    world.broker.page_out(0).unwrap();
    let (_, path) = segments::durable_files(&world.disk, &options().segments().dir).unwrap().remove(0);
    assert!(world.disk.corrupt(&path, 5_000, b"never written"));
    let (world, reindexed) = world.lose_catalog(Survival::KeepAll);
    assert_eq!(reindexed, Reindexed::default());
    world.verify();
}

/// An empty queue leaves no trace, and after a restart its positions begin anew: what an older part of the journal says
/// of these is of other messages.
#[test]
fn what_the_snapshot_needs_of_the_journal_is_what_the_catalog_needed() {
    let mut world = World::new();
    world.keeper.checkpoint(JournalPosition::NEVER).unwrap();
    world.publish("two", 1, 8);
    world.take("two", 1);
    world.keeper.checkpoint(JournalPosition::NEVER).unwrap();
    let mut world = world.restart();
    world.publish("two", 1, 8);
    world.lose_catalog(Survival::DropAll).0.verify();
}

fn op() -> impl Strategy<Value = Op> {
    let queue = || prop::sample::select(vec!["one", "two"]);
    let other = || prop::sample::select(vec!["three", "four"]);
    prop_oneof![
        6 => (queue(), 1_u64..40, prop::sample::select(vec![8_usize, 700, 17_000]))
            .prop_map(|(queue, count, bytes)| Op::Publish(queue, count, bytes)),
        4 => (queue(), 1_usize..80).prop_map(|(queue, count)| Op::Take(queue, count)),
        1 => queue().prop_map(Op::LeaveUnacked),
        3 => Just(Op::Checkpoint),
        2 => Just(Op::CheckpointHalf),
        2 => Just(Op::PageOut),
        2 => Just(Op::Compact),
        1 => other().prop_map(Op::Declare),
        1 => other().prop_map(Op::Delete),
        1 => Just(Op::Restart),
        2 => Just(Op::Lose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_was_confirmed_is_lost_with_the_catalog(ops in prop::collection::vec(op(), 5..25)) {
        let world = ops.iter().fold(World::new(), |world, op| {
            let mut world = world;
            // Messages that were unacked, or came back though settled, would be in the way of what is expected.
            if let Op::Take(queue, _) = op {
                let found = found(&world.queue(queue));
                let live = world.live.get_mut(*queue).unwrap();
                live.extend(found);
            }
            world.step(op)
        });
        world.step(&Op::Lose);
    }
}

/// Persistent messages that are ready.
fn found(queue: &Queue) -> Vec<u64> {
    let (mut found, mut references) = (Vec::new(), Vec::new());
    while let Some((number, persistent, reference)) = take(queue, false) {
        found.extend(persistent.then_some(number));
        references.push(reference);
    }
    queue.settle(None, Settlement::Requeued, &references);
    found
}
