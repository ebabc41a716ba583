//! Messages that die in a queue. Without a dead-letter exchange they are let go of at once. With one they wait,
//! neither ready nor unacked, until whoever brought their death about has let go of the queue's lock: that thread
//! publishes them, and only then the queue lets go of them. So the journal has the copy before it hears of the end,
//! and a crash in between leaves one too many, never one too few.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use super::{Queue, State};
use crate::dead_letter::{DeadLetter, Grave};
use crate::message::{MessageBatch, MessageRef, MessageView};
use crate::names::QueueId;
use crate::store::JournalPosition;
use crate::vhost::republish::Untaken;

/// Why a message died, as x-death names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathReason {
    /// Its time to live was over.
    Expired,
    /// A consumer rejected it without requeue.
    Rejected,
    /// The queue had no place for it.
    MaxLength,
    /// It was delivered too often.
    DeliveryLimit,
}

impl DeathReason {
    /// COMPAT: the word in x-death.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// Messages published at a time: the queue is locked while they are copied.
const BURIED_AT_ONCE: usize = 256;

/// Milliseconds after which dead messages that no queue took are published again, where none may be lost.
const BURIED_AGAIN_AFTER_MS: u64 = 1000;

/// Burials after which a thread leaves the rest to the timer's.
const BURIALS_AT_ONCE: usize = 32;

/// Octets after which a burial has enough.
const BURIED_BYTES: usize = 256 * 1024;

thread_local! {
    /// Queues with dead messages that this thread has met while it buried others: a chain of queues that overflow into
    /// each other is a list and not a recursion.
    static BURIALS: RefCell<Option<VecDeque<Arc<Queue>>>> = const { RefCell::new(None) };
}

/// A dead message that the queue still has.
pub(super) struct Dying {
    pub(super) message: MessageRef,
    reason: DeathReason,
    /// Queues that have its letter, where others have not taken it yet.
    had_by: Option<Box<[QueueId]>>,
}

/// Dead messages on their way.
struct Burial {
    letters: MessageBatch,
    /// What the queue lets go of when they are published: the last ones of the letters.
    dead: Vec<Dying>,
    /// What no queue takes stays.
    is_sure: bool,
}

/// Has what dies during `act` published after it: for whoever holds a lock that publishing may need.
pub(crate) fn defer_burials<R>(act: impl FnOnce() -> R) -> R {
    let is_first = BURIALS.with_borrow_mut(|burials| {
        let is_first = burials.is_none();
        burials.get_or_insert_default();
        is_first
    });
    let result = act();
    if is_first {
        bury_waiting();
    }
    result
}

/// Publishes what has died in the queues that this thread has noted.
fn bury_waiting() {
    while let Some(queue) = BURIALS.with_borrow_mut(|burials| burials.as_mut()?.pop_front()) {
        queue.bury_own();
    }
    BURIALS.set(None);
}

impl Burial {
    /// The number of the first letter that the queue still has the message of.
    fn first(&self) -> usize {
        self.letters.len() - self.dead.len()
    }

    /// Queues that have a letter already.
    fn had_by(&self, number: usize) -> &[QueueId] {
        let dying = number.checked_sub(self.first()).and_then(|index| self.dead.get(index));
        dying.and_then(|dying| dying.had_by.as_deref()).unwrap_or_default()
    }
}

impl State {
    fn count_deaths(&mut self, reason: DeathReason, count: usize) {
        let (settings, deaths) = (&self.settings, &mut self.counters.deaths);
        let counters = match &settings.dead_letter_exchange {
            None => &mut deaths.disabled,
            Some(_) if settings.buries_surely() => &mut deaths.at_least_once,
            Some(_) => &mut deaths.at_most_once,
        };
        counters.add(reason, count);
    }
}

impl Queue {
    /// Messages die that are neither ready nor unacked any more; where that is safe.
    pub(super) fn kill(
        &self,
        state: &mut State,
        messages: &[MessageRef],
        reason: DeathReason,
    ) -> JournalPosition {
        if messages.is_empty() {
            return JournalPosition::SAFE;
        }
        state.count_deaths(reason, messages.len());
        if state.settings.dead_letter_exchange.is_none() {
            return self.let_go(state, messages);
        }
        // What becomes of one may come back to this queue before it lets go of the message.
        messages.iter().for_each(|&message| state.messages.release_id(message));
        state.dying.extend(messages.iter().map(|&message| Dying { message, reason, had_by: None }));
        JournalPosition::SAFE
    }

    /// A message dies for which the queue had no place.
    pub(super) fn kill_refused(&self, state: &mut State, message: &MessageView<'_>) {
        state.count_deaths(DeathReason::MaxLength, 1);
        if let Some(grave) = Grave::of(&self.spec, &state.settings) {
            let now = self.services.clock.now();
            state.refused.get_or_insert_default().push_dead(&grave, message, DeathReason::MaxLength, now);
        }
    }

    /// Publishes what has died here, and what dies elsewhere by that. Called with no lock held.
    pub(super) fn bury(&self) {
        let Some(queue) = self.this.upgrade() else { return };
        let is_at_it = BURIALS.with_borrow_mut(|burials| match burials {
            Some(waiting) => {
                waiting.push_back(Arc::clone(&queue));
                true
            }
            None => {
                *burials = Some(VecDeque::from([Arc::clone(&queue)]));
                false
            }
        });
        if !is_at_it {
            bury_waiting();
        }
    }

    fn bury_own(&self) {
        for _ in 0..BURIALS_AT_ONCE {
            let Some(burial) = self.begin_burial() else { return };
            let mut untaken = Vec::new();
            if let Some(vhost) = self.vhost.upgrade() {
                match burial.is_sure {
                    true => {
                        untaken = vhost.publish_dead_surely(&burial.letters, |number| burial.had_by(number))
                    }
                    false => vhost.publish_dead(&burial.letters),
                }
            }
            self.end_burial(burial, untaken);
        }
        // Whoever came here has other work as well: the timer's thread goes on.
        let mut state = self.state.lock();
        if (!state.dying.is_empty() || state.refused.is_some()) && !state.deleted {
            let now = self.services.clock.now();
            self.arm(&mut state, now);
        }
    }

    /// Copies dead messages that are in memory; `None` if there are none, or somebody else is at it.
    fn begin_burial(&self) -> Option<Burial> {
        let mut state = self.state.lock();
        let now = self.services.clock.now();
        if state.is_burying || state.deleted {
            return None;
        }
        if let Some(again_at) = state.buried_again_at.filter(|&at| now < at) {
            // What has brought us here may have been the only ring that was asked for.
            self.arm(&mut state, again_at);
            return None;
        }
        state.buried_again_at = None;
        let grave = Grave::of(&self.spec, &state.settings);
        let Some(grave) = grave else {
            // The exchange was taken off them meanwhile.
            let dead: Vec<_> = state.dying.drain(..).map(|dying| dying.message).collect();
            state.refused = None;
            self.let_go(&mut state, &dead);
            return None;
        };
        let mut letters = state.refused.take().unwrap_or_default();
        let mut dead = Vec::new();
        while let Some(dying) = state.dying.pop_front() {
            if dead.len() == BURIED_AT_ONCE || letters.record_bytes() > BURIED_BYTES {
                state.dying.push_front(dying);
                break;
            }
            let Some(view) = state.messages.view(dying.message) else {
                state.dying.push_front(dying);
                self.load_soon(&mut state);
                break;
            };
            letters.push_dead(&grave, &view, dying.reason, now);
            dead.push(dying);
        }
        state.is_burying = !letters.is_empty();
        let is_sure = state.settings.buries_surely();
        state.is_burying.then_some(Burial { letters, dead, is_sure })
    }

    /// Lets go of what was published; of letters that are `untaken`, not yet.
    fn end_burial(&self, burial: Burial, untaken: Vec<Untaken>) {
        let mut state = self.state.lock();
        state.is_burying = false;
        if state.deleted {
            return;
        }
        // Before them may be letters of messages that were refused: nobody keeps these.
        let first = burial.first();
        let mut untaken = untaken.into_iter().skip_while(|letter| letter.number < first).peekable();
        let (mut buried, mut left) = (Vec::new(), Vec::new());
        for (number, dying) in (first..).zip(burial.dead) {
            match untaken.next_if(|letter| letter.number == number) {
                Some(letter) => left.push(Dying { had_by: letter.had_by, ..dying }),
                None => buried.push(dying.message),
            }
        }
        if burial.is_sure {
            state.counters.deaths.confirmed += buried.len() as u64;
        }
        self.let_go(&mut state, &buried);
        if !left.is_empty() {
            left.into_iter().rev().for_each(|dying| state.dying.push_front(dying));
            let again_at = self.services.clock.now().after_ms(BURIED_AGAIN_AFTER_MS);
            state.buried_again_at = Some(again_at);
            self.arm(&mut state, again_at);
        }
    }
}
