//! Whose turn it is to be answered: what takes long leaves places to what does not, and what monitors and load
//! balancers ask has threads that nothing else takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::Refusal;

/// Requests that are answered at a time, quick ones left out; others wait.
const PLACES: usize = 8;

/// Places that requests which take long may have.
const LONG_PLACES: usize = 4;

/// Threads for quick requests alone.
const QUICK_THREADS: usize = 2;

/// Threads that answer.
pub(crate) const THREADS: usize = PLACES + QUICK_THREADS;

/// How long it may take to answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Next to nothing, whatever there is in the broker, and it waits for nothing.
    Quick,
    /// Little, or the disk is waited for.
    Usual,
    /// As much as there is in the broker.
    Long,
}

/// Places for requests that are being answered.
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

/// A place, until this is dropped.
#[derive(Default)]
pub(crate) struct Turn {
    _long: Option<OwnedSemaphorePermit>,
    _any: Option<OwnedSemaphorePermit>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(PLACES)), long: Arc::new(Semaphore::new(LONG_PLACES)) }
    }
}

impl Turns {
    /// Waits for a place, with bounded patience.
    pub(super) async fn wait(&self, effort: Effort, patience: Duration) -> Result<Turn, Refusal> {
        let place = async |places: &Arc<Semaphore>| Arc::clone(places).acquire_owned().await.ok();
        let turn = async {
            match effort {
                Effort::Quick => Turn::default(),
                Effort::Usual => Turn { _long: None, _any: place(&self.all).await },
                // In this order: nobody has a place of any kind who waits for one of these.
                Effort::Long => Turn { _long: place(&self.long).await, _any: place(&self.all).await },
            }
        };
        let too_many = || Refusal::unavailable("too many requests are being answered");
        timeout(patience, turn).await.map_err(|_| too_many())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_leaves_places_and_what_is_quick_needs_none() {
        let (turns, patience) = (Turns::default(), Duration::from_secs(30));
        let mut taken = Vec::new();
        for effort in [Effort::Long; LONG_PLACES].into_iter().chain([Effort::Usual; PLACES - LONG_PLACES]) {
            taken.push(turns.wait(effort, patience).await.expect("a place is free"));
            assert_eq!(turns.wait(Effort::Long, patience).await.is_ok(), taken.len() < LONG_PLACES);
        }
        assert!(turns.wait(Effort::Usual, patience).await.is_err());
        assert!(turns.wait(Effort::Quick, patience).await.is_ok());
        taken.truncate(PLACES - 1);
        assert!(turns.wait(Effort::Long, patience).await.is_err(), "there is a place, and not for this");
        assert!(turns.wait(Effort::Usual, patience).await.is_ok());
    }
}
