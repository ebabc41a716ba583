//! A data directory that a store made, looked at by the check: sound as it is, and damaged in every part of it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use leveret_broker::message::Body;
use leveret_broker::policy::{ApplyTo, Policy, PolicyKind};
use leveret_broker::store::Store;
use leveret_broker::vhost::QueueDeclaration;
use leveret_broker::{Broker, ConnectionId, MessageBatch, MessageView};
use leveret_codec::table::FieldTable;
use tempfile::TempDir;

use super::*;
use crate::catalog::Catalog as _;
use crate::entries::{Change, StoppedEntry};
use crate::journal::SyncMode;
use crate::segments;
use crate::store::{DurableStore, StoreOptions};

const CONNECTION: ConnectionId = ConnectionId(1);

fn options(data_dir: &Path) -> StoreOptions {
    StoreOptions {
        data_dir: data_dir.to_owned(),
        sync: SyncMode::Always,
        journal_bytes_max: 16 << 20,
        segment_bytes: 1 << 20,
        reserve_bytes: 0,
    }
}

/// A store at work on a directory.
struct Running {
    store: Arc<DurableStore>,
    broker: Arc<Broker>,
}

impl Running {
    fn open(data_dir: &Path) -> Self {
        let (store, recovered) = DurableStore::open(options(data_dir)).unwrap();
        let broker = Arc::new(Broker::new(Arc::clone(&store) as Arc<dyn Store>));
        assert!(broker.restore(recovered.definitions, recovered.queues).is_empty());
        broker.create_vhost("/");
        Self { store, broker }
    }

    fn publish(&self, name: &str, count: usize) {
        let vhost = self.broker.vhost("/").unwrap();
        let arguments = FieldTable::new();
        let declaration =
            QueueDeclaration { name, durable: true, exclusive: false, auto_delete: false, arguments };
        let (queue, _) = vhost.declare_queue(declaration, CONNECTION).unwrap();
        let mut batch = MessageBatch::default();
        let body = Body::Small(&[7; 1000]);
        for _ in 0..count {
            batch.push(&MessageView {
                names: b"\0\x01k",
                properties: &[0, 0],
                body,
                persistent: true,
                extras: b"",
            });
        }
        let position = queue.publish(&mut batch);
        while self.store.safe() < position {
            std::thread::yield_now();
        }
    }

    /// Messages leave the journal for blocks, and the store ends.
    fn close(self) {
        self.store.run(Arc::clone(&self.broker)).unwrap();
        self.store.close().unwrap();
    }

    /// The process ends at once: everything stays where it is.
    fn kill(self) {
        self.store.journal.close().unwrap();
    }
}

/// Two queues with 100 messages in blocks each, and one of them with 20 more in the journal.
fn data_dir() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::open(folder.path());
    running.publish("one", 100);
    running.publish("two", 100);
    running.close();
    let running = Running::open(folder.path());
    running.publish("two", 20);
    running.kill();
    folder
}

/// What a reader was told.
#[derive(Default)]
struct Told {
    text: String,
    stages: Vec<Stage>,
}

impl Reader for Told {
    fn line(&mut self, text: fmt::Arguments<'_>) {
        self.text += &format!("{text}\n");
    }

    fn stage(&mut self, stage: Stage) {
        self.stages.push(stage);
    }
}

fn checked(data_dir: &Path) -> (CheckReport, String) {
    let mut told = Told::default();
    let report = check(data_dir, &mut told).unwrap();
    (report, told.text)
}

fn flip(path: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut octet = [0];
    file.read_exact_at(&mut octet, offset).unwrap();
    file.write_all_at(&[octet[0] ^ 0x20], offset).unwrap();
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension != "spare"));
    paths.sort();
    paths
}

#[test]
fn a_sound_directory_is_told_queue_by_queue_and_stays_as_it_is() {
    let folder = data_dir();
    let (report, text) = checked(folder.path());
    let expected = CheckReport { queues: 2, messages_in_blocks: 200, messages_in_journal: 20, damages: 0 };
    assert_eq!(report, expected, "{text}");
    assert!(text.contains("queue 'one' in vhost '/': 100 messages in blocks, 0 in the journal\n"), "{text}");
    assert!(text.contains("queue 'two' in vhost '/': 100 messages in blocks, 20 in the journal\n"), "{text}");
    assert!(
        text.contains("definitions: 1 vhosts, 0 exchanges, 2 durable queues, 0 bindings, 0 policies\n"),
        "{text}"
    );
    assert!(text.ends_with("2 queues with 220 messages; damages: 0\n"), "{text}");
    assert!(!text.contains("note:"), "{text}");
    assert_eq!(checked(folder.path()), (report, text), "the first check left everything as it was");
    let running = Running::open(folder.path());
    let ready: usize = running.broker.queues().iter().map(|queue| queue.snapshot().ready).sum();
    assert_eq!(ready, 220);
}

#[test]
fn every_octet_of_a_block_counts() {
    let folder = data_dir();
    let path = files_in(&folder.path().join("blocks/durable")).remove(0);
    for offset in [512, 530, 560, 600, 50_000] {
        flip(&path, offset);
        let (report, text) = checked(folder.path());
        assert!(report.damages > 0 && text.contains(", DAMAGED\n  damage: messages "), "{offset}: {text}");
        flip(&path, offset);
    }
    assert!(checked(folder.path()).0.is_sound());
    fs::remove_file(&path).unwrap();
    let (report, text) = checked(folder.path());
    assert!(report.damages > 0 && text.contains("is missing"), "{text}");
}

#[test]
fn a_damaged_record_of_the_journal_is_told_with_its_queue() {
    let folder = data_dir();
    let running = Running::open(folder.path());
    running.publish("one", 1);
    running.kill();
    let mut told = 0;
    for path in files_in(&folder.path().join("journal")) {
        // The payload of the file's first record, if there is any.
        flip(&path, 512 + 48 + 28 + 40);
        let (report, text) = checked(folder.path());
        told += report.damages;
        assert!(report.is_sound() || text.contains("is damaged"), "{text}");
        flip(&path, 512 + 48 + 28 + 40);
    }
    assert!(told > 0);
    assert!(checked(folder.path()).0.is_sound());
}

#[test]
fn a_lost_catalog_is_damage_and_what_a_start_would_find_is_told() {
    let folder = data_dir();
    fs::write(folder.path().join("catalog/db"), vec![0xa5; 100_000]).unwrap();
    let (report, text) = checked(folder.path());
    assert_eq!((report.damages, report.queues), (1, 2), "{text}");
    assert_eq!((report.messages_in_blocks, report.messages_in_journal), (200, 20), "{text}");
    assert!(text.contains("makes the catalog anew"), "{text}");
    // And it does.
    let running = Running::open(folder.path());
    let ready: usize = running.broker.queues().iter().map(|queue| queue.snapshot().ready).sum();
    assert_eq!(ready, 220);
    running.close();
    let (report, text) = checked(folder.path());
    assert!(report.is_sound() && report.messages_in_blocks == 220, "{text}");
    assert!(text.contains("note: catalog.damaged-1 is a damaged catalog that was set aside"), "{text}");
}

#[test]
fn a_damaged_snapshot_is_damage() {
    let folder = data_dir();
    flip(&folder.path().join(SNAPSHOT_NAME), 20);
    let (report, text) = checked(folder.path());
    assert_eq!(report.damages, 1, "{text}");
}

#[test]
fn what_is_wrong_in_the_catalog_is_told() {
    let folder = data_dir();
    let path = folder.path().join(CATALOG_NAME);
    let (mut catalog, _) = SledCatalog::open(&path).unwrap();
    let bound = BindingSpec {
        source: "missing".into(),
        target: BindingTarget::Queue("one".into()),
        routing_key: "key".to_owned(),
        arguments: FieldTable::new(),
    };
    let bind = crate::definitions::change_of(&Definition::Bind("/".into(), bound));
    let strange = Change::put(b"zzz".to_vec(), b"1".to_vec());
    let entries = Contents::of(catalog.entries().unwrap());
    let (queue, _) = queues_of(&entries.definitions).next().unwrap();
    let stopped = StoppedEntry { queue, reason: "a record was lost".to_owned() }.put();
    let policy = |name: &str, pattern: &str, max_length: i64| {
        let policy = Policy {
            name: name.to_owned(),
            pattern: pattern.to_owned(),
            apply_to: ApplyTo::Queues,
            priority: 0,
            definition: FieldTable::new().with("max-length", max_length),
        };
        crate::definitions::change_of(&Definition::PutPolicy("/".into(), PolicyKind::Policy, policy))
    };
    let policies = [policy("good", "^a", 1), policy("open", "(a", 1), policy("negative", "a", -1)];
    catalog.commit(&[bind, strange, stopped]).unwrap();
    catalog.commit(&policies).unwrap();
    drop(catalog);
    let (report, text) = checked(folder.path());
    assert_eq!(report.damages, 5, "{text}");
    assert!(text.contains(", 3 policies\n"), "{text}");
    assert!(text.contains("policy 'open' in vhost '/': pattern should be regular expression"), "{text}");
    assert!(text.contains("policy 'negative' in vhost '/': "), "{text}");
    assert!(text.contains(", DAMAGED\n  damage: it was stopped: a record was lost\n"), "{text}");
    assert!(text.contains("exchange 'missing' does not exist"), "{text}");
    assert!(text.contains("zzz"), "{text}");
}

#[test]
fn files_that_nobody_needs_are_told_and_no_damage() {
    let folder = data_dir();
    let blocks = folder.path().join("blocks");
    fs::copy(files_in(&blocks.join("durable")).remove(0), blocks.join("durable/00000000000000ff.blocks"))
        .unwrap();
    fs::copy(files_in(&blocks.join("durable")).remove(0), blocks.join("durable/00000000000000fe.blocks"))
        .unwrap();
    segments::keep(&SystemDisk, &blocks, 0xfe).unwrap();
    fs::write(folder.path().join("catalog.snapshot.new"), b"half").unwrap();
    fs::write(folder.path().join("notes.txt"), b"mine").unwrap();
    let (report, text) = checked(folder.path());
    assert!(report.is_sound(), "{text}");
    for told in [
        "00000000000000ff.blocks; the next start deletes it",
        "00000000000000fe.blocks was kept",
        "catalog.snapshot.new was not finished",
        "notes.txt is not the broker's",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
}

#[test]
fn a_reader_is_told_how_far_the_work_is() {
    let folder = data_dir();
    let mut told = Told::default();
    check(folder.path(), &mut told).unwrap();
    let all = told.stages.len() - 2;
    let blocks = (0..all).map(|done| Stage::Blocks { done, all });
    let wanted: Vec<_> = [Stage::Catalog, Stage::Journal].into_iter().chain(blocks).collect();
    assert!(all >= 2 && told.stages == wanted, "{:?}", told.stages);

    fs::remove_dir_all(folder.path().join(CATALOG_NAME)).unwrap();
    let mut told = Told::default();
    check(folder.path(), &mut told).unwrap();
    let wanted = [Stage::Catalog, Stage::Journal, Stage::Search, Stage::Blocks { done: 0, all }];
    assert_eq!(told.stages.get(..4), Some(wanted.as_slice()));
}

#[test]
fn a_directory_in_use_or_of_nobody_is_not_checked() {
    let folder = data_dir();
    let running = Running::open(folder.path());
    let error = check(folder.path(), &mut Told::default()).unwrap_err();
    assert!(matches!(error, CheckError::Lock(LockError::InUse { .. })), "{error}");
    running.kill();
    let empty = tempfile::tempdir().unwrap();
    let error = check(empty.path(), &mut Told::default()).unwrap_err();
    assert!(matches!(error, CheckError::Empty), "{error}");
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
}
