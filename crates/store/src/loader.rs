//! Loaders: threads that read messages back from the disk for queues that are about to deliver them.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, mpsc};
use std::{io, thread};

use leveret_broker::Queue;
use parking_lot::Mutex;

/// Reads that go on at a time: enough that one slow read does not hold up all queues.
const LOADERS: usize = 2;

/// Where queues are handed to the loaders. Ends them when it is dropped.
pub(crate) struct Loaders {
    queues: Mutex<Option<Sender<Arc<Queue>>>>,
}

impl Loaders {
    /// Starts the threads.
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..LOADERS {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new().name("loader".to_owned()).spawn(move || run(&receiver))?;
        }
        Ok(Self { queues: Mutex::new(Some(sender)) })
    }

    /// No threads: a test loads what is asked for.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { queues: Mutex::new(None) }
    }

    /// Asks for a queue's next messages.
    pub(crate) fn load(&self, queue: Arc<Queue>) {
        if let Some(sender) = &*self.queues.lock() {
            // Without a receiver the process is ending.
            let _: Result<(), mpsc::SendError<_>> = sender.send(queue);
        }
    }

    /// Takes no more queues: the threads end with what they have.
    pub(crate) fn stop(&self) {
        self.queues.lock().take();
    }
}

fn run(receiver: &Mutex<Receiver<Arc<Queue>>>) {
    loop {
        // The lock is held while waiting: whoever gets it next waits as well.
        let next = receiver.lock().recv();
        let Ok(queue) = next else { return };
        queue.load();
    }
}
