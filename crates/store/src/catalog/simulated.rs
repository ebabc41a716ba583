//! A catalog in memory for tests: what is committed is safe, and any commit can fail or be the last thing that the
//! machine does, before or after it took effect.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Catalog, CatalogError};
use crate::entries::{Change, Entries, EntryList, apply};

/// What goes wrong with a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// It fails and has not happened.
    FailBefore,
    /// It fails and has happened all the same.
    FailAfter,
    /// The machine goes off before it happens: everything fails from then on.
    CrashBefore,
    /// The machine goes off when it has happened.
    CrashAfter,
}

/// The catalog; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct SimulatedCatalog {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    entries: Entries,
    commits: u64,
    faults: BTreeMap<u64, CommitFault>,
    is_off: bool,
}

impl SimulatedCatalog {
    /// Commits so far, whatever became of them.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.state.lock().commits
    }

    /// Lets the commit of this number go wrong; the first one ever is number 1.
    pub fn fail_commit(&self, number: u64, fault: CommitFault) {
        self.state.lock().faults.insert(number, fault);
    }

    /// Whether a planned crash has happened.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state.lock().is_off
    }

    /// The catalog as it is found after a crash or a kill now; this one is off from then on. Faults are forgotten.
    #[must_use]
    pub fn restart(&self) -> Self {
        self.state.lock().is_off = true;
        self.copy()
    }

    /// Another catalog with all that this one has. Faults are forgotten.
    #[must_use]
    pub fn copy(&self) -> Self {
        let entries = self.state.lock().entries.clone();
        Self { state: Arc::new(Mutex::new(State { entries, ..State::default() })) }
    }
}

impl Catalog for SimulatedCatalog {
    fn entries(&self) -> Result<EntryList, CatalogError> {
        let state = self.state.lock();
        if state.is_off {
            return Err(off().into());
        }
        Ok(state.entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn entries_from(&self, first: &[u8]) -> Result<EntryList, CatalogError> {
        let mut entries = self.entries()?;
        entries.retain(|(key, _)| key.as_slice() >= first);
        Ok(entries)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), CatalogError> {
        let mut state = self.state.lock();
        state.commits += 1;
        if state.is_off {
            return Err(off().into());
        }
        let number = state.commits;
        let fault = state.faults.remove(&number);
        if matches!(fault, None | Some(CommitFault::FailAfter | CommitFault::CrashAfter)) {
            apply(&mut state.entries, changes.iter().cloned());
        }
        state.is_off = matches!(fault, Some(CommitFault::CrashBefore | CommitFault::CrashAfter));
        match fault {
            None => Ok(()),
            Some(_) => Err(io::Error::other("the simulated commit fails").into()),
        }
    }
}

fn off() -> io::Error {
    io::Error::other("the simulated machine is off")
}
