//! Blocks against the simulated disk: what was written can be read, what was synced survives, and what failed is
//! never taken for safe.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::disk::SimulatedDisk;
use crate::disk::simulated::{Fault, Survival};

const DIR: &str = "/data/blocks";

fn open(disk: &SimulatedDisk, file_bytes: u64) -> Segments {
    try_open(disk, file_bytes).unwrap()
}

fn try_open(disk: &SimulatedDisk, file_bytes: u64) -> io::Result<Segments> {
    Segments::open(Arc::new(disk.clone()), SegmentOptions { dir: DIR.into(), file_bytes })
}

/// A content that tells which block it is.
fn payload(first_position: u64, length: usize) -> Vec<u8> {
    let tag = first_position.to_le_bytes();
    tag.iter().copied().cycle().enumerate().map(|(at, octet)| octet ^ at as u8).take(length).collect()
}

fn write(segments: &Segments, durable: bool, first_position: u64, length: usize) -> io::Result<StoredBlock> {
    let queue = QueueId(7);
    let payload = payload(first_position, length);
    let (front, back) = payload.split_at(length / 3);
    let block = Block { queue, first_position, count: 1, durable, payload: &[front, back] };
    let location = segments.write(&block)?;
    Ok(StoredBlock { location, queue, first_position })
}

fn read(segments: &Segments, block: &StoredBlock) -> Result<Bytes, BlockError> {
    segments.read(block.location, block.queue, block.first_position)
}

fn path_of(block: &StoredBlock) -> PathBuf {
    Path::new(DIR).join("durable").join(file_name(block.location.file))
}

#[track_caller]
fn assert_readable(segments: &Segments, block: &StoredBlock, length: usize) {
    assert_eq!(*read(segments, block).unwrap(), *payload(block.first_position, length));
}

#[track_caller]
fn assert_damaged(outcome: Result<Bytes, BlockError>) {
    assert!(matches!(outcome, Err(BlockError::Damaged(_))), "{outcome:?}");
}

#[test]
fn a_block_is_read_as_it_was_written() {
    let segments = open(&SimulatedDisk::default(), 1 << 20);
    for (position, length) in [(0, 0), (1, 1), (2, 5000), (u64::MAX, 100_000)] {
        for durable in [true, false] {
            let block = write(&segments, durable, position, length).unwrap();
            assert_readable(&segments, &block, length);
        }
    }
}

#[test]
fn a_block_of_other_messages_or_another_place_is_not_handed_out() {
    let segments = open(&SimulatedDisk::default(), 1 << 20);
    let block = write(&segments, true, 10, 500).unwrap();
    write(&segments, true, 11, 500).unwrap();
    assert_damaged(segments.read(block.location, QueueId(8), 10));
    assert_damaged(segments.read(block.location, block.queue, 11));
    let wrong = |change: fn(&mut BlockLocation)| {
        let mut location = block.location;
        change(&mut location);
        segments.read(location, block.queue, 10)
    };
    assert_damaged(wrong(|location| location.offset += 1));
    assert_damaged(wrong(|location| location.length += 1));
    assert_damaged(wrong(|location| location.length -= 1));
    assert_damaged(wrong(|location| location.length = 0));
    assert_damaged(wrong(|location| location.length = u32::MAX));
    assert_damaged(wrong(|location| location.file += 1));
}

#[test]
fn files_are_ended_when_they_are_full_and_a_large_block_has_its_own() {
    let segments = open(&SimulatedDisk::default(), 4096);
    let blocks: Vec<_> = [1000, 1000, 1000, 1000, 9000, 10]
        .iter()
        .enumerate()
        .map(|(position, &length)| write(&segments, true, position as u64, length).unwrap())
        .collect();
    let files: Vec<_> = blocks.iter().map(|block| block.location.file).collect();
    assert_eq!(files, [0, 0, 0, 1, 2, 3]);
    assert_eq!(segments.usage().files, 4);
}

#[test]
fn a_file_without_a_live_block_is_dead_and_goes_when_it_is_removed() {
    let disk = SimulatedDisk::default();
    let segments = open(&disk, 4096);
    let old: Vec<_> = (0..4).map(|position| write(&segments, true, position, 1500).unwrap()).collect();
    assert_eq!(segments.dead(), Vec::<u64>::new());
    segments.free(old[0].location);
    assert_eq!(segments.dead(), Vec::<u64>::new());
    segments.free(old[1].location);
    assert_eq!(segments.dead(), [0]);
    segments.free(old[2].location);
    segments.free(old[3].location);
    assert_eq!(segments.dead(), [0, 1], "the current file can go as well");
    segments.remove(&[0, 1]).unwrap();
    assert_eq!(segments.usage(), Usage::default());
    assert_eq!(disk.list(&Path::new(DIR).join("durable")).unwrap(), Vec::<String>::new());
    assert_damaged(read(&segments, &old[0]));
    let new = write(&segments, true, 9, 10).unwrap();
    assert_eq!(new.location.file, 2);
}

#[test]
fn temporary_files_go_when_their_blocks_are_free_and_with_the_process() {
    let disk = SimulatedDisk::default();
    let temporary = Path::new(DIR).join("temporary");
    let segments = open(&disk, 4096);
    let blocks: Vec<_> = (0..6).map(|position| write(&segments, false, position, 1500).unwrap()).collect();
    assert_eq!(disk.list(&temporary).unwrap().len(), 3);
    segments.free(blocks[0].location);
    segments.free(blocks[1].location);
    write(&segments, false, 6, 1500).unwrap();
    assert_eq!(disk.list(&temporary).unwrap().len(), 3, "one went when the next was made");
    assert_readable(&segments, &blocks[2], 1500);
    let segments = open(&disk.kill(), 4096);
    assert_eq!(segments.usage(), Usage::default());
    let block = write(&segments, false, 0, 10).unwrap();
    assert_eq!(block.location.file, 4, "numbers go on");
    segments.free(block.location);
    segments.remove_dead_temporary().unwrap();
    assert_eq!(segments.usage(), Usage::default());
}

#[test]
fn after_a_restart_what_the_catalog_knows_is_there_and_the_rest_goes() {
    let disk = SimulatedDisk::default();
    let segments = open(&disk, 4096);
    let blocks: Vec<_> = (0..6).map(|position| write(&segments, true, position, 1500).unwrap()).collect();
    segments.sync().unwrap();
    let disk = disk.crash(Survival::DropAll);
    let segments = open(&disk, 4096);
    let known = &blocks[1];
    segments.adopt(known.location, known.queue, known.first_position).unwrap();
    assert_eq!(segments.remove_unknown().unwrap().files, 2);
    assert_readable(&segments, known, 1500);
    assert_eq!(segments.dead(), Vec::<u64>::new());
    assert_eq!(write(&segments, true, 9, 10).unwrap().location.file, 3);
}

#[test]
fn a_block_that_cannot_be_there_is_not_adopted() {
    let disk = SimulatedDisk::default();
    let segments = open(&disk, 1 << 20);
    let block = write(&segments, true, 0, 1000).unwrap();
    segments.sync().unwrap();
    let segments = open(&disk.kill(), 1 << 20);
    let adopt = |location| segments.adopt(location, block.queue, 0);
    adopt(BlockLocation { file: 1, ..block.location }).unwrap_err();
    adopt(BlockLocation { length: 2000, ..block.location }).unwrap_err();
    adopt(BlockLocation { offset: 100, ..block.location }).unwrap_err();
    adopt(BlockLocation { length: 10, ..block.location }).unwrap_err();
    adopt(block.location).unwrap();
    adopt(block.location).unwrap_err();
}

#[test]
fn the_sparsest_file_is_named_with_its_live_blocks() {
    let segments = open(&SimulatedDisk::default(), 4096);
    let blocks: Vec<_> = (0..9).map(|position| write(&segments, true, position, 1000).unwrap()).collect();
    assert_eq!(segments.sparse(), None);
    segments.free(blocks[0].location);
    assert_eq!(segments.sparse(), None, "two of three live on");
    segments.free(blocks[1].location);
    assert_eq!(segments.sparse(), Some(vec![blocks[2]]));
    for block in &blocks[3..6] {
        segments.shrink(block.location, 10);
    }
    assert_eq!(segments.sparse(), Some(blocks[3..6].to_vec()), "a settled part counts as dead");
    segments.shrink(blocks[3].location, 1000);
    assert_eq!(segments.sparse(), Some(blocks[3..6].to_vec()), "what was settled stays settled");
    assert_eq!(segments.usage().live_bytes, 1048 + 30 + 3 * 1048);
    assert_eq!(segments.sparse_temporary(), None);
}

#[test]
fn a_failed_sync_is_reported_until_its_blocks_are_elsewhere() {
    let disk = SimulatedDisk::default();
    let segments = open(&disk, 1 << 20);
    let safe = write(&segments, true, 1, 100).unwrap();
    segments.sync().unwrap();
    let lost = write(&segments, true, 2, 100).unwrap();
    disk.fail_call(disk.calls() + 1, Fault::Io);
    assert_eq!(segments.sync().unwrap_err().suspects, [lost]);
    let again = segments.sync().unwrap_err();
    assert_eq!(again.suspects, [lost]);
    assert!(!again.to_string().is_empty());
    let rewritten = write(&segments, true, 2, 100).unwrap();
    assert_ne!(rewritten.location.file, lost.location.file, "the file is not trusted any more");
    segments.free(lost.location);
    segments.sync().unwrap();
    let segments = open(&disk.crash(Survival::DropAll), 1 << 20);
    for block in [safe, rewritten] {
        segments.adopt(block.location, block.queue, block.first_position).unwrap();
        assert_readable(&segments, &block, 100);
    }
}

#[test]
fn a_full_disk_is_not_filled_with_empty_files() {
    let disk = SimulatedDisk::default();
    let segments = open(&disk, 4096);
    let block = write(&segments, true, 0, 3000).unwrap();
    disk.set_capacity(Some(5000));
    for _ in 0..20 {
        write(&segments, true, 1, 3000).unwrap_err();
    }
    assert_eq!(segments.usage().files, 1);
    assert_eq!(disk.list(&Path::new(DIR).join("durable")).unwrap().len(), 1);
    disk.set_capacity(None);
    let next = write(&segments, true, 1, 3000).unwrap();
    assert_readable(&segments, &next, 3000);
    assert_readable(&segments, &block, 3000);
    segments.sync().unwrap();
}

#[test]
fn a_file_is_synced_on_the_way_when_much_was_written() {
    let disk = SimulatedDisk::default();
    let segments = open(&disk, 32 << 20);
    let writes = (SYNC_EACH_BYTES >> 20) - 1;
    for position in 0..writes {
        write(&segments, true, position, 1 << 20).unwrap();
    }
    let before = disk.calls();
    write(&segments, true, writes, 1 << 20).unwrap();
    assert_eq!(disk.calls() - before, 2, "a write and a sync");
}

#[test]
fn many_files_are_read_with_few_open() {
    let segments = open(&SimulatedDisk::default(), 1024);
    let blocks: Vec<_> = (0..200).map(|position| write(&segments, true, position, 900).unwrap()).collect();
    segments.sync().unwrap();
    for block in blocks.iter().chain(&blocks) {
        assert_readable(&segments, block, 900);
    }
}

#[test]
fn blocks_of_many_threads_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("blocks");
    let options = SegmentOptions { dir: dir.clone(), file_bytes: 1 << 16 };
    let segments = Segments::open(Arc::new(crate::disk::SystemDisk), options).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let segments = &segments;
            scope.spawn(move || {
                for number in 0..50_u64 {
                    let block = write(segments, number % 3 != 0, thread << 32 | number, 3000).unwrap();
                    assert_readable(segments, &block, 3000);
                    if number % 10 == 0 {
                        segments.sync().unwrap();
                    }
                    if number % 2 == 0 {
                        segments.free(block.location);
                        segments.remove(&segments.dead()).unwrap();
                    }
                }
            });
        }
    });
    assert!(segments.usage().live_bytes >= 100 * 3000);
    for (number, path) in durable_files(&crate::disk::SystemDisk, &dir).unwrap() {
        let mut is_whole = true;
        let found = scan(&crate::disk::SystemDisk, &path, &mut |item| {
            is_whole &= matches!(item, Scanned::Block { is_whole: true, .. });
        });
        assert_eq!((found.unwrap(), is_whole), (number, true));
    }
}

fn scanned(disk: &SimulatedDisk, path: &Path) -> Vec<Scanned> {
    let mut found = Vec::new();
    scan(disk, path, &mut |item| found.push(item)).unwrap();
    found
}

/// First positions of the whole blocks, and how many places were unreadable.
fn summary(found: &[Scanned]) -> (Vec<u64>, usize) {
    let whole = found.iter().filter_map(|item| match item {
        Scanned::Block { first_position, is_whole: true, .. } => Some(*first_position),
        _ => None,
    });
    (whole.collect(), found.iter().filter(|item| matches!(item, Scanned::Unreadable { .. })).count())
}

#[test]
fn a_scan_finds_all_blocks_and_goes_on_behind_damage() {
    let disk = SimulatedDisk::default();
    let segments = open(&disk, 32 << 20);
    // One that is larger than what a scan reads at once.
    let blocks: Vec<_> = [1000, 2 << 20, 0, 1000]
        .iter()
        .enumerate()
        .map(|(position, &length)| write(&segments, true, position as u64, length).unwrap())
        .collect();
    let path = path_of(&blocks[0]);
    let found = scanned(&disk, &path);
    assert_eq!(summary(&found), (vec![0, 1, 2, 3], 0));
    let expected = Scanned::Block {
        location: blocks[1].location,
        queue: QueueId(7),
        first_position: 1,
        count: 1,
        is_whole: true,
    };
    assert_eq!(found[1], expected);
    assert!(disk.corrupt(&path, blocks[1].location.offset as usize + 5000, &[0xee; 3]));
    assert_eq!(summary(&scanned(&disk, &path)), (vec![0, 2, 3], 0), "its header still tells where it ends");
    assert!(disk.corrupt(&path, blocks[1].location.offset as usize + 20, &[0xee; 3]));
    assert_eq!(summary(&scanned(&disk, &path)), (vec![0, 2, 3], 1));
    assert!(disk.corrupt(&path, 8, &[2]));
    scan(&disk, &path, &mut |_| {}).unwrap_err();
}

#[test]
fn a_body_that_looks_like_a_block_is_not_taken_for_one() {
    let disk = SimulatedDisk::default();
    let segments = open(&disk, 1 << 20);
    let genuine = write(&segments, true, 0, 100).unwrap();
    let content = disk.content(&path_of(&genuine)).unwrap();
    let copy = &content[genuine.location.offset as usize..];
    let block = Block { queue: QueueId(1), first_position: 5, count: 1, durable: true, payload: &[copy] };
    let location = segments.write(&block).unwrap();
    assert!(disk.corrupt(&path_of(&genuine), location.offset as usize, &[0; 8]));
    assert_eq!(summary(&scanned(&disk, &path_of(&genuine))), (vec![0], 1));
}

/// What a run of a workload left behind.
#[derive(Default)]
struct Outcome {
    /// Blocks that were written, read back and not freed.
    written: BTreeMap<u64, StoredBlock>,
    /// Those of them of which a sync said that they are safe.
    safe: BTreeMap<u64, StoredBlock>,
    /// Temporary blocks that were written and not freed.
    temporary: Vec<StoredBlock>,
}

const LENGTH: usize = 700;

/// Writes blocks, syncs now and then, writes suspects anew and frees some, whatever fails. After every step, all
/// blocks that were written must be readable.
fn run(disk: &SimulatedDisk, steps: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    let Ok(segments) = try_open(disk, 4096) else { return outcome };
    for (position, step) in steps.iter().enumerate() {
        let position = position as u64;
        match step % 8 {
            0..4 => {
                if let Ok(block) = write(&segments, true, position, LENGTH) {
                    outcome.written.insert(position, block);
                }
            }
            4 => {
                if outcome.temporary.len() >= 3 {
                    outcome.temporary.drain(..).for_each(|block| segments.free(block.location));
                }
                outcome.temporary.extend(write(&segments, false, position, LENGTH));
            }
            5 => {
                if let Some((position, block)) = outcome.written.pop_first() {
                    outcome.safe.remove(&position);
                    segments.free(block.location);
                }
                let _ = segments.remove(&segments.dead());
            }
            _ => match segments.sync() {
                Ok(()) => outcome.safe = outcome.written.clone(),
                Err(error) => move_suspects(&segments, &error.suspects, &mut outcome),
            },
        }
    }
    for block in outcome.written.values().chain(&outcome.temporary) {
        // Faults may be planned for these calls too: each happens once.
        let read = (0..10).find_map(|_| read(&segments, block).ok());
        match read {
            Some(content) => assert_eq!(*content, *payload(block.first_position, LENGTH)),
            None => assert!(disk.is_off()),
        }
    }
    outcome
}

fn move_suspects(segments: &Segments, suspects: &[StoredBlock], outcome: &mut Outcome) {
    for suspect in suspects {
        assert!(!outcome.safe.values().any(|safe| safe == suspect), "what was safe is not suspect");
        let Ok(content) = read(segments, suspect) else { continue };
        assert_eq!(*content, *payload(suspect.first_position, LENGTH));
        if let Ok(block) = write(segments, true, suspect.first_position, LENGTH) {
            segments.free(suspect.location);
            outcome.written.insert(suspect.first_position, block);
        }
    }
}

/// After any power loss all safe blocks are there, and none that is there is half there.
fn check_after(disk: &SimulatedDisk, outcome: &Outcome, survival: Survival) {
    let disk = disk.crash(survival);
    let segments = open(&disk, 4096);
    for block in outcome.safe.values() {
        segments.adopt(block.location, block.queue, block.first_position).unwrap();
        assert_readable(&segments, block, LENGTH);
    }
    let others = outcome.written.iter().filter(|(position, _)| !outcome.safe.contains_key(position));
    for (_, block) in others {
        if segments.adopt(block.location, block.queue, block.first_position).is_ok()
            && let Ok(content) = read(&segments, block)
        {
            assert_eq!(*content, *payload(block.first_position, LENGTH));
        }
    }
    segments.remove_unknown().unwrap();
    for block in outcome.safe.values() {
        assert_readable(&segments, block, LENGTH);
    }
}

const SURVIVALS: [Survival; 5] =
    [Survival::DropAll, Survival::KeepAll, Survival::TearLast, Survival::Random(1), Survival::Random(2)];

#[test]
fn whatever_call_fails_what_was_said_to_be_safe_is() {
    let steps =
        [0, 0, 6, 0, 4, 0, 0, 6, 5, 4, 0, 5, 4, 0, 0, 4, 0, 6, 6, 0, 4, 4, 4, 4, 4, 4, 4, 5, 5, 0, 6, 6];
    let calls = {
        let disk = SimulatedDisk::default();
        let outcome = run(&disk, &steps);
        assert_eq!(outcome.safe.len(), outcome.written.len());
        disk.calls()
    };
    for call in 1..=calls {
        for fault in [Fault::Io, Fault::NoSpace, Fault::Short, Fault::Crash] {
            for survival in SURVIVALS {
                let disk = SimulatedDisk::new(call);
                disk.fail_call(call, fault);
                let outcome = run(&disk, &steps);
                check_after(&disk, &outcome, survival);
            }
        }
    }
}

proptest! {
    #[test]
    fn random_work_on_a_random_disk_loses_nothing_that_is_safe(
        steps in prop::collection::vec(any::<u8>(), 1..80),
        faults in prop::collection::vec((1_u64..150, 0_u8..3), 0..6),
        seed: u64,
    ) {
        let disk = SimulatedDisk::new(seed);
        for (call, fault) in faults {
            disk.fail_call(call, [Fault::Io, Fault::NoSpace, Fault::Short][usize::from(fault)]);
        }
        let outcome = run(&disk, &steps);
        check_after(&disk, &outcome, Survival::Random(seed));
    }

    #[test]
    fn no_damage_to_a_block_goes_unnoticed(at in 0_usize..548, bit in 0_u8..8) {
        let disk = SimulatedDisk::default();
        let segments = open(&disk, 1 << 20);
        let block = write(&segments, true, 3, 500).unwrap();
        let at = block.location.offset as usize + at;
        let octet = disk.content(&path_of(&block)).unwrap()[at];
        prop_assert!(disk.corrupt(&path_of(&block), at, &[octet ^ 1 << bit]));
        prop_assert!(matches!(read(&segments, &block), Err(BlockError::Damaged(_))));
    }
}
