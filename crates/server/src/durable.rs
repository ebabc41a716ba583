//! The broker's store at the start: opened with what the operator chose, its findings taken over and told in the
//! log, and its troubles turned into alarms.

use std::sync::Arc;
use std::time::{Duration, Instant};

use leveret_broker::Broker;
use leveret_store::journal::SyncMode as JournalSync;
use leveret_store::store::WAITING_BYTES_MAX;
use leveret_store::{DurableStore, OpenError, Recovered, StoreOptions};
use tracing::{error, info, warn};

use crate::alarms::{Alarms, Reason};
use crate::config::{Config, SyncMode};

/// Octets of a file of blocks.
const SEGMENT_BYTES: u64 = 32 << 20;

/// Opens the store in the data directory.
pub(crate) fn open(config: &Config) -> Result<(Arc<DurableStore>, Recovered), OpenError> {
    let interval = Duration::from_millis(config.sync_interval_ms);
    DurableStore::open(StoreOptions {
        data_dir: config.data_dir.clone(),
        sync: match config.sync {
            SyncMode::Always => JournalSync::Always,
            SyncMode::Interval => JournalSync::Interval(interval),
            SyncMode::Os => JournalSync::Os,
        },
        journal_bytes_max: config.journal_bytes_max,
        segment_bytes: SEGMENT_BYTES,
        reserve_bytes: 2 * WAITING_BYTES_MAX,
    })
}

/// Octets of messages in memory above which they leave it, where publishers wait from `high_watermark_bytes` on: half
/// of that at most, so that there is something to be done about what they wait for. Where they always wait, it does not
/// matter.
pub(crate) fn cache_bytes(config: &Config, high_watermark_bytes: u64) -> usize {
    let bytes = match high_watermark_bytes {
        0 => config.message_cache_bytes,
        watermark => config.message_cache_bytes.min(watermark / 2),
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Gives the broker what was recovered, and says in the log what that was.
pub(crate) fn restore(broker: &Broker, recovered: Recovered) {
    let started = Instant::now();
    let Recovered { definitions, queues, extent } = recovered;
    for refused in broker.restore(definitions, queues) {
        error!(%refused, "a definition was left out");
    }
    let (mut count, mut messages) = (0, 0);
    for queue in broker.queues() {
        count += 1;
        let (name, vhost, ready) = (&queue.spec.name, &queue.spec.vhost, queue.snapshot().ready);
        messages += ready;
        if let Some(reason) = queue.stopped() {
            error!(queue = %name, %vhost, "queue stopped, its files are left as they are: {reason}");
        } else if ready > 0 {
            info!(queue = %name, %vhost, messages = ready, "queue recovered");
        }
    }
    let took = extent.duration + started.elapsed();
    info!(
        queues = count,
        messages,
        blocks = extent.blocks,
        journal_records = extent.journal_records,
        journal_bytes = extent.journal_bytes,
        ?took,
        "recovered"
    );
}

/// Raises alarms when the disk cannot take what is published.
pub(crate) fn watch(store: &Arc<DurableStore>, alarms: &Arc<Alarms>) {
    let pressed = Arc::clone(alarms);
    store.when_pressed(Box::new(move |on| _ = pressed.set(Reason::JournalBehind, on)));
    let out_of_room = Arc::clone(alarms);
    store.when_out_of_room(Box::new(move |on| _ = out_of_room.set(Reason::NoReserve, on)));
    let failing = Arc::clone(alarms);
    store.when_health_changes(Box::new(move |health| {
        match health {
            Ok(()) => info!("the journal can be written again: publishers go on"),
            Err(failure) => error!(%failure, "nothing is confirmed and publishers wait until that is over"),
        }
        let is_full =
            |kind| matches!(kind, std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let full = health.as_ref().err().is_some_and(|failure| is_full(failure.kind));
        failing.set(Reason::DiskFull, full);
        failing.set(Reason::Journal, health.is_err() && !full);
    }));
}

/// Ends the store, so that the next start has nothing to replay.
pub(crate) fn close(store: &DurableStore) {
    let started = Instant::now();
    match store.close() {
        Ok(()) => info!(took = ?started.elapsed(), "everything is on disk"),
        Err(error) => warn!(%error, "the store could not be ended; what was confirmed is safe"),
    }
}
