//! How often messages of a quorum queue came back survives whatever happens to what they lie in.

use leveret_broker::queue::quorum::Returns;
use leveret_broker::queue::{Got, Settlement};
use leveret_broker::vhost::QueueDeclaration;
use leveret_broker::{ConnectionId, MessageRef};
use leveret_codec::table::{FieldTable, FieldValue};

use super::super::*;
use super::model::Message;
use super::world::{Running, open, with_view};
use crate::catalog::SimulatedCatalog;
use crate::disk::SimulatedDisk;

fn take(queue: &Queue) -> (MessageRef, Returns) {
    for _ in 0..3 {
        match queue.get(false, |delivery, _| (delivery.reference, delivery.returns)).unwrap() {
            Got::Message(message) => return message,
            Got::Empty => panic!("no message"),
            Got::Absent => queue.load(),
        }
    }
    panic!("the next message does not come into memory");
}

/// A store with a quorum queue of four messages, on a disk of its own.
fn begin(disk: &SimulatedDisk, catalog: &SimulatedCatalog) -> Running {
    disk.create_dir(std::path::Path::new(super::world::DATA_DIR)).unwrap();
    let running = open(disk, catalog, SyncMode::Always).unwrap();
    let arguments = FieldTable::new().with("x-queue-type", FieldValue::from("quorum"));
    let declaration =
        QueueDeclaration { name: "q", durable: true, exclusive: false, auto_delete: false, arguments };
    let (queue, _) = running.vhost().declare_queue(declaration, ConnectionId(1)).unwrap();
    let mut batch = MessageBatch::for_level(&queue.spec, queue.spec.level_of(&[0, 0]));
    for number in 1..=4 {
        with_view(Message { number, bytes: 100, persistent: true }, |view| batch.push(view));
    }
    queue.publish(&mut batch);
    running
}

fn returns(acquired: u32, failed: u32) -> Returns {
    Returns { acquired, failed }
}

/// What becomes of the journal and the memory before the process is killed.
type Upkeep = fn(&mut Running);

const UPKEEPS: [(&str, Upkeep); 4] = [
    ("nothing", |_| {}),
    ("a checkpoint", |running| running.keeper.checkpoint(JournalPosition::NEVER).unwrap()),
    ("messages leave memory", |running| running.broker.page_out(0).unwrap()),
    ("both", |running| {
        running.broker.page_out(0).unwrap();
        running.keeper.checkpoint(JournalPosition::NEVER).unwrap();
    }),
];

#[test]
fn what_came_back_is_counted_on_after_a_kill() {
    for (first, before) in UPKEEPS {
        for (second, after) in UPKEEPS {
            let (mut disk, mut catalog) = (SimulatedDisk::new(5), SimulatedCatalog::default());
            let mut running = begin(&disk, &catalog);
            let queue = running.queue("q");
            let taken: Vec<_> = (0..3).map(|_| take(&queue).0).collect();
            before(&mut running);
            queue.settle(None, Settlement::Failed, &taken[..1]);
            queue.settle(None, Settlement::Requeued, &taken[1..2]);
            queue.settle(None, Settlement::Settled, &taken[2..]);
            let (again, _) = take(&queue);
            queue.settle(None, Settlement::Failed, &[again]);
            after(&mut running);
            running.store.journal.step().unwrap();
            (disk, catalog) = (disk.kill(), catalog.restart());
            drop((queue, running));

            let running = open(&disk, &catalog, SyncMode::Always).unwrap();
            let queue = running.queue("q");
            let what = format!("{first}, then {second}");
            let found: Vec<_> = (0..3).map(|_| take(&queue)).collect();
            let (counts, refs): (Vec<_>, Vec<_>) =
                found.iter().map(|&(message, count)| (count, message)).unzip();
            // The last one was not handed out, and perhaps noted to be.
            assert_eq!(counts[..2], [returns(2, 2), returns(1, 0)], "{what}");
            assert!([returns(0, 0), returns(1, 0)].contains(&counts[2]), "{what}");
            queue.settle(None, Settlement::Requeued, &refs[1..2]);
            assert_eq!(take(&queue).1, returns(2, 0), "{what}");
        }
    }
}
