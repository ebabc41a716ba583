//! What a connection has to write: frames encoded one after another, large bodies as slices between
//! them. Channels and the queues' deliveries append, the connection's writer takes all there is.
//! Bounded: past its high watermark consumers are parked and channels wait.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use leveret_broker::{ConsumerId, Queue};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::limits::IDLE_WRITE_BYTES;

/// A consumer that waits until the connection can take more.
pub(crate) struct ParkedConsumer {
    pub(crate) queue: Weak<Queue>,
    pub(crate) consumer: ConsumerId,
}

impl ParkedConsumer {
    /// Lets the queue deliver to it again.
    pub(crate) fn resume(self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.resume(self.consumer);
        }
    }
}

/// Octets on their way to the socket.
#[derive(Default)]
pub(crate) struct Pending {
    /// Encoded frames.
    pub(crate) octets: Vec<u8>,
    /// Slices that belong between `octets`: each before the octet at its position.
    pub(crate) slices: Vec<(usize, Bytes)>,
    slice_bytes: usize,
}

impl Pending {
    pub(crate) fn len(&self) -> usize {
        self.octets.len() + self.slice_bytes
    }

    /// Appends a slice behind the octets there are.
    pub(crate) fn push_slice(&mut self, slice: Bytes) {
        self.slice_bytes += slice.len();
        self.slices.push((self.octets.len(), slice));
    }

    fn clear(&mut self) {
        self.octets.clear();
        self.slices.clear();
        self.slice_bytes = 0;
    }

    /// Gives the buffer of an idle connection to the next one on this thread that has something to write.
    fn release(&mut self) {
        if self.octets.capacity() > IDLE_WRITE_BYTES {
            let octets = std::mem::take(&mut self.octets);
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < SPARE_MAX && octets.capacity() <= SPARE_BYTES_MAX {
                    spare.push(octets);
                }
            });
        }
        self.slices = Vec::new();
    }
}

/// What the writer finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Octets to write.
    ToWrite,
    /// Nothing for now; it is woken when that changes.
    Nothing,
    /// Nothing, and nothing will come.
    Finished,
}

/// The state behind the lock.
pub(crate) struct State {
    pub(crate) pending: Pending,
    /// Octets the writer has taken and not written yet.
    writing: usize,
    /// Octets that it has taken so far, and how often it took some.
    sent: (u64, u64),
    high_watermark: usize,
    parked: Vec<ParkedConsumer>,
    /// A channel waits for room.
    channels_wait: bool,
    /// The writer sleeps until it is woken.
    writer_sleeps: bool,
    /// Nothing more will come: the writer ends once all is written, or has ended before its time.
    finished: bool,
}

impl State {
    /// Whether deliveries and replies have to wait.
    pub(crate) fn is_full(&self) -> bool {
        // What nobody writes any more must not grow either.
        self.finished || self.pending.len() + self.writing >= self.high_watermark
    }

    /// Remembers a consumer that could not take a delivery.
    pub(crate) fn park(&mut self, consumer: ParkedConsumer) {
        self.parked.push(consumer);
    }

    /// Forgets a consumer that is cancelled, so that the list holds none but those there are.
    pub(crate) fn forget_parked(&mut self, consumer: ConsumerId) {
        self.parked.retain(|parked| parked.consumer != consumer);
    }
}

/// The outgoing half of a connection.
pub(crate) struct Outbound {
    /// Not async: held for the time of an encode or a swap. The last lock in the order.
    state: Mutex<State>,
    writer: Notify,
    room: Notify,
    /// The writer has failed.
    failed: Notify,
}

impl Outbound {
    pub(crate) fn new(high_watermark: usize) -> Self {
        Self {
            state: Mutex::new(State {
                pending: Pending::default(),
                writing: 0,
                sent: (0, 0),
                high_watermark,
                parked: Vec::new(),
                channels_wait: false,
                writer_sleeps: false,
                finished: false,
            }),
            writer: Notify::new(),
            room: Notify::new(),
            failed: Notify::new(),
        }
    }

    /// Access for encoding; the writer is woken when it is given up.
    pub(crate) fn lock<'a>(self: &'a Arc<Self>) -> OutboundGuard<'a> {
        let mut state = self.state.lock();
        if state.pending.octets.capacity() == 0 {
            // PERF: growing a buffer anew for each burst copied every octet twice: 9 % at 1 KiB bodies.
            state.pending.octets = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        OutboundGuard { outbound: self, state }
    }

    /// Octets that were sent, or are about to be, in how many writes, and octets that wait.
    pub(crate) fn sent(&self) -> (u64, u64, usize) {
        let state = self.state.lock();
        (state.sent.0, state.sent.1, state.pending.len() + state.writing)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.state.lock().is_full()
    }

    /// Waits until there is room.
    pub(crate) async fn room(&self) {
        loop {
            let notified = self.room.notified();
            {
                let mut state = self.state.lock();
                if state.finished || !state.is_full() {
                    return;
                }
                state.channels_wait = true;
            }
            notified.await;
        }
    }

    /// Nothing more will be written after what there is.
    pub(crate) fn finish(&self) {
        let mut state = self.state.lock();
        state.finished = true;
        state.parked = Vec::new();
        drop(state);
        self.writer.notify_one();
        self.room.notify_waiters();
    }

    /// For the writer: the socket takes nothing more. Nobody has to wait for room, and the reader learns of
    /// it even if it does not read now.
    pub(crate) fn fail(&self) {
        self.finish();
        self.failed.notify_one();
    }

    /// Waits until the writer has failed.
    pub(crate) async fn failed(&self) {
        self.failed.notified().await;
    }

    /// For the writer: what it took before is written; swaps what there is now into `taken`.
    pub(crate) fn take(&self, taken: &mut Pending) -> Taken {
        taken.clear();
        loop {
            let mut state = self.state.lock();
            state.writing = 0;
            let waiting = !state.parked.is_empty() || state.channels_wait;
            if waiting && state.pending.len() <= state.high_watermark / 2 {
                let parked = std::mem::take(&mut state.parked);
                let channels_wait = std::mem::take(&mut state.channels_wait);
                drop(state);
                parked.into_iter().for_each(ParkedConsumer::resume);
                if channels_wait {
                    self.room.notify_waiters();
                }
                continue;
            }
            if state.pending.len() > 0 {
                std::mem::swap(&mut state.pending, taken);
                state.writing = taken.len();
                state.sent = (state.sent.0 + taken.len() as u64, state.sent.1 + 1);
                return Taken::ToWrite;
            }
            if state.finished {
                return Taken::Finished;
            }
            taken.release();
            state.pending.release();
            state.writer_sleeps = true;
            return Taken::Nothing;
        }
    }

    /// Wakes the writer though there may be nothing to take.
    pub(crate) fn wake_writer(&self) {
        self.writer.notify_one();
    }

    /// For the writer: sleeps until there is something to write.
    pub(crate) async fn wait(&self) {
        self.writer.notified().await;
    }
}

/// Exclusive access to the outgoing buffer.
pub(crate) struct OutboundGuard<'a> {
    outbound: &'a Arc<Outbound>,
    state: MutexGuard<'a, State>,
}

impl std::ops::Deref for OutboundGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl std::ops::DerefMut for OutboundGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for OutboundGuard<'_> {
    fn drop(&mut self) {
        if self.state.writer_sleeps && self.state.pending.len() > 0 {
            self.state.writer_sleeps = false;
            wake_later(self.outbound);
        }
    }
}

/// Buffers kept per thread for connections that begin to write, and the size up to which they are kept.
const SPARE_MAX: usize = 4;
const SPARE_BYTES_MAX: usize = 1024 * 1024;

thread_local! {
    /// Write buffers that no connection uses now.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static WAKES_GATHERED: Cell<bool> = const { Cell::new(false) };
    static TO_WAKE: RefCell<Vec<Arc<Outbound>>> = const { RefCell::new(Vec::new()) };
}

/// Wakes a writer at the end of the [`GatherWakes`] scope this thread is in, or now if it is in none.
fn wake_later(outbound: &Arc<Outbound>) {
    if WAKES_GATHERED.get() {
        TO_WAKE.with_borrow_mut(|to_wake| to_wake.push(Arc::clone(outbound)));
    } else {
        outbound.writer.notify_one();
    }
}

/// While this lives, writers that get something to write are woken at its end instead of at once: one
/// wake for a batch, and a batch for one write. Synchronous code only, so that it stays on its thread.
pub(crate) struct GatherWakes {
    outermost: bool,
    /// Not to be moved to another thread.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl GatherWakes {
    pub(crate) fn begin() -> Self {
        Self { outermost: !WAKES_GATHERED.replace(true), _not_send: std::marker::PhantomData }
    }
}

impl Drop for GatherWakes {
    fn drop(&mut self) {
        if self.outermost {
            WAKES_GATHERED.set(false);
            TO_WAKE.with_borrow_mut(|to_wake| {
                to_wake.drain(..).for_each(|outbound| outbound.writer.notify_one());
            });
        }
    }
}
