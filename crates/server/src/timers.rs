//! The thread that calls who has to be called: it sleeps until the broker's earliest deadline. A thread and no task,
//! since what is due may be much work at once (a queue full of messages that expire), and others must not wait for it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use leveret_broker::Broker;
use leveret_broker::time::Clock;
use leveret_broker::timers::Timers;
use parking_lot::{Condvar, Mutex};

use crate::connection::outbound::GatherWakes;

/// Ends the thread when it is dropped.
pub(crate) struct TimerThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The earliest deadline has become earlier.
    is_earlier: bool,
    is_ending: bool,
}

impl TimerThread {
    /// Begins to drive the timers of a broker.
    pub(crate) fn start(broker: &Broker) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let earlier = Arc::clone(&shared);
        broker.timers().when_earlier(Box::new(move || {
            earlier.state.lock().is_earlier = true;
            earlier.changed.notify_one();
        }));
        let (timers, clock) = (Arc::clone(broker.timers()), Arc::clone(broker.clock()));
        let driven = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("timers".to_owned()).spawn(move || driven.drive(&timers, &*clock))?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Shared {
    fn drive(&self, timers: &Timers, clock: &dyn Clock) {
        loop {
            {
                let _wakes = GatherWakes::begin();
                timers.run(clock.now());
            }
            let mut state = self.state.lock();
            // What was said while nobody waited is read, not waited for: a notification wakes only who waits.
            if !state.is_earlier && !state.is_ending {
                match timers.next() {
                    None => self.changed.wait(&mut state),
                    Some(at) => {
                        let left = Duration::from_millis(at.0.saturating_sub(clock.now().0));
                        let until = Instant::now().checked_add(left);
                        until.map(|until| self.changed.wait_until(&mut state, until));
                    }
                }
            }
            state.is_earlier = false;
            if state.is_ending {
                return;
            }
        }
    }
}

impl Drop for TimerThread {
    fn drop(&mut self) {
        self.shared.state.lock().is_ending = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported where it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{OnceLock, Weak};

    use leveret_broker::time::Timestamp;
    use leveret_broker::timers::{Timed, TimerId};

    use super::*;

    /// Busy from when it is called until the thread is told to end.
    #[derive(Default)]
    struct BusyUntilTheEnd {
        shared: OnceLock<Arc<Shared>>,
        is_called: Mutex<bool>,
        called: Condvar,
    }

    impl Timed for BusyUntilTheEnd {
        fn on_time(&self, _: Timestamp) {
            *self.is_called.lock() = true;
            self.called.notify_one();
            let shared = self.shared.get().expect("set before it is armed");
            while !shared.state.lock().is_ending {
                thread::yield_now();
            }
        }
    }

    #[test]
    fn a_thread_told_to_end_while_it_is_busy_ends() {
        let broker = Broker::new(Arc::new(leveret_broker::store::MemoryStore::default()));
        let timers = TimerThread::start(&broker).expect("a thread");
        let busy = Arc::new(BusyUntilTheEnd::default());
        busy.shared.set(Arc::clone(&timers.shared)).unwrap_or_else(|_| unreachable!("set once"));
        broker.timers().arm(TimerId::next(), Timestamp(0), Arc::downgrade(&busy) as Weak<dyn Timed>);
        let mut is_called = busy.is_called.lock();
        while !*is_called {
            busy.called.wait(&mut is_called);
        }
        drop(is_called);
        drop(timers);
    }
}
