//! A disk in memory for tests. It knows for each file what is safe and what is only written, and for each directory
//! which names are safe, and so can show what a power loss would have left: unsynced writes come back whole, torn or
//! not at all, file names old or new. Any call can be made to fail.
//!
//! Stricter than file systems are where these differ: syncing a file does not make its name safe, and sectors of an
//! unsynced write survive one by one. Directories themselves are safe as soon as they are made.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile};

/// What survives whole or not at all.
const SECTOR: usize = 512;

/// The system's numbers of the two errors that matter.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with EIO. A sync then makes at random safe, or never safe, what was written before.
    Io,
    /// It fails with ENOSPC.
    NoSpace,
    /// A write writes only half of it, and says so; other calls succeed.
    Short,
    /// It and all later calls fail: the machine is off. See [`SimulatedDisk::crash`].
    Crash,
}

/// What a power loss leaves of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    DropAll,
    /// Everything.
    KeepAll,
    /// All names, and all writes but the last, of which the first half of the sectors is there.
    TearLast,
    /// Each write is there, or not, or a part of its sectors; each name is the old or the new one. By this seed.
    Random(u64),
}

/// The disk; clones are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

type Inode = u64;
/// Directory and name.
type Name = (PathBuf, String);

#[derive(Default)]
struct State {
    files: HashMap<Inode, Octets>,
    next_inode: Inode,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<Name, Inode>,
    safe_names: BTreeMap<Name, Inode>,
    /// Changes of names that no directory sync has made safe, in order.
    changes: Vec<Change>,
    /// Grows with each write, to find the last one.
    writes: u64,
    calls: u64,
    faults: BTreeMap<u64, Fault>,
    /// Every call that changes something fails so, from now on.
    failing: Option<Fault>,
    is_off: bool,
    capacity: Option<u64>,
    random: Random,
}

/// A file's content.
#[derive(Clone, Default)]
struct Octets {
    /// What a read sees.
    seen: Vec<u8>,
    safe: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

#[derive(Clone)]
struct Unsynced {
    number: u64,
    offset: usize,
    octets: Vec<u8>,
}

#[derive(Clone)]
enum Change {
    Create(Name, Inode),
    Rename(Name, Name, Inode),
    Remove(Name, Inode),
}

/// splitmix64: enough for tests, and the same for the same seed.
#[derive(Clone, Default)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new(0)
    }
}

impl SimulatedDisk {
    /// An empty disk without limits. The seed decides what a failed sync leaves.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of(State { random: Random(seed), ..State::default() })
    }

    fn of(mut state: State) -> Self {
        state.dirs.insert(PathBuf::from("/"));
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Calls so far, of the disk and of its files, whatever they do.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Lets the call of this number go wrong; the first call ever is number 1. Several faults can be planned.
    pub fn fail_call(&self, number: u64, fault: Fault) {
        self.state.lock().faults.insert(number, fault);
    }

    /// From now on every call that would change something fails so; `None` ends that.
    pub fn fail_all(&self, fault: Option<Fault>) {
        self.state.lock().failing = fault;
    }

    /// Octets that all files together can have; `None` is no limit.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.state.lock().capacity = capacity;
    }

    /// Octets that all files together have.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Whether a planned crash has happened.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state.lock().is_off
    }

    /// The disk as it is found after a power loss now. This one is off from then on. Faults are forgotten, the
    /// capacity stays.
    #[must_use]
    pub fn crash(&self, survival: Survival) -> Self {
        let mut state = self.state.lock();
        state.is_off = true;
        state.after_power_loss(survival)
    }

    /// The disk as it is found after the process was killed now: everything written is there, and what was not
    /// synced still is not. This one is off from then on. Faults are forgotten, the capacity stays.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.state.lock().is_off = true;
        self.copy()
    }

    /// Another disk with all that this one has, safe or not. Faults are forgotten, the capacity stays.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state.lock();
        Self::of(State {
            files: state.files.clone(),
            next_inode: state.next_inode,
            dirs: state.dirs.clone(),
            names: state.names.clone(),
            safe_names: state.safe_names.clone(),
            changes: state.changes.clone(),
            writes: state.writes,
            capacity: state.capacity,
            random: state.random.clone(),
            ..State::default()
        })
    }

    /// What is in a file, as a read would see it; `None` if there is no such file.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let inode = state.names.get(&name_of(path)?)?;
        state.files.get(inode).map(|file| file.seen.clone())
    }

    /// Puts octets into a file behind everybody's back, safe at once, as decay or a stranger would. False if there
    /// is no such file or it is shorter.
    #[must_use]
    pub fn corrupt(&self, path: &Path, offset: usize, octets: &[u8]) -> bool {
        let mut state = self.state.lock();
        let inode = name_of(path).and_then(|name| state.names.get(&name).copied());
        let Some(file) = inode.and_then(|inode| state.files.get_mut(&inode)) else { return false };
        let range = offset..offset + octets.len();
        let Some(seen) = file.seen.get_mut(range.clone()) else { return false };
        seen.copy_from_slice(octets);
        if let Some(safe) = file.safe.get_mut(range) {
            safe.copy_from_slice(octets);
        }
        true
    }

    /// Counts a call and says what is to happen at it. A call that only reads does not mind `fail_all`.
    fn call(state: &mut State, changes: bool) -> io::Result<Option<Fault>> {
        state.calls += 1;
        if state.is_off {
            return Err(io::Error::other("the simulated machine is off"));
        }
        let planned = state.faults.remove(&state.calls);
        let fault = planned.or(state.failing.filter(|_| changes));
        if fault == Some(Fault::Crash) {
            state.is_off = true;
            return Err(io::Error::other("the simulated machine went off"));
        }
        Ok(fault)
    }

    /// The same where no call can be cut short.
    fn whole_call(state: &mut State, changes: bool) -> io::Result<()> {
        match Self::call(state, changes)? {
            Some(Fault::Io) => Err(io::Error::from_raw_os_error(EIO)),
            Some(Fault::NoSpace) => Err(io::Error::from_raw_os_error(ENOSPC)),
            _ => Ok(()),
        }
    }
}

fn name_of(path: &Path) -> Option<Name> {
    Some((path.parent()?.to_owned(), path.file_name()?.to_string_lossy().into_owned()))
}

fn existing_name(path: &Path) -> io::Result<Name> {
    name_of(path).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

impl State {
    fn used(&self) -> u64 {
        let named: BTreeSet<_> = self.names.values().collect();
        named.iter().filter_map(|inode| self.files.get(inode)).map(|file| file.seen.len() as u64).sum()
    }

    fn after_power_loss(&self, survival: Survival) -> SimulatedDisk {
        let mut random = match survival {
            Survival::Random(seed) => Random(seed),
            _ => self.random.clone(),
        };
        let names = self.surviving_names(survival, &mut random);
        let last_write =
            self.files.values().flat_map(|file| file.unsynced.iter()).map(|write| write.number).max();
        let mut files = HashMap::new();
        // In the order of names, since a map's own order would not be the same for the same seed.
        for inode in names.values() {
            let Some(file) = self.files.get(inode) else { continue };
            let octets = file.after_power_loss(survival, last_write, &mut random);
            files.insert(*inode, Octets { seen: octets.clone(), safe: octets, unsynced: Vec::new() });
        }
        SimulatedDisk::of(Self {
            files,
            next_inode: self.next_inode,
            dirs: self.dirs.clone(),
            safe_names: names.clone(),
            names,
            capacity: self.capacity,
            random,
            ..Self::default()
        })
    }

    /// A change is all there or not at all; and not, if an earlier one of the same file or the same name is not.
    fn surviving_names(&self, survival: Survival, random: &mut Random) -> BTreeMap<Name, Inode> {
        let mut names = self.safe_names.clone();
        let mut lost_names = BTreeSet::new();
        let mut lost_files = BTreeSet::new();
        for change in &self.changes {
            let wanted = match survival {
                Survival::DropAll => false,
                Survival::KeepAll | Survival::TearLast => true,
                Survival::Random(_) => random.below(2) == 0,
            };
            let depends = lost_files.contains(&change.inode())
                || change.names().iter().any(|name| lost_names.contains(*name));
            if wanted && !depends {
                change.apply(&mut names);
            } else {
                lost_files.insert(change.inode());
                lost_names.extend(change.names().into_iter().cloned());
            }
        }
        names
    }
}

impl Change {
    fn inode(&self) -> Inode {
        match self {
            Self::Create(_, inode) | Self::Rename(_, _, inode) | Self::Remove(_, inode) => *inode,
        }
    }

    fn names(&self) -> Vec<&Name> {
        match self {
            Self::Create(name, _) | Self::Remove(name, _) => vec![name],
            Self::Rename(from, to, _) => vec![from, to],
        }
    }

    fn apply(&self, names: &mut BTreeMap<Name, Inode>) {
        match self {
            Self::Create(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Remove(name, _) => {
                names.remove(name);
            }
        }
    }
}

impl Octets {
    fn write(&mut self, number: u64, offset: usize, octets: &[u8]) {
        put(&mut self.seen, offset, octets);
        self.unsynced.push(Unsynced { number, offset, octets: octets.to_vec() });
    }

    fn sync(&mut self) {
        for write in std::mem::take(&mut self.unsynced) {
            put(&mut self.safe, write.offset, &write.octets);
        }
    }

    /// As Linux does it: what could not be written counts as clean from then on, so that it is still seen, no later
    /// sync writes it, and it may or may not be on the disk.
    fn fail_sync(&mut self, random: &mut Random) {
        for write in std::mem::take(&mut self.unsynced) {
            if random.below(2) == 0 {
                put(&mut self.safe, write.offset, &write.octets);
            }
        }
    }

    fn after_power_loss(&self, survival: Survival, last_write: Option<u64>, random: &mut Random) -> Vec<u8> {
        let mut octets = self.safe.clone();
        for write in &self.unsynced {
            let sectors = write.sectors();
            let half = sectors.len() / 2;
            match survival {
                Survival::DropAll => {}
                Survival::TearLast if last_write == Some(write.number) => {
                    sectors.iter().take(half).for_each(|(at, part)| put(&mut octets, *at, part));
                }
                Survival::KeepAll | Survival::TearLast => put(&mut octets, write.offset, &write.octets),
                Survival::Random(_) => match random.below(4) {
                    0 => {}
                    1 => put(&mut octets, write.offset, &write.octets),
                    2 => {
                        let there = random.below(sectors.len() as u64) as usize;
                        sectors.iter().take(there).for_each(|(at, part)| put(&mut octets, *at, part));
                    }
                    _ => {
                        for (at, part) in &sectors {
                            if random.below(2) == 0 {
                                put(&mut octets, *at, part);
                            }
                        }
                    }
                },
            }
        }
        octets
    }
}

impl Unsynced {
    /// The write cut at the borders of sectors.
    fn sectors(&self) -> Vec<(usize, &[u8])> {
        let mut sectors = Vec::new();
        let mut rest = self.octets.as_slice();
        let mut at = self.offset;
        while !rest.is_empty() {
            let (sector, behind) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
            sectors.push((at, sector));
            at += sector.len();
            rest = behind;
        }
        sectors
    }
}

fn put(file: &mut Vec<u8>, offset: usize, octets: &[u8]) {
    let end = offset + octets.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    if let Some(place) = file.get_mut(offset..end) {
        place.copy_from_slice(octets);
    }
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        Self::whole_call(&mut state, true)?;
        state.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state.lock();
        Self::whole_call(&mut state, false)?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(state.names.keys().filter(|(parent, _)| parent == dir).map(|(_, name)| name.clone()).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state.lock();
        Self::whole_call(&mut state, true)?;
        let name = existing_name(path)?;
        if !state.dirs.contains(&name.0) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.next_inode += 1;
        let inode = state.next_inode;
        state.files.insert(inode, Octets::default());
        state.names.insert(name.clone(), inode);
        state.changes.push(Change::Create(name, inode));
        Ok(Box::new(SimulatedFile { disk: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state.lock();
        Self::whole_call(&mut state, false)?;
        let inode = *state.names.get(&existing_name(path)?).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        Self::whole_call(&mut state, true)?;
        let (from, to) = (existing_name(from)?, existing_name(to)?);
        if !state.dirs.contains(&to.0) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = state.names.remove(&from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.clone(), inode);
        state.changes.push(Change::Rename(from, to, inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        Self::whole_call(&mut state, true)?;
        let name = existing_name(path)?;
        let inode = state.names.remove(&name).ok_or(io::ErrorKind::NotFound)?;
        state.changes.push(Change::Remove(name, inode));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        Self::whole_call(&mut state, true)?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let State { changes, safe_names, .. } = &mut *state;
        changes.retain(|change| {
            let is_here = change.names().iter().any(|(parent, _)| parent == dir);
            if is_here {
                change.apply(safe_names);
            }
            !is_here
        });
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let mut state = self.state.lock();
        Self::whole_call(&mut state, false)?;
        Ok(state.capacity.map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(state.used())))
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    inode: Inode,
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        SimulatedDisk::whole_call(&mut state, false)?;
        let file = state.files.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let there = file.seen.get(offset as usize..).unwrap_or_default();
        let read = there.len().min(buffer.len());
        let (filled, _) = buffer.split_at_mut(read);
        filled.copy_from_slice(there.split_at(read).0);
        Ok(read)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        let fault = SimulatedDisk::call(&mut state, true)?;
        let mut octets = parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<_>>();
        match fault {
            Some(Fault::Io) => return Err(io::Error::from_raw_os_error(EIO)),
            Some(Fault::NoSpace) => return Err(io::Error::from_raw_os_error(ENOSPC)),
            Some(Fault::Short) => octets.truncate(octets.len().div_ceil(2)),
            _ => {}
        }
        let room = state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used()));
        state.writes += 1;
        let number = state.writes;
        let file = state.files.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let end_max = (file.seen.len() as u64).saturating_add(room);
        octets.truncate(end_max.saturating_sub(offset).min(octets.len() as u64) as usize);
        if octets.is_empty() && parts.iter().any(|part| !part.is_empty()) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        file.write(number, offset as usize, &octets);
        Ok(octets.len())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let fault = SimulatedDisk::call(&mut state, true)?;
        let State { files, random, .. } = &mut *state;
        let file = files.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        match fault {
            Some(Fault::Io) => {
                file.fail_sync(random);
                Err(io::Error::from_raw_os_error(EIO))
            }
            Some(Fault::NoSpace) => {
                file.fail_sync(random);
                Err(io::Error::from_raw_os_error(ENOSPC))
            }
            _ => {
                file.sync();
                Ok(())
            }
        }
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.state.lock();
        SimulatedDisk::whole_call(&mut state, false)?;
        Ok(state.files.get(&self.inode).map_or(0, |file| file.seen.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::write_all_at;

    fn path(name: &str) -> PathBuf {
        Path::new("/d").join(name)
    }

    fn disk_with_file(octets: &[u8]) -> (SimulatedDisk, Box<dyn DiskFile>) {
        let disk = SimulatedDisk::new(1);
        disk.create_dir(Path::new("/d")).unwrap();
        let file = disk.create(&path("a")).unwrap();
        write_all_at(&*file, &mut [IoSlice::new(octets)], 0).unwrap();
        (disk, file)
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_does_not() {
        let (disk, file) = disk_with_file(b"first");
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        write_all_at(&*file, &mut [IoSlice::new(b" and more")], 5).unwrap();
        assert_eq!(disk.content(&path("a")).unwrap(), b"first and more");
        let after = disk.crash(Survival::DropAll);
        assert_eq!(after.content(&path("a")).unwrap(), b"first");
        assert!(file.sync().is_err(), "the old disk is off");
    }

    #[test]
    fn a_synced_file_without_a_synced_name_is_lost() {
        let (disk, file) = disk_with_file(b"octets");
        file.sync().unwrap();
        let after = disk.crash(Survival::DropAll);
        assert_eq!(after.list(Path::new("/d")).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_killed_process_leaves_everything_it_wrote_as_unsafe_as_it_was() {
        let (disk, _file) = disk_with_file(b"octets");
        let after = disk.kill();
        assert_eq!(after.content(&path("a")).unwrap(), b"octets");
        assert_eq!(after.crash(Survival::DropAll).content(&path("a")), None);
    }

    #[test]
    fn sectors_of_one_write_survive_one_by_one() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let (disk, file) = disk_with_file(&[0; 4 * SECTOR]);
            file.sync().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            write_all_at(&*file, &mut [IoSlice::new(&[7; 3 * SECTOR])], 100).unwrap();
            let content = disk.crash(Survival::Random(seed)).content(&path("a")).unwrap();
            let sectors = content.chunks(SECTOR).map(|sector| sector.contains(&7)).collect::<Vec<_>>();
            seen.insert(sectors);
        }
        assert_eq!(seen.len(), 16, "every choice of four sectors occurs");
    }

    #[test]
    fn a_renamed_file_has_one_name_after_any_crash() {
        for seed in 0..100 {
            let (disk, file) = disk_with_file(b"octets");
            file.sync().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            disk.rename(&path("a"), &path("b")).unwrap();
            disk.rename(&path("b"), &path("c")).unwrap();
            let names = disk.crash(Survival::Random(seed)).list(Path::new("/d")).unwrap();
            assert_eq!(names.len(), 1, "seed {seed}: {names:?}");
        }
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_then_says_so() {
        let (disk, file) = disk_with_file(b"12345");
        disk.set_capacity(Some(8));
        assert_eq!(disk.free_bytes(Path::new("/d")).unwrap(), 3);
        assert_eq!(file.write_at(&[IoSlice::new(b"abcdef")], 5).unwrap(), 3);
        let error = file.write_at(&[IoSlice::new(b"def")], 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.write_at(&[IoSlice::new(b"xyz")], 0).unwrap(), 3, "what is there can be overwritten");
    }

    #[test]
    fn what_a_failed_sync_dropped_is_seen_until_the_power_goes() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..20 {
            let disk = SimulatedDisk::new(seed);
            disk.create_dir(Path::new("/d")).unwrap();
            let file = disk.create(&path("a")).unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            write_all_at(&*file, &mut [IoSlice::new(b"octets")], 0).unwrap();
            disk.fail_call(disk.calls() + 1, Fault::Io);
            file.sync().unwrap_err();
            file.sync().unwrap();
            assert_eq!(disk.content(&path("a")).unwrap(), b"octets");
            outcomes.insert(disk.crash(Survival::KeepAll).content(&path("a")).unwrap());
        }
        assert_eq!(outcomes.len(), 2);
    }
}
