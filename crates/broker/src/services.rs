//! What everything in a broker shares: where messages and definitions are kept, how much memory they take, what time
//! it is, who is to be called when, and who is told what happens.

use std::sync::Arc;

use crate::counters::Counters;
use crate::events::Events;
use crate::histogram::Histogram;
use crate::queue::memory::MemoryGauge;
use crate::store::Store;
use crate::time::{Clock, SystemClock};
use crate::timers::Timers;

/// Shared by all vhosts and queues of a broker.
#[derive(Clone)]
pub struct Services {
    /// Keeps messages and definitions.
    pub store: Arc<dyn Store>,
    /// Counts the memory of messages.
    pub gauge: Arc<MemoryGauge>,
    /// Says what time it is.
    pub clock: Arc<dyn Clock>,
    /// Where events go.
    pub events: Arc<Events>,
    /// Counts what comes and goes.
    pub counters: Arc<Counters>,
    /// How long messages wait in queues.
    pub waiting_times: Arc<Histogram>,
    /// Calls when time has come.
    pub timers: Arc<Timers>,
}

impl Services {
    /// With the system's clock.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::with_clock(store, Arc::new(SystemClock::default()))
    }

    /// With a clock of the caller's.
    #[must_use]
    pub fn with_clock(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let (gauge, events, counters, waiting_times, timers) = Default::default();
        Self { store, gauge, clock, events, counters, waiting_times, timers }
    }
}
