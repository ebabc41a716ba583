//! What both catalogs promise, the snapshot, and what is made of it when a database is damaged.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::disk::simulated::{Fault, Survival};
use crate::disk::{Disk, SimulatedDisk, SystemDisk};
use crate::entries::{Entries, EntryList, apply};

fn put(key: &str, value: &str) -> Change {
    Change::put(key.into(), value.into())
}

fn list(entries: &[(&str, &str)]) -> EntryList {
    entries.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}

#[test]
fn a_simulated_commit_fails_as_planned() {
    let mut catalog = SimulatedCatalog::default();
    catalog.commit(&[put("a", "1")]).unwrap();
    catalog.fail_commit(2, CommitFault::FailBefore);
    catalog.fail_commit(3, CommitFault::FailAfter);
    catalog.fail_commit(4, CommitFault::CrashAfter);
    catalog.commit(&[put("b", "2")]).unwrap_err();
    assert_eq!(catalog.entries().unwrap(), list(&[("a", "1")]));
    catalog.commit(&[put("c", "3")]).unwrap_err();
    assert_eq!(catalog.entries().unwrap(), list(&[("a", "1"), ("c", "3")]));
    catalog.commit(&[Change::delete(b"a".to_vec())]).unwrap_err();
    assert!(catalog.is_off() && catalog.entries().is_err() && catalog.commit(&[]).is_err());
    assert_eq!(catalog.commits(), 5);
    assert_eq!(catalog.restart().entries().unwrap(), list(&[("c", "3")]));
}

#[test]
fn a_snapshot_is_replaced_as_a_whole_whatever_happens() {
    let dir = Path::new("/data");
    let (old, new) = (list(&[("a", "1"), ("b", "2")]), list(&[("c", ""), ("d", "4")]));
    let prepared = || {
        let disk = SimulatedDisk::default();
        disk.create_dir(dir).unwrap();
        write_snapshot(&disk, dir, &old).unwrap();
        disk
    };
    let calls = {
        let disk = prepared();
        let before = disk.calls();
        write_snapshot(&disk, dir, &new).unwrap();
        assert_eq!(read_snapshot(&disk, dir).unwrap(), Some(new.clone()));
        disk.calls() - before
    };
    for call in 1..=calls {
        for fault in [Fault::Io, Fault::NoSpace, Fault::Short, Fault::Crash] {
            for survival in [Survival::DropAll, Survival::KeepAll, Survival::TearLast, Survival::Random(call)]
            {
                let disk = prepared();
                disk.fail_call(disk.calls() + call, fault);
                let written = write_snapshot(&disk, dir, &new);
                let disk = disk.crash(survival);
                let found = read_snapshot(&disk, dir).unwrap().unwrap();
                assert!(found == new || (written.is_err() && found == old), "{call} {fault:?} {survival:?}");
                write_snapshot(&disk, dir, &new).unwrap();
            }
        }
    }
}

proptest! {
    #[test]
    fn a_snapshot_holds_any_entries_and_no_damage_passes(
        entries in prop::collection::btree_map(any::<Vec<u8>>(), any::<Vec<u8>>(), 0..20),
        at: prop::sample::Index, bit in 0_u8..8,
    ) {
        let dir = Path::new("/data");
        let disk = SimulatedDisk::default();
        disk.create_dir(dir).unwrap();
        prop_assert_eq!(read_snapshot(&disk, dir).unwrap(), None);
        let entries: EntryList = entries.into_iter().collect();
        write_snapshot(&disk, dir, &entries).unwrap();
        prop_assert_eq!(read_snapshot(&disk, dir).unwrap(), Some(entries));
        let path = dir.join(SNAPSHOT_NAME);
        let content = disk.content(&path).unwrap();
        let at = at.index(content.len());
        prop_assert!(disk.corrupt(&path, at, &[content[at] ^ 1 << bit]));
        prop_assert!(matches!(read_snapshot(&disk, dir), Err(CatalogError::Damaged(_))));
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Opens a catalog for which a snapshot is all that is needed.
fn open(dir: &Path) -> Result<Opened, CatalogError> {
    open_or_restore(&SystemDisk, dir, &mut Ok)
}

/// A data directory whose catalog holds `entries`, with a snapshot of `snapshot`.
fn data_dir(entries: &[(&str, &str)], snapshot: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path()).unwrap();
    assert_eq!(opened.restored, None);
    let changes: Vec<_> = entries.iter().map(|(key, value)| put(key, value)).collect();
    opened.catalog.commit(&changes).unwrap();
    write_snapshot(&SystemDisk, folder.path(), &list(snapshot)).unwrap();
    folder
}

#[test]
fn a_catalog_that_is_sound_is_opened_and_nothing_else_is_done() {
    let folder = data_dir(&[("a", "1")], &[("b", "2")]);
    let opened = open(folder.path()).unwrap();
    assert_eq!(opened.entries, list(&[("a", "1")]));
    assert_eq!(opened.restored, None);
    assert_eq!(names_in(folder.path()), ["catalog", "catalog.snapshot"]);
}

#[test]
fn a_damaged_catalog_is_set_aside_and_made_anew_from_its_snapshot() {
    let folder = data_dir(&[("a", "1")], &[("b", "2")]);
    for number in 1..3 {
        fs::write(folder.path().join("catalog").join("conf"), [0xee; 40]).unwrap();
        let opened = open(folder.path()).unwrap();
        assert_eq!(opened.entries, list(&[("b", "2")]));
        let restored = opened.restored.unwrap();
        assert!(!restored.damage.is_empty());
        let aside = folder.path().join(format!("catalog.damaged-{number}"));
        assert_eq!(restored.set_aside.as_ref(), Some(&aside));
        assert!(aside.join("db").exists());
    }
    let opened = open(folder.path()).unwrap();
    assert_eq!((opened.entries, opened.restored), (list(&[("b", "2")]), None));
}

#[test]
fn a_catalog_that_lost_its_content_is_made_anew_too() {
    for lose in [
        |catalog: &Path| fs::remove_dir_all(catalog).unwrap(),
        |catalog: &Path| {
            fs::remove_dir_all(catalog).unwrap();
            fs::create_dir(catalog).unwrap();
        },
    ] {
        let folder = data_dir(&[("a", "1")], &[("b", "2")]);
        lose(&folder.path().join("catalog"));
        let opened = open(folder.path()).unwrap();
        assert_eq!(opened.entries, list(&[("b", "2")]));
        assert!(opened.restored.is_some());
    }
}

#[test]
fn a_new_database_gets_what_is_added_to_the_snapshot_in_the_same_commit() {
    let folder = data_dir(&[("a", "1")], &[("b", "2")]);
    fs::write(folder.path().join("catalog").join("conf"), [0xee; 40]).unwrap();
    let refused =
        open_or_restore(&SystemDisk, folder.path(), &mut |_| Err(std::io::Error::other("no").into()));
    assert!(matches!(refused, Err(CatalogError::Io(_))));
    assert_eq!(names_in(folder.path()), ["catalog", "catalog.snapshot"], "nothing was changed");
    let complete = &mut |mut entries: EntryList| {
        entries.insert(0, (b"B".to_vec(), b"3".to_vec()));
        Ok(entries)
    };
    let opened = open_or_restore(&SystemDisk, folder.path(), complete).unwrap();
    assert!(opened.restored.is_some());
    drop(opened);
    assert_eq!(open(folder.path()).unwrap().entries, list(&[("B", "3"), ("b", "2")]));
}

/// As a crash leaves it between making the new database and filling it.
#[test]
fn an_empty_database_beside_a_snapshot_is_filled_from_it() {
    let folder = data_dir(&[], &[("b", "2")]);
    let opened = open(folder.path()).unwrap();
    assert_eq!(opened.entries, list(&[("b", "2")]));
    assert!(opened.restored.is_some());
}

#[test]
fn a_damaged_catalog_without_a_snapshot_is_refused_and_left_alone() {
    let folder = data_dir(&[("a", "1")], &[]);
    fs::remove_file(folder.path().join(SNAPSHOT_NAME)).unwrap();
    fs::write(folder.path().join("catalog").join("conf"), [0xee; 40]).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("no snapshot"), "{error}");
    assert_eq!(names_in(folder.path()), ["catalog"]);
}

#[test]
fn a_catalog_in_use_is_not_taken_for_a_damaged_one() {
    let folder = data_dir(&[("a", "1")], &[]);
    let _held = open(folder.path()).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, CatalogError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains("in use"), "{error}");
}

/// Every octet of a database in turn: what is committed comes back, or the damage is found and the snapshot taken;
/// never are there other entries, as sled alone would let happen.
#[test]
fn no_damaged_octet_changes_what_is_committed_without_notice() {
    let folder = tempfile::tempdir().unwrap();
    let mut committed = Entries::new();
    let mut opened = open(folder.path()).unwrap();
    for number in 0..8 {
        let changes =
            [put(&format!("key {number}"), &"value".repeat(number)), put("same", &number.to_string())];
        apply(&mut committed, changes.clone());
        opened.catalog.commit(&changes).unwrap();
    }
    let committed: EntryList = committed.into_iter().collect();
    drop(opened);
    let path = folder.path().join("catalog").join("db");
    let sound = fs::read(&path).unwrap();
    let used = sound.iter().rposition(|octet| *octet != 0).unwrap();
    let mut noticed = 0;
    for at in (0..used).step_by(used / 40) {
        let copy = tempfile::tempdir().unwrap();
        let catalog = copy.path().join("catalog");
        fs::create_dir_all(catalog.join("blobs")).unwrap();
        for name in ["conf", "committed"] {
            fs::copy(folder.path().join("catalog").join(name), catalog.join(name)).unwrap();
        }
        fs::copy(folder.path().join(SNAPSHOT_NAME), copy.path().join(SNAPSHOT_NAME)).unwrap();
        let mut damaged = sound.clone();
        damaged[at] ^= 0x40;
        fs::write(catalog.join("db"), damaged).unwrap();
        let opened = open(copy.path()).unwrap();
        match opened.restored {
            Some(_) => noticed += 1,
            None => assert_eq!(opened.entries, committed, "octet {at}"),
        }
    }
    assert!(noticed > 0);
}

#[test]
fn both_catalogs_can_be_used_as_one_thing() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path()).unwrap().catalog;
    let catalogs: [Box<dyn Catalog>; 2] = [Box::new(database), Box::<SimulatedCatalog>::default()];
    for mut catalog in catalogs {
        catalog.commit(&[put("b", "1"), put("a", "1"), put("b", "2")]).unwrap();
        assert_eq!(catalog.entries().unwrap(), list(&[("a", "1"), ("b", "2")]));
        assert_eq!(catalog.entries_from(b"").unwrap(), list(&[("a", "1"), ("b", "2")]));
        assert_eq!(catalog.entries_from(b"b").unwrap(), list(&[("b", "2")]));
        catalog.commit(&[Change::delete(b"a".to_vec()), Change::delete(b"missing".to_vec())]).unwrap();
        assert_eq!(catalog.entries().unwrap(), list(&[("b", "2")]));
    }
}
