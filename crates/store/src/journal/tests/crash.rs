//! The journal beside a model of its promise, on a disk that fails: after whatever happened, a replay yields the
//! beginning of what was appended, at least everything that was said to be safe, and no damage. The journal's
//! thread is not there: each step is taken by the test.

use proptest::prelude::*;

use super::*;
use crate::journal::format::RECORD_HEADER_BYTES;

const DIR: &str = "/data/journal";

#[derive(Clone, Debug)]
enum Op {
    /// Octets of the payload.
    Append(usize),
    Step,
    Sync,
    /// Retires this many of the files that can go.
    Retire(usize),
    /// Something goes wrong, this many calls later.
    Fault(u64, Fault),
    FailAll(Fault),
    /// Room for this many octets in all files.
    Limit(u64),
    Heal,
    PowerLoss(Survival),
    Kill,
}

/// A journal and what is known of it.
struct World {
    disk: SimulatedDisk,
    options: JournalOptions,
    open: Option<(Arc<Shared>, Writer)>,
    /// What the catalog says.
    from: u64,
    /// What was appended since there and is not lost.
    appended: Vec<Record>,
    number: u64,
    /// What crashes at planned calls leave.
    survival: Survival,
    has_failed: bool,
}

fn record_end(record: &Record) -> u64 {
    record.position.0 + RECORD_HEADER_BYTES as u64 + record.payload.len() as u64
}

fn number_of(record: &Record) -> u64 {
    u64::from_le_bytes(record.payload[..8].try_into().unwrap())
}

impl World {
    fn new(sync: SyncMode, survival: Survival) -> Self {
        let options = JournalOptions { file_bytes: 4096, sync, ..options(Path::new(DIR)) };
        let disk = SimulatedDisk::new(7);
        Self {
            disk,
            options,
            open: None,
            from: 0,
            appended: Vec::new(),
            number: 0,
            survival,
            has_failed: false,
        }
    }

    fn open(&mut self, replayed: &ReplayEnd) -> io::Result<()> {
        let shared = Shared::new(Arc::new(self.disk.clone()), &self.options, replayed)?;
        let writer = Writer::start(Arc::clone(&shared), self.options.clone(), replayed.position.0)?;
        self.open = Some((shared, writer));
        Ok(())
    }

    /// Starts on what is on the disk. Everything up to `safe` must be there.
    fn recover(&mut self, safe: u64) {
        self.open = None;
        for _ in 0..20 {
            let mut found = Vec::new();
            let from = JournalPosition(self.from);
            let replayed = replay(&self.disk, Path::new(DIR), from, &mut |record| found.push(record));
            let started = replayed.map_err(io::Error::other).and_then(|replayed| {
                self.compare(&found, &replayed, safe);
                self.open(&replayed.end)
            });
            match started {
                Ok(()) => {
                    self.appended = found;
                    return;
                }
                // In the midst of recovery.
                Err(_) if self.disk.is_off() => self.disk = self.disk.crash(self.survival),
                Err(_) => self.heal(),
            }
        }
        panic!("recovery never succeeds");
    }

    fn compare(&self, found: &[Record], replayed: &Replayed, safe: u64) {
        assert_eq!(replayed.damage, [], "from {}", self.from);
        let expected = self.appended.iter().filter(|record| record.position.0 >= self.from);
        let expected = expected.cloned().collect::<Vec<_>>();
        assert!(
            expected.starts_with(found),
            "found {:?}, appended {:?}",
            found.iter().map(number_of).collect::<Vec<_>>(),
            expected.iter().map(number_of).collect::<Vec<_>>(),
        );
        let safe_records = expected.iter().filter(|record| record_end(record) <= safe).count();
        assert!(found.len() >= safe_records, "{} of {safe_records} safe records", found.len());
    }

    fn append(&mut self, length: usize) {
        let Some((shared, _)) = &self.open else { return };
        self.number += 1;
        let mut payload = self.number.to_le_bytes().to_vec();
        payload.resize(8 + length, self.number as u8);
        let (kind, queue) = (self.number as u8, self.number % 3);
        let journaled = shared.append(kind, queue, &[&payload], &[]);
        let record = Record { position: journaled.begins_at, kind, queue, payload: Bytes::from(payload) };
        assert_eq!(journaled.safe_at.0, record_end(&record));
        self.appended.push(record);
    }

    fn step(&mut self) -> bool {
        self.open.as_mut().is_some_and(|(_, writer)| writer.step().is_ok())
    }

    fn sync(&mut self) -> bool {
        if let Some((shared, _)) = &self.open {
            let end = shared.appended_to.load(Ordering::Relaxed);
            shared.ask(|appender| appender.sync_wanted = end);
        }
        self.step()
    }

    fn retire(&mut self, count: usize) {
        let Some((shared, _)) = &self.open else { return };
        let mut files = shared.files.lock();
        let ends = files.full().into_iter().map(|(_, end)| end);
        if let Some(end) = ends.filter(|end| *end <= shared.progress.synced()).take(count).last() {
            self.from = self.from.max(end);
            // What fails is done next time.
            let _ = files.retire_below(end);
        }
    }

    fn heal(&self) {
        self.disk.fail_all(None);
        self.disk.set_capacity(None);
    }

    fn apply(&mut self, op: &Op) {
        // What is safe in mode `Os` is in memory no more, so that a failing disk can lose it; no more is promised.
        let can_fail = self.options.sync != SyncMode::Os;
        match *op {
            Op::Append(length) => self.append(length),
            Op::Step => {
                self.step();
            }
            Op::Sync => {
                self.sync();
            }
            Op::Retire(count) => self.retire(count),
            Op::Fault(later, fault) if can_fail || matches!(fault, Fault::Short | Fault::Crash) => {
                self.has_failed = true;
                self.disk.fail_call(self.disk.calls() + 1 + later, fault);
            }
            Op::FailAll(fault) if can_fail => {
                self.has_failed = true;
                self.disk.fail_all(Some(fault));
            }
            Op::Limit(octets) if can_fail => {
                self.has_failed = true;
                self.disk.set_capacity(Some(octets));
            }
            Op::Fault(..) | Op::FailAll(_) | Op::Limit(_) => {}
            Op::Heal => self.heal(),
            Op::PowerLoss(survival) => self.lose_power(survival),
            Op::Kill => {
                // After a failure, what was only written is written once more before it counts again.
                let safe = self.open.as_ref().map_or(0, |(shared, _)| match self.options.sync {
                    SyncMode::Interval(_) if self.has_failed => shared.progress.synced(),
                    _ => shared.progress.safe(),
                });
                self.disk = self.disk.kill();
                self.recover(safe);
            }
        }
        if self.disk.is_off() {
            self.lose_power(self.survival);
        }
    }

    fn lose_power(&mut self, survival: Survival) {
        let safe = self.open.as_ref().map_or(0, |(shared, _)| match self.options.sync {
            SyncMode::Always => shared.progress.safe(),
            SyncMode::Interval(_) | SyncMode::Os => shared.progress.synced(),
        });
        self.disk = self.disk.crash(survival);
        self.recover(safe);
    }

    /// Once the disk works, everything becomes safe, and is there after the power is lost.
    fn finish(&mut self) {
        self.heal();
        let mut attempts = 0;
        while !self.sync() {
            attempts += 1;
            assert!(attempts < 30, "the journal does not resume");
            if self.disk.is_off() {
                self.lose_power(self.survival);
            }
        }
        let (shared, _) = self.open.as_ref().unwrap();
        assert!(shared.progress.health().is_ok());
        let safe = shared.progress.safe();
        assert!(self.appended.iter().all(|record| record_end(record) <= safe), "all is safe");
        self.disk = self.disk.crash(Survival::DropAll);
        self.recover(safe);
    }
}

fn survival() -> impl Strategy<Value = Survival> {
    prop_oneof![
        1 => Just(Survival::DropAll),
        1 => Just(Survival::KeepAll),
        1 => Just(Survival::TearLast),
        4 => any::<u64>().prop_map(Survival::Random),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let fault = prop_oneof![Just(Fault::Io), Just(Fault::NoSpace), Just(Fault::Short), Just(Fault::Crash)];
    let lasting = prop_oneof![Just(Fault::Io), Just(Fault::NoSpace), Just(Fault::Short)];
    let length = prop_oneof![6 => 0..300_usize, 3 => 300..2_000_usize, 1 => 2_000..9_000_usize];
    prop_oneof![
        12 => length.prop_map(Op::Append),
        10 => Just(Op::Step),
        1 => Just(Op::Sync),
        2 => (1..4_usize).prop_map(Op::Retire),
        2 => (0..12_u64, fault).prop_map(|(later, fault)| Op::Fault(later, fault)),
        1 => lasting.prop_map(Op::FailAll),
        1 => (0..60_000_u64).prop_map(Op::Limit),
        2 => Just(Op::Heal),
        1 => survival().prop_map(Op::PowerLoss),
        1 => Just(Op::Kill),
    ]
}

fn mode() -> impl Strategy<Value = SyncMode> {
    prop_oneof![
        3 => Just(SyncMode::Always),
        1 => Just(SyncMode::Interval(Duration::ZERO)),
        1 => Just(SyncMode::Interval(Duration::from_secs(3600))),
        1 => Just(SyncMode::Os),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_what_was_safe_comes_back_and_nothing_else(
        sync in mode(),
        survival in survival(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut world = World::new(sync, survival);
        world.recover(0);
        ops.iter().for_each(|op| world.apply(op));
        world.finish();
    }
}

/// Meets everything: groups of several records, a file that is full, a record longer than a file, a retired file
/// that is written again.
fn workload(world: &mut World) {
    for round in 0..4 {
        for length in [0, 100, 700] {
            world.apply(&Op::Append(length));
        }
        world.apply(&Op::Step);
        world.apply(&Op::Append(if round == 1 { 6_000 } else { 1_000 }));
        world.apply(&Op::Append(1_500));
        world.apply(&Op::Step);
        world.apply(&Op::Retire(2));
        world.apply(&Op::Append(20));
        world.apply(&Op::Step);
    }
}

/// Calls of the workload when nothing goes wrong.
fn calls_of_workload() -> u64 {
    let mut world = World::new(SyncMode::Always, Survival::DropAll);
    world.recover(0);
    workload(&mut world);
    assert!(world.from > 8192, "files were retired");
    world.disk.calls()
}

#[test]
fn an_error_at_any_call_loses_nothing() {
    for fault in [Fault::Io, Fault::NoSpace, Fault::Short] {
        for call in 1..=calls_of_workload() {
            let mut world = World::new(SyncMode::Always, Survival::DropAll);
            world.disk.fail_call(call, fault);
            world.recover(0);
            workload(&mut world);
            world.finish();
            let numbers = world.appended.iter().map(number_of).collect::<Vec<_>>();
            let first = numbers.first().copied().unwrap_or(world.number + 1);
            let expected = (first..=world.number).collect::<Vec<_>>();
            assert_eq!(numbers, expected, "{fault:?} at call {call}");
        }
    }
}

#[test]
fn a_disk_that_fails_from_any_call_on_loses_nothing_once_it_works() {
    for fault in [Fault::Io, Fault::NoSpace] {
        for steps in 0..40 {
            let mut world = World::new(SyncMode::Always, Survival::DropAll);
            world.recover(0);
            for step in 0..40 {
                if step == steps {
                    world.apply(&Op::FailAll(fault));
                }
                world.apply(&Op::Append(step * 40));
                world.apply(&Op::Step);
            }
            world.finish();
            assert_eq!(world.appended.len(), 40);
        }
    }
}

#[test]
fn a_crash_at_any_call_loses_nothing_that_was_safe() {
    let extremes = [Survival::DropAll, Survival::KeepAll, Survival::TearLast];
    for survival in extremes.into_iter().chain((0..8).map(Survival::Random)) {
        for call in 1..=calls_of_workload() {
            let mut world = World::new(SyncMode::Always, survival);
            world.disk.fail_call(call, Fault::Crash);
            world.recover(0);
            workload(&mut world);
            world.finish();
        }
    }
}

/// A crash, and another one at any call of the recovery from it.
#[test]
fn a_crash_during_recovery_loses_nothing_that_was_safe() {
    for seed in 0..6 {
        for call in 1..40 {
            let mut world = World::new(SyncMode::Always, Survival::Random(seed));
            world.recover(0);
            workload(&mut world);
            world.apply(&Op::Append(300));
            world.apply(&Op::Fault(2, Fault::Crash));
            let safe = world.open.as_ref().unwrap().0.progress.safe();
            world.step();
            world.disk = world.disk.crash(Survival::Random(seed + 100));
            world.disk.fail_call(call, Fault::Crash);
            world.recover(safe);
            world.finish();
        }
    }
}
