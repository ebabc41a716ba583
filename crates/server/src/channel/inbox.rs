//! What a connection's reader hands to a channel's task: runs of consecutive frames, so that the price of
//! a task hop is paid per read and not per frame.
//!
//! PERF: a bounded multi-producer queue of the runtime's costs over a kilobyte per channel for its first
//! block; with one producer and one consumer a locked list and a stored waker are all it takes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::limits::{BACKLOG_BYTES_MAX, INBOX_BYTES_MAX, PINNED_SHARE};

/// Consecutive whole frames of one channel.
#[derive(Debug)]
pub(crate) struct Run {
    /// The frames.
    pub(crate) frames: Bytes,
    /// Octets of the read buffer that `frames` keep alive.
    pub(crate) pinned_bytes: usize,
}

impl Run {
    /// What it counts for in the [`Backlog`].
    fn charge(&self) -> usize {
        self.frames.len().max(self.pinned_bytes / PINNED_SHARE)
    }
}

/// Octets of frames that wait for all channels of a connection together.
#[derive(Default)]
pub(crate) struct Backlog {
    bytes: AtomicUsize,
    reader_waits: AtomicBool,
    room: Notify,
}

impl Backlog {
    /// Whether the reader should stop until the channels have caught up.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= BACKLOG_BYTES_MAX
    }

    /// Waits until the channels have worked off half of what may wait.
    pub(crate) async fn room(&self) {
        loop {
            self.reader_waits.store(true, Ordering::SeqCst);
            if self.bytes.load(Ordering::SeqCst) <= BACKLOG_BYTES_MAX / 2 {
                return;
            }
            self.room.notified().await;
        }
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    fn subtract(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        let is_low = before.saturating_sub(bytes) <= BACKLOG_BYTES_MAX / 2;
        if is_low
            && self.reader_waits.load(Ordering::SeqCst)
            && self.reader_waits.swap(false, Ordering::SeqCst)
        {
            self.room.notify_one();
        }
    }
}

/// What a channel's task finds.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// Frames to process.
    pub(crate) runs: VecDeque<Run>,
    /// Nothing will follow.
    pub(crate) closed: bool,
}

/// Why a channel that takes no runs is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Something it waits for has happened.
    Poked,
    /// Nobody waits any more for what it does.
    Abandoned,
}

#[derive(Default)]
struct State {
    runs: VecDeque<Run>,
    bytes: usize,
    /// What of the backlog is this channel's.
    charged: usize,
    closed: bool,
    /// What is there need not be waited for.
    abandoned: bool,
    /// The task is gone: its channel number can be opened anew.
    dead: bool,
    poked: bool,
    reader_waits: bool,
    task: Option<Waker>,
}

/// The inbox of one channel.
pub(crate) struct Inbox {
    /// Not async: held to move a run in or all runs out.
    state: Mutex<State>,
    room: Notify,
    backlog: Arc<Backlog>,
}

impl Inbox {
    /// An empty one of a connection with this backlog.
    pub(crate) fn new(backlog: Arc<Backlog>) -> Self {
        Self { state: Mutex::default(), room: Notify::new(), backlog }
    }

    /// Adds a run; gives it back if the channel's task has ended.
    pub(crate) fn push(&self, run: Run) -> Result<(), Run> {
        let mut state = self.state.lock();
        if state.dead {
            return Err(run);
        }
        state.bytes += run.frames.len();
        state.charged += run.charge();
        self.backlog.add(run.charge());
        state.runs.push_back(run);
        wake(state);
        Ok(())
    }

    /// Whether the reader should stop until the channel has caught up.
    pub(crate) fn is_full(&self) -> bool {
        self.state.lock().bytes >= INBOX_BYTES_MAX
    }

    /// Waits until the channel has caught up.
    pub(crate) async fn room(&self) {
        loop {
            let notified = self.room.notified();
            {
                let mut state = self.state.lock();
                if state.bytes < INBOX_BYTES_MAX || state.dead {
                    return;
                }
                state.reader_waits = true;
            }
            notified.await;
        }
    }

    /// No more runs will come.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        wake(state);
    }

    /// Nobody waits any more for what the runs ask for.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.abandoned = true;
        wake(state);
    }

    /// Waits for a poke or until nobody waits any more, whatever runs there are.
    pub(crate) async fn called(&self) -> Call {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if state.abandoned {
                return Poll::Ready(Call::Abandoned);
            }
            if std::mem::take(&mut state.poked) {
                return Poll::Ready(Call::Poked);
            }
            state.task = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Makes the task look around: something it waits for has happened.
    pub(crate) fn poke(&self) {
        let mut state = self.state.lock();
        state.poked = true;
        wake(state);
    }

    /// Takes all runs there are; waits for one, for a poke or for the end.
    pub(crate) async fn take(&self) -> Mail {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if state.runs.is_empty() && !state.closed && !state.poked {
                match &mut state.task {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => state.task = Some(context.waker().clone()),
                }
                return Poll::Pending;
            }
            state.poked = false;
            Poll::Ready(Mail { runs: std::mem::take(&mut state.runs), closed: state.closed })
        })
        .await
    }

    /// The task is through with a run it took.
    pub(crate) fn processed(&self, run: Run) {
        let (bytes, charge) = (run.frames.len(), run.charge());
        drop(run);
        self.backlog.subtract(charge);
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        state.charged = state.charged.saturating_sub(charge);
        if state.reader_waits && state.bytes < INBOX_BYTES_MAX {
            state.reader_waits = false;
            drop(state);
            self.room.notify_one();
        }
    }

    /// Ends the channel, unless frames came in the meantime.
    pub(crate) fn end_if_empty(&self) -> bool {
        let mut state = self.state.lock();
        state.dead = state.runs.is_empty();
        state.dead
    }

    /// Whether the task has ended.
    pub(crate) fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// Ends the channel whatever has come.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.dead = true;
        state.runs = VecDeque::new();
        let charged = std::mem::take(&mut state.charged);
        drop(state);
        self.backlog.subtract(charged);
        self.room.notify_one();
    }
}

fn wake(mut state: parking_lot::MutexGuard<'_, State>) {
    let waker = state.task.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}
