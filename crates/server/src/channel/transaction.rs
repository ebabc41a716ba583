//! Transactions: publishes and settlements of a channel that take effect together at tx.commit.
//! COMPAT: publishes first, then settlements; commit-ok when the messages are safe; a rollback forgets
//! publishes and makes settled deliveries outstanding again.

use leveret_broker::MessageBatch;
use leveret_broker::queue::Settlement;
use leveret_broker::store::JournalPosition;
use leveret_broker::unacked::Unacked;
use leveret_codec::method::{Method, MethodId, tx};

use super::publish::send_return;
use super::{Channel, Outcome};
use crate::connection::pending::{Pending, TooMuchPending};
use crate::error::{AmqpError, ReplyCode};
use crate::limits::COUNTED_STEP_BYTES;

/// What waits for the commit beside the messages, which wait in the channel's batches.
pub(crate) struct Transaction {
    pub(crate) settlements: Vec<(Unacked, Settlement)>,
    /// Mandatory messages that were routed nowhere.
    pub(crate) returns: MessageBatch,
    /// Messages that wait, returned ones included.
    pub(crate) messages: usize,
    /// Octets of bodies that lie outside of the records.
    large_bytes: usize,
    /// What all of them take.
    pending: Pending,
}

impl Transaction {
    fn new(pending: Pending) -> Self {
        let (settlements, returns) = Default::default();
        Self { settlements, returns, messages: 0, large_bytes: 0, pending }
    }

    /// Nothing waits any more.
    fn begin_anew(&mut self) {
        self.returns.clear();
        (self.messages, self.large_bytes) = (0, 0);
        self.pending.clear();
    }
}

impl Channel {
    pub(super) fn recv_tx_select(&mut self) -> Outcome {
        if self.confirms.is_some() {
            let text = "cannot switch from confirm to tx mode";
            return Err(AmqpError::new(ReplyCode::PreconditionFailed, text, MethodId::TX_SELECT));
        }
        let connection = &self.connection;
        self.transaction.get_or_insert_with(|| {
            Transaction::new(Pending::new(connection.server.broker.memory(), &connection.uncommitted))
        });
        self.send_when_safe(JournalPosition::SAFE, &Method::TxSelectOk(tx::SelectOk));
        Ok(())
    }

    pub(super) fn recv_tx_commit(&mut self) -> Outcome {
        let Some(transaction) = &mut self.transaction else {
            return Err(not_transactional(MethodId::TX_COMMIT));
        };
        for message in transaction.returns.iter() {
            send_return(&self.deliveries, &message);
        }
        self.routes.begin_expiry(self.connection.vhost.clock());
        let position = self.routes.flush(&**self.connection.server.broker.store());
        // Only then, so that there is no moment at which its messages count nowhere, and an alarm seems over.
        transaction.begin_anew();
        if position == JournalPosition::NEVER {
            let text = "a queue was stopped while its messages were committed";
            return Err(AmqpError::new(ReplyCode::InternalError, text, MethodId::TX_COMMIT));
        }
        // COMPAT: what other queues took stays there.
        if !self.routes.take_refused().is_empty() {
            let text = "partial tx completion";
            return Err(AmqpError::new(ReplyCode::PreconditionFailed, text, MethodId::TX_COMMIT));
        }
        self.safe_at = self.safe_at.max(position);
        let acked = transaction.settlements.iter().filter(|(_, how)| *how == Settlement::Settled).count();
        self.deliveries.state.lock().counters.acked += acked as u64;
        self.settlements.pending.append(&mut transaction.settlements);
        self.flush_settlements();
        self.send_when_safe(self.safe_at, &Method::TxCommitOk(tx::CommitOk));
        Ok(())
    }

    /// Whether the commit to come sends messages back.
    pub(super) fn has_returns(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| !transaction.returns.is_empty())
    }

    pub(super) fn recv_tx_rollback(&mut self) -> Outcome {
        let Some(transaction) = &mut self.transaction else {
            return Err(not_transactional(MethodId::TX_ROLLBACK));
        };
        self.routes.discard();
        transaction.begin_anew();
        let settlements = std::mem::take(&mut transaction.settlements);
        self.take_back_settlements(&settlements);
        self.send_when_safe(JournalPosition::SAFE, &Method::TxRollbackOk(tx::RollbackOk));
        Ok(())
    }

    /// Makes deliveries outstanding again whose settlements were not committed.
    pub(super) fn take_back_settlements(&self, settlements: &[(Unacked, Settlement)]) {
        let taken: Vec<_> = settlements.iter().map(|&(unacked, _)| unacked).collect();
        self.deliveries.state.lock().unacked.restore(&taken);
    }

    /// Counts a message, by what its records take and its body if that lies outside of them: transactions that are
    /// never committed must not take all memory.
    pub(super) fn count_in_transaction(&mut self, large_bytes: usize) -> Outcome {
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        transaction.messages += 1;
        transaction.large_bytes += large_bytes;
        let records = self.routes.bytes() + transaction.returns.record_bytes();
        let bytes = records + transaction.large_bytes;
        // PERF: in steps, since all connections share what it is counted in.
        if bytes < transaction.pending.bytes() + COUNTED_STEP_BYTES {
            return Ok(());
        }
        transaction.pending.set(bytes).map_err(|TooMuchPending(max)| {
            let text = format!("uncommitted messages of the connection take more than {max} octets");
            AmqpError::new(ReplyCode::PreconditionFailed, text, MethodId::BASIC_PUBLISH)
        })
    }
}

fn not_transactional(method: MethodId) -> AmqpError {
    AmqpError::new(ReplyCode::PreconditionFailed, "channel is not transactional", method)
}
