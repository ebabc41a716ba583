//! Delivery marks: up to which position each durable queue has handed out messages, so that those that come back
//! after a kill are marked redelivered. A write per change and no sync: the page cache outlives the process, and
//! after a power loss a message too few or too many is marked.
//!
//! The file is slots of 16 octets, queue id u64 and position u64, little endian; a queue id of zero is a free slot.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret_broker::names::QueueId;
use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, read_exact_at, write_all_at};
use crate::octets::Reader;

const SLOT_BYTES: usize = 16;

/// The marks of all queues.
pub struct Marks {
    file: Box<dyn DiskFile>,
    slots: Mutex<Slots>,
    /// Whether a failure has been logged.
    has_failed: AtomicBool,
}

#[derive(Default)]
struct Slots {
    by_queue: HashMap<QueueId, Slot>,
    free: Vec<u64>,
    next: u64,
}

#[derive(Clone, Copy)]
struct Slot {
    number: u64,
    position: u64,
}

impl Marks {
    /// Opens the marks at `path` and returns what they say, by queue id. They are written anew without gaps, in place
    /// of the old ones: nothing is lost if this ends in between.
    ///
    /// # Errors
    /// The disk fails.
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> io::Result<(Self, HashMap<u64, u64>)> {
        let known = read(&*disk, path)?;
        let unfinished = unfinished(path);
        match disk.remove(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(&unfinished)?;
        let mut slots = Slots::default();
        let mut octets = Vec::with_capacity(known.len() * SLOT_BYTES);
        for (&queue, &position) in &known {
            octets.extend_from_slice(&slot_octets(queue, position));
            slots.insert(QueueId(queue), position);
        }
        write_all_at(&*file, &mut [IoSlice::new(&octets)], 0)?;
        // Else a power loss could put an empty file in the place of the old one.
        file.sync()?;
        disk.rename(&unfinished, path)?;
        Ok((Self { file, slots: Mutex::new(slots), has_failed: AtomicBool::new(false) }, known))
    }

    /// Notes that `queue` hands out messages below `position`. Survives the end of this process, however it
    /// ends. Calls for one queue come one after another. A failure is logged once and forgiven: the message is not
    /// marked redelivered if it comes back.
    pub fn set(&self, queue: QueueId, position: u64) {
        let slot = {
            let mut slots = self.slots.lock();
            match slots.by_queue.get_mut(&queue) {
                Some(slot) if slot.position >= position => return,
                Some(slot) => {
                    slot.position = position;
                    slot.number
                }
                None => slots.insert(queue, position),
            }
        };
        if !self.write(slot, queue.0, position) {
            // So that the next call tries again, whatever its position.
            if let Some(slot) = self.slots.lock().by_queue.get_mut(&queue) {
                slot.position = 0;
            }
        }
    }

    /// The queue is deleted.
    pub fn forget(&self, queue: QueueId) {
        let Some(slot) = self.slots.lock().by_queue.remove(&queue) else { return };
        // A slot that could not be emptied is not used again: its queue id is nobody's.
        if self.write(slot.number, 0, 0) {
            self.slots.lock().free.push(slot.number);
        }
    }

    /// Makes all marks safe from a power loss too.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, slot: u64, queue: u64, position: u64) -> bool {
        let octets = slot_octets(queue, position);
        let written = write_all_at(&*self.file, &mut [IoSlice::new(&octets)], slot * SLOT_BYTES as u64);
        if let Err(error) = &written
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            tracing::error!(
                %error,
                "cannot note which messages were delivered: after a crash they may come back without redelivered set"
            );
        }
        written.is_ok()
    }
}

impl Slots {
    /// Gives a queue a slot; its number.
    fn insert(&mut self, queue: QueueId, position: u64) -> u64 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.by_queue.insert(queue, Slot { number, position });
        number
    }
}

fn slot_octets(queue: u64, position: u64) -> [u8; SLOT_BYTES] {
    let mut octets = [0; SLOT_BYTES];
    let (front, back) = octets.split_at_mut(SLOT_BYTES / 2);
    front.copy_from_slice(&queue.to_le_bytes());
    back.copy_from_slice(&position.to_le_bytes());
    octets
}

/// Reads all slots that are taken; a slot cut off at the end is none.
fn read(disk: &dyn Disk, path: &Path) -> io::Result<HashMap<u64, u64>> {
    let file = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        opened => opened?,
    };
    let mut octets = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
    read_exact_at(&*file, &mut octets, 0)?;
    let mut marks = HashMap::new();
    let mut reader = Reader::new(&octets);
    while let (Some(queue), Some(position)) = (reader.u64(), reader.u64()) {
        if queue != 0 {
            // After a power loss a queue can have an old slot beside its new one.
            let mark = marks.entry(queue).or_insert(position);
            *mark = position.max(*mark);
        }
    }
    Ok(marks)
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::SimulatedDisk;
    use crate::disk::simulated::{Fault, Survival};

    fn path() -> &'static Path {
        Path::new("/data/delivered")
    }

    fn disk() -> SimulatedDisk {
        let disk = SimulatedDisk::default();
        disk.create_dir(Path::new("/data")).unwrap();
        disk
    }

    fn open(disk: &SimulatedDisk) -> (Marks, HashMap<u64, u64>) {
        Marks::open(Arc::new(disk.clone()), path()).unwrap()
    }

    proptest! {
        #[test]
        fn marks_survive_a_kill(
            steps in prop::collection::vec((1_u64..6, prop::option::of(1_u64..100), any::<bool>()), 0..60),
        ) {
            let mut disk = disk();
            let (mut marks, _) = open(&disk);
            let mut expected = HashMap::new();
            for (queue, position, is_kill) in steps {
                match position {
                    Some(position) => {
                        marks.set(QueueId(queue), position);
                        let mark = expected.entry(queue).or_insert(position);
                        *mark = position.max(*mark);
                    }
                    None => {
                        marks.forget(QueueId(queue));
                        expected.remove(&queue);
                    }
                }
                if is_kill {
                    disk = disk.kill();
                    let (opened, found) = open(&disk);
                    prop_assert_eq!(&found, &expected);
                    marks = opened;
                }
            }
        }
    }

    #[test]
    fn a_kill_while_they_are_opened_loses_none() {
        let prepared = || {
            let disk = disk();
            let (marks, _) = open(&disk);
            marks.set(QueueId(1), 10);
            marks.set(QueueId(2), 20);
            disk
        };
        let calls = {
            let disk = prepared();
            let before = disk.calls();
            open(&disk);
            disk.calls() - before
        };
        for call in 1..=calls {
            for fault in [Fault::Io, Fault::NoSpace, Fault::Short, Fault::Crash] {
                let disk = prepared();
                disk.fail_call(disk.calls() + call, fault);
                let _ = Marks::open(Arc::new(disk.clone()), path());
                let (_, found) = open(&disk.kill());
                assert_eq!(found, HashMap::from([(1, 10), (2, 20)]), "{call} {fault:?}");
            }
        }
    }

    #[test]
    fn a_mark_that_could_not_be_written_is_written_the_next_time() {
        let disk = disk();
        let (marks, _) = open(&disk);
        marks.set(QueueId(1), 10);
        disk.fail_all(Some(Fault::Io));
        marks.set(QueueId(1), 20);
        disk.fail_all(None);
        marks.set(QueueId(1), 20);
        assert_eq!(open(&disk.kill()).1, HashMap::from([(1, 20)]));
    }

    #[test]
    fn a_mark_that_says_nothing_new_costs_nothing() {
        let disk = disk();
        let (marks, _) = open(&disk);
        marks.set(QueueId(1), 10);
        let calls = disk.calls();
        marks.set(QueueId(1), 10);
        marks.set(QueueId(1), 9);
        assert_eq!(disk.calls(), calls);
    }

    #[test]
    fn synced_marks_survive_a_power_loss() {
        let disk = disk();
        let (marks, _) = open(&disk);
        disk.sync_dir(Path::new("/data")).unwrap();
        marks.set(QueueId(1), 10);
        marks.sync().unwrap();
        assert_eq!(open(&disk.crash(Survival::DropAll)).1, HashMap::from([(1, 10)]));
    }
}
