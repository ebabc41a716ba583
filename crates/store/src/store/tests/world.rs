//! A broker on a store on a disk that fails, with what is known of it. Everything that threads do elsewhere the
//! test does step by step, so that the calls of the disk are the same each time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use leveret_broker::exchange::BindingTarget;
use leveret_broker::exchange::addressing::Addressing;
use leveret_broker::message::Body;
use leveret_broker::queue::{Got, Settlement};
use leveret_broker::vhost::{ExchangeDeclaration, QueueDeclaration};
use leveret_broker::{ConnectionId, LargeBody, MessageRef, MessageView, Vhost};
use leveret_codec::table::FieldTable;

use super::super::*;
use super::model::{Event, Found, History, LEVEL_SHIFT, Message, Turn};
use crate::catalog::{CommitFault, SimulatedCatalog};
use crate::disk::SimulatedDisk;
use crate::disk::simulated::{Fault, Survival};
use crate::entries::Contents;

pub(super) const DATA_DIR: &str = "/data";

/// A queue with priorities.
pub(super) const PRIORITY_QUEUE: &str = "p";

/// Its highest priority.
const PRIORITY_MAX: u8 = 3;
const CONNECTION: ConnectionId = ConnectionId(1);

/// What is left when the machine goes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Only the process ends.
    Kill,
    PowerLoss(Survival),
}

/// Which of several things an operation means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    First,
    Last,
    Odd,
    All,
}

/// Below where a checkpoint makes the journal unnecessary.
#[derive(Clone, Copy, Debug)]
pub(super) enum Below {
    /// Nowhere more than it is.
    Same,
    /// What the keeper would do.
    Due,
    /// The middle of what there is.
    Half,
    All,
}

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A queue, durable or not.
    Declare(&'static str, bool),
    Delete(&'static str),
    DeclareExchange(&'static str),
    DeleteExchange(&'static str),
    Bind(&'static str, &'static str),
    Unbind(&'static str, &'static str),
    /// To a queue: octets of each message, and whether all are persistent, or every second one.
    Publish(&'static str, Vec<usize>, bool),
    /// The same to an exchange.
    Fanout(&'static str, Vec<usize>, bool),
    /// The messages are shared, but not yet published to the queues.
    Share(&'static str, Vec<usize>),
    /// They are published now.
    PublishShared,
    Get(&'static str, usize),
    /// Taken and settled at once.
    Take(&'static str, usize),
    Ack(&'static str, Which),
    Requeue(&'static str, Which),
    Purge(&'static str),
    /// The journal is written.
    Step,
    Checkpoint(Below),
    /// Messages leave memory until this many octets are left.
    PageOut(usize),
    Compact,
    /// The broker ends as it should and starts again.
    Restart,
    Crash(After),
    /// Something goes wrong, this many calls of the disk later.
    Fault(u64, Fault),
    FaultOfCommit(u64, CommitFault),
    /// Nothing can be changed from now on.
    FailAll(Fault),
    /// Room for this many octets more than there are.
    Limit(u64),
    /// The disk works again.
    Heal,
}

/// A catalog that is off when the disk is.
struct Catalogue {
    catalog: SimulatedCatalog,
    disk: SimulatedDisk,
}

impl Catalog for Catalogue {
    fn entries(&self) -> Result<EntryList, CatalogError> {
        self.catalog.entries()
    }

    fn entries_from(&self, first: &[u8]) -> Result<EntryList, CatalogError> {
        self.catalog.entries_from(first)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), CatalogError> {
        if self.disk.is_off() {
            return Err(io::Error::other("the machine is off").into());
        }
        self.catalog.commit(changes)
    }
}

/// A queue as it must be while the broker runs.
#[derive(Default)]
struct Live {
    durable: bool,
    ready: BTreeMap<Turn, Message>,
    unacked: BTreeMap<Turn, (Message, MessageRef)>,
}

/// A broker that runs.
pub(super) struct Running {
    pub(super) store: Arc<DurableStore>,
    pub(super) broker: Arc<Broker>,
    pub(super) keeper: Keeper,
}

impl Running {
    pub(super) fn vhost(&self) -> Arc<Vhost> {
        self.broker.vhost("/").unwrap()
    }

    pub(super) fn queue(&self, name: &str) -> Arc<Queue> {
        self.vhost().queue(name, CONNECTION).unwrap()
    }
}

/// Messages on their way to the queues of an exchange.
type OnTheWay = Vec<(Arc<Queue>, MessageBatch, Vec<Message>)>;

pub(super) struct World {
    pub(super) disk: SimulatedDisk,
    pub(super) catalog: SimulatedCatalog,
    pub(super) sync: SyncMode,
    /// What planned crashes leave.
    pub(super) after: After,
    pub(super) running: Option<Running>,
    history: History,
    live: BTreeMap<String, Live>,
    on_the_way: OnTheWay,
    number: u64,
    turn: Turn,
    /// Queue and number of messages that were handed out.
    handed_out: BTreeSet<(String, u64)>,
    /// Whether all of these must come back marked: not after a power loss, nor when writing a mark can fail.
    marks_are_certain: bool,
    /// Calls may have failed. A failed read may stop a queue until the next start.
    pub(super) has_failed: bool,
    /// Faults by the number of the call, counted over all starts, that have not come yet.
    planned: BTreeMap<u64, Fault>,
    planned_commits: BTreeMap<u64, CommitFault>,
    /// Calls and commits before the present start.
    calls_before: u64,
    commits_before: u64,
}

pub(super) fn options(sync: SyncMode) -> StoreOptions {
    StoreOptions {
        data_dir: DATA_DIR.into(),
        sync,
        journal_bytes_max: 64 << 10,
        segment_bytes: 8 << 10,
        message_cache_bytes: 1 << 20,
        reserve_bytes: 4096,
    }
}

/// A journal with small files and without a thread.
fn start_journal(disk: Arc<dyn Disk>, options: JournalOptions, end: &ReplayEnd) -> io::Result<Journal> {
    let options =
        JournalOptions { file_bytes: 8 << 10, spare_files: 2, retry: std::time::Duration::ZERO, ..options };
    Journal::start_stepped(disk, options, end)
}

pub(super) fn open(
    disk: &SimulatedDisk,
    catalog: &SimulatedCatalog,
    sync: SyncMode,
) -> Result<Running, OpenError> {
    let entries = catalog.entries()?;
    let catalog = Catalogue { catalog: catalog.clone(), disk: disk.clone() };
    let parts = Parts {
        disk: Arc::new(disk.clone()),
        catalog: Box::new(catalog),
        entries,
        lock: None,
        loaders: Loaders::none(),
        start_journal,
    };
    let (store, recovered) = DurableStore::open_parts(options(sync), parts)?;
    let broker = Arc::new(Broker::new(Arc::clone(&store) as Arc<dyn Store>));
    let refused = broker.restore(recovered.definitions, recovered.queues);
    assert!(refused.is_empty(), "{refused:?}");
    broker.create_vhost("/");
    let keeper = store.keeper(Arc::clone(&broker));
    Ok(Running { store, broker, keeper })
}

/// Everything in a broker. Its messages are handed out by that.
pub(super) fn found_in(running: &Running) -> Found {
    let vhost = running.vhost();
    let mut found = Found::default();
    let exchanges = vhost.exchanges().into_iter().map(|exchange| exchange.name.to_string());
    found.exchanges = exchanges.filter(|name| !name.starts_with("amq.")).collect();
    for binding in vhost.bindings() {
        let leveret_broker::exchange::destination::Destination::Queue(queue) = &binding.destination else {
            panic!("a binding to an exchange was never made");
        };
        found.bindings.insert((binding.source.to_string(), queue.spec.name.to_string()));
    }
    for queue in vhost.queues() {
        let name = queue.spec.name.to_string();
        let mut messages = Vec::new();
        while let Some((message, _, redelivered)) = get(&queue, false).unwrap_or(None) {
            messages.push(message);
            if redelivered {
                found.redelivered.insert((name.clone(), message.number));
            }
        }
        found.stopped.extend(queue.stopped().map(|reason| (name.clone(), reason)));
        found.queues.insert(name, messages);
    }
    found
}

/// The next message, loaded if it has to be; an error if the queue is stopped, or the disk does not give it.
fn get(queue: &Queue, no_ack: bool) -> Result<Option<(Message, MessageRef, bool)>, String> {
    for _ in 0..3 {
        let got = queue.get(no_ack, |delivery, _| {
            (message_of(&delivery.message), delivery.reference, delivery.redelivered)
        });
        let got = got.map_err(|error| error.to_string())?;
        match got {
            Got::Message(message) => return Ok(Some(message)),
            Got::Empty => return Ok(None),
            Got::Absent => queue.load(),
        }
    }
    Err("the next message does not come into memory".to_owned())
}

/// A message's octets, from its number and size.
pub(super) fn body(number: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|at| (number.wrapping_mul(0x9E37_79B9) >> (at % 24)) as u8 ^ at as u8).collect()
}

/// What a message is, once all of its octets were looked at.
fn message_of(view: &MessageView<'_>) -> Message {
    let number = std::str::from_utf8(view.routing_key()).unwrap().parse().unwrap();
    let octets = view.body.to_vec();
    assert!(octets == body(number, octets.len()), "message {number} has other octets");
    Message { number, bytes: octets.len(), persistent: view.persistent }
}

pub(super) fn with_view<R>(message: Message, then: impl FnOnce(&MessageView<'_>) -> R) -> R {
    let octets = body(message.number, message.bytes);
    let key = message.number.to_string();
    let mut names = vec![1, b'x', key.len() as u8];
    names.extend_from_slice(key.as_bytes());
    let large = LargeBody::new(octets.chunks(9000).map(Bytes::copy_from_slice).collect());
    let is_large = octets.len() >= leveret_broker::limits::LARGE_BODY_BYTES;
    let body = if is_large { Body::Large(&large) } else { Body::Small(&octets) };
    then(&MessageView {
        names: &names,
        properties: &[0, 0],
        body,
        persistent: message.persistent,
        extras: b"",
    })
}

impl World {
    pub(super) fn new(sync: SyncMode, after: After) -> Self {
        let disk = SimulatedDisk::new(5);
        disk.create_dir(Path::new(DATA_DIR)).unwrap();
        Self {
            disk,
            catalog: SimulatedCatalog::default(),
            sync,
            after,
            running: None,
            history: History::default(),
            live: BTreeMap::new(),
            on_the_way: Vec::new(),
            number: 0,
            turn: 0,
            handed_out: BTreeSet::new(),
            marks_are_certain: true,
            has_failed: false,
            planned: BTreeMap::new(),
            planned_commits: BTreeMap::new(),
            calls_before: 0,
            commits_before: 0,
        }
    }

    pub(super) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Calls of the disk so far.
    pub(super) fn calls(&self) -> u64 {
        self.calls_before + self.disk.calls()
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits_before + self.catalog.commits()
    }

    /// Plans a fault at a call from now on; call 1 is the next one. It comes even if there is a restart before.
    pub(super) fn plan(&mut self, call: u64, fault: Fault) {
        self.planned.insert(self.calls() + call, fault);
        self.disk.fail_call(self.disk.calls() + call, fault);
        // A mark that cannot be written is forgiven.
        self.marks_are_certain &= fault == Fault::Crash;
        self.has_failed |= fault != Fault::Crash;
    }

    pub(super) fn plan_commit(&mut self, commit: u64, fault: CommitFault) {
        self.planned_commits.insert(self.commits() + commit, fault);
        self.catalog.fail_commit(self.catalog.commits() + commit, fault);
    }

    fn is_off(&self) -> bool {
        self.disk.is_off() || self.catalog.is_off()
    }

    fn go_off(&mut self, after: After) {
        (self.calls_before, self.commits_before) = (self.calls(), self.commits());
        self.catalog = self.catalog.restart();
        self.disk = match after {
            After::Kill => self.disk.kill(),
            After::PowerLoss(survival) => {
                self.marks_are_certain = false;
                self.disk.crash(survival)
            }
        };
        // Only now: a journal that is dropped writes what it has.
        self.running = None;
        self.on_the_way.clear();
        for (call, fault) in self.planned.split_off(&(self.calls_before + 1)) {
            self.disk.fail_call(call - self.calls_before, fault);
            self.planned.insert(call, fault);
        }
        for (commit, fault) in self.planned_commits.split_off(&(self.commits_before + 1)) {
            self.catalog.fail_commit(commit - self.commits_before, fault);
            self.planned_commits.insert(commit, fault);
        }
    }

    /// Up to where what was promised is safe from such an end.
    fn promised(&self, after: After) -> u64 {
        self.running.as_ref().map_or(0, |running| match (self.sync, after) {
            (SyncMode::Always, _) => running.store.safe().0,
            // After a failure, what was only written is written once more before it counts again.
            (SyncMode::Os, After::Kill) => running.store.safe().0,
            (SyncMode::Interval(_), After::Kill) if !self.has_failed => running.store.safe().0,
            _ => running.store.journal.synced().0,
        })
    }

    /// The machine goes off, and the broker starts again.
    pub(super) fn crash(&mut self, after: After) {
        let safe = self.promised(after);
        let synced = self.promised(After::PowerLoss(Survival::DropAll));
        self.go_off(after);
        self.recover(safe, synced);
    }

    /// Starts the broker on an empty disk.
    pub(super) fn start(&mut self) {
        self.recover(0, 0);
    }

    /// Starts the broker on what is on the disk. Everything up to `safe` must be there, or up to `synced` if there is a
    /// power loss meanwhile.
    fn recover(&mut self, mut safe: u64, synced: u64) {
        for _ in 0..20 {
            let opened = open(&self.disk, &self.catalog, self.sync);
            match opened {
                Ok(running) if !self.is_off() => {
                    self.take_over(running, safe);
                    return;
                }
                // In the midst of recovery.
                _ if self.is_off() => {
                    self.go_off(self.after);
                    safe = if self.after == After::Kill { safe } else { synced };
                }
                Err(OpenError::Recovery(
                    error @ (RecoveryError::Unattributable { .. }
                    | RecoveryError::UnknownRecord { .. }
                    | RecoveryError::Definitions { .. }),
                )) => panic!("a crash is taken for damage: {error}"),
                // The operator sees to it and tries again.
                _ => {
                    self.heal();
                    self.go_off(After::Kill);
                }
            }
        }
        panic!("the store never opens");
    }

    /// Compares what was found with what should be, on a copy.
    fn take_over(&mut self, running: Running, safe: u64) {
        let (disk, catalog) = (self.disk.copy(), self.catalog.copy());
        disk.set_capacity(None);
        let found = found_in(&open(&disk.copy(), &catalog.copy(), self.sync).unwrap());
        assert_eq!(found.stopped, BTreeMap::new(), "a crash is taken for damage");
        let kept = self.history.state(&found, safe).unwrap_or_else(|| {
            panic!("safe to {safe}: {:#?}\nfound {found:#?}\n{:#?}", self.history.certain(safe), self.history)
        });
        // What a start has found is safe from then on.
        let again = open(&disk.crash(Survival::DropAll), &catalog.copy(), self.sync).unwrap();
        let again = Found { redelivered: found.redelivered.clone(), ..found_in(&again) };
        assert_eq!(again, found, "found at the second start");
        if self.marks_are_certain {
            let mut back = found
                .queues
                .iter()
                .flat_map(|(queue, messages)| messages.iter().map(|message| (queue.clone(), message.number)));
            let unmarked = back.find(|one| self.handed_out.contains(one) && !found.redelivered.contains(one));
            assert_eq!(unmarked, None, "handed out before, and not marked");
        }
        self.live = BTreeMap::new();
        for (name, messages) in &kept.queues {
            let queue = running.queue(name);
            assert_eq!(queue.snapshot().ready, messages.len(), "ready in {name}");
            let live = Live { durable: true, ready: messages.clone(), unacked: BTreeMap::new() };
            self.live.insert(name.clone(), live);
        }
        self.history = History::beginning_with(kept);
        self.running = Some(running);
    }

    pub(super) fn heal(&mut self) {
        self.disk.fail_all(None);
        self.disk.set_capacity(None);
    }

    fn note(&mut self, safe_at: JournalPosition, event: Event) {
        self.history.note(safe_at.0, event);
    }

    /// Notes what was appended last.
    fn note_appended(&mut self, event: Event) {
        let end = self.running().store.journal.end();
        self.note(end, event);
    }

    pub(super) fn apply(&mut self, op: &Op) {
        // What is safe in mode `Os` is in memory no more, so that a failing disk can lose it; no more is promised.
        let can_fail = self.sync != SyncMode::Os;
        match op {
            Op::Declare(..)
            | Op::Delete(_)
            | Op::DeclareExchange(_)
            | Op::DeleteExchange(_)
            | Op::Bind(..)
            | Op::Unbind(..) => self.define(op),
            Op::Publish(queue, sizes, all) => self.publish_to(queue, sizes, *all),
            Op::Fanout(exchange, sizes, all) => {
                self.share(exchange, sizes, *all);
                self.publish_shared();
            }
            Op::Share(exchange, sizes) => {
                self.publish_shared();
                self.share(exchange, sizes, true);
            }
            Op::PublishShared => self.publish_shared(),
            Op::Get(queue, count) => (0..*count).for_each(|_| self.take(queue, false)),
            Op::Take(queue, count) => (0..*count).for_each(|_| self.take(queue, true)),
            Op::Ack(queue, which) => self.settle(queue, *which, Settlement::Settled),
            Op::Requeue(queue, which) => self.settle(queue, *which, Settlement::Requeued),
            Op::Purge(queue) => self.purge(queue),
            // What fails is tried again later.
            Op::Step => _ = self.running().store.journal.step(),
            Op::Checkpoint(below) => _ = self.checkpoint(*below),
            Op::PageOut(limit) => _ = self.running().broker.page_out(*limit),
            Op::Compact => self.running.as_mut().unwrap().keeper.compact(),
            Op::Restart => self.restart(),
            Op::Crash(after) => self.crash(*after),
            Op::Fault(_, Fault::Io | Fault::NoSpace) | Op::FailAll(_) | Op::Limit(_) if !can_fail => {}
            Op::Fault(later, fault) => self.plan(later + 1, *fault),
            Op::FaultOfCommit(later, fault) => self.plan_commit(later + 1, *fault),
            Op::FailAll(fault) => {
                self.has_failed = true;
                self.marks_are_certain = false;
                self.disk.fail_all(Some(*fault));
            }
            Op::Limit(room) => {
                self.has_failed = true;
                self.marks_are_certain = false;
                self.disk.set_capacity(Some(self.disk.used() + room));
            }
            Op::Heal => self.heal(),
        }
        if self.is_off() {
            self.crash(self.after);
        }
    }

    pub(super) fn run(&mut self, ops: &[Op]) {
        ops.iter().for_each(|op| self.apply(op));
    }

    /// Ends with the first operation at which the machine goes off; how many calls the start after it took.
    pub(super) fn run_to_first_recovery(&mut self, ops: &[Op]) -> u64 {
        let before = self.calls_before;
        for op in ops {
            self.apply(op);
            if self.calls_before > before {
                return self.disk.calls();
            }
        }
        0
    }

    fn define(&mut self, op: &Op) {
        let vhost = self.running().vhost();
        let target = |queue: &str| BindingTarget::Queue(queue.into());
        let table = FieldTable::new();
        let (position, event) = match *op {
            Op::Declare(name, durable) if !self.live.contains_key(name) => {
                let arguments = match name {
                    PRIORITY_QUEUE => table.with("x-max-priority", i32::from(PRIORITY_MAX)),
                    _ => table,
                };
                let declaration =
                    QueueDeclaration { name, durable, exclusive: false, auto_delete: false, arguments };
                let (_, position) = vhost.declare_queue(declaration, CONNECTION).unwrap();
                self.live.insert(name.to_owned(), Live { durable, ..Live::default() });
                (position, durable.then(|| Event::PutQueue(name.to_owned())))
            }
            Op::Delete(name) if self.live.contains_key(name) => {
                let (_, position) = vhost.delete_queue(name, CONNECTION, false, false).unwrap();
                let live = self.live.remove(name).unwrap();
                (position, live.durable.then(|| Event::DeleteQueue(name.to_owned())))
            }
            Op::DeclareExchange(name) => {
                let declaration = ExchangeDeclaration {
                    name,
                    exchange_type: "fanout",
                    durable: true,
                    auto_delete: false,
                    internal: false,
                    arguments: table,
                };
                let exists = vhost.find_exchange(name).is_ok();
                let position = vhost.declare_exchange(declaration).unwrap();
                (position, (!exists).then(|| Event::PutExchange(name.to_owned())))
            }
            Op::DeleteExchange(name) => {
                let exists = vhost.find_exchange(name).is_ok();
                let position = vhost.delete_exchange(name, false).unwrap();
                (position, exists.then(|| Event::DeleteExchange(name.to_owned())))
            }
            Op::Bind(exchange, queue) if self.can_bind(exchange, queue) => {
                let before = vhost.bindings().len();
                let position = vhost.bind(exchange, &target(queue), "", &table, CONNECTION).unwrap();
                let is_new = vhost.bindings().len() > before && self.live[queue].durable;
                (position, is_new.then(|| Event::Bind(exchange.to_owned(), queue.to_owned())))
            }
            Op::Unbind(exchange, queue) if self.can_bind(exchange, queue) => {
                let before = vhost.bindings().len();
                let position = vhost.unbind(exchange, &target(queue), "", &table, CONNECTION).unwrap();
                let is_gone = vhost.bindings().len() < before && self.live[queue].durable;
                (position, is_gone.then(|| Event::Unbind(exchange.to_owned(), queue.to_owned())))
            }
            _ => return,
        };
        event.into_iter().for_each(|event| self.note(position, event));
    }

    fn can_bind(&self, exchange: &str, queue: &str) -> bool {
        self.running().vhost().find_exchange(exchange).is_ok() && self.live.contains_key(queue)
    }

    fn messages(&mut self, sizes: &[usize], all_persistent: bool) -> Vec<Message> {
        let message = |&bytes: &usize| {
            self.number += 1;
            let number = self.number;
            Message { number, bytes, persistent: all_persistent || number.is_multiple_of(2) }
        };
        sizes.iter().map(message).collect()
    }

    fn publish_to(&mut self, queue: &str, sizes: &[usize], all_persistent: bool) {
        if !self.live.contains_key(queue) {
            return;
        }
        let queue = self.running().queue(queue);
        let messages = self.messages(sizes, all_persistent);
        let mut batch = self.batch_for(&queue);
        messages.iter().for_each(|message| with_view(*message, |view| batch.push(view)));
        self.publish(&queue, &mut batch, messages);
    }

    /// A batch of the priority whose turn it is.
    fn batch_for(&self, queue: &Queue) -> MessageBatch {
        let level = (self.number % 5) as u8;
        MessageBatch::for_level(&queue.spec, level.min(queue.spec.level_max()))
    }

    fn publish(&mut self, queue: &Arc<Queue>, batch: &mut MessageBatch, messages: Vec<Message>) {
        let name = queue.spec.name.to_string();
        let position = queue.publish(batch);
        // One that was deleted takes nothing; its name may be another's by now.
        let found = self.running().vhost().queue(&name, CONNECTION);
        if !found.is_ok_and(|found| found.id == queue.id) {
            return;
        }
        if queue.stopped().is_some() {
            assert!(self.has_failed && position == JournalPosition::NEVER);
            return;
        }
        let Some(live) = self.live.get_mut(&name) else { return };
        let mut published = Vec::new();
        // Those of higher priority come before all others.
        let level = u64::from(PRIORITY_MAX.saturating_sub(batch.level())) << LEVEL_SHIFT;
        for message in messages {
            self.turn += 1;
            let turn = level | self.turn;
            live.ready.insert(turn, message);
            published.extend(message.persistent.then_some((turn, message)));
        }
        if live.durable && !published.is_empty() {
            self.note(position, Event::Publish(name, published));
        }
    }

    /// As a channel does it, see `Routes`.
    fn share(&mut self, exchange: &str, sizes: &[usize], all_persistent: bool) {
        let Ok(route) = self.running().vhost().route(exchange, &Addressing::new(&[""], &[])) else { return };
        let messages = self.messages(sizes, all_persistent);
        let mut queues = route.queues;
        queues.sort_by_key(|queue| queue.id);
        let is_shared = queues.iter().filter(|queue| queue.is_durable()).count() > 1;
        let mut shared = MessageBatch::default();
        let mut on_the_way: OnTheWay = queues
            .into_iter()
            .map(|queue| (Arc::clone(&queue), self.batch_for(&queue), messages.clone()))
            .collect();
        for message in &messages {
            let number = (is_shared && message.persistent).then_some(shared.len() as u32);
            with_view(*message, |view| {
                if number.is_some() {
                    shared.push(view);
                }
                for (queue, batch, _) in &mut on_the_way {
                    match number {
                        Some(number) if queue.is_durable() => batch.push_shared(view, number),
                        _ => batch.push(view),
                    }
                }
            });
        }
        if !shared.is_empty() {
            let shared_at = self.running().store.share(&shared);
            on_the_way.iter_mut().for_each(|(_, batch, _)| batch.shared_at(shared_at));
        }
        self.on_the_way = on_the_way;
    }

    fn publish_shared(&mut self) {
        for (queue, mut batch, messages) in std::mem::take(&mut self.on_the_way) {
            self.publish(&queue, &mut batch, messages);
        }
    }

    fn take(&mut self, name: &str, no_ack: bool) {
        let Some(live) = self.live.get_mut(name) else { return };
        let queue = self.running.as_ref().unwrap().queue(name);
        let got = match get(&queue, no_ack) {
            Ok(got) => got,
            Err(error) => return assert!(self.has_failed || self.is_off(), "{error}"),
        };
        let expected = live.ready.pop_first();
        assert_eq!(got.map(|(message, ..)| message), expected.map(|(_, message)| message), "next in {name}");
        let (Some((message, reference, redelivered)), Some((turn, _))) = (got, expected) else { return };
        let key = (name.to_owned(), message.number);
        assert!(redelivered || !self.marks_are_certain || !self.handed_out.contains(&key), "{key:?}");
        // Where the machine goes off meanwhile, nobody gets it.
        if !self.disk.is_off() {
            self.handed_out.insert(key);
        }
        if !no_ack {
            live.unacked.insert(turn, (message, reference));
        } else if live.durable && message.persistent {
            self.note_appended(Event::Settle(name.to_owned(), vec![turn]));
        }
    }

    fn settle(&mut self, name: &str, which: Which, how: Settlement) {
        let Some(live) = self.live.get_mut(name) else { return };
        let turns: Vec<Turn> = match which {
            Which::First => live.unacked.keys().take(1).copied().collect(),
            Which::Last => live.unacked.keys().next_back().copied().into_iter().collect(),
            Which::Odd => live.unacked.keys().skip(1).step_by(2).copied().collect(),
            Which::All => live.unacked.keys().copied().collect(),
        };
        let settled: Vec<_> =
            turns.iter().filter_map(|turn| Some((*turn, live.unacked.remove(turn)?))).collect();
        let references: Vec<_> = settled.iter().map(|(_, (_, reference))| *reference).collect();
        let persistent = settled.iter().filter(|(_, (message, _))| message.persistent);
        let persistent: Vec<_> = persistent.map(|(turn, _)| *turn).collect();
        let is_noted = live.durable && !persistent.is_empty() && how == Settlement::Settled;
        if how == Settlement::Requeued {
            live.ready.extend(settled.into_iter().map(|(turn, (message, _))| (turn, message)));
        }
        self.running().queue(name).settle(None, how, &references);
        if is_noted {
            self.note_appended(Event::Settle(name.to_owned(), persistent));
        }
    }

    fn purge(&mut self, name: &str) {
        let Some(live) = self.live.get_mut(name) else { return };
        let Ok(purged) = self.running.as_ref().unwrap().queue(name).purge() else { return };
        let ready = std::mem::take(&mut live.ready);
        assert_eq!(purged.0, ready.len());
        let turns: Vec<_> =
            ready.iter().filter(|(_, message)| message.persistent).map(|(turn, _)| *turn).collect();
        if live.durable && !turns.is_empty() {
            self.note_appended(Event::Settle(name.to_owned(), turns));
        }
    }

    pub(super) fn checkpoint(&mut self, below: Below) -> bool {
        let keeper = &mut self.running.as_mut().unwrap().keeper;
        let below = match below {
            Below::Same => JournalPosition::SAFE,
            Below::Due => keeper.due(),
            Below::Half => JournalPosition(keeper.replay_from.0.midpoint(keeper.store.journal.end().0)),
            Below::All => JournalPosition::NEVER,
        };
        keeper.checkpoint(below).is_ok()
    }

    fn restart(&mut self) {
        self.checkpoint(Below::All);
        // A failure leaves the rest to the journal.
        let _ = self.running().store.close();
        let after = if self.is_off() { self.after } else { After::Kill };
        self.crash(after);
    }

    /// Everything becomes safe once the disk works, survives, can be consumed, and leaves nothing behind.
    pub(super) fn finish(&mut self) {
        self.heal();
        self.publish_shared();
        let mut attempts = 0;
        while self.running().store.journal.step().is_err() || !self.checkpoint(Below::Due) || self.is_off() {
            attempts += 1;
            assert!(attempts < 30, "the store does not resume");
            if self.is_off() {
                self.crash(self.after);
            }
        }
        let running = self.running();
        assert!(running.store.journal.health().is_ok());
        assert!(self.history.is_safe(running.store.safe().0), "all is safe");
        self.planned.clear();
        self.planned_commits.clear();
        self.crash(After::PowerLoss(Survival::DropAll));
        let names: Vec<_> = self.live.keys().cloned().collect();
        for name in &names {
            self.publish_to(name, &[10, 0, 100], true);
            let ready = self.live[name].ready.len();
            (0..=ready).for_each(|_| self.take(name, false));
            self.settle(name, Which::All, Settlement::Settled);
        }
        self.apply(&Op::Restart);
        assert!(self.live.values().all(|live| live.ready.is_empty()));
        assert!(self.checkpoint(Below::All));
        let running = self.running();
        assert_eq!(running.store.segments.usage().files, 0, "files of blocks that nobody needs");
        let contents = Contents::of(self.catalog.entries().unwrap());
        assert!(contents.blocks.is_empty(), "{:?}", contents.blocks);
        assert_eq!(running.broker.memory().bytes(), 0);
    }
}
