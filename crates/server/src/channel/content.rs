//! Puts a message together from its frames: basic.publish, content header, body frames. Frames of one
//! channel come in this order with nothing between them; whatever else comes is an error.
//!
//! ```text
//!   Idle ── basic.publish ──▶ Header ── content header ──▶ Body ── last octet ──▶ Idle
//!                                  └───── no body ────────────────────────────────▶
//! ```

use bytes::{Bytes, BytesMut};
use leveret_broker::limits::LARGE_BODY_BYTES;
use leveret_broker::message::{Body, LargeBody};

/// Small frames of a large body are gathered in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;

/// Where in a message the channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No message is being received.
    Idle,
    /// A publish came, its header is next.
    Header,
    /// This many octets of the body are still to come.
    Body(u64),
}

/// The message a channel is receiving. Its buffers are reused from message to message.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) stage: Stage,
    /// Exchange and routing key as two short strings.
    pub(crate) names: Vec<u8>,
    /// The message before had the same names.
    pub(crate) same_names: bool,
    pub(crate) mandatory: bool,
    /// Property flags and values.
    pub(crate) properties: Vec<u8>,
    pub(crate) persistent: bool,
    /// Milliseconds after which it expires.
    pub(crate) expiration_ms: Option<u64>,
    /// Further routing keys, from the CC and BCC headers.
    pub(crate) copies: Vec<String>,
    /// Body frames so far, unless one frame is the whole body.
    partial: PartialBody,
}

/// A body of which only a part is there.
#[derive(Debug, Default)]
struct PartialBody {
    octets: Vec<u8>,
    slices: Vec<Bytes>,
    gathered: BytesMut,
}

/// A whole body.
pub(crate) enum Received<'a> {
    /// One frame's payload.
    Frame(&'a [u8]),
    /// Octets gathered from several frames; they stay with the content.
    Gathered,
    /// Slices of one or several frames.
    Large(LargeBody),
}

impl Default for Content {
    fn default() -> Self {
        Self {
            stage: Stage::Idle,
            names: Vec::new(),
            same_names: false,
            mandatory: false,
            properties: Vec::new(),
            persistent: false,
            expiration_ms: None,
            copies: Vec::new(),
            partial: PartialBody::default(),
        }
    }
}

impl Content {
    /// Begins with a publish to another place than before.
    pub(crate) fn begin(&mut self, names: &[u8], mandatory: bool) {
        self.names.clear();
        self.names.extend_from_slice(names);
        self.same_names = false;
        self.mandatory = mandatory;
        self.stage = Stage::Header;
    }

    /// Begins with a publish to where the message before went.
    pub(crate) fn begin_again(&mut self, mandatory: bool) {
        self.same_names = true;
        self.mandatory = mandatory;
        self.stage = Stage::Header;
    }

    /// Takes a body frame: `None` until the body is whole. `frame` is the payload inside `run`, whose read
    /// buffer has `pinned_bytes`. The caller has checked that it is not larger than what is missing.
    pub(crate) fn body_frame<'a>(
        &mut self,
        missing: u64,
        frame: &'a [u8],
        run: &Bytes,
        pinned_bytes: usize,
    ) -> Option<Received<'a>> {
        let left = missing.saturating_sub(frame.len() as u64);
        let is_first = self.partial.is_empty();
        self.stage = if left == 0 { Stage::Idle } else { Stage::Body(left) };
        if is_first && left == 0 && frame.len() < LARGE_BODY_BYTES {
            return Some(Received::Frame(frame));
        }
        if frame.len() >= LARGE_BODY_BYTES && frame.len() * 4 >= pinned_bytes {
            self.partial.seal();
            self.partial.slices.push(run.slice_ref(frame));
        } else if self.partial.is_small() && left + (frame.len() as u64) < LARGE_BODY_BYTES as u64 {
            self.partial.octets.extend_from_slice(frame);
        } else {
            self.partial.gather(frame);
        }
        (left == 0).then(|| self.partial.finish())
    }

    /// The octets of [`Received::Gathered`].
    pub(crate) fn gathered(&self) -> &[u8] {
        &self.partial.octets
    }

    /// Makes ready for the next message.
    pub(crate) fn reset(&mut self) {
        self.stage = Stage::Idle;
        self.partial.octets.clear();
        self.copies.clear();
    }

    /// Gives large buffers back, for a channel that goes idle between two messages.
    pub(crate) fn release_memory(&mut self) {
        if self.stage == Stage::Idle && self.properties.capacity() + self.partial.octets.capacity() > 1024 {
            self.properties = Vec::new();
            self.partial = PartialBody::default();
        }
    }
}

impl PartialBody {
    fn is_empty(&self) -> bool {
        self.octets.is_empty() && self.slices.is_empty() && self.gathered.is_empty()
    }

    /// Whether nothing was gathered that is to come out before what follows.
    fn is_small(&self) -> bool {
        self.slices.is_empty() && self.gathered.is_empty()
    }

    fn gather(&mut self, frame: &[u8]) {
        if self.gathered.is_empty() {
            self.gathered.reserve(frame.len().max(PIECE_BYTES));
            self.gathered.extend_from_slice(&std::mem::take(&mut self.octets));
        }
        self.gathered.extend_from_slice(frame);
        if self.gathered.len() >= PIECE_BYTES {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if !self.octets.is_empty() {
            self.slices.push(std::mem::take(&mut self.octets).into());
        }
        if !self.gathered.is_empty() {
            self.slices.push(std::mem::take(&mut self.gathered).freeze());
        }
    }

    fn finish(&mut self) -> Received<'static> {
        if self.slices.is_empty() && self.gathered.is_empty() {
            return Received::Gathered;
        }
        self.seal();
        Received::Large(LargeBody::new(std::mem::take(&mut self.slices)))
    }
}

impl<'a> Received<'a> {
    /// The body as the broker takes it.
    pub(crate) fn body(&'a self, content: &'a Content) -> Body<'a> {
        match self {
            Self::Frame(octets) => Body::Small(octets),
            Self::Gathered => Body::Small(content.gathered()),
            Self::Large(body) => Body::Large(body),
        }
    }

    /// Octets that lie outside of the records of the message.
    pub(crate) fn large_bytes(&self) -> usize {
        match self {
            Self::Frame(_) | Self::Gathered => 0,
            Self::Large(body) => body.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_large_body_in_small_frames_keeps_its_order() {
        let whole: Vec<u8> = (0..20_000_u32).map(|i| (i % 251) as u8).collect();
        let run = Bytes::from(whole.clone());
        let mut content = Content::default();
        assert!(content.body_frame(20_000, &run[..15_000], &run, 262_144).is_none());
        let received = content.body_frame(5000, &run[15_000..], &run, 262_144).unwrap();
        assert!(received.body(&content).to_vec() == whole);
    }

    proptest! {
        #[test]
        fn a_body_split_anyhow_comes_out_whole(
            sizes in prop::collection::vec(prop_oneof![1_usize..50, 1000..40_000_usize], 1..12),
            pinned in prop_oneof![Just(4096_usize), Just(262_144)],
        ) {
            let whole: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|i| (i % 251) as u8).collect();
            let run = Bytes::from(whole.clone());
            let mut content = Content::default();
            let (mut at, mut missing) = (0, whole.len() as u64);
            let mut received = None;
            for size in sizes {
                prop_assert!(received.is_none());
                received = content.body_frame(missing, &run[at..at + size], &run, pinned)
                    .map(|received| received.body(&content).to_vec());
                at += size;
                missing -= size as u64;
            }
            prop_assert_eq!(received, Some(whole));
            prop_assert_eq!(content.stage, Stage::Idle);
        }
    }
}
