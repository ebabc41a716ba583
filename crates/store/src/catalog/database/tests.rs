//! The database alone: what it keeps, refuses and survives.

use proptest::prelude::*;

use super::*;
use crate::entries::{Entries, apply};

fn open(dir: &Path) -> (SledCatalog, Option<EntryList>) {
    SledCatalog::open(dir).unwrap()
}

fn put(key: &str, value: &[u8]) -> Change {
    Change::put(key.into(), value.to_vec())
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("catalog");
    drop(SledCatalog::open_knowing(&dir, 7).unwrap());
    match SledCatalog::open_knowing(&dir, 6) {
        Err(CatalogError::NewerFormat { found: 7, known: 6 }) => {}
        other => panic!("{other:?}"),
    }
    SledCatalog::open_knowing(&dir, 8).unwrap();
}

#[test]
fn entries_of_any_size_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("catalog");
    let (mut catalog, entries) = open(&dir);
    assert_eq!(entries, None);
    let large = vec![7; 3 << 20];
    let changes = [put("large", &large), put(&"long".repeat(20_000), b"value"), put("", b"")];
    catalog.commit(&changes).unwrap();
    let expected = catalog.entries().unwrap();
    assert_eq!(expected.len(), 3);
    drop(catalog);
    assert_eq!(open(&dir).1, Some(expected));
}

#[test]
fn entries_that_were_changed_behind_the_catalogs_back_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("catalog");
    let (mut catalog, _) = open(&dir);
    catalog.commit(&[put("a", b"1"), put("b", b"2")]).unwrap();
    let database = catalog.database.as_ref().unwrap();
    database.db.remove("a").unwrap();
    assert!(matches!(catalog.entries(), Err(CatalogError::Damaged(_))));
    database.db.insert("a", "1").unwrap();
    catalog.entries().unwrap();
}

#[test]
fn after_a_failed_commit_the_next_one_opens_the_database_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("catalog");
    let (mut catalog, _) = open(&dir);
    catalog.commit(&[put("a", b"1")]).unwrap();
    // A failure of sled's own cannot be made without a full disk; this is what is left after one.
    drop(catalog.database.take());
    catalog.entries().unwrap_err();
    catalog.commit(&[put("b", b"2")]).unwrap();
    assert_eq!(catalog.entries().unwrap().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn the_database_holds_what_was_committed(
        commits in prop::collection::vec(
            prop::collection::vec(("[a-d]{1,3}", prop::option::of(any::<Vec<u8>>())), 0..10), 1..8,
        ),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("catalog");
        let (mut catalog, _) = open(&dir);
        let mut expected = Entries::new();
        for commit in commits {
            let changes: Vec<_> =
                commit.into_iter().map(|(key, value)| Change { key: key.into(), value }).collect();
            apply(&mut expected, changes.clone());
            catalog.commit(&changes).unwrap();
        }
        let expected: EntryList = expected.into_iter().collect();
        prop_assert_eq!(catalog.entries().unwrap(), expected.clone());
        drop(catalog);
        prop_assert_eq!(open(&dir).1, Some(expected));
    }
}
