//! What may lie in a queue, and for how long: messages that expire or are too many, and queues that nobody uses.
//!
//! COMPAT: only the next message is looked at: one that has expired behind one that has not goes when it is next. It
//! is never delivered.

use std::sync::atomic::Ordering;

use super::messages::{Next, Peeked};
use super::settings::{DeadLetterStrategy, Overflow, QueueSettings};
use super::{DeathReason, DeletedQueue, Queue, State};
use crate::delivery::Deadline;
use crate::message::{MessageBatch, MessageRef};
use crate::policy::{AppliedPolicies, PolicySet};
use crate::store::JournalPosition;
use crate::time::Timestamp;
use crate::timers::Timed;

impl QueueSettings {
    /// Whether there is a limit to how many messages there may be.
    pub(super) fn limits_messages(&self) -> bool {
        self.max_length.is_some() || self.max_length_bytes.is_some()
    }

    /// Whether what is in the queue has to be looked at for any of them.
    pub(super) fn needs_enforcing(&self) -> bool {
        self.limits_messages() || self.expires_ms.is_some() || self.delayed_retry.is_some()
    }

    /// Whether a message for which there is no place is refused.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.limits_messages() && self.overflow != Overflow::DropHead
    }

    /// The limit of deliveries in one word: all bits set for none.
    pub(super) fn consumer_timeout_bits(&self) -> u64 {
        self.consumer_timeout_ms.unwrap_or(u64::MAX)
    }

    /// Whether a dead message is kept until every queue it goes to has it. COMPAT: only where what is published is
    /// refused rather than dropped.
    pub(super) fn buries_surely(&self) -> bool {
        let is_asked_for = self.dead_letter_strategy == DeadLetterStrategy::AtLeastOnce;
        is_asked_for && self.overflow == Overflow::RejectPublish
    }
}

impl State {
    /// Messages that count towards the limits.
    fn counted(&self) -> usize {
        self.messages.ready() + self.retries.len()
    }

    /// Octets of their bodies.
    fn counted_bytes(&self) -> u64 {
        self.messages.ready_bytes() + self.retries.body_bytes()
    }

    /// Whether they are too many, with so many more of so many octets. Octets that are estimated decide nothing.
    fn is_exceeded_with(&self, messages: usize, body_bytes: u64) -> bool {
        let messages = (self.counted() + messages) as u64;
        self.settings.max_length.is_some_and(|max| messages > max)
            || self.has_octets_beyond_limit(body_bytes) && !self.messages.has_estimates()
    }

    /// Whether octets have to be counted to know whether they are too many.
    pub(super) fn needs_octets(&self) -> bool {
        self.has_octets_beyond_limit(0) && self.messages.has_estimates()
    }

    fn has_octets_beyond_limit(&self, more: u64) -> bool {
        self.settings.max_length_bytes.is_some_and(|max| self.counted_bytes() + more > max)
    }
}

impl Queue {
    /// Puts settings in force, for what is in the queue as well. May publish what gives way by that: not to be called
    /// with the topology locked. COMPAT: messages keep the time at which they expire.
    pub fn apply(&self, settings: QueueSettings) {
        let mut state = self.state.lock();
        self.put_in_force(&mut state, settings);
        self.touch(&mut state);
        self.settle_down(state);
    }

    fn put_in_force(&self, state: &mut State, settings: QueueSettings) {
        // What waits already goes on to wait.
        state.is_limited = settings.needs_enforcing() || state.retries.len() > 0;
        self.consumer_timeout_ms.store(settings.consumer_timeout_bits(), Ordering::Relaxed);
        state.settings = settings;
    }

    /// Puts the policies that are for it in force, before [`begin`](Self::begin).
    pub(crate) fn take_over(&self, policies: &PolicySet) {
        let arguments = &self.spec.arguments;
        let applied = policies.of_queue(self.spec.name.as_str(), arguments.queue_type());
        if !applied.is_empty() {
            self.put_in_force(&mut self.state.lock(), applied.settings(arguments));
        }
    }

    /// Whether these policies are those in force.
    pub(crate) fn is_under(&self, policies: &AppliedPolicies) -> bool {
        self.state.lock().settings.policies == *policies
    }

    /// What a publisher has to know, without a copy of all that is in force: milliseconds after which a message
    /// expires, and whether the queue may refuse one.
    #[must_use]
    pub fn publish_rules(&self) -> (Option<u64>, bool) {
        let settings = &self.state.lock().settings;
        (settings.message_ttl_ms, settings.refuses())
    }

    /// What is in force.
    #[must_use]
    pub fn settings(&self) -> QueueSettings {
        self.state.lock().settings.clone()
    }

    /// Milliseconds that a delivery of the queue may stay unsettled, if its settings say so; 0: any number.
    #[must_use]
    pub fn consumer_timeout_ms(&self) -> Option<u64> {
        Some(self.consumer_timeout_ms.load(Ordering::Relaxed)).filter(|&timeout_ms| timeout_ms < u64::MAX)
    }

    /// Notes that the queue is declared again, be it passively. COMPAT: a quorum queue lives no longer by that.
    pub fn note_declared(&self) {
        if !self.spec.is_quorum() {
            self.note_use();
        }
    }

    /// Notes that the queue is used, so that it does not expire.
    pub(crate) fn note_use(&self) {
        self.touch(&mut self.state.lock());
    }

    pub(super) fn touch(&self, state: &mut State) {
        if state.settings.expires_ms.is_some() {
            state.last_used = self.services.clock.now();
        }
    }

    /// When it is deleted unless it is used before.
    fn unused_until(&self, state: &State) -> Option<Timestamp> {
        let expires = state.settings.expires_ms.filter(|_| state.consumers.is_empty() && !state.deleted)?;
        Some(state.last_used.after_ms(expires))
    }

    /// Marks the queue deleted if its time without use is over; called with the topology locked, so that no
    /// declaration comes in between.
    pub(crate) fn delete_if_unused(&self, now: Timestamp) -> Option<DeletedQueue> {
        let mut state = self.state.lock();
        let is_over = self.unused_until(&state).is_some_and(|until| until <= now);
        is_over.then(|| self.end(&mut state))
    }

    /// What has expired or is too much goes, and the timer is set to when there is more.
    pub(super) fn enforce(&self, state: &mut State) {
        if state.deleted || state.stopped.is_some() {
            return;
        }
        let now = self.services.clock.now();
        if state.needs_octets() {
            self.load_soon(state);
        }
        loop {
            if state.messages.may_expire() {
                self.expire(state, Deadline::at(now));
            }
            // What comes next then may have expired as well.
            if !self.drop_excess(state) {
                break;
            }
        }
        let dues = [self.unused_until(state), self.next_expiry(state), state.retries.next_due()];
        let due = dues.into_iter().flatten().min();
        if let Some(due) = due {
            self.arm(state, due);
        }
    }

    /// Sees to it that the timer rings at `due`, or before.
    pub(super) fn arm(&self, state: &mut State, due: Timestamp) {
        if state.armed.is_none_or(|armed| due < armed) {
            state.armed = Some(due);
            self.services.timers.arm(self.timer, due, self.this.clone());
        }
    }

    /// When the next message expires. One on disk is asked for, and says it then.
    fn next_expiry(&self, state: &mut State) -> Option<Timestamp> {
        if !state.messages.may_expire() {
            return None;
        }
        match state.messages.peek() {
            Peeked::Message(_, view) => view.expires_at(),
            Peeked::None => None,
            Peeked::Absent => {
                if state.messages.may_next_expire() {
                    self.load_soon(state);
                }
                None
            }
        }
    }

    /// Takes out what has expired, however much that is: what comes next then has not.
    pub(super) fn expire(&self, state: &mut State, deadline: Deadline) {
        let mut expired = Vec::new();
        while state.messages.is_next_expired(deadline) {
            let Next::Message(reference, ..) = state.messages.take_next() else { break };
            expired.push(reference);
        }
        self.kill(state, &expired, DeathReason::Expired);
    }

    /// Takes out what is too much, the oldest first; whether anything was. COMPAT: of a priority queue, the oldest of
    /// the highest priority. What refuses messages keeps those it has: it may hold more than its limit once messages
    /// come back, or the limit is lowered.
    fn drop_excess(&self, state: &mut State) -> bool {
        if state.settings.refuses() {
            return false;
        }
        let mut dropped: Vec<MessageRef> = Vec::new();
        while state.is_exceeded_with(0, 0) {
            match state.messages.take_next() {
                Next::Message(reference, ..) => dropped.push(reference),
                Next::Absent => {
                    self.load_soon(state);
                    break;
                }
                Next::None => break,
            }
        }
        self.kill(state, &dropped, DeathReason::MaxLength);
        !dropped.is_empty()
    }

    /// Appends what there is a place for. COMPAT: a message needs one even if a consumer waits for it.
    pub(super) fn append_or_refuse(
        &self,
        state: &mut State,
        batch: &mut MessageBatch,
        refused: &mut Vec<u32>,
    ) -> JournalPosition {
        if !state.is_exceeded_with(batch.len(), batch.body_bytes()) {
            return self.append(state, batch);
        }
        let mut safe_at = JournalPosition::SAFE;
        let level = batch.level();
        let mut one = MessageBatch::for_level(&self.spec, level);
        for (number, view) in (0..).zip(batch.iter()) {
            one.push(&view);
            if !state.is_exceeded_with(1, one.body_bytes()) {
                let new_from = state.messages.for_append(level).next_position();
                safe_at = safe_at.max(self.append(state, &mut one));
                self.dispatch_new(state, new_from, level);
                continue;
            }
            refused.push(number);
            if state.settings.overflow == Overflow::RejectPublishDlx {
                self.kill_refused(state, &view);
            }
            one.clear();
        }
        batch.clear();
        safe_at
    }
}

impl Timed for Queue {
    fn on_time(&self, now: Timestamp) {
        let mut state = self.state.lock();
        state.armed = None;
        if std::mem::take(&mut state.loads_again) {
            self.load_soon(&mut state);
        }
        if self.end_waiting(&mut state, now) {
            self.dispatch(&mut state);
        }
        let is_unused = self.unused_until(&state).is_some_and(|until| until <= now);
        if !is_unused {
            return self.settle_down(state);
        }
        drop(state);
        if let (Some(vhost), Some(queue)) = (self.vhost.upgrade(), self.this.upgrade()) {
            vhost.delete_unused_queue(&queue, now);
        }
        // Used meanwhile, it lives on.
        self.settle_down(self.state.lock());
    }
}
