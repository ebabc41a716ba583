//! The journal on the real disk and on one that fails, with its thread. Without the thread, beside a model:
//! [`crash`]; with damaged files: [`damage`].

mod crash;
mod damage;

use std::path::Path;
use std::sync::mpsc;
use std::time::Instant;

use super::*;
use crate::disk::SystemDisk;
use crate::disk::simulated::{Fault, SimulatedDisk, Survival};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn options(dir: &Path) -> JournalOptions {
    let retry = Duration::from_millis(5);
    JournalOptions { file_bytes: 16 * 1024, spare_files: 2, retry, ..JournalOptions::new(dir) }
}

fn wait_until_safe(journal: &Journal, position: JournalPosition) {
    let (send, recv) = mpsc::channel();
    journal.when_safe(position, Box::new(move || send.send(()).unwrap()));
    recv.recv_timeout(PATIENCE).expect("it becomes safe");
    assert!(journal.safe() >= position);
}

fn records(disk: &dyn Disk, dir: &Path, from: JournalPosition) -> (Vec<Record>, Replayed) {
    let mut records = Vec::new();
    let replayed = replay(disk, dir, from, &mut |record| records.push(record)).unwrap();
    (records, replayed)
}

fn payload(number: usize) -> Vec<u8> {
    format!("{number:->width$}", width = 8 + number * 37 % 900).into_bytes()
}

#[test]
fn what_many_threads_append_comes_back_in_the_order_of_each() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(SystemDisk);
    let journal = Journal::start(disk, options(dir.path()), &ReplayEnd::default()).unwrap();
    thread::scope(|scope| {
        for queue in 1..=4 {
            let journal = &journal;
            scope.spawn(move || {
                for number in 0..200 {
                    let large = Bytes::from(vec![queue as u8; if number % 50 == 0 { 20_000 } else { 10 }]);
                    let appended = journal.append(3, queue, &[&payload(number)], &[large]);
                    if number % 20 == 0 {
                        wait_until_safe(journal, appended.safe_at);
                    }
                }
            });
        }
    });
    journal.close().unwrap();
    assert!(journal.health().is_ok());
    assert_eq!(journal.waiting_bytes(), 0);
    let (found, replayed) = records(&SystemDisk, dir.path(), JournalPosition::SAFE);
    assert_eq!(replayed.damage, []);
    assert!(replayed.files > 5);
    for queue in 1..=4 {
        let payloads = found.iter().filter(|record| record.queue == queue).map(|record| &record.payload);
        let numbers = payloads.enumerate().inspect(|(number, octets)| {
            assert!(octets.starts_with(&payload(*number)), "{number} of queue {queue}");
            assert_eq!(octets.last(), Some(&(queue as u8)));
        });
        assert_eq!(numbers.count(), 200);
    }
}

#[test]
fn a_journal_goes_on_where_the_last_run_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut end = ReplayEnd::default();
    let mut positions = Vec::new();
    for run in 0..5_usize {
        let journal = Journal::start(Arc::new(SystemDisk), options(dir.path()), &end).unwrap();
        assert_eq!(journal.safe(), end.position);
        if run != 2 {
            positions.push(journal.append(1, 7, &[&payload(run)], &[]).begins_at);
        }
        drop(journal);
        let (found, replayed) = records(&SystemDisk, dir.path(), JournalPosition::SAFE);
        assert_eq!(found.iter().map(|record| record.position).collect::<Vec<_>>(), positions);
        assert_eq!(replayed.damage, []);
        end = replayed.end;
    }
}

#[test]
fn retired_files_are_written_again_and_the_rest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::start(Arc::new(SystemDisk), options(dir.path()), &ReplayEnd::default()).unwrap();
    for round in 0..10 {
        let mut last = JournalPosition::SAFE;
        for _ in 0..100 {
            last = journal.append(1, 1, &[&[round; 900]], &[]).safe_at;
            wait_until_safe(&journal, last);
        }
        let sealed = journal.sealed();
        assert!(sealed.len() > 4);
        assert!(sealed.windows(2).all(|pair| pair[0].1 == pair[1].0));
        let (_, end) = *sealed.last().unwrap();
        journal.retire_below(end).unwrap();
        assert_eq!(journal.begins_at(), end);
        assert_eq!(journal.sealed(), []);
        let names = SystemDisk.list(dir.path()).unwrap();
        assert_eq!(names.len(), 3, "one that is written and two spare ones: {names:?}");
        let (found, replayed) = records(&SystemDisk, dir.path(), end);
        assert_eq!(replayed.damage, []);
        assert!(found.iter().all(|record| record.payload == vec![round; 900]));
        assert!(found.last().unwrap().position < last);
    }
}

#[test]
fn a_record_longer_than_a_file_gets_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::start(Arc::new(SystemDisk), options(dir.path()), &ReplayEnd::default()).unwrap();
    let large = Bytes::from(vec![9; 3_000_000]);
    journal.append(1, 1, &[b"before"], &[]);
    journal.append(1, 1, &[b"large"], std::slice::from_ref(&large));
    journal.append(1, 1, &[b"behind"], &[]);
    journal.close().unwrap();
    let (found, _) = records(&SystemDisk, dir.path(), JournalPosition::SAFE);
    let lengths = found.iter().map(|record| record.payload.len()).collect::<Vec<_>>();
    assert_eq!(lengths, [6, 5 + large.len(), 6]);
}

#[test]
fn an_interval_is_the_longest_a_record_waits_for_its_sync() {
    let disk = SimulatedDisk::default();
    let sync = SyncMode::Interval(Duration::from_millis(20));
    let options = JournalOptions { sync, ..options(Path::new("/j")) };
    let journal = Journal::start(Arc::new(disk.clone()), options, &ReplayEnd::default()).unwrap();
    for number in 1..=3 {
        for _ in 0..10 {
            let appended = journal.append(1, 1, &[b"record"], &[]);
            wait_until_safe(&journal, appended.safe_at);
        }
        assert!(journal.stats().syncs < number + 10, "none was synced for itself");
        wait_until_synced(&journal);
    }
    let (found, _) = records(&disk.crash(Survival::DropAll), Path::new("/j"), JournalPosition::SAFE);
    assert_eq!(found.len(), 30);
}

/// Waits until the journal has synced what was appended, without asking it to.
fn wait_until_synced(journal: &Journal) {
    let (deadline, end) = (Instant::now() + Duration::from_secs(10), journal.end().0);
    while journal.shared.progress.synced() < end {
        assert!(Instant::now() < deadline, "it is never synced");
        thread::yield_now();
    }
}

#[test]
fn a_sync_that_is_asked_for_comes_whatever_the_mode() {
    for sync in [SyncMode::Always, SyncMode::Interval(Duration::from_secs(3600)), SyncMode::Os] {
        let disk = SimulatedDisk::default();
        let options = JournalOptions { sync, ..options(Path::new("/j")) };
        let journal = Journal::start(Arc::new(disk.clone()), options, &ReplayEnd::default()).unwrap();
        for number in 0..100 {
            journal.append(1, 1, &[&payload(number)], &[]);
        }
        journal.sync().unwrap();
        let after = disk.crash(Survival::DropAll);
        let (found, replayed) = records(&after, Path::new("/j"), JournalPosition::SAFE);
        assert_eq!((found.len(), replayed.damage), (100, vec![]), "{sync:?}");
    }
}

#[test]
fn mode_os_does_not_sync_and_what_is_safe_survives_the_process() {
    let disk = SimulatedDisk::default();
    let options = JournalOptions { sync: SyncMode::Os, ..options(Path::new("/j")) };
    let journal = Journal::start(Arc::new(disk.clone()), options, &ReplayEnd::default()).unwrap();
    for number in 0..100 {
        let appended = journal.append(1, 1, &[&payload(number)], &[]);
        wait_until_safe(&journal, appended.safe_at);
    }
    assert_eq!(journal.stats().syncs, 0);
    let after = disk.kill();
    let (found, _) = records(&after, Path::new("/j"), JournalPosition::SAFE);
    assert_eq!(found.len(), 100);
}

#[test]
fn a_full_disk_stops_confirms_says_so_and_loses_nothing_once_there_is_room() {
    let disk = SimulatedDisk::default();
    let dir = Path::new("/j");
    let journal = Journal::start(Arc::new(disk.clone()), options(dir), &ReplayEnd::default()).unwrap();
    let (send, recv) = mpsc::channel();
    journal.when_health_changes(Box::new(move |health| send.send(health.is_ok()).unwrap()));
    disk.set_capacity(Some(40_000));
    let mut last = JournalPosition::SAFE;
    for number in 0..200 {
        last = journal.append(1, 1, &[&payload(number)], &[]).safe_at;
    }
    assert!(!recv.recv_timeout(PATIENCE).unwrap());
    assert!(journal.safe() < last);
    let failure = journal.health().unwrap_err();
    assert_eq!(failure.kind, io::ErrorKind::StorageFull);
    assert!(journal.waiting_bytes() > 10_000);
    assert!(journal.sync().is_err());
    disk.set_capacity(None);
    wait_until_safe(&journal, last);
    assert!(recv.recv_timeout(PATIENCE).unwrap());
    assert!(journal.health().is_ok());
    let (found, replayed) = records(&disk.crash(Survival::DropAll), dir, JournalPosition::SAFE);
    assert_eq!((found.len(), replayed.damage), (200, vec![]));
}

#[test]
fn threads_that_append_to_a_disk_that_fails_now_and_then_lose_nothing() {
    for (seed, sync) in (1..).zip([SyncMode::Always, SyncMode::Interval(Duration::from_millis(1))]) {
        let disk = SimulatedDisk::new(seed);
        let dir = Path::new("/j");
        let options = JournalOptions { sync, retry: Duration::from_millis(1), ..options(dir) };
        let journal = Journal::start(Arc::new(disk.clone()), options, &ReplayEnd::default()).unwrap();
        thread::scope(|scope| {
            for queue in 1..=3 {
                let (journal, disk) = (&journal, &disk);
                scope.spawn(move || {
                    for number in 0..150 {
                        let fault = [Fault::Io, Fault::Short, Fault::NoSpace][number % 3];
                        if number % 10 == 0 {
                            disk.fail_call(disk.calls() + 1 + queue * 2, fault);
                        }
                        let appended = journal.append(1, queue, &[&payload(number)], &[]);
                        if number % 7 == 0 {
                            wait_until_safe(journal, appended.safe_at);
                        }
                    }
                });
            }
        });
        while journal.sync().is_err() {}
        let (found, replayed) = records(&disk.crash(Survival::DropAll), dir, JournalPosition::SAFE);
        assert_eq!(replayed.damage, []);
        for queue in 1..=3 {
            let payloads = found.iter().filter(|record| record.queue == queue).map(|record| &record.payload);
            assert!(payloads.eq((0..150).map(payload).collect::<Vec<_>>().iter()), "queue {queue}, {sync:?}");
        }
    }
}

#[test]
fn closing_on_a_disk_that_fails_gives_up() {
    let disk = SimulatedDisk::default();
    let journal =
        Journal::start(Arc::new(disk.clone()), options(Path::new("/j")), &ReplayEnd::default()).unwrap();
    disk.fail_all(Some(Fault::Io));
    journal.append(1, 1, &[b"never safe"], &[]);
    assert!(journal.close().is_err());
    assert!(journal.close().is_ok(), "there is nothing left to close");
    assert!(journal.sync().is_err());
}

#[test]
fn a_panicking_listener_does_not_stop_the_journal() {
    let disk = SimulatedDisk::default();
    let journal = Journal::start(Arc::new(disk), options(Path::new("/j")), &ReplayEnd::default()).unwrap();
    let first = journal.append(1, 1, &[b"record"], &[]);
    journal.when_safe(first.safe_at, Box::new(|| panic!("expected by the test")));
    let second = journal.append(1, 1, &[b"record"], &[]);
    wait_until_safe(&journal, second.safe_at);
}

#[test]
fn an_idle_journal_neither_writes_nor_syncs() {
    let disk = SimulatedDisk::default();
    let options =
        JournalOptions { sync: SyncMode::Interval(Duration::from_millis(1)), ..options(Path::new("/j")) };
    let journal = Journal::start(Arc::new(disk.clone()), options, &ReplayEnd::default()).unwrap();
    let appended = journal.append(1, 1, &[b"record"], &[]);
    wait_until_safe(&journal, appended.safe_at);
    wait_until_synced(&journal);
    let calls = disk.calls();
    let (_send, recv) = mpsc::channel::<()>();
    recv.recv_timeout(Duration::from_millis(30)).unwrap_err();
    assert_eq!(disk.calls(), calls);
}
