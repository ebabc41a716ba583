//! One of every method there is, made of the same few ingredients.

use leveret_codec::method::{access, basic, channel, confirm, connection, exchange, queue, tx};
use leveret_codec::{FieldTable, Method};

/// What methods are made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ingredients {
    pub(crate) texts: [String; 3],
    pub(crate) octets: [Vec<u8>; 2],
    pub(crate) table: FieldTable,
    pub(crate) bits: [bool; 5],
    pub(crate) u16: u16,
    pub(crate) u32: u32,
    pub(crate) u64: u64,
}

/// Each method once.
pub(crate) fn every_method(from: &Ingredients) -> Vec<Method<'_>> {
    [
        connection_methods(from),
        channel_and_access_methods(from),
        exchange_methods(from),
        queue_methods(from),
        basic_methods(from),
        confirm_and_tx_methods(from),
    ]
    .concat()
}

fn connection_methods(from: &Ingredients) -> Vec<Method<'_>> {
    vec![
        Method::ConnectionStart(connection::Start {
            version_major: from.u64.to_be_bytes()[0],
            version_minor: from.u64.to_be_bytes()[1],
            server_properties: from.table.clone(),
            mechanisms: &from.octets[0],
            locales: &from.octets[1],
        }),
        Method::ConnectionStartOk(connection::StartOk {
            client_properties: from.table.clone(),
            mechanism: &from.texts[0],
            response: &from.octets[0],
            locale: &from.texts[1],
        }),
        Method::ConnectionSecure(connection::Secure { challenge: &from.octets[0] }),
        Method::ConnectionSecureOk(connection::SecureOk { response: &from.octets[0] }),
        Method::ConnectionTune(connection::Tune {
            channel_max: from.u16,
            frame_max: from.u32,
            heartbeat: from.u16,
        }),
        Method::ConnectionTuneOk(connection::TuneOk {
            channel_max: from.u16,
            frame_max: from.u32,
            heartbeat: from.u16,
        }),
        Method::ConnectionOpen(connection::Open { virtual_host: &from.texts[0] }),
        Method::ConnectionOpenOk(connection::OpenOk),
        Method::ConnectionClose(connection::Close {
            reply_code: from.u16,
            reply_text: &from.texts[0],
            class_id: from.u16,
            method_id: from.u16,
        }),
        Method::ConnectionCloseOk(connection::CloseOk),
        Method::ConnectionBlocked(connection::Blocked { reason: &from.texts[0] }),
        Method::ConnectionUnblocked(connection::Unblocked),
        Method::ConnectionUpdateSecret(connection::UpdateSecret {
            new_secret: &from.octets[0],
            reason: &from.texts[0],
        }),
        Method::ConnectionUpdateSecretOk(connection::UpdateSecretOk),
    ]
}

fn channel_and_access_methods(from: &Ingredients) -> Vec<Method<'_>> {
    vec![
        Method::ChannelOpen(channel::Open),
        Method::ChannelOpenOk(channel::OpenOk),
        Method::ChannelFlow(channel::Flow { active: from.bits[0] }),
        Method::ChannelFlowOk(channel::FlowOk { active: from.bits[0] }),
        Method::ChannelClose(channel::Close {
            reply_code: from.u16,
            reply_text: &from.texts[0],
            class_id: from.u16,
            method_id: from.u16,
        }),
        Method::ChannelCloseOk(channel::CloseOk),
        Method::AccessRequest(access::Request {
            realm: &from.texts[0],
            exclusive: from.bits[0],
            passive: from.bits[1],
            active: from.bits[2],
            write: from.bits[3],
            read: from.bits[4],
        }),
        Method::AccessRequestOk(access::RequestOk { ticket: from.u16 }),
    ]
}

fn exchange_methods(from: &Ingredients) -> Vec<Method<'_>> {
    vec![
        Method::ExchangeDeclare(exchange::Declare {
            exchange: &from.texts[0],
            exchange_type: &from.texts[1],
            passive: from.bits[0],
            durable: from.bits[1],
            auto_delete: from.bits[2],
            internal: from.bits[3],
            no_wait: from.bits[4],
            arguments: from.table.clone(),
        }),
        Method::ExchangeDeclareOk(exchange::DeclareOk),
        Method::ExchangeDelete(exchange::Delete {
            exchange: &from.texts[0],
            if_unused: from.bits[0],
            no_wait: from.bits[1],
        }),
        Method::ExchangeDeleteOk(exchange::DeleteOk),
        Method::ExchangeBind(exchange::Bind {
            destination: &from.texts[0],
            source: &from.texts[1],
            routing_key: &from.texts[2],
            no_wait: from.bits[0],
            arguments: from.table.clone(),
        }),
        Method::ExchangeBindOk(exchange::BindOk),
        Method::ExchangeUnbind(exchange::Unbind {
            destination: &from.texts[0],
            source: &from.texts[1],
            routing_key: &from.texts[2],
            no_wait: from.bits[0],
            arguments: from.table.clone(),
        }),
        Method::ExchangeUnbindOk(exchange::UnbindOk),
    ]
}

fn queue_methods(from: &Ingredients) -> Vec<Method<'_>> {
    vec![
        Method::QueueDeclare(queue::Declare {
            queue: &from.texts[0],
            passive: from.bits[0],
            durable: from.bits[1],
            exclusive: from.bits[2],
            auto_delete: from.bits[3],
            no_wait: from.bits[4],
            arguments: from.table.clone(),
        }),
        Method::QueueDeclareOk(queue::DeclareOk {
            queue: &from.texts[0],
            message_count: from.u32,
            consumer_count: from.u32,
        }),
        Method::QueueBind(queue::Bind {
            queue: &from.texts[0],
            exchange: &from.texts[1],
            routing_key: &from.texts[2],
            no_wait: from.bits[0],
            arguments: from.table.clone(),
        }),
        Method::QueueBindOk(queue::BindOk),
        Method::QueuePurge(queue::Purge { queue: &from.texts[0], no_wait: from.bits[0] }),
        Method::QueuePurgeOk(queue::PurgeOk { message_count: from.u32 }),
        Method::QueueDelete(queue::Delete {
            queue: &from.texts[0],
            if_unused: from.bits[0],
            if_empty: from.bits[1],
            no_wait: from.bits[2],
        }),
        Method::QueueDeleteOk(queue::DeleteOk { message_count: from.u32 }),
        Method::QueueUnbind(queue::Unbind {
            queue: &from.texts[0],
            exchange: &from.texts[1],
            routing_key: &from.texts[2],
            arguments: from.table.clone(),
        }),
        Method::QueueUnbindOk(queue::UnbindOk),
    ]
}

fn basic_methods(from: &Ingredients) -> Vec<Method<'_>> {
    vec![
        Method::BasicQos(basic::Qos {
            prefetch_size: from.u32,
            prefetch_count: from.u16,
            global: from.bits[0],
        }),
        Method::BasicQosOk(basic::QosOk),
        Method::BasicConsume(basic::Consume {
            queue: &from.texts[0],
            consumer_tag: &from.texts[1],
            no_local: from.bits[0],
            no_ack: from.bits[1],
            exclusive: from.bits[2],
            no_wait: from.bits[3],
            arguments: from.table.clone(),
        }),
        Method::BasicConsumeOk(basic::ConsumeOk { consumer_tag: &from.texts[0] }),
        Method::BasicCancel(basic::Cancel { consumer_tag: &from.texts[0], no_wait: from.bits[0] }),
        Method::BasicCancelOk(basic::CancelOk { consumer_tag: &from.texts[0] }),
        Method::BasicPublish(basic::Publish {
            exchange: &from.texts[0],
            routing_key: &from.texts[1],
            mandatory: from.bits[0],
            immediate: from.bits[1],
        }),
        Method::BasicReturn(basic::Return {
            reply_code: from.u16,
            reply_text: &from.texts[0],
            exchange: &from.texts[1],
            routing_key: &from.texts[2],
        }),
        Method::BasicDeliver(basic::Deliver {
            consumer_tag: &from.texts[0],
            delivery_tag: from.u64,
            redelivered: from.bits[0],
            exchange: &from.texts[1],
            routing_key: &from.texts[2],
        }),
        Method::BasicGet(basic::Get { queue: &from.texts[0], no_ack: from.bits[0] }),
        Method::BasicGetOk(basic::GetOk {
            delivery_tag: from.u64,
            redelivered: from.bits[0],
            exchange: &from.texts[0],
            routing_key: &from.texts[1],
            message_count: from.u32,
        }),
        Method::BasicGetEmpty(basic::GetEmpty),
        Method::BasicAck(basic::Ack { delivery_tag: from.u64, multiple: from.bits[0] }),
        Method::BasicReject(basic::Reject { delivery_tag: from.u64, requeue: from.bits[0] }),
        Method::BasicRecoverAsync(basic::RecoverAsync { requeue: from.bits[0] }),
        Method::BasicRecover(basic::Recover { requeue: from.bits[0] }),
        Method::BasicRecoverOk(basic::RecoverOk),
        Method::BasicNack(basic::Nack {
            delivery_tag: from.u64,
            multiple: from.bits[0],
            requeue: from.bits[1],
        }),
    ]
}

fn confirm_and_tx_methods(from: &Ingredients) -> Vec<Method<'_>> {
    vec![
        Method::ConfirmSelect(confirm::Select { no_wait: from.bits[0] }),
        Method::ConfirmSelectOk(confirm::SelectOk),
        Method::TxSelect(tx::Select),
        Method::TxSelectOk(tx::SelectOk),
        Method::TxCommit(tx::Commit),
        Method::TxCommitOk(tx::CommitOk),
        Method::TxRollback(tx::Rollback),
        Method::TxRollbackOk(tx::RollbackOk),
    ]
}
