//! Direct reply-to: a requester consumes from a pseudo-queue, and replies reach it by a name that only
//! the request carried. COMPAT: RabbitMQ's `amq.rabbitmq.reply-to`.
//!
//! Each such consumer has a queue of its own that no list shows and nobody can declare, bind or delete;
//! so replies take the same way as every other message.

use std::sync::Arc;

use dashmap::DashMap;

use crate::names::{QueueName, generated};
use crate::queue::Queue;

/// The pseudo-queue a requester consumes from, and the reply-to property it sets.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// What the names begin with that responders see.
pub const REPLY_TO_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// A new name for a requester's replies; not guessable from others.
#[must_use]
pub(crate) fn reply_name() -> QueueName {
    QueueName::from(generated(REPLY_TO_PREFIX))
}

/// The requesters of a vhost by the name their replies go to.
#[derive(Default)]
pub(crate) struct ReplyQueues(DashMap<QueueName, Arc<Queue>>);

impl ReplyQueues {
    pub(crate) fn add(&self, queue: Arc<Queue>) {
        self.0.insert(queue.spec.name.clone(), queue);
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Queue>> {
        self.0.get(name).map(|queue| Arc::clone(&queue))
    }

    pub(crate) fn remove(&self, name: &str) -> Option<Arc<Queue>> {
        self.0.remove(name).map(|(_, queue)| queue)
    }
}
