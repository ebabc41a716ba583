//! Answers on their way to those who asked. Small ones are as many as there are connections; octets of large ones are
//! counted until they are written or their reader, who has to read them at some pace, is cut off; further ones wait.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::Instant;

use crate::budget::{Budget, Held};

/// Octets of an answer that needs no room.
const SMALL_BYTES: usize = 64 * 1024;

/// Octets that are handed over to be written at a time: whoever writes has so many beside those that are counted.
const PART_BYTES: usize = 32 * 1024;

/// Octets of a large answer after which its reader has as much time again.
const BYTES_PER_TIMEOUT: usize = 4 << 20;

/// Room for large answers.
pub(crate) struct Answers {
    room: Budget,
    /// Time for each part of a large one that is begun.
    timeout: Duration,
}

impl Answers {
    /// Room for so many octets.
    pub(crate) fn new(total: u32, timeout: Duration) -> Self {
        Self { room: Budget::new(total), timeout }
    }

    /// What was answered, as soon as there is room for it, or nothing if that takes longer than `patience`; without
    /// any, it takes as long as others write, who are cut off if they do not read.
    pub(crate) async fn send(&self, octets: Bytes, patience: Option<Duration>) -> Option<axum::body::Body> {
        let room = match patience {
            _ if octets.len() <= SMALL_BYTES => None,
            None => Some(self.room.take(octets.len()).await),
            Some(patience) => Some(self.room.take_within(patience, octets.len()).await?),
        };
        let (begun, timeout) = (Instant::now(), self.timeout);
        Some(axum::body::Body::new(Sent { octets, sent: 0, begun, timeout, room }))
    }
}

/// An answer that is being written.
struct Sent {
    octets: Bytes,
    sent: usize,
    begun: Instant,
    timeout: Duration,
    room: Option<Held>,
}

impl Sent {
    /// Whether others have waited long enough for the room that this one has.
    fn is_overdue(&self) -> bool {
        let times = u32::try_from(self.sent / BYTES_PER_TIMEOUT).unwrap_or(u32::MAX).saturating_add(1);
        self.room.is_some() && self.begun.elapsed() > self.timeout.saturating_mul(times)
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.octets.is_empty() {
            return Poll::Ready(None);
        }
        if self.is_overdue() {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the peer reads too slowly");
            return Poll::Ready(Some(Err(error)));
        }
        let length = self.octets.len().min(PART_BYTES);
        self.sent += length;
        Poll::Ready(Some(Ok(Frame::data(self.octets.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.octets.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.octets.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_large_answer_keeps_its_room_until_it_is_written() {
        let answers = Answers::new(200_000, TIMEOUT);
        let large = || Bytes::from(vec![7; 150_000]);
        let patience = Some(Duration::from_secs(1));
        let mut first = answers.send(large(), patience).await.expect("there is room");
        let part = first.frame().await.expect("a part").expect("no error").into_data().expect("octets");
        assert_eq!((part.len(), first.size_hint().exact()), (PART_BYTES, Some(150_000 - PART_BYTES as u64)));
        assert!(answers.send(large(), patience).await.is_none(), "the first one is not written");
        assert!(answers.send(Bytes::from(vec![7; SMALL_BYTES]), patience).await.is_some(), "a small one");
        let rest = first.collect().await.expect("no error").to_bytes();
        assert_eq!(part.len() + rest.len(), 150_000);
        assert!(answers.send(large(), patience).await.is_some());
        let beyond = answers.send(Bytes::from(vec![7; 300_000]), patience).await.expect("it goes alone");
        assert!(answers.send(large(), patience).await.is_none());
        drop(beyond);
        assert!(answers.send(large(), None).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_a_large_answer_too_slowly_is_cut_off_and_who_reads_a_small_one_is_not() {
        let answers = Answers::new(u32::MAX, TIMEOUT);
        let length = 2 * BYTES_PER_TIMEOUT + PART_BYTES;
        for (pause, is_read) in [(TIMEOUT / 200, true), (TIMEOUT / 100, false)] {
            let mut body = answers.send(vec![7; length].into(), None).await.expect("there is room");
            let mut read = 0;
            while let Some(Ok(part)) = body.frame().await {
                read += part.into_data().expect("octets").len();
                tokio::time::sleep(pause).await;
            }
            assert_eq!(read == length, is_read, "{read} of {length}");
        }
        let mut body = answers.send(vec![7; SMALL_BYTES].into(), None).await.expect("it needs no room");
        for _ in 0..SMALL_BYTES / PART_BYTES {
            tokio::time::sleep(TIMEOUT * 2).await;
            assert!(matches!(body.frame().await, Some(Ok(_))));
        }
        assert!(body.frame().await.is_none());
    }
}
