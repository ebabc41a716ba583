//! Journals with damage: nothing that was safe is ever cut off in silence.

use super::*;
use crate::journal::format::{self, FILE_HEADER_BYTES, GROUP_HEADER_BYTES, RECORD_HEADER_BYTES, SECTOR};

const DIR: &str = "/journal";

/// A journal that was closed, with some files and groups of one and of several records.
fn closed_journal(file_bytes: u64) -> (SimulatedDisk, Vec<Record>) {
    closed_journal_in_mode(file_bytes, SyncMode::Always)
}

fn closed_journal_in_mode(file_bytes: u64, sync: SyncMode) -> (SimulatedDisk, Vec<Record>) {
    let disk = SimulatedDisk::default();
    let options = JournalOptions { file_bytes, sync, ..options(Path::new(DIR)) };
    let journal = Journal::start(Arc::new(disk.clone()), options, &ReplayEnd::default()).unwrap();
    for number in 0..24 {
        let appended = journal.append(2, 10 + number as u64, &[&payload(number)], &[]);
        if number % 3 == 0 {
            wait_until_safe(&journal, appended.safe_at);
        }
    }
    journal.close().unwrap();
    let after = disk.kill();
    let (found, replayed) = records(&after, Path::new(DIR), JournalPosition::SAFE);
    assert_eq!((found.len(), replayed.damage), (24, vec![]));
    (after, found)
}

fn path(start: u64) -> PathBuf {
    Path::new(DIR).join(format::file_name(start))
}

fn starts(disk: &SimulatedDisk) -> Vec<u64> {
    let names = disk.list(Path::new(DIR)).unwrap();
    names.iter().filter_map(|name| format::parse_file_name(name)).collect()
}

/// The file and the offset in it where a position is.
fn place(disk: &SimulatedDisk, position: JournalPosition) -> (PathBuf, usize) {
    let start = starts(disk).into_iter().rfind(|start| *start <= position.0).unwrap();
    (path(start), (FILE_HEADER_BYTES + position.0 - start) as usize)
}

fn flip(disk: &SimulatedDisk, path: &Path, offset: usize) {
    let octet = disk.content(path).unwrap()[offset];
    assert!(disk.corrupt(path, offset, &[octet ^ 0x40]));
}

fn assert_reported(found: &[Record], all: &[Record], damage: &[Damage], what: &str) {
    let lost = all.iter().filter(|record| !found.contains(record));
    for record in lost {
        let covering = damage
            .iter()
            .find(|damage| damage.begins_at <= record.position && record.position.0 < damage.ends_at.0);
        let covering = covering.unwrap_or_else(|| panic!("{what}: {:?} cut in silence", record.position));
        if let Some(named) = covering.record {
            assert_eq!((named.kind, named.queue), (record.kind, record.queue), "{what}");
        }
    }
    assert!(found.iter().all(|record| all.contains(record)), "{what}: something else came back");
}

#[test]
fn whatever_octet_is_damaged_nothing_is_lost_in_silence() {
    for sync in [SyncMode::Always, SyncMode::Interval(Duration::from_millis(1)), SyncMode::Os] {
        let (disk, all) = closed_journal_in_mode(4096, sync);
        for start in starts(&disk) {
            let size = disk.content(&path(start)).unwrap().len();
            for offset in (0..size).step_by(7) {
                flip(&disk, &path(start), offset);
                let (found, replayed) = records(&disk, Path::new(DIR), JournalPosition::SAFE);
                let what = format!("{sync:?}, octet {offset} of file {start}");
                assert_reported(&found, &all, &replayed.damage, &what);
                flip(&disk, &path(start), offset);
            }
        }
    }
}

/// A crash can take a file's new name away and leave its content, which then lies in a spare file, at the very
/// positions that the next run gives to something else.
#[test]
fn groups_of_an_earlier_run_at_the_same_positions_do_not_come_back() {
    let dir = Path::new(DIR);
    let first = SimulatedDisk::default();
    let write = |disk: &SimulatedDisk, numbers: &[u8]| {
        let options = JournalOptions { file_bytes: 64 * 1024, ..options(dir) };
        let journal = Journal::start(Arc::new(disk.clone()), options, &ReplayEnd::default()).unwrap();
        for number in numbers {
            let appended = journal.append(1, 1, &[&[*number; 100]], &[]);
            wait_until_safe(&journal, appended.safe_at);
        }
        disk.kill()
    };
    let first = write(&first, &[1, 2, 3]);
    first.rename(&path(SECTOR), &dir.join("1.spare")).unwrap();
    let second = write(&first, &[4]);
    assert_eq!(second.list(dir).unwrap().len(), 1, "the spare file was used");
    let (found, replayed) = records(&second, dir, JournalPosition::SAFE);
    assert_eq!(found.iter().map(|record| record.payload[0]).collect::<Vec<_>>(), [4]);
    assert_eq!(replayed.damage, []);
}

#[test]
fn a_damaged_payload_is_one_lost_record_with_its_queue() {
    let (disk, all) = closed_journal(64 * 1024);
    let bad = &all[5];
    let (path, offset) = place(&disk, bad.position);
    flip(&disk, &path, offset + RECORD_HEADER_BYTES);
    let (found, replayed) = records(&disk, Path::new(DIR), JournalPosition::SAFE);
    assert_eq!(found.len(), 23);
    let [damage] = &replayed.damage[..] else { panic!("{:?}", replayed.damage) };
    assert_eq!(damage.record, Some(DamagedRecord { kind: 2, queue: bad.queue }));
    assert_eq!(damage.begins_at, bad.position);
    assert_eq!(damage.file, path);
}

#[test]
fn a_damaged_group_header_is_damage_up_to_the_next_group() {
    let (disk, all) = closed_journal(64 * 1024);
    // The first record was waited for and so has a group of its own.
    let (path, offset) = place(&disk, all[0].position);
    flip(&disk, &path, offset - GROUP_HEADER_BYTES);
    let (found, replayed) = records(&disk, Path::new(DIR), JournalPosition::SAFE);
    assert_eq!(found, all[1..]);
    let [damage] = &replayed.damage[..] else { panic!("{:?}", replayed.damage) };
    assert_eq!((damage.record, damage.begins_at.0), (None, SECTOR));
}

#[test]
fn damage_below_what_is_needed_does_not_matter() {
    let (disk, all) = closed_journal(4096);
    for bad in &all[..10] {
        let (path, offset) = place(&disk, bad.position);
        flip(&disk, &path, offset);
        flip(&disk, &path, offset + RECORD_HEADER_BYTES);
    }
    let (found, replayed) = records(&disk, Path::new(DIR), all[12].position);
    assert_eq!((found.as_slice(), replayed.damage), (&all[12..], vec![]));
}

#[test]
fn a_damaged_file_header_loses_nothing() {
    let (disk, all) = closed_journal(4096);
    for start in starts(&disk) {
        assert!(disk.corrupt(&path(start), 0, &[0; 512]));
    }
    let (found, replayed) = records(&disk, Path::new(DIR), JournalPosition::SAFE);
    assert_eq!((found, replayed.damage), (all, vec![]));
}

#[test]
fn a_missing_file_is_damage_wherever_it_is_missing() {
    let (whole, all) = closed_journal(4096);
    let starts = starts(&whole);
    assert!(starts.len() > 3);
    // Without the last one nobody can tell, if it was not begun after a sync of the one before, which it was.
    for missing in 0..starts.len() - 1 {
        let disk = whole.copy();
        disk.remove(&path(starts[missing])).unwrap();
        let (found, replayed) = records(&disk, Path::new(DIR), JournalPosition::SAFE);
        assert_reported(&found, &all, &replayed.damage, &format!("file {missing}"));
        let [damage] = &replayed.damage[..] else { panic!("{:?}", replayed.damage) };
        assert_eq!((damage.begins_at.0, damage.ends_at.0), (starts[missing], starts[missing + 1]));
        assert_eq!(damage.record, None);
    }
}

#[test]
fn a_journal_that_does_not_reach_where_it_is_needed_is_damaged() {
    let disk = SimulatedDisk::default();
    let (found, replayed) = records(&disk, Path::new(DIR), JournalPosition(10_000));
    assert_eq!(found, []);
    assert_eq!(replayed.damage.len(), 1);
    assert!(replayed.end.position.0 >= 10_000);
}

#[test]
fn an_empty_directory_and_a_missing_one_are_empty_journals() {
    let disk = SimulatedDisk::default();
    for _ in 0..2 {
        let (found, replayed) = records(&disk, Path::new(DIR), JournalPosition::SAFE);
        assert_eq!((found, replayed), (vec![], Replayed::default()));
        disk.create_dir(Path::new(DIR)).unwrap();
    }
}

#[test]
fn a_newest_file_with_nothing_in_it_does_not_count() {
    let (disk, all) = closed_journal(4096);
    let (_, replayed) = records(&disk, Path::new(DIR), JournalPosition::SAFE);
    let end = replayed.end.position.0;
    let file = disk.create(&path(end)).unwrap();
    crate::disk::write_all_at(&*file, &mut [io::IoSlice::new(&[0xA5; 2000])], 0).unwrap();
    let (found, replayed) = records(&disk, Path::new(DIR), JournalPosition::SAFE);
    assert_eq!((found.as_slice(), replayed.damage.len(), replayed.end.position.0), (&all[..], 0, end));
    let journal = Journal::start(Arc::new(disk.clone()), options(Path::new(DIR)), &replayed.end).unwrap();
    let appended = journal.append(1, 1, &[b"more"], &[]);
    wait_until_safe(&journal, appended.safe_at);
    drop(journal);
    let (found, replayed) = records(&disk, Path::new(DIR), JournalPosition::SAFE);
    assert_eq!((found.len(), replayed.damage), (all.len() + 1, vec![]));
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let (disk, _) = closed_journal(64 * 1024);
    let mut header = disk.content(&path(SECTOR)).unwrap();
    header.truncate(44);
    header[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let check = crc32c::crc32c(&header[..40]);
    header[40..44].copy_from_slice(&check.to_le_bytes());
    assert!(disk.corrupt(&path(SECTOR), 0, &header));
    let error = replay(&disk, Path::new(DIR), JournalPosition::SAFE, &mut |_| {}).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("format 2") && text.contains("format 1"), "{text}");
}
