//! Methods: what a method frame carries, one variant per method of the protocol and RabbitMQ's extensions.
//!
//! A channel hands a frame's payload to [`Method::decode`], which looks at the two ids and leaves the arguments
//! to the struct of that method, in the file of its class. [`encode_method`](crate::frame::encode_method)
//! comes the other way. What a method does, and where it is allowed, is not known here.

use std::fmt;

use nom::combinator::rest;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::wire::{be_u16, decode_all, put_u16};

pub mod access;
pub mod basic;
pub mod channel;
pub mod confirm;
pub mod connection;
pub mod exchange;
pub mod queue;
pub mod tx;

/// Octets of a method frame's payload before the arguments: class id and method id.
pub const ARGUMENTS_OFFSET: usize = 4;

/// A method's number: its class and its place in the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodId {
    /// The class.
    pub class_id: u16,
    /// The method in the class.
    pub method_id: u16,
}

impl MethodId {
    /// No method: what a close names when no method is to blame.
    pub const NONE: Self = Self::new(0, 0);
    /// `connection.start`
    pub const CONNECTION_START: Self = Self::new(10, 10);
    /// `connection.start-ok`
    pub const CONNECTION_START_OK: Self = Self::new(10, 11);
    /// `connection.secure`
    pub const CONNECTION_SECURE: Self = Self::new(10, 20);
    /// `connection.secure-ok`
    pub const CONNECTION_SECURE_OK: Self = Self::new(10, 21);
    /// `connection.tune`
    pub const CONNECTION_TUNE: Self = Self::new(10, 30);
    /// `connection.tune-ok`
    pub const CONNECTION_TUNE_OK: Self = Self::new(10, 31);
    /// `connection.open`
    pub const CONNECTION_OPEN: Self = Self::new(10, 40);
    /// `connection.open-ok`
    pub const CONNECTION_OPEN_OK: Self = Self::new(10, 41);
    /// `connection.close`
    pub const CONNECTION_CLOSE: Self = Self::new(10, 50);
    /// `connection.close-ok`
    pub const CONNECTION_CLOSE_OK: Self = Self::new(10, 51);
    /// `connection.blocked`
    pub const CONNECTION_BLOCKED: Self = Self::new(10, 60);
    /// `connection.unblocked`
    pub const CONNECTION_UNBLOCKED: Self = Self::new(10, 61);
    /// `connection.update-secret`
    pub const CONNECTION_UPDATE_SECRET: Self = Self::new(10, 70);
    /// `connection.update-secret-ok`
    pub const CONNECTION_UPDATE_SECRET_OK: Self = Self::new(10, 71);
    /// `channel.open`
    pub const CHANNEL_OPEN: Self = Self::new(20, 10);
    /// `channel.open-ok`
    pub const CHANNEL_OPEN_OK: Self = Self::new(20, 11);
    /// `channel.flow`
    pub const CHANNEL_FLOW: Self = Self::new(20, 20);
    /// `channel.flow-ok`
    pub const CHANNEL_FLOW_OK: Self = Self::new(20, 21);
    /// `channel.close`
    pub const CHANNEL_CLOSE: Self = Self::new(20, 40);
    /// `channel.close-ok`
    pub const CHANNEL_CLOSE_OK: Self = Self::new(20, 41);
    /// `access.request`
    pub const ACCESS_REQUEST: Self = Self::new(30, 10);
    /// `access.request-ok`
    pub const ACCESS_REQUEST_OK: Self = Self::new(30, 11);
    /// `exchange.declare`
    pub const EXCHANGE_DECLARE: Self = Self::new(40, 10);
    /// `exchange.declare-ok`
    pub const EXCHANGE_DECLARE_OK: Self = Self::new(40, 11);
    /// `exchange.delete`
    pub const EXCHANGE_DELETE: Self = Self::new(40, 20);
    /// `exchange.delete-ok`
    pub const EXCHANGE_DELETE_OK: Self = Self::new(40, 21);
    /// `exchange.bind`
    pub const EXCHANGE_BIND: Self = Self::new(40, 30);
    /// `exchange.bind-ok`
    pub const EXCHANGE_BIND_OK: Self = Self::new(40, 31);
    /// `exchange.unbind`
    pub const EXCHANGE_UNBIND: Self = Self::new(40, 40);
    /// `exchange.unbind-ok`
    pub const EXCHANGE_UNBIND_OK: Self = Self::new(40, 51);
    /// `queue.declare`
    pub const QUEUE_DECLARE: Self = Self::new(50, 10);
    /// `queue.declare-ok`
    pub const QUEUE_DECLARE_OK: Self = Self::new(50, 11);
    /// `queue.bind`
    pub const QUEUE_BIND: Self = Self::new(50, 20);
    /// `queue.bind-ok`
    pub const QUEUE_BIND_OK: Self = Self::new(50, 21);
    /// `queue.purge`
    pub const QUEUE_PURGE: Self = Self::new(50, 30);
    /// `queue.purge-ok`
    pub const QUEUE_PURGE_OK: Self = Self::new(50, 31);
    /// `queue.delete`
    pub const QUEUE_DELETE: Self = Self::new(50, 40);
    /// `queue.delete-ok`
    pub const QUEUE_DELETE_OK: Self = Self::new(50, 41);
    /// `queue.unbind`
    pub const QUEUE_UNBIND: Self = Self::new(50, 50);
    /// `queue.unbind-ok`
    pub const QUEUE_UNBIND_OK: Self = Self::new(50, 51);
    /// `basic.qos`
    pub const BASIC_QOS: Self = Self::new(60, 10);
    /// `basic.qos-ok`
    pub const BASIC_QOS_OK: Self = Self::new(60, 11);
    /// `basic.consume`
    pub const BASIC_CONSUME: Self = Self::new(60, 20);
    /// `basic.consume-ok`
    pub const BASIC_CONSUME_OK: Self = Self::new(60, 21);
    /// `basic.cancel`
    pub const BASIC_CANCEL: Self = Self::new(60, 30);
    /// `basic.cancel-ok`
    pub const BASIC_CANCEL_OK: Self = Self::new(60, 31);
    /// `basic.publish`
    pub const BASIC_PUBLISH: Self = Self::new(60, 40);
    /// `basic.return`
    pub const BASIC_RETURN: Self = Self::new(60, 50);
    /// `basic.deliver`
    pub const BASIC_DELIVER: Self = Self::new(60, 60);
    /// `basic.get`
    pub const BASIC_GET: Self = Self::new(60, 70);
    /// `basic.get-ok`
    pub const BASIC_GET_OK: Self = Self::new(60, 71);
    /// `basic.get-empty`
    pub const BASIC_GET_EMPTY: Self = Self::new(60, 72);
    /// `basic.ack`
    pub const BASIC_ACK: Self = Self::new(60, 80);
    /// `basic.reject`
    pub const BASIC_REJECT: Self = Self::new(60, 90);
    /// `basic.recover-async`
    pub const BASIC_RECOVER_ASYNC: Self = Self::new(60, 100);
    /// `basic.recover`
    pub const BASIC_RECOVER: Self = Self::new(60, 110);
    /// `basic.recover-ok`
    pub const BASIC_RECOVER_OK: Self = Self::new(60, 111);
    /// `basic.nack`
    pub const BASIC_NACK: Self = Self::new(60, 120);
    /// `confirm.select`
    pub const CONFIRM_SELECT: Self = Self::new(85, 10);
    /// `confirm.select-ok`
    pub const CONFIRM_SELECT_OK: Self = Self::new(85, 11);
    /// `tx.select`
    pub const TX_SELECT: Self = Self::new(90, 10);
    /// `tx.select-ok`
    pub const TX_SELECT_OK: Self = Self::new(90, 11);
    /// `tx.commit`
    pub const TX_COMMIT: Self = Self::new(90, 20);
    /// `tx.commit-ok`
    pub const TX_COMMIT_OK: Self = Self::new(90, 21);
    /// `tx.rollback`
    pub const TX_ROLLBACK: Self = Self::new(90, 30);
    /// `tx.rollback-ok`
    pub const TX_ROLLBACK_OK: Self = Self::new(90, 31);

    /// The method with these numbers, whether or not it exists.
    pub const fn new(class_id: u16, method_id: u16) -> Self {
        Self { class_id, method_id }
    }

    /// Parts a method frame's payload into the method's number and the octets of its arguments.
    ///
    /// PERF: who awaits one method most of the time (a publish, an ack) can look at the number and call that
    /// struct's own `decode`, which spares building a [`Method`]; see the two benches of a publish.
    ///
    /// # Errors
    /// The payload is shorter than the two numbers.
    #[inline]
    pub fn split(payload: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let (class_id, method_id, args) = decode_all(payload, (be_u16, be_u16, rest))?;
        Ok((Self { class_id, method_id }, args))
    }

    /// The method's name as the specification and RabbitMQ write it, such as `basic.publish`.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::CONNECTION_START => "connection.start",
            Self::CONNECTION_START_OK => "connection.start-ok",
            Self::CONNECTION_SECURE => "connection.secure",
            Self::CONNECTION_SECURE_OK => "connection.secure-ok",
            Self::CONNECTION_TUNE => "connection.tune",
            Self::CONNECTION_TUNE_OK => "connection.tune-ok",
            Self::CONNECTION_OPEN => "connection.open",
            Self::CONNECTION_OPEN_OK => "connection.open-ok",
            Self::CONNECTION_CLOSE => "connection.close",
            Self::CONNECTION_CLOSE_OK => "connection.close-ok",
            Self::CONNECTION_BLOCKED => "connection.blocked",
            Self::CONNECTION_UNBLOCKED => "connection.unblocked",
            Self::CONNECTION_UPDATE_SECRET => "connection.update-secret",
            Self::CONNECTION_UPDATE_SECRET_OK => "connection.update-secret-ok",
            Self::CHANNEL_OPEN => "channel.open",
            Self::CHANNEL_OPEN_OK => "channel.open-ok",
            Self::CHANNEL_FLOW => "channel.flow",
            Self::CHANNEL_FLOW_OK => "channel.flow-ok",
            Self::CHANNEL_CLOSE => "channel.close",
            Self::CHANNEL_CLOSE_OK => "channel.close-ok",
            Self::ACCESS_REQUEST => "access.request",
            Self::ACCESS_REQUEST_OK => "access.request-ok",
            Self::EXCHANGE_DECLARE => "exchange.declare",
            Self::EXCHANGE_DECLARE_OK => "exchange.declare-ok",
            Self::EXCHANGE_DELETE => "exchange.delete",
            Self::EXCHANGE_DELETE_OK => "exchange.delete-ok",
            Self::EXCHANGE_BIND => "exchange.bind",
            Self::EXCHANGE_BIND_OK => "exchange.bind-ok",
            Self::EXCHANGE_UNBIND => "exchange.unbind",
            Self::EXCHANGE_UNBIND_OK => "exchange.unbind-ok",
            Self::QUEUE_DECLARE => "queue.declare",
            Self::QUEUE_DECLARE_OK => "queue.declare-ok",
            Self::QUEUE_BIND => "queue.bind",
            Self::QUEUE_BIND_OK => "queue.bind-ok",
            Self::QUEUE_PURGE => "queue.purge",
            Self::QUEUE_PURGE_OK => "queue.purge-ok",
            Self::QUEUE_DELETE => "queue.delete",
            Self::QUEUE_DELETE_OK => "queue.delete-ok",
            Self::QUEUE_UNBIND => "queue.unbind",
            Self::QUEUE_UNBIND_OK => "queue.unbind-ok",
            Self::BASIC_QOS => "basic.qos",
            Self::BASIC_QOS_OK => "basic.qos-ok",
            Self::BASIC_CONSUME => "basic.consume",
            Self::BASIC_CONSUME_OK => "basic.consume-ok",
            Self::BASIC_CANCEL => "basic.cancel",
            Self::BASIC_CANCEL_OK => "basic.cancel-ok",
            Self::BASIC_PUBLISH => "basic.publish",
            Self::BASIC_RETURN => "basic.return",
            Self::BASIC_DELIVER => "basic.deliver",
            Self::BASIC_GET => "basic.get",
            Self::BASIC_GET_OK => "basic.get-ok",
            Self::BASIC_GET_EMPTY => "basic.get-empty",
            Self::BASIC_ACK => "basic.ack",
            Self::BASIC_REJECT => "basic.reject",
            Self::BASIC_RECOVER_ASYNC => "basic.recover-async",
            Self::BASIC_RECOVER => "basic.recover",
            Self::BASIC_RECOVER_OK => "basic.recover-ok",
            Self::BASIC_NACK => "basic.nack",
            Self::CONFIRM_SELECT => "confirm.select",
            Self::CONFIRM_SELECT_OK => "confirm.select-ok",
            Self::TX_SELECT => "tx.select",
            Self::TX_SELECT_OK => "tx.select-ok",
            Self::TX_COMMIT => "tx.commit",
            Self::TX_COMMIT_OK => "tx.commit-ok",
            Self::TX_ROLLBACK => "tx.rollback",
            Self::TX_ROLLBACK_OK => "tx.rollback-ok",
            _ => return None,
        })
    }
}

/// The name, or the numbers of a method that has none.
impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}.{}", self.class_id, self.method_id),
        }
    }
}

/// A method with its arguments, borrowing names and strings from the frame it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method<'a> {
    /// `connection.start`
    ConnectionStart(connection::Start<'a>),
    /// `connection.start-ok`
    ConnectionStartOk(connection::StartOk<'a>),
    /// `connection.secure`
    ConnectionSecure(connection::Secure<'a>),
    /// `connection.secure-ok`
    ConnectionSecureOk(connection::SecureOk<'a>),
    /// `connection.tune`
    ConnectionTune(connection::Tune),
    /// `connection.tune-ok`
    ConnectionTuneOk(connection::TuneOk),
    /// `connection.open`
    ConnectionOpen(connection::Open<'a>),
    /// `connection.open-ok`
    ConnectionOpenOk(connection::OpenOk),
    /// `connection.close`
    ConnectionClose(connection::Close<'a>),
    /// `connection.close-ok`
    ConnectionCloseOk(connection::CloseOk),
    /// `connection.blocked`
    ConnectionBlocked(connection::Blocked<'a>),
    /// `connection.unblocked`
    ConnectionUnblocked(connection::Unblocked),
    /// `connection.update-secret`
    ConnectionUpdateSecret(connection::UpdateSecret<'a>),
    /// `connection.update-secret-ok`
    ConnectionUpdateSecretOk(connection::UpdateSecretOk),
    /// `channel.open`
    ChannelOpen(channel::Open),
    /// `channel.open-ok`
    ChannelOpenOk(channel::OpenOk),
    /// `channel.flow`
    ChannelFlow(channel::Flow),
    /// `channel.flow-ok`
    ChannelFlowOk(channel::FlowOk),
    /// `channel.close`
    ChannelClose(channel::Close<'a>),
    /// `channel.close-ok`
    ChannelCloseOk(channel::CloseOk),
    /// `access.request`
    AccessRequest(access::Request<'a>),
    /// `access.request-ok`
    AccessRequestOk(access::RequestOk),
    /// `exchange.declare`
    ExchangeDeclare(exchange::Declare<'a>),
    /// `exchange.declare-ok`
    ExchangeDeclareOk(exchange::DeclareOk),
    /// `exchange.delete`
    ExchangeDelete(exchange::Delete<'a>),
    /// `exchange.delete-ok`
    ExchangeDeleteOk(exchange::DeleteOk),
    /// `exchange.bind`
    ExchangeBind(exchange::Bind<'a>),
    /// `exchange.bind-ok`
    ExchangeBindOk(exchange::BindOk),
    /// `exchange.unbind`
    ExchangeUnbind(exchange::Unbind<'a>),
    /// `exchange.unbind-ok`
    ExchangeUnbindOk(exchange::UnbindOk),
    /// `queue.declare`
    QueueDeclare(queue::Declare<'a>),
    /// `queue.declare-ok`
    QueueDeclareOk(queue::DeclareOk<'a>),
    /// `queue.bind`
    QueueBind(queue::Bind<'a>),
    /// `queue.bind-ok`
    QueueBindOk(queue::BindOk),
    /// `queue.purge`
    QueuePurge(queue::Purge<'a>),
    /// `queue.purge-ok`
    QueuePurgeOk(queue::PurgeOk),
    /// `queue.delete`
    QueueDelete(queue::Delete<'a>),
    /// `queue.delete-ok`
    QueueDeleteOk(queue::DeleteOk),
    /// `queue.unbind`
    QueueUnbind(queue::Unbind<'a>),
    /// `queue.unbind-ok`
    QueueUnbindOk(queue::UnbindOk),
    /// `basic.qos`
    BasicQos(basic::Qos),
    /// `basic.qos-ok`
    BasicQosOk(basic::QosOk),
    /// `basic.consume`
    BasicConsume(basic::Consume<'a>),
    /// `basic.consume-ok`
    BasicConsumeOk(basic::ConsumeOk<'a>),
    /// `basic.cancel`
    BasicCancel(basic::Cancel<'a>),
    /// `basic.cancel-ok`
    BasicCancelOk(basic::CancelOk<'a>),
    /// `basic.publish`
    BasicPublish(basic::Publish<'a>),
    /// `basic.return`
    BasicReturn(basic::Return<'a>),
    /// `basic.deliver`
    BasicDeliver(basic::Deliver<'a>),
    /// `basic.get`
    BasicGet(basic::Get<'a>),
    /// `basic.get-ok`
    BasicGetOk(basic::GetOk<'a>),
    /// `basic.get-empty`
    BasicGetEmpty(basic::GetEmpty),
    /// `basic.ack`
    BasicAck(basic::Ack),
    /// `basic.reject`
    BasicReject(basic::Reject),
    /// `basic.recover-async`
    BasicRecoverAsync(basic::RecoverAsync),
    /// `basic.recover`
    BasicRecover(basic::Recover),
    /// `basic.recover-ok`
    BasicRecoverOk(basic::RecoverOk),
    /// `basic.nack`
    BasicNack(basic::Nack),
    /// `confirm.select`
    ConfirmSelect(confirm::Select),
    /// `confirm.select-ok`
    ConfirmSelectOk(confirm::SelectOk),
    /// `tx.select`
    TxSelect(tx::Select),
    /// `tx.select-ok`
    TxSelectOk(tx::SelectOk),
    /// `tx.commit`
    TxCommit(tx::Commit),
    /// `tx.commit-ok`
    TxCommitOk(tx::CommitOk),
    /// `tx.rollback`
    TxRollback(tx::Rollback),
    /// `tx.rollback-ok`
    TxRollbackOk(tx::RollbackOk),
}

impl<'a> Method<'a> {
    /// Reads a method frame's payload, to its last octet.
    ///
    /// # Errors
    /// There is no such method, or its arguments are cut short, malformed or followed by more octets.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let (id, args) = MethodId::split(payload)?;
        Self::decode_args(id, args)
    }

    /// Reads the arguments of the method `id`, as [`MethodId::split`] hands them out.
    ///
    /// # Errors
    /// Those of [`Method::decode`], with the same offsets.
    pub fn decode_args(id: MethodId, args: &'a [u8]) -> Result<Self, DecodeError> {
        Self::dispatch(id, args).map_err(|error| match error.kind {
            DecodeErrorKind::UnknownMethod(_) => error,
            _ => error.shifted(ARGUMENTS_OFFSET),
        })
    }

    #[expect(clippy::too_many_lines, reason = "one line per method")]
    #[inline]
    fn dispatch(id: MethodId, args: &'a [u8]) -> Result<Self, DecodeError> {
        Ok(match id {
            MethodId::CONNECTION_START => Self::ConnectionStart(connection::Start::decode(args)?),
            MethodId::CONNECTION_START_OK => Self::ConnectionStartOk(connection::StartOk::decode(args)?),
            MethodId::CONNECTION_SECURE => Self::ConnectionSecure(connection::Secure::decode(args)?),
            MethodId::CONNECTION_SECURE_OK => Self::ConnectionSecureOk(connection::SecureOk::decode(args)?),
            MethodId::CONNECTION_TUNE => Self::ConnectionTune(connection::Tune::decode(args)?),
            MethodId::CONNECTION_TUNE_OK => Self::ConnectionTuneOk(connection::TuneOk::decode(args)?),
            MethodId::CONNECTION_OPEN => Self::ConnectionOpen(connection::Open::decode(args)?),
            MethodId::CONNECTION_OPEN_OK => Self::ConnectionOpenOk(connection::OpenOk::decode(args)?),
            MethodId::CONNECTION_CLOSE => Self::ConnectionClose(connection::Close::decode(args)?),
            MethodId::CONNECTION_CLOSE_OK => Self::ConnectionCloseOk(connection::CloseOk::decode(args)?),
            MethodId::CONNECTION_BLOCKED => Self::ConnectionBlocked(connection::Blocked::decode(args)?),
            MethodId::CONNECTION_UNBLOCKED => Self::ConnectionUnblocked(connection::Unblocked::decode(args)?),
            MethodId::CONNECTION_UPDATE_SECRET => {
                Self::ConnectionUpdateSecret(connection::UpdateSecret::decode(args)?)
            }
            MethodId::CONNECTION_UPDATE_SECRET_OK => {
                Self::ConnectionUpdateSecretOk(connection::UpdateSecretOk::decode(args)?)
            }
            MethodId::CHANNEL_OPEN => Self::ChannelOpen(channel::Open::decode(args)?),
            MethodId::CHANNEL_OPEN_OK => Self::ChannelOpenOk(channel::OpenOk::decode(args)?),
            MethodId::CHANNEL_FLOW => Self::ChannelFlow(channel::Flow::decode(args)?),
            MethodId::CHANNEL_FLOW_OK => Self::ChannelFlowOk(channel::FlowOk::decode(args)?),
            MethodId::CHANNEL_CLOSE => Self::ChannelClose(channel::Close::decode(args)?),
            MethodId::CHANNEL_CLOSE_OK => Self::ChannelCloseOk(channel::CloseOk::decode(args)?),
            MethodId::ACCESS_REQUEST => Self::AccessRequest(access::Request::decode(args)?),
            MethodId::ACCESS_REQUEST_OK => Self::AccessRequestOk(access::RequestOk::decode(args)?),
            MethodId::EXCHANGE_DECLARE => Self::ExchangeDeclare(exchange::Declare::decode(args)?),
            MethodId::EXCHANGE_DECLARE_OK => Self::ExchangeDeclareOk(exchange::DeclareOk::decode(args)?),
            MethodId::EXCHANGE_DELETE => Self::ExchangeDelete(exchange::Delete::decode(args)?),
            MethodId::EXCHANGE_DELETE_OK => Self::ExchangeDeleteOk(exchange::DeleteOk::decode(args)?),
            MethodId::EXCHANGE_BIND => Self::ExchangeBind(exchange::Bind::decode(args)?),
            MethodId::EXCHANGE_BIND_OK => Self::ExchangeBindOk(exchange::BindOk::decode(args)?),
            MethodId::EXCHANGE_UNBIND => Self::ExchangeUnbind(exchange::Unbind::decode(args)?),
            MethodId::EXCHANGE_UNBIND_OK => Self::ExchangeUnbindOk(exchange::UnbindOk::decode(args)?),
            MethodId::QUEUE_DECLARE => Self::QueueDeclare(queue::Declare::decode(args)?),
            MethodId::QUEUE_DECLARE_OK => Self::QueueDeclareOk(queue::DeclareOk::decode(args)?),
            MethodId::QUEUE_BIND => Self::QueueBind(queue::Bind::decode(args)?),
            MethodId::QUEUE_BIND_OK => Self::QueueBindOk(queue::BindOk::decode(args)?),
            MethodId::QUEUE_PURGE => Self::QueuePurge(queue::Purge::decode(args)?),
            MethodId::QUEUE_PURGE_OK => Self::QueuePurgeOk(queue::PurgeOk::decode(args)?),
            MethodId::QUEUE_DELETE => Self::QueueDelete(queue::Delete::decode(args)?),
            MethodId::QUEUE_DELETE_OK => Self::QueueDeleteOk(queue::DeleteOk::decode(args)?),
            MethodId::QUEUE_UNBIND => Self::QueueUnbind(queue::Unbind::decode(args)?),
            MethodId::QUEUE_UNBIND_OK => Self::QueueUnbindOk(queue::UnbindOk::decode(args)?),
            MethodId::BASIC_QOS => Self::BasicQos(basic::Qos::decode(args)?),
            MethodId::BASIC_QOS_OK => Self::BasicQosOk(basic::QosOk::decode(args)?),
            MethodId::BASIC_CONSUME => Self::BasicConsume(basic::Consume::decode(args)?),
            MethodId::BASIC_CONSUME_OK => Self::BasicConsumeOk(basic::ConsumeOk::decode(args)?),
            MethodId::BASIC_CANCEL => Self::BasicCancel(basic::Cancel::decode(args)?),
            MethodId::BASIC_CANCEL_OK => Self::BasicCancelOk(basic::CancelOk::decode(args)?),
            MethodId::BASIC_PUBLISH => Self::BasicPublish(basic::Publish::decode(args)?),
            MethodId::BASIC_RETURN => Self::BasicReturn(basic::Return::decode(args)?),
            MethodId::BASIC_DELIVER => Self::BasicDeliver(basic::Deliver::decode(args)?),
            MethodId::BASIC_GET => Self::BasicGet(basic::Get::decode(args)?),
            MethodId::BASIC_GET_OK => Self::BasicGetOk(basic::GetOk::decode(args)?),
            MethodId::BASIC_GET_EMPTY => Self::BasicGetEmpty(basic::GetEmpty::decode(args)?),
            MethodId::BASIC_ACK => Self::BasicAck(basic::Ack::decode(args)?),
            MethodId::BASIC_REJECT => Self::BasicReject(basic::Reject::decode(args)?),
            MethodId::BASIC_RECOVER_ASYNC => Self::BasicRecoverAsync(basic::RecoverAsync::decode(args)?),
            MethodId::BASIC_RECOVER => Self::BasicRecover(basic::Recover::decode(args)?),
            MethodId::BASIC_RECOVER_OK => Self::BasicRecoverOk(basic::RecoverOk::decode(args)?),
            MethodId::BASIC_NACK => Self::BasicNack(basic::Nack::decode(args)?),
            MethodId::CONFIRM_SELECT => Self::ConfirmSelect(confirm::Select::decode(args)?),
            MethodId::CONFIRM_SELECT_OK => Self::ConfirmSelectOk(confirm::SelectOk::decode(args)?),
            MethodId::TX_SELECT => Self::TxSelect(tx::Select::decode(args)?),
            MethodId::TX_SELECT_OK => Self::TxSelectOk(tx::SelectOk::decode(args)?),
            MethodId::TX_COMMIT => Self::TxCommit(tx::Commit::decode(args)?),
            MethodId::TX_COMMIT_OK => Self::TxCommitOk(tx::CommitOk::decode(args)?),
            MethodId::TX_ROLLBACK => Self::TxRollback(tx::Rollback::decode(args)?),
            MethodId::TX_ROLLBACK_OK => Self::TxRollbackOk(tx::RollbackOk::decode(args)?),
            _ => return Err(DecodeError { kind: DecodeErrorKind::UnknownMethod(id), offset: 0 }),
        })
    }

    /// Appends a method frame's payload: the ids and the arguments.
    #[expect(clippy::too_many_lines, reason = "one line per method")]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let id = self.id();
        put_u16(out, id.class_id);
        put_u16(out, id.method_id);
        match self {
            Self::ConnectionStart(method) => method.encode(out),
            Self::ConnectionStartOk(method) => method.encode(out),
            Self::ConnectionSecure(method) => method.encode(out),
            Self::ConnectionSecureOk(method) => method.encode(out),
            Self::ConnectionTune(method) => method.encode(out),
            Self::ConnectionTuneOk(method) => method.encode(out),
            Self::ConnectionOpen(method) => method.encode(out),
            Self::ConnectionOpenOk(method) => method.encode(out),
            Self::ConnectionClose(method) => method.encode(out),
            Self::ConnectionCloseOk(method) => method.encode(out),
            Self::ConnectionBlocked(method) => method.encode(out),
            Self::ConnectionUnblocked(method) => method.encode(out),
            Self::ConnectionUpdateSecret(method) => method.encode(out),
            Self::ConnectionUpdateSecretOk(method) => method.encode(out),
            Self::ChannelOpen(method) => method.encode(out),
            Self::ChannelOpenOk(method) => method.encode(out),
            Self::ChannelFlow(method) => method.encode(out),
            Self::ChannelFlowOk(method) => method.encode(out),
            Self::ChannelClose(method) => method.encode(out),
            Self::ChannelCloseOk(method) => method.encode(out),
            Self::AccessRequest(method) => method.encode(out),
            Self::AccessRequestOk(method) => method.encode(out),
            Self::ExchangeDeclare(method) => method.encode(out),
            Self::ExchangeDeclareOk(method) => method.encode(out),
            Self::ExchangeDelete(method) => method.encode(out),
            Self::ExchangeDeleteOk(method) => method.encode(out),
            Self::ExchangeBind(method) => method.encode(out),
            Self::ExchangeBindOk(method) => method.encode(out),
            Self::ExchangeUnbind(method) => method.encode(out),
            Self::ExchangeUnbindOk(method) => method.encode(out),
            Self::QueueDeclare(method) => method.encode(out),
            Self::QueueDeclareOk(method) => method.encode(out),
            Self::QueueBind(method) => method.encode(out),
            Self::QueueBindOk(method) => method.encode(out),
            Self::QueuePurge(method) => method.encode(out),
            Self::QueuePurgeOk(method) => method.encode(out),
            Self::QueueDelete(method) => method.encode(out),
            Self::QueueDeleteOk(method) => method.encode(out),
            Self::QueueUnbind(method) => method.encode(out),
            Self::QueueUnbindOk(method) => method.encode(out),
            Self::BasicQos(method) => method.encode(out),
            Self::BasicQosOk(method) => method.encode(out),
            Self::BasicConsume(method) => method.encode(out),
            Self::BasicConsumeOk(method) => method.encode(out),
            Self::BasicCancel(method) => method.encode(out),
            Self::BasicCancelOk(method) => method.encode(out),
            Self::BasicPublish(method) => method.encode(out),
            Self::BasicReturn(method) => method.encode(out),
            Self::BasicDeliver(method) => method.encode(out),
            Self::BasicGet(method) => method.encode(out),
            Self::BasicGetOk(method) => method.encode(out),
            Self::BasicGetEmpty(method) => method.encode(out),
            Self::BasicAck(method) => method.encode(out),
            Self::BasicReject(method) => method.encode(out),
            Self::BasicRecoverAsync(method) => method.encode(out),
            Self::BasicRecover(method) => method.encode(out),
            Self::BasicRecoverOk(method) => method.encode(out),
            Self::BasicNack(method) => method.encode(out),
            Self::ConfirmSelect(method) => method.encode(out),
            Self::ConfirmSelectOk(method) => method.encode(out),
            Self::TxSelect(method) => method.encode(out),
            Self::TxSelectOk(method) => method.encode(out),
            Self::TxCommit(method) => method.encode(out),
            Self::TxCommitOk(method) => method.encode(out),
            Self::TxRollback(method) => method.encode(out),
            Self::TxRollbackOk(method) => method.encode(out),
        }
    }

    /// The method's number.
    pub const fn id(&self) -> MethodId {
        match self {
            Self::ConnectionStart(_) => MethodId::CONNECTION_START,
            Self::ConnectionStartOk(_) => MethodId::CONNECTION_START_OK,
            Self::ConnectionSecure(_) => MethodId::CONNECTION_SECURE,
            Self::ConnectionSecureOk(_) => MethodId::CONNECTION_SECURE_OK,
            Self::ConnectionTune(_) => MethodId::CONNECTION_TUNE,
            Self::ConnectionTuneOk(_) => MethodId::CONNECTION_TUNE_OK,
            Self::ConnectionOpen(_) => MethodId::CONNECTION_OPEN,
            Self::ConnectionOpenOk(_) => MethodId::CONNECTION_OPEN_OK,
            Self::ConnectionClose(_) => MethodId::CONNECTION_CLOSE,
            Self::ConnectionCloseOk(_) => MethodId::CONNECTION_CLOSE_OK,
            Self::ConnectionBlocked(_) => MethodId::CONNECTION_BLOCKED,
            Self::ConnectionUnblocked(_) => MethodId::CONNECTION_UNBLOCKED,
            Self::ConnectionUpdateSecret(_) => MethodId::CONNECTION_UPDATE_SECRET,
            Self::ConnectionUpdateSecretOk(_) => MethodId::CONNECTION_UPDATE_SECRET_OK,
            Self::ChannelOpen(_) => MethodId::CHANNEL_OPEN,
            Self::ChannelOpenOk(_) => MethodId::CHANNEL_OPEN_OK,
            Self::ChannelFlow(_) => MethodId::CHANNEL_FLOW,
            Self::ChannelFlowOk(_) => MethodId::CHANNEL_FLOW_OK,
            Self::ChannelClose(_) => MethodId::CHANNEL_CLOSE,
            Self::ChannelCloseOk(_) => MethodId::CHANNEL_CLOSE_OK,
            Self::AccessRequest(_) => MethodId::ACCESS_REQUEST,
            Self::AccessRequestOk(_) => MethodId::ACCESS_REQUEST_OK,
            Self::ExchangeDeclare(_) => MethodId::EXCHANGE_DECLARE,
            Self::ExchangeDeclareOk(_) => MethodId::EXCHANGE_DECLARE_OK,
            Self::ExchangeDelete(_) => MethodId::EXCHANGE_DELETE,
            Self::ExchangeDeleteOk(_) => MethodId::EXCHANGE_DELETE_OK,
            Self::ExchangeBind(_) => MethodId::EXCHANGE_BIND,
            Self::ExchangeBindOk(_) => MethodId::EXCHANGE_BIND_OK,
            Self::ExchangeUnbind(_) => MethodId::EXCHANGE_UNBIND,
            Self::ExchangeUnbindOk(_) => MethodId::EXCHANGE_UNBIND_OK,
            Self::QueueDeclare(_) => MethodId::QUEUE_DECLARE,
            Self::QueueDeclareOk(_) => MethodId::QUEUE_DECLARE_OK,
            Self::QueueBind(_) => MethodId::QUEUE_BIND,
            Self::QueueBindOk(_) => MethodId::QUEUE_BIND_OK,
            Self::QueuePurge(_) => MethodId::QUEUE_PURGE,
            Self::QueuePurgeOk(_) => MethodId::QUEUE_PURGE_OK,
            Self::QueueDelete(_) => MethodId::QUEUE_DELETE,
            Self::QueueDeleteOk(_) => MethodId::QUEUE_DELETE_OK,
            Self::QueueUnbind(_) => MethodId::QUEUE_UNBIND,
            Self::QueueUnbindOk(_) => MethodId::QUEUE_UNBIND_OK,
            Self::BasicQos(_) => MethodId::BASIC_QOS,
            Self::BasicQosOk(_) => MethodId::BASIC_QOS_OK,
            Self::BasicConsume(_) => MethodId::BASIC_CONSUME,
            Self::BasicConsumeOk(_) => MethodId::BASIC_CONSUME_OK,
            Self::BasicCancel(_) => MethodId::BASIC_CANCEL,
            Self::BasicCancelOk(_) => MethodId::BASIC_CANCEL_OK,
            Self::BasicPublish(_) => MethodId::BASIC_PUBLISH,
            Self::BasicReturn(_) => MethodId::BASIC_RETURN,
            Self::BasicDeliver(_) => MethodId::BASIC_DELIVER,
            Self::BasicGet(_) => MethodId::BASIC_GET,
            Self::BasicGetOk(_) => MethodId::BASIC_GET_OK,
            Self::BasicGetEmpty(_) => MethodId::BASIC_GET_EMPTY,
            Self::BasicAck(_) => MethodId::BASIC_ACK,
            Self::BasicReject(_) => MethodId::BASIC_REJECT,
            Self::BasicRecoverAsync(_) => MethodId::BASIC_RECOVER_ASYNC,
            Self::BasicRecover(_) => MethodId::BASIC_RECOVER,
            Self::BasicRecoverOk(_) => MethodId::BASIC_RECOVER_OK,
            Self::BasicNack(_) => MethodId::BASIC_NACK,
            Self::ConfirmSelect(_) => MethodId::CONFIRM_SELECT,
            Self::ConfirmSelectOk(_) => MethodId::CONFIRM_SELECT_OK,
            Self::TxSelect(_) => MethodId::TX_SELECT,
            Self::TxSelectOk(_) => MethodId::TX_SELECT_OK,
            Self::TxCommit(_) => MethodId::TX_COMMIT,
            Self::TxCommitOk(_) => MethodId::TX_COMMIT_OK,
            Self::TxRollback(_) => MethodId::TX_ROLLBACK,
            Self::TxRollbackOk(_) => MethodId::TX_ROLLBACK_OK,
        }
    }

    /// The method's name, such as `basic.publish`.
    pub const fn name(&self) -> &'static str {
        match self.id().name() {
            Some(name) => name,
            // INVARIANT: `id` returns ids of this protocol only, and each of them has a name.
            None => "",
        }
    }
}

#[cfg(test)]
mod tests;
