//! Damage to what was safe: the queue that it concerns is stopped and says why, also after the next start, the
//! others live; where it cannot be told whom it concerns the store does not open. Never is a message delivered that
//! is not what was published.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use super::super::*;
use super::model::Found;
use super::world::{self, After, Below, DATA_DIR, Op, Running, World};
use crate::catalog::SimulatedCatalog;
use crate::disk::SimulatedDisk;

/// What is left on disk by a broker that ended without a fault, and what is to be found on it.
struct Left {
    disk: SimulatedDisk,
    catalog: SimulatedCatalog,
    found: Found,
}

impl Left {
    fn by(ops: &[Op]) -> Self {
        let mut world = World::new(SyncMode::Always, After::Kill);
        world.start();
        world.run(&[Op::Declare("a", true), Op::Declare("b", true), Op::DeclareExchange("x")]);
        world.run(&[Op::Bind("x", "a"), Op::Bind("x", "b"), Op::Step]);
        world.run(ops);
        // The journal notes that it was closed, so that its end is known.
        world.running().store.close().unwrap();
        let left =
            Self { disk: world.disk.kill(), catalog: world.catalog.restart(), found: Found::default() };
        Self { found: world::found_in(&left.open().unwrap()), ..left }
    }

    fn open(&self) -> Result<Running, OpenError> {
        world::open(&self.disk.copy(), &self.catalog.copy(), SyncMode::Always)
    }

    /// The same with one octet changed.
    fn with_flip(&self, path: &Path, offset: usize) -> Self {
        let disk = self.disk.copy();
        let octet = disk.content(path).unwrap()[offset];
        assert!(disk.corrupt(path, offset, &[octet ^ 0x20]));
        Self { disk, catalog: self.catalog.copy(), found: self.found.clone() }
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let dir = Path::new(DATA_DIR).join(folder);
        let names = self.disk.list(&dir).unwrap();
        names.into_iter().filter(|name| !name.ends_with("spare")).map(|name| dir.join(name)).collect()
    }

    /// File and offset of the only place with these octets.
    fn find(&self, folder: &str, octets: &[u8]) -> (PathBuf, usize) {
        let places = self.files(folder).into_iter().flat_map(|path| {
            let content = self.disk.content(&path).unwrap();
            let found = content.windows(octets.len()).enumerate().filter(|(_, window)| *window == octets);
            found.map(|(at, _)| (path.clone(), at)).collect::<Vec<_>>()
        });
        let places: Vec<_> = places.collect();
        assert_eq!(places.len(), 1, "{places:?}");
        places.into_iter().next().unwrap()
    }

    /// What is found: each queue as it should be, or stopped with nothing but what was there. Looked at again after a
    /// checkpoint that retires the journal and another start.
    fn check(&self, what: &str) -> Found {
        let found = world::found_in(&self.open().unwrap());
        self.compare(&found, what);
        let (disk, catalog) = (self.disk.copy(), self.catalog.copy());
        let mut running = world::open(&disk, &catalog, SyncMode::Always).unwrap();
        // A block that cannot be read keeps compaction from it, and nothing else.
        running.keeper.checkpoint(JournalPosition::NEVER).unwrap();
        running.keeper.compact().unwrap();
        running.store.close().unwrap();
        drop(running);
        let again = world::found_in(&world::open(&disk, &catalog, SyncMode::Always).unwrap());
        self.compare(&again, what);
        let stopped = |found: &Found| found.stopped.keys().cloned().collect::<Vec<_>>();
        assert_eq!(stopped(&again), stopped(&found), "{what}: stopped after the next start");
        found
    }

    fn compare(&self, found: &Found, what: &str) {
        assert_eq!(found.bindings, self.found.bindings, "{what}");
        assert!(found.queues.keys().eq(self.found.queues.keys()), "{what}");
        for (name, messages) in &found.queues {
            let expected = &self.found.queues[name];
            if found.stopped.contains_key(name) {
                assert!(messages.iter().all(|message| expected.contains(message)), "{what}: {name}");
            } else {
                assert_eq!(messages, expected, "{what}: {name}");
            }
        }
    }
}

fn in_journal() -> Left {
    Left::by(&[
        Op::Publish("a", vec![300, 40], true),
        Op::Publish("b", vec![200], true),
        Op::Fanout("x", vec![700, 10], true),
        Op::Step,
        Op::Take("b", 1),
        Op::Step,
    ])
}

fn in_blocks() -> Left {
    let few = [Op::Publish("a", vec![900; 5], true), Op::Publish("b", vec![800; 5], true), Op::Step];
    let ops = [few.to_vec(), vec![Op::PageOut(0)]].concat();
    Left::by(&[ops.clone(), ops, vec![Op::Take("b", 3), Op::Checkpoint(Below::All)]].concat())
}

#[test]
fn a_damaged_journal_record_stops_its_queue_for_good_and_no_other() {
    let left = in_journal();
    let (path, offset) = left.find("journal", &world::body(1, 300));
    let damaged = left.with_flip(&path, offset + 20);
    let found = damaged.check("record");
    let reason = &found.stopped["a"];
    assert!(reason.contains("journal") && reason.contains("damaged"), "{reason}");
    assert!(!found.stopped.contains_key("b"));
    let running = damaged.open().unwrap();
    let mut batch = MessageBatch::default();
    world::with_view(found.queues["b"][0], |view| batch.push(view));
    assert_eq!(running.queue("a").publish(&mut batch), JournalPosition::NEVER);
}

#[test]
fn a_damaged_message_of_several_queues_stops_these_for_good() {
    let left = in_journal();
    let (path, offset) = left.find("journal", &world::body(4, 700));
    let found = left.with_flip(&path, offset).check("shared");
    assert_eq!(found.stopped.len(), 2);
}

#[test]
fn a_deleted_queue_does_not_leave_behind_that_it_was_stopped() {
    let left = in_journal();
    let (path, offset) = left.find("journal", &world::body(1, 300));
    let damaged = left.with_flip(&path, offset);
    let mut running = damaged.open().unwrap();
    running.keeper.checkpoint(JournalPosition::NEVER).unwrap();
    running.vhost().delete_queue("a", leveret_broker::ConnectionId(1), false, false).unwrap();
    running.keeper.checkpoint(JournalPosition::NEVER).unwrap();
    let contents = crate::entries::Contents::of(running.store.catalog.lock().entries().unwrap());
    assert_eq!(contents.stopped.len(), 0);
}

#[test]
fn journal_damage_that_cannot_be_told_whose_refuses_to_open_and_changes_nothing() {
    let left = in_journal();
    let (path, offset) = left.find("journal", &world::body(1, 300));
    let mut refusals = 0;
    // What is in front of the message: its record's header, and that of the group.
    for before in 1..160 {
        let damaged = left.with_flip(&path, offset - before);
        let contents = |left: &Left| {
            let files = ["journal", "blocks/durable"].map(|folder| left.files(folder)).concat();
            files.into_iter().map(|path| (left.disk.content(&path), path)).collect::<Vec<_>>()
        };
        let untouched = contents(&damaged);
        match world::open(&damaged.disk, &damaged.catalog, SyncMode::Always) {
            Ok(_) => {}
            Err(OpenError::Recovery(RecoveryError::Unattributable { .. })) => {
                refusals += 1;
                assert_eq!(contents(&damaged), untouched);
            }
            Err(error) => panic!("{before}: {error}"),
        }
    }
    assert!(refusals > 60, "{refusals}");
}

/// A file of which little is needed is to be written anew elsewhere; with a block that cannot be read it stays.
#[test]
fn a_damaged_block_does_not_keep_other_files_from_being_compacted() {
    let few = [Op::Publish("a", vec![900; 5], true), Op::Publish("b", vec![900; 5], true), Op::Step];
    let ops = [few.to_vec(), vec![Op::PageOut(0)]].concat();
    let settled =
        vec![Op::Checkpoint(Below::All), Op::Take("b", 4), Op::Take("a", 4), Op::Checkpoint(Below::All)];
    let left = Left::by(&[ops.clone(), ops, settled].concat());
    let (path, offset) = left.find("blocks/durable", &world::body(5, 900));
    let damaged = left.with_flip(&path, offset);
    let mut running = damaged.open().unwrap();
    let is_sparse = |running: &Running| running.store.segments.sparse().is_some();
    running.keeper.checkpoint(JournalPosition::NEVER).unwrap();
    assert!(is_sparse(&running));
    for _ in 0..3 {
        running.keeper.compact().unwrap();
        running.keeper.checkpoint(JournalPosition::NEVER).unwrap();
    }
    assert!(running.queue("a").is_stopped());
    assert!(!is_sparse(&running));
}

#[test]
fn any_octet_of_the_journal_can_be_damaged() {
    let left = in_journal();
    let (mut refused, mut stopped, mut whole) = (0, 0, 0);
    for path in left.files("journal") {
        let used = left.disk.content(&path).unwrap().iter().rposition(|octet| *octet != 0).unwrap();
        for offset in (0..=used).step_by(7) {
            let what = format!("{} at {offset}", path.display());
            let damaged = left.with_flip(&path, offset);
            match damaged.open() {
                Ok(_) if damaged.check(&what).stopped.is_empty() => whole += 1,
                Ok(_) => stopped += 1,
                Err(OpenError::Recovery(_)) => refused += 1,
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }
    assert!(refused > 10 && stopped > 100 && whole > 50, "{refused} {stopped} {whole}");
}

#[test]
fn any_octet_of_a_block_can_be_damaged() {
    let left = in_blocks();
    let (mut stopped, mut whole) = (0, 0);
    for path in left.files("blocks/durable") {
        let length = left.disk.content(&path).unwrap().len();
        for offset in (0..length).step_by(53) {
            let found = left.with_flip(&path, offset).check(&format!("{} at {offset}", path.display()));
            assert!(found.stopped.len() <= 1);
            whole += usize::from(found.stopped.is_empty());
            stopped += found.stopped.len();
        }
    }
    assert!(stopped > 100 && whole > 0, "{stopped} {whole}");
}

#[test]
fn a_file_of_blocks_that_is_cut_off_or_missing_stops_the_queues_that_need_it() {
    let left = in_blocks();
    for path in left.files("blocks/durable") {
        let content = left.disk.content(&path).unwrap();
        for length in [None, Some(0), Some(100), Some(content.len() / 2), Some(content.len() - 1)] {
            let disk = left.disk.copy();
            disk.remove(&path).unwrap();
            if let Some(length) = length {
                let file = disk.create(&path).unwrap();
                crate::disk::write_all_at(&*file, &mut [IoSlice::new(&content[..length])], 0).unwrap();
            }
            let damaged = Left { disk, catalog: left.catalog.copy(), found: left.found.clone() };
            let found = damaged.check(&format!("{} cut to {length:?}", path.display()));
            assert!(!found.stopped.is_empty());
        }
    }
}
