//! One TLS session: records in, plaintext out, and back. It owns no socket and never waits: whoever drives it reads
//! into a buffer of its own, hands that in, and writes what is outgoing in the order in which it became so.
//!
//! rustls is used by its unbuffered interface: an idle session has no buffers, and a read of 256 KiB is decrypted in
//! one go instead of in reads of 4 KiB, which is what the buffered one makes.

use bytes::BytesMut;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};

use crate::limits::TLS_RECORD_BYTES;

/// More than a record takes besides what it carries: header, nonce, tag and padding.
const RECORD_OVERHEAD: usize = 64;

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The peer has the next word.
    Handshaking,
    /// Plaintext may flow.
    Open,
    /// The peer has said that it will send no more.
    PeerClosed,
}

/// Octets that are ready for the socket: a buffer that is cleared once, not for each record.
#[derive(Default)]
pub(crate) struct Outgoing {
    octets: Vec<u8>,
    filled: usize,
}

impl Outgoing {
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.octets.get(..self.filled).unwrap_or_default()
    }

    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    pub(crate) fn capacity(&self) -> usize {
        self.octets.capacity()
    }

    /// Room for `count` octets behind the ones there are.
    fn room(&mut self, count: usize) -> &mut [u8] {
        let end = self.filled.saturating_add(count);
        if self.octets.len() < end {
            self.octets.resize(end, 0);
        }
        self.octets.get_mut(self.filled..).unwrap_or_default()
    }
}

/// The state of both directions, since they share keys and alerts.
pub(crate) struct Session {
    tls: UnbufferedServerConnection,
    /// What the session itself has to say: it goes out before anything that is encrypted later.
    outgoing: Outgoing,
    peer_closed: bool,
}

impl Session {
    pub(crate) fn new(tls: UnbufferedServerConnection) -> Self {
        Self { tls, outgoing: Outgoing::default(), peer_closed: false }
    }

    /// What was agreed upon.
    pub(crate) fn connection(&self) -> &rustls::CommonState {
        &self.tls
    }

    /// Takes the whole records at the front of `incoming`, and appends what they carry to `plaintext`; how many octets
    /// were taken. An answer of the session's own is outgoing then, also after an error.
    pub(crate) fn receive(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut BytesMut,
    ) -> (usize, Result<Stage, rustls::Error>) {
        let mut taken = 0;
        loop {
            let rest = incoming.get_mut(taken..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(rest);
            let stage = match state {
                Err(error) => {
                    self.gather_alert();
                    return (taken, Err(error));
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        plaintext.extend_from_slice(record.payload);
                    }
                    None
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, &mut self.outgoing);
                    None
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => {
                    // Whoever drives the session writes what is outgoing, in order.
                    transmit.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_closed = true;
                    None
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Stage::Handshaking),
                Ok(ConnectionState::WriteTraffic(_)) if !self.peer_closed => Some(Stage::Open),
                // INVARIANT: early data is not offered, so that a state that is none of these is the end.
                Ok(_) => Some(Stage::PeerClosed),
            };
            taken += discard;
            if let Some(stage) = stage {
                return (taken, Ok(stage));
            }
        }
    }

    /// Appends to `outgoing` what the session itself has to say, and then records of `plaintext`, each as large as a
    /// record may be but the last.
    ///
    /// # Errors
    /// The session has ended, or its keys have been used for as long as is safe.
    pub(crate) fn encrypt(&mut self, plaintext: &[u8], outgoing: &mut Outgoing) -> Result<(), SessionEnded> {
        let records = plaintext.len() / TLS_RECORD_BYTES + 1;
        let room = plaintext.len() + records * RECORD_OVERHEAD;
        self.write(outgoing, room, |traffic, room| traffic.encrypt(plaintext, room))
    }

    /// Appends to `outgoing` that nothing more will come.
    pub(crate) fn close(&mut self, outgoing: &mut Outgoing) {
        // A session that has ended has nobody to be told.
        let _ = self.write(outgoing, RECORD_OVERHEAD, |traffic, room| traffic.queue_close_notify(room));
    }

    fn write(
        &mut self,
        outgoing: &mut Outgoing,
        mut room: usize,
        mut write: impl FnMut(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> Result<(), SessionEnded> {
        self.take_outgoing(outgoing);
        loop {
            match self.tls.process_tls_records(&mut []).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    match write(&mut traffic, outgoing.room(room)) {
                        Ok(count) => {
                            outgoing.filled += count;
                            return Ok(());
                        }
                        Err(EncryptError::InsufficientSize(size)) => room = size.required_size,
                        Err(EncryptError::EncryptExhausted) => return Err(SessionEnded),
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing),
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(_) | Err(_) => return Err(SessionEnded),
            }
        }
    }

    /// Moves what the session itself has to say behind what is in `outgoing`.
    pub(crate) fn take_outgoing(&mut self, outgoing: &mut Outgoing) {
        let own = std::mem::take(&mut self.outgoing);
        let count = own.as_slice().len();
        if let Some(room) = outgoing.room(count).get_mut(..count) {
            room.copy_from_slice(own.as_slice());
            outgoing.filled += count;
        }
    }

    /// Whether the session itself has something to say.
    pub(crate) fn has_outgoing(&self) -> bool {
        self.outgoing.filled > 0
    }

    /// After an error: the alert that tells the peer of it.
    fn gather_alert(&mut self) {
        if let Ok(ConnectionState::EncodeTlsData(data)) = self.tls.process_tls_records(&mut []).state {
            encode(data, &mut self.outgoing);
        }
    }
}

/// Nothing can be sent any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionEnded;

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut Outgoing) {
    let mut room = RECORD_OVERHEAD;
    loop {
        match data.encode(outgoing.room(room)) {
            Ok(count) => {
                outgoing.filled += count;
                return;
            }
            Err(EncodeError::InsufficientSize(size)) => room = size.required_size,
            Err(EncodeError::AlreadyEncoded) => return,
        }
    }
}
