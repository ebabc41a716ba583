//! What the journal costs: appends as fast as memory takes them, one synced append at a time beside what its write
//! and sync cost by themselves, and a replay.
//!
//! `cargo bench -p leveret-store --bench journal`; files are made below the current directory, so that they
//! are on a disk even where temporary files are not.

use std::hint::black_box;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use leveret_broker::store::JournalPosition;
use leveret_store::disk::{Disk, DiskFile, SystemDisk, write_all_at};
use leveret_store::journal::{Journal, JournalOptions, ReplayEnd, SyncMode, replay};
use tempfile::TempDir;

/// Appended between two waits for the disk, so that memory stays bounded.
const BURST_BYTES: usize = 8 << 20;

fn dir() -> TempDir {
    tempfile::tempdir_in(".").expect("a directory can be made here")
}

fn start(dir: &Path, sync: SyncMode) -> Journal {
    let options = JournalOptions { sync, ..JournalOptions::new(dir) };
    Journal::start(Arc::new(SystemDisk), options, &ReplayEnd::default()).expect("the journal starts")
}

/// Waits until everything is written, and retires what was.
fn drain(journal: &Journal) {
    let (send, recv) = mpsc::channel();
    journal.when_safe(
        journal.end(),
        Box::new(move || {
            let _ = send.send(());
        }),
    );
    recv.recv().expect("the journal gets there");
    journal.retire_below(journal.safe()).expect("files can be retired");
}

/// Time of the appends alone: what the disk takes is not counted.
fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("journal/append");
    for (name, size, by_reference) in [
        ("16", 16, false),
        ("1024", 1024, false),
        ("65536", 65_536, false),
        ("65536_by_reference", 65_536, true),
    ] {
        let dir = dir();
        let journal = start(dir.path(), SyncMode::Os);
        let payload = vec![7_u8; size];
        let body = Bytes::from(payload.clone());
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_custom(|count| {
                let burst = (BURST_BYTES / size).clamp(1, 20_000) as u64;
                let mut time = Duration::ZERO;
                let mut left = count;
                while left > 0 {
                    let appends = left.min(burst);
                    let begun = Instant::now();
                    for _ in 0..appends {
                        let journaled = if by_reference {
                            journal.append(1, 1, &[], std::slice::from_ref(&body))
                        } else {
                            journal.append(1, 1, &[&payload], &[])
                        };
                        black_box(journaled);
                    }
                    time += begun.elapsed();
                    left -= appends;
                    drain(&journal);
                }
                time
            });
        });
    }
    group.finish();
}

/// A file that has its size already, to write and sync over and over.
fn bare_file(dir: &Path) -> Box<dyn DiskFile> {
    let file = SystemDisk.create(&dir.join("bare")).expect("a file can be made");
    let zeros = vec![0; 8 << 20];
    write_all_at(&*file, &mut [IoSlice::new(&zeros)], 0).expect("there is room");
    file.sync().expect("the disk works");
    file
}

/// Both are done in turn and only one is timed, so that they meet the same moods of the disk.
fn append_to_safe(c: &mut Criterion) {
    let mut group = c.benchmark_group("journal/window_1");
    group.sample_size(20).measurement_time(Duration::from_secs(10));
    let dir = dir();
    let file = bare_file(dir.path());
    let sectors = vec![7_u8; 1536];
    let mut offset = 0;
    let mut bare = || {
        let begun = Instant::now();
        write_all_at(&*file, &mut [IoSlice::new(&sectors)], offset).expect("there is room");
        file.sync().expect("the disk works");
        offset = (offset + sectors.len() as u64) % (7 << 20);
        begun.elapsed()
    };
    let journal = start(dir.path(), SyncMode::Always);
    let payload = vec![7_u8; 1024];
    let (send, recv) = mpsc::channel();
    let journaled = || {
        let send = send.clone();
        let begun = Instant::now();
        let position = journal.append(1, 1, &[&payload], &[]).safe_at;
        journal.when_safe(
            position,
            Box::new(move || {
                let _ = send.send(());
            }),
        );
        recv.recv().expect("the journal gets there");
        begun.elapsed()
    };
    for (name, wanted) in [("bare_write_and_sync", 0), ("append_to_safe", 1)] {
        group.bench_function(name, |b| {
            b.iter_custom(|count| (0..count).map(|_| [bare(), journaled()][wanted]).sum());
        });
    }
    group.finish();
}

fn replays(c: &mut Criterion) {
    let mut group = c.benchmark_group("journal/replay");
    group.sample_size(10);
    for size in [100_usize, 10_000] {
        let dir = dir();
        let journal = start(dir.path(), SyncMode::Os);
        let payload = vec![7_u8; size];
        let total = 128 << 20;
        for _ in 0..total / (size + 28) {
            journal.append(1, 1, &[&payload], &[]);
        }
        journal.close().expect("the disk works");
        group.throughput(Throughput::Bytes(total as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                let mut octets = 0;
                let replayed = replay(&SystemDisk, dir.path(), JournalPosition::SAFE, &mut |record| {
                    octets += record.payload.len();
                });
                assert!(replayed.is_ok_and(|replayed| replayed.damage.is_empty()));
                octets
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    append(&mut criterion);
    append_to_safe(&mut criterion);
    replays(&mut criterion);
    criterion.final_summary();
}
