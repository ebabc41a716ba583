//! What scripts say: methods with every flag off, to be changed by struct update, and the trait that lets a
//! script send or expect any of them.

use leveret_codec::method::{Method, access, basic, channel, confirm, connection, exchange, queue, tx};
use leveret_codec::table::FieldTable;

/// Anything that is a method.
pub(crate) trait Say<'a> {
    fn say(self) -> Method<'a>;
}

impl<'a> Say<'a> for Method<'a> {
    fn say(self) -> Self {
        self
    }
}

macro_rules! say {
    ($($variant:ident: $method:ty,)+) => {
        $(impl<'a> Say<'a> for $method {
            fn say(self) -> Method<'a> {
                Method::$variant(self)
            }
        })+
    };
}

say! {
    ConnectionStartOk: connection::StartOk<'a>,
    ConnectionTuneOk: connection::TuneOk,
    ConnectionOpen: connection::Open<'a>,
    ConnectionOpenOk: connection::OpenOk,
    ConnectionClose: connection::Close<'a>,
    ConnectionCloseOk: connection::CloseOk,
    ConnectionUpdateSecret: connection::UpdateSecret<'a>,
    ConnectionUpdateSecretOk: connection::UpdateSecretOk,
    ChannelOpen: channel::Open,
    ChannelOpenOk: channel::OpenOk,
    ChannelFlow: channel::Flow,
    ChannelFlowOk: channel::FlowOk,
    ChannelClose: channel::Close<'a>,
    ChannelCloseOk: channel::CloseOk,
    AccessRequest: access::Request<'a>,
    AccessRequestOk: access::RequestOk,
    ExchangeDeclare: exchange::Declare<'a>,
    ExchangeDeclareOk: exchange::DeclareOk,
    ExchangeDelete: exchange::Delete<'a>,
    ExchangeDeleteOk: exchange::DeleteOk,
    ExchangeBind: exchange::Bind<'a>,
    ExchangeBindOk: exchange::BindOk,
    ExchangeUnbind: exchange::Unbind<'a>,
    ExchangeUnbindOk: exchange::UnbindOk,
    QueueDeclare: queue::Declare<'a>,
    QueueDeclareOk: queue::DeclareOk<'a>,
    QueueBind: queue::Bind<'a>,
    QueueBindOk: queue::BindOk,
    QueuePurge: queue::Purge<'a>,
    QueuePurgeOk: queue::PurgeOk,
    QueueDelete: queue::Delete<'a>,
    QueueDeleteOk: queue::DeleteOk,
    QueueUnbind: queue::Unbind<'a>,
    QueueUnbindOk: queue::UnbindOk,
    BasicQos: basic::Qos,
    BasicQosOk: basic::QosOk,
    BasicConsume: basic::Consume<'a>,
    BasicConsumeOk: basic::ConsumeOk<'a>,
    BasicCancel: basic::Cancel<'a>,
    BasicCancelOk: basic::CancelOk<'a>,
    BasicPublish: basic::Publish<'a>,
    BasicGet: basic::Get<'a>,
    BasicGetEmpty: basic::GetEmpty,
    BasicAck: basic::Ack,
    BasicReject: basic::Reject,
    BasicRecoverAsync: basic::RecoverAsync,
    BasicRecover: basic::Recover,
    BasicRecoverOk: basic::RecoverOk,
    BasicNack: basic::Nack,
    ConfirmSelect: confirm::Select,
    ConfirmSelectOk: confirm::SelectOk,
    TxSelect: tx::Select,
    TxSelectOk: tx::SelectOk,
    TxCommit: tx::Commit,
    TxCommitOk: tx::CommitOk,
    TxRollback: tx::Rollback,
    TxRollbackOk: tx::RollbackOk,
}

pub(crate) fn declare(queue: &str) -> queue::Declare<'_> {
    queue::Declare {
        queue,
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: FieldTable::new(),
    }
}

pub(crate) fn declared(queue: &str, message_count: u32, consumer_count: u32) -> queue::DeclareOk<'_> {
    queue::DeclareOk { queue, message_count, consumer_count }
}

pub(crate) fn bind<'a>(queue: &'a str, exchange: &'a str, routing_key: &'a str) -> queue::Bind<'a> {
    queue::Bind { queue, exchange, routing_key, no_wait: false, arguments: FieldTable::new() }
}

pub(crate) fn unbind<'a>(queue: &'a str, exchange: &'a str, routing_key: &'a str) -> queue::Unbind<'a> {
    queue::Unbind { queue, exchange, routing_key, arguments: FieldTable::new() }
}

pub(crate) fn purge(queue: &str) -> queue::Purge<'_> {
    queue::Purge { queue, no_wait: false }
}

pub(crate) fn delete(queue: &str) -> queue::Delete<'_> {
    queue::Delete { queue, if_unused: false, if_empty: false, no_wait: false }
}

pub(crate) fn deleted(message_count: u32) -> queue::DeleteOk {
    queue::DeleteOk { message_count }
}

pub(crate) fn exchange_declare<'a>(exchange: &'a str, exchange_type: &'a str) -> exchange::Declare<'a> {
    exchange::Declare {
        exchange,
        exchange_type,
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: FieldTable::new(),
    }
}

pub(crate) fn exchange_delete(exchange: &str) -> exchange::Delete<'_> {
    exchange::Delete { exchange, if_unused: false, no_wait: false }
}

pub(crate) fn exchange_bind<'a>(
    destination: &'a str,
    source: &'a str,
    routing_key: &'a str,
) -> exchange::Bind<'a> {
    exchange::Bind { destination, source, routing_key, no_wait: false, arguments: FieldTable::new() }
}

pub(crate) fn exchange_unbind<'a>(
    destination: &'a str,
    source: &'a str,
    routing_key: &'a str,
) -> exchange::Unbind<'a> {
    exchange::Unbind { destination, source, routing_key, no_wait: false, arguments: FieldTable::new() }
}

pub(crate) fn publish<'a>(exchange: &'a str, routing_key: &'a str) -> basic::Publish<'a> {
    basic::Publish { exchange, routing_key, mandatory: false, immediate: false }
}

pub(crate) fn consume<'a>(queue: &'a str, consumer_tag: &'a str) -> basic::Consume<'a> {
    basic::Consume {
        queue,
        consumer_tag,
        no_local: false,
        no_ack: false,
        exclusive: false,
        no_wait: false,
        arguments: FieldTable::new(),
    }
}

pub(crate) fn consuming(consumer_tag: &str) -> basic::ConsumeOk<'_> {
    basic::ConsumeOk { consumer_tag }
}

pub(crate) fn cancel(consumer_tag: &str) -> basic::Cancel<'_> {
    basic::Cancel { consumer_tag, no_wait: false }
}

pub(crate) fn cancelled(consumer_tag: &str) -> basic::CancelOk<'_> {
    basic::CancelOk { consumer_tag }
}

pub(crate) fn get(queue: &str) -> basic::Get<'_> {
    basic::Get { queue, no_ack: false }
}

pub(crate) fn ack(delivery_tag: u64) -> basic::Ack {
    basic::Ack { delivery_tag, multiple: false }
}

pub(crate) fn ack_up_to(delivery_tag: u64) -> basic::Ack {
    basic::Ack { delivery_tag, multiple: true }
}

pub(crate) fn nack(delivery_tag: u64, multiple: bool, requeue: bool) -> basic::Nack {
    basic::Nack { delivery_tag, multiple, requeue }
}

pub(crate) fn reject(delivery_tag: u64, requeue: bool) -> basic::Reject {
    basic::Reject { delivery_tag, requeue }
}

/// A prefetch limit for the consumers to come.
pub(crate) fn qos(prefetch_count: u16) -> basic::Qos {
    basic::Qos { prefetch_size: 0, prefetch_count, global: false }
}

pub(crate) fn channel_close() -> channel::Close<'static> {
    channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 }
}
