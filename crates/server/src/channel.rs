//! A channel: one task that takes runs of frames from its inbox and does what they say, in order. What it
//! does to queues is gathered and handed over once per run; the answers leave in one piece.
//!
//! ```text
//!   Unopened ── open ──▶ Open ── close ──────────────────────▶ Closed
//!                         ├── channel exception ─▶ Closing ── close-ok ─▶ Closed
//!                         └── connection exception ─▶ Dead
//! ```

mod confirm;
mod consume;
pub(crate) mod content;
mod declare;
mod deliveries;
pub(crate) mod grants;
pub(crate) mod inbox;
pub(crate) mod properties;
mod publish;
mod replies;
pub(crate) mod routes;
mod settle;
pub(crate) mod timeouts;
mod trace;
mod transaction;

use std::sync::Arc;

use leveret_broker::Queue;
use leveret_broker::names::QueueName;
use leveret_broker::store::JournalPosition;
use leveret_codec::frame::{self, Frame, FrameType};
use leveret_codec::method::{Method, MethodId, access, channel};
use tracing::{debug, warn};

use crate::admission::ChannelPlace;
use crate::connection::Connection;
use crate::connection::outbound::GatherWakes;
use crate::connection::pending::Pending;
use crate::counters::{ChannelCounters, PublishCounters, Sizes};
use crate::error::{AmqpError, ReplyCode, Scope};
use crate::limits::CHANNEL_TURN_BYTES;
use confirm::Confirms;
use consume::ReplyConsumer;
use content::{Content, Stage};
pub(crate) use deliveries::Deliveries;
use deliveries::{Shown, UncommittedCounts};
use grants::ChannelAccess;
use inbox::{Call, Inbox, Run};
use replies::Replies;
use routes::Routes;
use settle::Settlements;
use transaction::Transaction;

/// What handling a frame comes to.
pub(crate) type Outcome = Result<(), AmqpError>;

/// Octets of a method's class and id.
const PUBLISH: [u8; 4] = id_octets(MethodId::BASIC_PUBLISH);
const ACK: [u8; 4] = id_octets(MethodId::BASIC_ACK);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but channel.open is expected.
    Unopened,
    Open,
    /// channel.close was sent: everything is ignored until its close-ok.
    Closing,
    /// The number is free again.
    Closed,
    /// The connection is ending.
    Dead,
}

/// Why processing of a run pauses.
#[derive(Debug)]
enum Pause {
    /// All of it is done.
    Done,
    /// The peer does not read the answers as fast as it asks.
    NoRoom,
    /// A publish has to wait until there is memory or disk for it.
    Alarm,
    /// What basic.get asks for has to come from the disk first.
    Load,
    /// A method has to wait until the answers before its own are safe.
    Replies,
    /// A mistake has to wait for the same.
    Failing(AmqpError),
}

/// One channel's state, owned by its task.
struct Channel {
    number: u16,
    connection: Arc<Connection>,
    inbox: Arc<Inbox>,
    deliveries: Arc<Deliveries>,
    access: ChannelAccess,
    /// What it takes of the user's limit, from its opening to its end.
    place: Option<ChannelPlace>,
    state: State,
    content: Content,
    /// What that takes, where it is more than one small frame.
    unfinished: Pending,
    routes: Routes,
    /// Routes were checked since something other than a publish happened.
    routes_fresh: bool,
    /// From when on everything published so far is safe.
    safe_at: JournalPosition,
    confirms: Option<Confirms>,
    transaction: Option<Transaction>,
    replies: Replies,
    settlements: Settlements,
    /// Prefetch of consumers to come.
    consumer_prefetch: u16,
    /// The same of quorum queues, by the last basic.qos of either kind.
    quorum_prefetch: u16,
    /// What an empty queue name stands for.
    last_queue: Option<QueueName>,
    reply_consumer: Option<ReplyConsumer>,
    /// The queue whose next message basic.get waits for.
    awaits_load: Option<Arc<Queue>>,
    /// What it published, and how large that was.
    counted: PublishCounters,
    sizes: Sizes,
    /// Something was sent since the outbound buffer was looked at.
    has_sent: bool,
    /// Its opening was told, its end was not.
    is_announced: bool,
}

/// Runs a channel until it is closed or its connection ends.
pub(crate) async fn run(number: u16, connection: Arc<Connection>, inbox: Arc<Inbox>) {
    let mut channel = Box::new(Channel::new(number, connection, Arc::clone(&inbox)));
    let mut turn_bytes = 0;
    loop {
        let mail = inbox.take().await;
        for run in mail.runs {
            channel.process_run(&run).await;
            turn_bytes += run.frames.len();
            inbox.processed(run);
            if turn_bytes >= CHANNEL_TURN_BYTES {
                turn_bytes = 0;
                tokio::task::yield_now().await;
            }
        }
        channel.end_batch();
        channel.run_errands().await;
        if mail.closed {
            // The connection's close is answered behind them.
            return channel.wait_for_replies().await;
        }
        if channel.state == State::Closed && inbox.end_if_empty() {
            return;
        }
    }
}

impl Channel {
    fn new(number: u16, connection: Arc<Connection>, inbox: Arc<Inbox>) -> Self {
        let deliveries = Deliveries::new(number, &connection, &inbox);
        let unfinished = Pending::new(connection.server.broker.memory(), &connection.unfinished);
        Self {
            number,
            access: ChannelAccess::of(&connection),
            place: None,
            connection,
            inbox,
            deliveries,
            state: State::Unopened,
            content: Content::default(),
            unfinished,
            routes: Routes::default(),
            routes_fresh: false,
            safe_at: JournalPosition::SAFE,
            confirms: None,
            transaction: None,
            replies: Replies::default(),
            settlements: Settlements::default(),
            consumer_prefetch: 0,
            quorum_prefetch: 0,
            last_queue: None,
            reply_consumer: None,
            awaits_load: None,
            counted: PublishCounters::default(),
            sizes: Sizes::default(),
            has_sent: false,
            is_announced: false,
        }
    }

    /// Does what others have called for, when all that came from the client was processed.
    async fn run_errands(&mut self) {
        let errands = self.deliveries.take_errands();
        if errands.asks_permissions() {
            self.cancel_forbidden();
        }
        if errands.has_overdue() {
            self.end_overdue().await;
        }
    }

    /// Processes a run, waiting where it has to.
    async fn process_run(&mut self, run: &Run) {
        let mut at = 0;
        loop {
            let pause = {
                let _wakes = GatherWakes::begin();
                let _acting = self.connection.act();
                let pause = self.process(run, &mut at);
                self.flush();
                self.show();
                pause
            };
            match pause {
                Pause::Done => return,
                Pause::NoRoom => self.deliveries.outbound.room().await,
                Pause::Alarm => self.wait_for_alarms().await,
                Pause::Load => self.wait_until_loaded().await,
                Pause::Replies => self.wait_for_replies().await,
                Pause::Failing(error) => {
                    self.wait_for_replies().await;
                    let _wakes = GatherWakes::begin();
                    self.fail(error);
                }
            }
        }
    }

    /// Processes the frames of `run` from `at` on, until something makes it pause.
    fn process(&mut self, run: &Run, at: &mut usize) -> Pause {
        self.routes_fresh = false;
        self.connection.server.watch_memory();
        loop {
            let rest = run.frames.get(*at..).unwrap_or_default();
            // INVARIANT: the reader has checked the frames' bounds.
            let Ok(Some((frame, size))) = frame::decode_frame(rest, u32::MAX) else { return Pause::Done };
            if let Some(pause) = self.held_up_by(&frame) {
                return pause;
            }
            *at += size;
            if let Err(error) = self.recv_frame(&frame, run) {
                if !self.replies.is_empty() {
                    return Pause::Failing(error);
                }
                self.fail(error);
            }
            if self.awaits_load.is_some() {
                // Asked again when it is there.
                *at -= size;
                return Pause::Load;
            }
            if std::mem::take(&mut self.has_sent) && self.deliveries.outbound.is_full() {
                return Pause::NoRoom;
            }
        }
    }

    /// What keeps this frame from being taken now, if anything does.
    fn held_up_by(&self, frame: &Frame<'_>) -> Option<Pause> {
        if frame.frame_type != FrameType::Method || self.state != State::Open {
            return None;
        }
        if frame.payload.starts_with(&PUBLISH) {
            return self.connection.server.alarms.is_any_raised().then_some(Pause::Alarm);
        }
        let waits = !self.replies.is_empty() && !self.goes_behind_replies(frame.payload);
        waits.then_some(Pause::Replies)
    }

    /// Waits until basic.get can be answered, or nobody waits for the answer any more. What the channel published
    /// before is confirmed meanwhile.
    async fn wait_until_loaded(&mut self) {
        let Some(queue) = self.awaits_load.take() else { return };
        let (loaded, mut is_loaded) = tokio::sync::oneshot::channel();
        queue.when_loaded(Box::new(move || _ = loaded.send(())));
        loop {
            tokio::select! {
                _ = &mut is_loaded => return,
                call = self.inbox.called() => match call {
                    Call::Poked => self.send_what_is_safe(),
                    Call::Abandoned => break,
                },
            }
        }
        self.state = State::Dead;
    }

    /// Holds a publisher up while an alarm is raised; what it published before is confirmed meanwhile. One
    /// that is gone is not waited for: what it sent last was never taken.
    async fn wait_for_alarms(&mut self) {
        let connection = Arc::clone(&self.connection);
        let alarms = &connection.server.alarms;
        let mut told = None;
        loop {
            let changed = alarms.changed();
            let raised = alarms.raised();
            match raised.text() {
                Some(reason) => {
                    if told.replace(reason) != Some(reason) {
                        warn!(peer = %connection.peer, "publisher blocked: {reason}");
                    }
                    connection.block(reason);
                }
                None => connection.unblock(),
            }
            if raised.is_empty() {
                return;
            }
            tokio::select! {
                () = changed => {}
                call = self.inbox.called() => match call {
                    Call::Poked => self.send_what_is_safe(),
                    Call::Abandoned => break,
                },
            }
        }
        self.state = State::Dead;
        connection.unblock();
    }

    fn recv_frame(&mut self, frame: &Frame<'_>, run: &Run) -> Outcome {
        match self.state {
            State::Open => {}
            State::Unopened | State::Closed => return self.recv_unopened(frame),
            State::Closing => return self.recv_closing(frame),
            State::Dead => return Ok(()),
        }
        let unexpected = |text: &str, method| Err(AmqpError::new(ReplyCode::UnexpectedFrame, text, method));
        match (self.content.stage, frame.frame_type) {
            (Stage::Idle, FrameType::Method) => self.recv_method(frame.payload),
            (Stage::Header, FrameType::Header) => self.recv_content_header(frame.payload),
            (Stage::Body(missing), FrameType::Body) => {
                self.recv_content_body(missing, frame.payload, &run.frames, run.pinned_bytes)
            }
            (Stage::Idle, _) => {
                unexpected("expected method frame, got non method frame instead", MethodId::NONE)
            }
            (Stage::Header, _) => unexpected(
                "expected content header for class 60, got non content header frame instead",
                MethodId::BASIC_PUBLISH,
            ),
            (Stage::Body(_), _) => unexpected(
                "expected content body, got non content body frame instead",
                MethodId::BASIC_PUBLISH,
            ),
        }
    }

    fn recv_unopened(&mut self, frame: &Frame<'_>) -> Outcome {
        if frame.frame_type == FrameType::Method
            && matches!(Method::decode(frame.payload), Ok(Method::ChannelOpen(_)))
        {
            self.place = Some(self.take_place()?);
            debug!("channel opened");
            self.state = State::Open;
            self.is_announced = true;
            self.connection.add_channel(&self.deliveries);
            self.connection.tell_channel_created(self.number);
            self.send(&Method::ChannelOpenOk(channel::OpenOk));
            return Ok(());
        }
        let method =
            if frame.frame_type == FrameType::Method { method_id(frame.payload) } else { MethodId::NONE };
        Err(AmqpError::new(ReplyCode::ChannelError, "expected 'channel.open'", method))
    }

    /// COMPAT: a user who has as many channels as allowed loses the connection that asks for one more, and is not told
    /// by which method.
    fn take_place(&self) -> Result<ChannelPlace, AmqpError> {
        let connection = &self.connection;
        let user = connection.server.broker.access().user(&connection.user);
        let limits = user.map(|user| user.limits).unwrap_or_default();
        connection.place.channel(limits).map_err(|limit| {
            let text = format!(
                "number of channels opened for user '{}' has reached the maximum allowed user limit of {limit}",
                connection.user
            );
            AmqpError::new(ReplyCode::NotAllowed, text, MethodId::NONE)
        })
    }

    fn recv_closing(&mut self, frame: &Frame<'_>) -> Outcome {
        if frame.frame_type != FrameType::Method {
            return Ok(());
        }
        match Method::decode(frame.payload) {
            Ok(Method::ChannelCloseOk(_)) => self.state = State::Closed,
            // Both closed at once: each gets its answer.
            Ok(Method::ChannelClose(_)) => self.send(&Method::ChannelCloseOk(channel::CloseOk)),
            _ => {}
        }
        Ok(())
    }

    fn recv_method(&mut self, payload: &[u8]) -> Outcome {
        // PERF: the two methods that come per message are told apart before the others.
        if payload.starts_with(&PUBLISH) {
            if !self.routes_fresh {
                if self.access.refresh(self.connection.server.broker.access()) {
                    self.routes.forget_routes();
                }
                self.routes.refresh(&self.connection.vhost);
                self.routes_fresh = true;
            }
            if self.has_freed_ids() {
                self.flush();
            }
            return self.recv_publish(payload);
        }
        if payload.starts_with(&ACK) {
            return self.recv_ack(payload);
        }
        let method = Method::decode(payload)
            .map_err(|error| AmqpError::undecodable(&error, method_id(payload)).on_connection())?;
        // Whatever comes may ask for the effect of what came before.
        self.flush();
        self.routes_fresh = false;
        self.dispatch(method)
    }

    #[expect(clippy::match_same_arms, reason = "one line per method, in the order of the specification")]
    fn dispatch(&mut self, method: Method<'_>) -> Outcome {
        match method {
            Method::ChannelOpen(_) => self.recv_second_open(),
            Method::ChannelFlow(flow) => self.recv_flow(flow),
            Method::ChannelFlowOk(_) => Ok(()),
            Method::ChannelClose(close) => self.recv_close(&close),
            Method::ChannelCloseOk(_) => Ok(()),
            Method::AccessRequest(_) => self.recv_access_request(),
            Method::ExchangeDeclare(declare) => self.recv_exchange_declare(declare),
            Method::ExchangeDelete(delete) => self.recv_exchange_delete(&delete),
            Method::ExchangeBind(bind) => self.recv_exchange_bind(&bind),
            Method::ExchangeUnbind(unbind) => self.recv_exchange_unbind(&unbind),
            Method::QueueDeclare(declare) => self.recv_queue_declare(declare),
            Method::QueueBind(bind) => self.recv_queue_bind(&bind),
            Method::QueueUnbind(unbind) => self.recv_queue_unbind(&unbind),
            Method::QueuePurge(purge) => self.recv_queue_purge(&purge),
            Method::QueueDelete(delete) => self.recv_queue_delete(&delete),
            Method::BasicQos(qos) => self.recv_qos(qos),
            Method::BasicConsume(consume) => self.recv_consume(&consume),
            Method::BasicCancel(cancel) => self.recv_cancel(&cancel),
            Method::BasicCancelOk(_) => Ok(()),
            Method::BasicGet(get) => self.recv_get(&get),
            Method::BasicNack(nack) => self.recv_nack(nack),
            Method::BasicReject(reject) => self.recv_reject(reject),
            Method::BasicRecoverAsync(recover) => self.recv_recover(recover.requeue, false),
            Method::BasicRecover(recover) => self.recv_recover(recover.requeue, true),
            Method::ConfirmSelect(select) => self.recv_confirm_select(select),
            Method::TxSelect(_) => self.recv_tx_select(),
            Method::TxCommit(_) => self.recv_tx_commit(),
            Method::TxRollback(_) => self.recv_tx_rollback(),
            other => Err(AmqpError::new(ReplyCode::CommandInvalid, "unimplemented method", other.id())),
        }
    }

    fn recv_second_open(&self) -> Outcome {
        let text = "second 'channel.open' seen";
        Err(AmqpError::new(ReplyCode::ChannelError, text, MethodId::CHANNEL_OPEN))
    }

    /// COMPAT: deliveries are held back by prefetch, not by flow.
    fn recv_flow(&mut self, flow: channel::Flow) -> Outcome {
        if !flow.active {
            return Err(AmqpError::new(ReplyCode::NotImplemented, "active=false", MethodId::CHANNEL_FLOW));
        }
        self.send(&Method::ChannelFlowOk(channel::FlowOk { active: true }));
        Ok(())
    }

    fn recv_close(&mut self, close: &channel::Close<'_>) -> Outcome {
        debug!(code = close.reply_code, text = close.reply_text, "client closes the channel");
        self.clean_up();
        self.state = State::Closed;
        self.send(&Method::ChannelCloseOk(channel::CloseOk));
        Ok(())
    }

    /// COMPAT: a class of AMQP 0-8 that old clients still ask for; any ticket is good.
    fn recv_access_request(&mut self) -> Outcome {
        self.send(&Method::AccessRequestOk(access::RequestOk { ticket: 1 }));
        Ok(())
    }

    /// Sends a method on this channel.
    fn send(&mut self, method: &Method<'_>) {
        self.has_sent = true;
        self.deliveries.send(method);
    }

    /// Ends the channel or the connection, as the error asks for.
    fn fail(&mut self, error: AmqpError) {
        // What came before the mistake stands.
        self.flush();
        self.clean_up();
        if error.scope == Scope::Connection {
            self.state = State::Dead;
            return self.connection.fail(error);
        }
        let peer = self.connection.peer;
        warn!(%peer, code = error.code as u16, "closing channel {}: {}", self.number, error.reply_text());
        let text = error.reply_text();
        self.send(&Method::ChannelClose(channel::Close {
            reply_code: error.code as u16,
            reply_text: &text,
            class_id: error.method.class_id,
            method_id: error.method.method_id,
        }));
        self.state = State::Closing;
    }

    /// Hands over what was gathered: messages to their queues, settlements to theirs, confirms to the
    /// publisher. In a transaction the messages wait for its commit.
    fn flush(&mut self) {
        if self.transaction.is_none() {
            let position = self.routes.flush(&**self.connection.server.broker.store());
            self.note_handed_over(position);
        }
        self.flush_settlements();
        self.flush_replies();
        self.flush_confirms();
        self.publish_traced();
    }

    /// Hands messages to the queues once there are many.
    fn flush_routes_if_large(&mut self) {
        if self.routes.is_large() {
            let position = self.routes.flush(&**self.connection.server.broker.store());
            self.note_handed_over(position);
        }
    }

    /// Notes from when on what the queues were handed is safe; never, if one of them was stopped meanwhile. What they
    /// refused is nacked.
    fn note_handed_over(&mut self, position: JournalPosition) {
        let refused = self.routes.take_refused();
        if let (Some(confirms), false) = (&mut self.confirms, refused.is_empty()) {
            confirms.refuse(refused);
        }
        if position < JournalPosition::NEVER {
            self.safe_at = self.safe_at.max(position);
        } else if let Some(confirms) = &mut self.confirms {
            confirms.refuse_handed_over();
        }
    }

    /// The inbox is empty: the channel may stay idle for long.
    fn end_batch(&mut self) {
        let _wakes = GatherWakes::begin();
        self.flush();
        self.show();
        self.routes.release_memory();
        self.content.release_memory();
    }

    /// Lets others see what it is about.
    fn show(&self) {
        let shown = Shown {
            publishes: self.counted,
            sizes: self.sizes,
            is_confirming: self.confirms.is_some(),
            unconfirmed: self.confirms.as_ref().map_or(0, Confirms::outstanding),
            transaction: self.transaction.as_ref().map(|transaction| UncommittedCounts {
                messages: transaction.messages,
                settlements: transaction.settlements.len(),
            }),
            consumer_prefetch: self.consumer_prefetch,
        };
        *self.deliveries.shown.lock() = shown;
    }

    /// Leaves its counts to the totals.
    fn end_counts(&mut self) {
        let publishes = std::mem::take(&mut self.counted);
        let sizes = std::mem::take(&mut self.sizes);
        let deliveries = std::mem::take(&mut self.deliveries.state.lock().counters);
        *self.deliveries.shown.lock() = Shown::default();
        self.connection.server.counters.channel_ends(ChannelCounters { publishes, sizes, deliveries });
    }

    /// Gives everything back that the channel holds: consumers, deliveries not settled, its transaction.
    fn clean_up(&mut self) {
        self.place = None;
        if let Some(transaction) = self.transaction.take() {
            self.take_back_settlements(&transaction.settlements);
        }
        self.replies = Replies::default();
        self.routes.discard();
        self.confirms = None;
        self.content = Content::default();
        self.unfinished.clear();
        self.end_consumers();
        self.publish_traced();
        if std::mem::take(&mut self.is_announced) {
            self.end_counts();
            self.connection.remove_channel(self.number);
            self.connection.tell_channel_closed(self.number);
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let _wakes = GatherWakes::begin();
        let _acting = self.connection.act();
        self.clean_up();
        self.inbox.end();
        if std::thread::panicking() {
            let text = "a channel's task failed";
            self.connection.fail(AmqpError::new(ReplyCode::InternalError, text, MethodId::NONE));
        }
    }
}

const fn id_octets(id: MethodId) -> [u8; 4] {
    let (class, method) = (id.class_id.to_be_bytes(), id.method_id.to_be_bytes());
    [class[0], class[1], method[0], method[1]]
}

/// The ids a method's payload begins with, for errors about the rest of it.
fn method_id(payload: &[u8]) -> MethodId {
    match payload.first_chunk::<4>() {
        Some(&[a, b, c, d]) => {
            MethodId { class_id: u16::from_be_bytes([a, b]), method_id: u16::from_be_bytes([c, d]) }
        }
        None => MethodId::NONE,
    }
}
