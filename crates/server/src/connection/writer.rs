//! The writing half of a connection: a task that takes whatever is outbound and hands it to the kernel
//! in one vectored write, and sends a heartbeat when there was nothing for half the interval.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use leveret_codec::frame;
use tokio::sync::watch;

use super::outbound::{GatherWakes, Outbound, Pending, Taken};
use super::socket::WriteHalf;
use crate::limits::WRITE_SLICES_MAX;

/// Writes until the connection is finished or the socket fails. `heartbeat` is the negotiated interval,
/// zero until it is known and when there is none.
pub(crate) async fn run(
    socket: WriteHalf,
    outbound: Arc<Outbound>,
    heartbeat: watch::Receiver<Duration>,
) -> io::Result<()> {
    let result = write(socket, &outbound, heartbeat).await;
    if result.is_err() {
        outbound.fail();
    }
    result
}

async fn write(
    mut socket: WriteHalf,
    outbound: &Arc<Outbound>,
    mut heartbeat: watch::Receiver<Duration>,
) -> io::Result<()> {
    let mut taken = Pending::default();
    loop {
        let found = {
            let _wakes = GatherWakes::begin();
            outbound.take(&mut taken)
        };
        match found {
            Taken::ToWrite => socket.write_all(&taken).await?,
            Taken::Finished => return socket.shutdown().await,
            Taken::Nothing => {
                socket.rest().await?;
                let interval = *heartbeat.borrow_and_update();
                tokio::select! {
                    () = outbound.wait() => {}
                    () = idle(interval) => frame::encode_heartbeat(&mut outbound.lock().pending.octets),
                    Ok(()) = heartbeat.changed() => {}
                }
            }
        }
    }
}

/// COMPAT: RabbitMQ sends a heartbeat after half the interval without a write.
async fn idle(interval: Duration) {
    if interval.is_zero() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(interval / 2).await;
}

/// How far a [`Pending`] is written.
pub(super) struct Cursor<'a> {
    octets: &'a [u8],
    slices: &'a [(usize, Bytes)],
    /// Octets written.
    octet: usize,
    /// Slices written, and octets of the next one.
    slice: usize,
    of_slice: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(pending: &'a Pending) -> Self {
        Self { octets: &pending.octets, slices: &pending.slices, octet: 0, slice: 0, of_slice: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.octet == self.octets.len() && self.slice == self.slices.len()
    }

    pub(super) fn octets(&self) -> &'a [u8] {
        self.octets.get(self.octet..).unwrap_or_default()
    }

    /// Next octets up to the next slice.
    fn octets_to_slice(&self) -> usize {
        self.slices.get(self.slice).map_or(self.octets.len(), |(position, _)| *position) - self.octet
    }

    /// Next octets that lie together; none at the end alone.
    pub(super) fn part(&self) -> &'a [u8] {
        let part = match self.octets_to_slice() {
            0 => self.slices.get(self.slice).and_then(|(_, slice)| slice.get(self.of_slice..)),
            length => self.octets.get(self.octet..self.octet + length),
        };
        part.unwrap_or_default()
    }

    /// Whether nothing comes behind [`Self::part`].
    pub(super) fn is_last_part(&self) -> bool {
        match self.slices.len() - self.slice {
            0 => true,
            1 => self.octets_to_slice() == 0 && self.octet == self.octets.len(),
            _ => false,
        }
    }

    pub(super) fn fill(&self, slices: &mut [IoSlice<'a>; WRITE_SLICES_MAX]) -> usize {
        let mut at = Self { ..*self };
        let mut count = 0;
        while count < WRITE_SLICES_MAX && !at.is_at_end() {
            let next = at.part();
            slices[count] = IoSlice::new(next);
            count += 1;
            at.advance(next.len());
        }
        count
    }

    pub(super) fn advance(&mut self, mut count: usize) {
        loop {
            let octets = self.octets_to_slice().min(count);
            self.octet += octets;
            count -= octets;
            let Some((_, slice)) = self.slices.get(self.slice).filter(|_| self.octets_to_slice() == 0) else {
                return;
            };
            let left = slice.len() - self.of_slice;
            if count < left {
                self.of_slice += count;
                return;
            }
            count -= left;
            self.slice += 1;
            self.of_slice = 0;
            if count == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_sequence_of_partial_writes_keeps_the_order(
            parts in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..9)), 0..90),
            writes in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let mut pending = Pending::default();
            for (is_slice, octets) in &parts {
                if *is_slice {
                    pending.push_slice(Bytes::copy_from_slice(octets));
                } else {
                    pending.octets.extend_from_slice(octets);
                }
            }
            let mut written = Vec::new();
            let mut cursor = Cursor::new(&pending);
            for limit in writes.iter().cycle() {
                if cursor.is_at_end() {
                    break;
                }
                let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
                let count = cursor.fill(&mut slices);
                let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                let accepted = all.len().min(*limit);
                prop_assert!(accepted > 0);
                written.extend_from_slice(&all[..accepted]);
                cursor.advance(accepted);
            }
            let expected: Vec<u8> = parts.iter().flat_map(|(_, octets)| octets.clone()).collect();
            prop_assert_eq!(written, expected);
        }
    }
}
