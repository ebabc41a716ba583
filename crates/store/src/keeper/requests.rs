//! What the keeper is asked for, and which of it comes next: what has been due for the longest time, so that no kind
//! of work keeps another from being done, however often it is asked for.
//!
//! INVARIANT: whoever takes a task does it or asks for it again. There may be nobody else to do so: publishers that
//! wait for memory or room do not ask.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Changes that no full journal brings into the catalog get there after this long, so that files which are needed
/// no more are given back.
const SETTLING: Duration = Duration::from_secs(2);

/// How long after a failure the disk is tried again, and how long messages are left alone that cannot leave memory.
const RETRY: Duration = Duration::from_secs(1);

/// How long they are left alone at least, if more come.
const REST: Duration = Duration::from_millis(100);

/// What the keeper does. Of two that are due since the same moment, the first one here comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// The last work.
    Stop,
    /// The journal gets shorter, and the catalog learns what has changed.
    Checkpoint,
    /// Messages leave memory.
    PageOut,
    /// The catalog learns what has changed.
    Settle,
    /// Files of which little is needed are written together elsewhere.
    Compact,
}

/// What the keeper is asked for. Locked alone, for a moment.
#[derive(Default)]
pub(crate) struct Requests {
    asked: Mutex<Asked>,
    sooner: Condvar,
}

#[derive(Default)]
struct Asked {
    /// What is to be done, and since or from when on.
    due: BTreeMap<Task, Instant>,
    /// When messages that are left alone may be asked for again at the soonest.
    rest_until: Option<Instant>,
    stop: bool,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Task(Task),
    At(Instant),
    Nothing,
}

impl Requests {
    /// Messages take too much memory.
    pub(crate) fn page_out(&self) {
        let mut asked = self.asked.lock();
        let rest_until = asked.rest_until.take();
        if rest_until.is_none() && asked.due.contains_key(&Task::PageOut) {
            return;
        }
        let now = Instant::now();
        self.ask(&mut asked, Task::PageOut, rest_until.map_or(now, |until| until.max(now)));
    }

    /// The journal has grown enough.
    pub(crate) fn checkpoint(&self) {
        self.ask(&mut self.asked.lock(), Task::Checkpoint, Instant::now());
    }

    /// There are changes that a checkpoint is to bring into the catalog some time.
    pub(crate) fn changed(&self) {
        let mut asked = self.asked.lock();
        if !asked.due.contains_key(&Task::Settle) {
            self.ask(&mut asked, Task::Settle, Instant::now() + SETTLING);
        }
    }

    /// There may be files of which little is needed.
    pub(super) fn compact(&self) {
        self.ask(&mut self.asked.lock(), Task::Compact, Instant::now());
    }

    /// The keeper is to do its last work and end.
    pub(crate) fn stop(&self) {
        self.asked.lock().stop = true;
        self.sooner.notify_one();
    }

    /// What was taken could not be done.
    pub(super) fn again(&self, task: Task) {
        let mut asked = self.asked.lock();
        let due = Instant::now() + RETRY;
        if task == Task::PageOut {
            asked.rest_until = Some(due);
        }
        self.ask(&mut asked, task, due);
    }

    /// Messages take too much memory, and yet no more of them could leave it.
    pub(super) fn look_again(&self) {
        let mut asked = self.asked.lock();
        let now = Instant::now();
        asked.rest_until = Some(now + REST);
        self.ask(&mut asked, Task::PageOut, now + RETRY);
    }

    fn ask(&self, asked: &mut Asked, task: Task, due: Instant) {
        if asked.due.get(&task).is_none_or(|before| due < *before) {
            asked.due.insert(task, due);
            self.sooner.notify_one();
        }
    }

    /// Takes all that is to be done, be it due or not.
    #[cfg(test)]
    pub(crate) fn take_all(&self) -> Vec<Task> {
        std::mem::take(&mut self.asked.lock().due).into_keys().collect()
    }

    /// Waits until something is to be done, and takes it.
    pub(super) fn wait(&self) -> Task {
        let mut asked = self.asked.lock();
        loop {
            match asked.take(Instant::now()) {
                Next::Task(task) => return task,
                Next::At(due) => _ = self.sooner.wait_until(&mut asked, due),
                Next::Nothing => self.sooner.wait(&mut asked),
            }
        }
    }
}

impl Asked {
    fn take(&mut self, now: Instant) -> Next {
        if self.stop {
            return Next::Task(Task::Stop);
        }
        let Some((&task, &due)) = self.due.iter().min_by_key(|(_, due)| **due) else { return Next::Nothing };
        if due > now {
            return Next::At(due);
        }
        self.due.remove(&task);
        if task == Task::Checkpoint {
            // It tells the catalog what has changed, as settling would.
            self.due.remove(&Task::Settle);
        }
        Next::Task(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is to be done so long from now.
    fn take_in(requests: &Requests, later: Duration) -> Next {
        requests.asked.lock().take(Instant::now() + later)
    }

    const NOW: Duration = Duration::ZERO;
    const LATER: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_asked_for_again_and_again_keeps_nothing_else_from_being_done() {
        let requests = Requests::default();
        requests.page_out();
        requests.changed();
        assert_eq!(take_in(&requests, NOW), Next::Task(Task::PageOut));
        requests.checkpoint();
        for expected in [Task::Checkpoint, Task::PageOut] {
            // Publishers ask while it is being done.
            requests.page_out();
            assert_eq!(take_in(&requests, NOW), Next::Task(expected));
        }
    }

    #[test]
    fn what_could_not_be_done_is_done_later_and_not_at_once() {
        for task in [Task::PageOut, Task::Checkpoint, Task::Settle, Task::Compact] {
            let requests = Requests::default();
            requests.again(task);
            assert!(matches!(take_in(&requests, NOW), Next::At(_)), "{task:?}");
            assert_eq!(take_in(&requests, LATER), Next::Task(task));
            assert_eq!(take_in(&requests, LATER), Next::Nothing);
        }
    }

    #[test]
    fn publishers_cannot_ask_sooner_for_messages_that_could_not_be_written() {
        let requests = Requests::default();
        requests.again(Task::PageOut);
        let Next::At(due) = take_in(&requests, NOW) else { panic!("not at once") };
        requests.page_out();
        requests.page_out();
        assert_eq!(take_in(&requests, NOW), Next::At(due));
    }

    #[test]
    fn messages_that_cannot_leave_memory_are_looked_at_again_and_sooner_if_more_come() {
        let requests = Requests::default();
        requests.look_again();
        let Next::At(by_itself) = take_in(&requests, NOW) else { panic!("not at once") };
        requests.page_out();
        let Next::At(asked) = take_in(&requests, NOW) else { panic!("not at once") };
        assert!(asked < by_itself);
        assert_eq!(take_in(&requests, LATER), Next::Task(Task::PageOut));
        // Done: who asks now is heard at once.
        requests.page_out();
        assert_eq!(take_in(&requests, NOW), Next::Task(Task::PageOut));
    }

    #[test]
    fn changes_wait_for_others_and_for_a_checkpoint_that_takes_them_along() {
        let requests = Requests::default();
        requests.changed();
        assert!(matches!(take_in(&requests, NOW), Next::At(_)));
        requests.checkpoint();
        assert_eq!(take_in(&requests, NOW), Next::Task(Task::Checkpoint));
        assert_eq!(take_in(&requests, LATER), Next::Nothing);
    }

    #[test]
    fn the_end_comes_before_all_else() {
        let requests = Requests::default();
        requests.page_out();
        requests.stop();
        assert_eq!(requests.wait(), Task::Stop);
    }
}
