//! Octets that requests may hold together: who wants more than are left waits, first come, first served.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// So many octets.
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    total: u32,
}

/// Octets of a budget that somebody has, until this is dropped.
#[derive(Default)]
pub(crate) struct Held(Option<OwnedSemaphorePermit>);

impl Budget {
    pub(crate) fn new(total: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(usize::try_from(total).unwrap_or(usize::MAX))), total }
    }

    /// All there are.
    pub(crate) fn total(&self) -> usize {
        usize::try_from(self.total).unwrap_or(usize::MAX)
    }

    /// Takes octets, as soon as they are free. What is more than there are in all has to be alone.
    pub(crate) async fn take(&self, octets: usize) -> Held {
        let octets = u32::try_from(octets).unwrap_or(u32::MAX).min(self.total);
        // It fails only when it is closed, which this one never is.
        Held(Arc::clone(&self.free).acquire_many_owned(octets).await.ok())
    }

    /// The same, unless it takes longer than this.
    pub(crate) async fn take_within(&self, patience: Duration, octets: usize) -> Option<Held> {
        timeout(patience, self.take(octets)).await.ok()
    }
}

impl Held {
    /// Puts what another has to this.
    pub(crate) fn add(&mut self, Self(more): Self) {
        match (&mut self.0, more) {
            (Some(held), Some(more)) => held.merge(more),
            (held, more) => *held = held.take().or(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn who_wants_more_than_is_left_waits_for_as_long_as_it_has_patience() {
        let budget = Budget::new(100);
        let mut held = budget.take(30).await;
        held.add(budget.take(30).await);
        assert!(budget.take_within(SOON, 41).await.is_none());
        let more = budget.take_within(SOON, 40).await.expect("so many are left");
        drop(held);
        assert!(budget.take_within(SOON, 1000).await.is_none(), "not all are free");
        drop(more);
        let all = budget.take_within(SOON, 1000).await.expect("what wants more than all has them alone");
        assert!(budget.take_within(SOON, 1).await.is_none());
        drop(all);
        assert_eq!(budget.free.available_permits(), budget.total());
    }
}
