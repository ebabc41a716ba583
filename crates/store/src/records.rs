//! What the store's journal records say, as octets. Messages lie in them as the broker stores them, see
//! [`StoredRun`](leveret_broker::message::StoredRun); which queue a record is about stands in its header.
//!
//! ```text
//! SHARE    stored run: messages that several queues get
//! PUBLISH  first position u64 | where the SHARE record begins u64 | runs u32 | runs | stored run of its own
//!          run: first in this batch u32 | first in the shared one u32 | count u32
//! SETTLE   (first position u64 | position behind the last u64) for each range
//! RETURN   (position u64 | handed out u32 | of these failed u32) for each message that came back to a quorum queue
//! DEFINE   changes of the catalog, see definitions
//! ```

use std::ops::Range;

use bytes::Bytes;
use leveret_broker::message::SharedRun;
use leveret_broker::queue::quorum::Returns;
use leveret_broker::store::JournalPosition;

/// Messages that several queues get.
pub(crate) const SHARE: u8 = 1;
/// Messages appended to a queue.
pub(crate) const PUBLISH: u8 = 2;
/// Messages that are settled.
pub(crate) const SETTLE: u8 = 3;
/// Changes of definitions.
pub(crate) const DEFINE: u8 = 4;

/// Messages that came back.
pub(crate) const RETURN: u8 = 5;

/// Octets of a PUBLISH record before its runs.
const PUBLISH_HEAD_BYTES: usize = 20;
const RUN_BYTES: usize = 12;
/// Octets of a RETURN record for each message.
const RETURN_BYTES: usize = 16;

/// What a PUBLISH record begins with.
pub(crate) fn publish_head(first_position: u64, shared_at: JournalPosition, runs: &[SharedRun]) -> Vec<u8> {
    let mut head = Vec::with_capacity(PUBLISH_HEAD_BYTES + RUN_BYTES * runs.len());
    head.extend_from_slice(&first_position.to_le_bytes());
    let shared_at = if runs.is_empty() { JournalPosition::SAFE } else { shared_at };
    head.extend_from_slice(&shared_at.0.to_le_bytes());
    head.extend_from_slice(&(runs.len() as u32).to_le_bytes());
    for number in runs.iter().flat_map(|run| [run.first, run.shared_first, run.count]) {
        head.extend_from_slice(&number.to_le_bytes());
    }
    head
}

/// A PUBLISH record, read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) first_position: u64,
    pub(crate) shared_at: JournalPosition,
    pub(crate) shared: Vec<SharedRun>,
    pub(crate) own: Bytes,
}

/// `None` if it is none.
pub(crate) fn decode_publish(payload: &Bytes) -> Option<Published> {
    let first_position = u64_at(payload, 0)?;
    let shared_at = JournalPosition(u64_at(payload, 8)?);
    let count = u32_at(payload, 16)? as usize;
    let end = count.checked_mul(RUN_BYTES)?.checked_add(PUBLISH_HEAD_BYTES)?;
    let runs = payload.get(PUBLISH_HEAD_BYTES..end)?;
    let run = |octets: &[u8]| {
        Some(SharedRun {
            first: u32_at(octets, 0)?,
            shared_first: u32_at(octets, 4)?,
            count: u32_at(octets, 8)?,
        })
    };
    let shared = runs.chunks_exact(RUN_BYTES).map(run).collect::<Option<_>>()?;
    Some(Published { first_position, shared_at, shared, own: payload.slice(end..) })
}

/// A SETTLE record's payload.
pub(crate) fn settle_payload(positions: &[Range<u64>]) -> Vec<u8> {
    positions.iter().flat_map(|range| [range.start, range.end]).flat_map(u64::to_le_bytes).collect()
}

/// `None` if it is none.
pub(crate) fn decode_settle(payload: &[u8]) -> Option<impl Iterator<Item = Range<u64>>> {
    let ranges = payload.chunks_exact(16);
    let is_whole = ranges.remainder().is_empty();
    is_whole.then(|| ranges.filter_map(|range| Some(u64_at(range, 0)?..u64_at(range, 8)?)))
}

/// A RETURN record's payload.
pub(crate) fn return_payload(returns: &[(u64, Returns)]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(returns.len() * RETURN_BYTES);
    for (position, Returns { acquired, failed }) in returns {
        payload.extend_from_slice(&position.to_le_bytes());
        payload.extend_from_slice(&acquired.to_le_bytes());
        payload.extend_from_slice(&failed.to_le_bytes());
    }
    payload
}

/// `None` if it is none.
pub(crate) fn decode_return(payload: &[u8]) -> Option<impl Iterator<Item = (u64, Returns)>> {
    let returns = payload.chunks_exact(RETURN_BYTES);
    let is_whole = returns.remainder().is_empty();
    let read = |octets: &[u8]| {
        Some((u64_at(octets, 0)?, Returns { acquired: u32_at(octets, 8)?, failed: u32_at(octets, 12)? }))
    };
    is_whole.then(|| returns.filter_map(read))
}

fn u64_at(octets: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*octets.get(at..)?.first_chunk()?))
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*octets.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_reads_as_it_was_written() {
        let runs = [
            SharedRun { first: 1, shared_first: 0, count: 2 },
            SharedRun { first: 4, shared_first: 7, count: 1 },
        ];
        let mut payload = publish_head(9, JournalPosition(512), &runs);
        payload.extend_from_slice(b"own");
        let payload = Bytes::from(payload);
        let published = decode_publish(&payload).unwrap();
        assert_eq!((published.first_position, published.shared_at), (9, JournalPosition(512)));
        assert_eq!((&*published.shared, &published.own[..]), (&runs[..], &b"own"[..]));
        let head = payload.len() - 3;
        assert!((0..head).all(|length| decode_publish(&payload.slice(..length)).is_none()));
    }

    #[test]
    fn what_came_back_reads_as_it_was_written() {
        let returns =
            [(3, Returns { acquired: 7, failed: 2 }), (u64::MAX, Returns { acquired: 1, failed: 0 })];
        let payload = return_payload(&returns);
        assert!(decode_return(&payload).unwrap().eq(returns));
        assert!(decode_return(&payload[..17]).is_none());
    }

    #[test]
    fn settled_ranges_read_as_they_were_written() {
        let ranges = [3..5, 9..10];
        let payload = settle_payload(&ranges);
        assert!(decode_settle(&payload).unwrap().eq(ranges));
        assert!(decode_settle(&payload[..17]).is_none());
    }
}
