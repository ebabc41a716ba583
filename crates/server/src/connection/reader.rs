//! The reading loop of an open connection: finds frame boundaries, hands each run of consecutive frames
//! of one channel to that channel's task, and answers what is said on channel 0.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use leveret_codec::frame::{self, Frame, FrameType};
use leveret_codec::method::{Method, MethodId, connection};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, debug, debug_span, error};

use super::frames::{FrameReader, ReadEnd};
use super::{Connection, ConnectionEnd};
use crate::auth::Credentials;
use crate::channel::inbox::{Backlog, Inbox, Run};
use crate::channel::{self};
use crate::error::{AmqpError, ReplyCode};

/// The task of one channel, as the reader knows it.
struct ChannelHandle {
    inbox: Arc<Inbox>,
    task: JoinHandle<()>,
}

/// Frames of one channel in the buffer, next to each other.
struct Range {
    channel: u16,
    length: usize,
}

/// Who has to catch up before anything more is read.
enum Behind {
    /// One channel.
    Channel(Arc<Inbox>),
    /// All channels together.
    Channels,
    /// The verification of a new password, and then the peer, which may not read its answers.
    Secret(Vec<u8>),
}

/// The reading side of an open connection.
pub(super) struct Reader {
    frames: FrameReader,
    connection: Arc<Connection>,
    backlog: Arc<Backlog>,
    channels: HashMap<u16, ChannelHandle>,
    /// Channels that were told to end.
    ending: Vec<ChannelHandle>,
    /// Handles of ended channels are dropped when there are this many in all.
    prune_at: usize,
    heartbeat: Heartbeat,
}

/// Counts intervals in which nothing came.
struct Heartbeat {
    interval: Duration,
    next_check: Instant,
    received: bool,
    missed: u8,
}

impl Heartbeat {
    /// COMPAT: looked at once per interval; two in a row without an octet end the connection.
    async fn check(&mut self) -> Result<(), ConnectionEnd> {
        if self.interval.is_zero() {
            std::future::pending::<()>().await;
        }
        sleep_until(self.next_check).await;
        self.next_check = Instant::now() + self.interval;
        self.missed = if std::mem::take(&mut self.received) { 0 } else { self.missed + 1 };
        if self.missed >= 2 { Err(ConnectionEnd::HeartbeatMissed) } else { Ok(()) }
    }
}

impl Reader {
    pub(super) fn new(frames: FrameReader, connection: Arc<Connection>, heartbeat: Duration) -> Self {
        let heartbeat = Heartbeat {
            interval: heartbeat,
            next_check: Instant::now() + heartbeat,
            received: true,
            missed: 0,
        };
        Self {
            frames,
            connection,
            backlog: Arc::default(),
            channels: HashMap::new(),
            ending: Vec::new(),
            prune_at: 8,
            heartbeat,
        }
    }

    /// Reads until the connection ends.
    pub(super) async fn run(&mut self) -> ConnectionEnd {
        loop {
            // What came together with the last frame of the handshake is handed out first.
            let step = match self.hand_out_received() {
                Ok(None) => self.receive().await,
                Ok(Some(behind)) => self.wait_for_room(behind).await,
                Err(end) => Err(end),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn receive(&mut self) -> Result<(), ConnectionEnd> {
        let Self { frames, connection, heartbeat, .. } = self;
        tokio::select! {
            biased;
            error = connection.failure() => Err(ConnectionEnd::ClosedByUs(error)),
            readable = frames.readable() => {
                readable.map_err(ConnectionEnd::Io)?;
                let count = frames.read().await.map_err(ConnectionEnd::Io)?;
                heartbeat.received |= count > 0;
                connection.received.add(count);
                Ok(())
            }
            checked = heartbeat.check() => checked,
        }
    }

    /// Hands the whole frames that were received to whom they are for; stops where somebody is behind.
    fn hand_out_received(&mut self) -> Result<Option<Behind>, ConnectionEnd> {
        let frame_max = self.connection.frame_max;
        loop {
            let range = match first_range(self.frames.received(), frame_max) {
                Ok(None) => return Ok(None),
                Ok(Some(range)) => range,
                Err(error) => return Err(ReadEnd::Malformed(error).into()),
            };
            if range.channel == 0 {
                if let Some(secret) = self.recv_connection_frame()? {
                    return Ok(Some(Behind::Secret(secret)));
                }
                continue;
            }
            let (frames, pinned_bytes) = self.frames.take(range.length);
            let inbox = self.hand_over(range.channel, Run { frames, pinned_bytes })?;
            if inbox.is_full() {
                return Ok(Some(Behind::Channel(inbox)));
            }
            if self.backlog.is_full() {
                return Ok(Some(Behind::Channels));
            }
        }
    }

    /// Stops reading until somebody has caught up. The peer's heartbeats are not missed meanwhile, since
    /// nobody reads them; that it is gone shows where something is written to it.
    async fn wait_for_room(&mut self, behind: Behind) -> Result<(), ConnectionEnd> {
        let Self { connection, backlog, .. } = self;
        let caught_up = async {
            match behind {
                Behind::Channel(inbox) => inbox.room().await,
                Behind::Channels => backlog.room().await,
                Behind::Secret(secret) => {
                    update_secret(connection, secret).await;
                    connection.outbound.room().await;
                }
            }
        };
        tokio::select! {
            () = caught_up => {
                self.heartbeat.received = true;
                Ok(())
            }
            error = connection.failure() => Err(ConnectionEnd::ClosedByUs(error)),
            () = connection.outbound.failed() => {
                Err(ConnectionEnd::Io(io::Error::new(io::ErrorKind::BrokenPipe, "nothing can be written")))
            }
        }
    }

    fn hand_over(&mut self, channel: u16, run: Run) -> Result<Arc<Inbox>, ConnectionEnd> {
        let run = match self.channels.get(&channel) {
            None => run,
            Some(handle) => match handle.inbox.push(run) {
                Ok(()) => return Ok(Arc::clone(&handle.inbox)),
                // It was closed: the number begins anew.
                Err(run) => run,
            },
        };
        self.check_channel_limit(channel)?;
        let inbox = Arc::new(Inbox::new(Arc::clone(&self.backlog)));
        // The inbox is new and open: it takes the run.
        let _ = inbox.push(run);
        // PERF: entered with each poll, so it only exists where somebody looks at it.
        let span = debug_span!("channel", channel);
        let task = channel::run(channel, Arc::clone(&self.connection), Arc::clone(&inbox));
        let task = tokio::spawn(task.instrument(span));
        self.channels.insert(channel, ChannelHandle { inbox: Arc::clone(&inbox), task });
        Ok(inbox)
    }

    fn check_channel_limit(&mut self, channel: u16) -> Result<(), ConnectionEnd> {
        if self.channels.len() >= self.prune_at {
            self.channels.retain(|_, handle| !handle.inbox.is_dead());
            self.channels.shrink_to_fit();
            self.prune_at = 8.max(self.channels.len() * 2);
        }
        let limit = self.connection.channel_max;
        if channel <= limit {
            return Ok(());
        }
        let open = self.channels.values().filter(|handle| !handle.inbox.is_dead()).count();
        let text =
            format!("number of channels opened ({open}) has reached the negotiated channel_max ({limit})");
        Err(ConnectionEnd::ClosedByUs(AmqpError::new(ReplyCode::NotAllowed, text, MethodId::NONE)))
    }

    /// Takes one frame of channel 0; the new password, if it brings one.
    fn recv_connection_frame(&mut self) -> Result<Option<Vec<u8>>, ConnectionEnd> {
        let connection = Arc::clone(&self.connection);
        let Ok(Some((frame, size))) = frame::decode_frame(self.frames.received(), connection.frame_max)
        else {
            return Ok(None);
        };
        let result = recv_on_channel_0(&frame);
        self.frames.skip(size);
        result
    }

    /// Lets every channel finish what it received and clean up after itself; with `abandon` it does not
    /// wait for memory to finish it. Can be cancelled and called again.
    pub(super) async fn end_channels(&mut self, abandon: bool) {
        for (_, handle) in self.channels.drain() {
            handle.inbox.close();
            self.ending.push(handle);
        }
        if abandon {
            self.ending.iter().for_each(|handle| handle.inbox.abandon());
        }
        while let Some(ChannelHandle { task, .. }) = self.ending.last_mut() {
            if task.await.is_err_and(|failed| failed.is_panic()) {
                error!("a channel's task panicked");
            }
            self.ending.pop();
        }
    }

    pub(super) fn into_frames(self) -> FrameReader {
        self.frames
    }
}

/// The frames at the front of `received` that belong to one channel; of channel 0 just one.
fn first_range(received: &[u8], frame_max: u32) -> Result<Option<Range>, frame::FrameError> {
    let Some((first, mut length)) = frame::decode_frame(received, frame_max)? else { return Ok(None) };
    let channel = first.channel;
    if first.frame_type == FrameType::Heartbeat || channel == 0 {
        return Ok(Some(Range { channel: 0, length }));
    }
    // A fault behind whole frames is met again once these are handed out.
    while let Ok(Some((next, size))) =
        frame::decode_frame(received.get(length..).unwrap_or_default(), frame_max)
    {
        if next.channel != channel || next.frame_type == FrameType::Heartbeat {
            break;
        }
        length += size;
    }
    Ok(Some(Range { channel, length }))
}

/// Does what a frame of channel 0 says; the new password, if it brings one.
fn recv_on_channel_0(frame: &Frame<'_>) -> Result<Option<Vec<u8>>, ConnectionEnd> {
    let close = |error: AmqpError| Err(ConnectionEnd::ClosedByUs(error.on_connection()));
    match frame.frame_type {
        FrameType::Heartbeat if frame.channel == 0 && frame.payload.is_empty() => Ok(None),
        // COMPAT: a heartbeat belongs on channel 0 and is empty.
        FrameType::Heartbeat if !frame.payload.is_empty() => close(AmqpError::unknown_frame(frame)),
        FrameType::Heartbeat | FrameType::Header | FrameType::Body => close(AmqpError::out_of_place(frame)),
        FrameType::Method => match Method::decode(frame.payload) {
            Ok(Method::ConnectionClose(close)) => {
                debug!(code = close.reply_code, text = close.reply_text, "client closes");
                Err(ConnectionEnd::PeerClosed)
            }
            Ok(Method::ConnectionCloseOk(_)) => Ok(None),
            Ok(Method::ConnectionUpdateSecret(update)) => Ok(Some(update.new_secret.to_vec())),
            Ok(method) => close(AmqpError::new(
                ReplyCode::ChannelError,
                "unexpected method in connection state running",
                method.id(),
            )),
            Err(error) => close(AmqpError::undecodable(&error, MethodId::NONE)),
        },
    }
}

/// COMPAT: a password is good for the connection's life, so a new one is accepted if it is valid, and consumers that
/// may not read their queues any more are cancelled; a refusal ends the connection. Verifying takes a while, in which
/// nothing more is read: one at a time is all that a peer can ask for.
async fn update_secret(connection: &Connection, new_secret: Vec<u8>) {
    let credentials = Credentials { user: connection.user.clone(), password: new_secret };
    let server = &connection.server;
    let access = server.broker.access();
    let verified = server.authenticator.verify(access, &credentials, connection.peer.ip()).await;
    let vhost = connection.vhost.name.as_str();
    let refused = match verified {
        Err(_) => "New secret was refused by one of the backends".to_owned(),
        Ok(user) if !access.grants(user.name.as_str(), vhost).is_admitted() => {
            format!("access to vhost '{vhost}' refused for user '{}'", user.name)
        }
        Ok(_) => {
            let update_ok = Method::ConnectionUpdateSecretOk(connection::UpdateSecretOk);
            frame::encode_method(&mut connection.outbound.lock().pending.octets, 0, &update_ok);
            connection.channels().iter().for_each(|channel| channel.ask_permissions_again());
            return;
        }
    };
    connection.fail(AmqpError::new(ReplyCode::NotAllowed, refused, MethodId::CONNECTION_UPDATE_SECRET));
}

impl From<ReadEnd> for ConnectionEnd {
    fn from(end: ReadEnd) -> Self {
        match end {
            ReadEnd::Io(error) => Self::Io(error),
            ReadEnd::Malformed(error) => Self::Malformed(AmqpError::malformed(&error)),
        }
    }
}
