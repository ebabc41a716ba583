//! What was appended and is not safe yet: groups of records, of which the last one is being filled. Positions are
//! settled here, at the time of the append; the writer only ever writes what they say.

use std::io::IoSlice;

use bytes::Bytes;

use super::format::{self, GROUP_HEADER_BYTES, GroupHeader, RECORD_HEADER_BYTES, RecordHeader, SECTOR};

/// A group is closed before a record that would make it longer. Small enough for the cache and for a buffer
/// that an idle journal may keep; its 48 octets and the padding are nothing against it.
pub(super) const GROUP_BYTES_MAX: u64 = 1 << 20;

/// Pieces of a record that are this long are kept by reference until written; below it a copy costs less.
pub(super) const BY_REFERENCE_BYTES: usize = 16 * 1024;

/// Buffers kept for groups to come.
const SPARE_BUFFERS_MAX: usize = 8;
/// Octets that the buffers of an idle journal may hold.
const IDLE_BYTES_MAX: usize = 1 << 20;

static PADDING: [u8; SECTOR as usize] = [0; SECTOR as usize];

/// A record on its way in.
pub(super) struct NewRecord<'a> {
    pub(super) header: RecordHeader,
    pub(super) head: &'a [&'a [u8]],
    pub(super) bodies: &'a [Bytes],
}

impl NewRecord<'_> {
    pub(super) fn length(&self) -> u64 {
        RECORD_HEADER_BYTES as u64 + u64::from(self.header.length)
    }
}

/// Records at consecutive positions, written together.
#[derive(Default)]
pub(super) struct Group {
    /// Journal position of the group's header.
    pub(super) position: u64,
    /// Room for the header, then the records without what is kept by reference.
    octets: Vec<u8>,
    /// What is kept by reference, and behind how many of `octets` it comes.
    large: Vec<(usize, Bytes)>,
    large_bytes: u64,
    records: u32,
}

impl Group {
    fn new(position: u64, mut octets: Vec<u8>) -> Self {
        octets.clear();
        octets.resize(GROUP_HEADER_BYTES, 0);
        Self { position, octets, large: Vec::new(), large_bytes: 0, records: 0 }
    }

    /// A group without records, which only says what is synced.
    pub(super) fn empty(position: u64) -> Self {
        Self::new(position, Vec::new())
    }

    /// Where the last record ends.
    pub(super) fn records_end(&self) -> u64 {
        self.position + self.octets.len() as u64 + self.large_bytes
    }

    /// Where the next group begins.
    pub(super) fn end(&self) -> u64 {
        format::round_up(self.records_end())
    }

    /// Octets on disk.
    #[cfg(test)]
    fn disk_bytes(&self) -> u64 {
        self.end() - self.position
    }

    /// The buffer, for another group; `None` if it is larger than groups usually need.
    pub(super) fn into_buffer(self) -> Option<Vec<u8>> {
        (self.octets.capacity() as u64 <= 2 * GROUP_BYTES_MAX).then_some(self.octets)
    }

    fn append(&mut self, record: &NewRecord<'_>, incarnation: u64) {
        let header = record.header.encode(self.records_end(), incarnation);
        self.octets.extend_from_slice(&header);
        record.head.iter().for_each(|part| self.octets.extend_from_slice(part));
        for body in record.bodies {
            if body.len() < BY_REFERENCE_BYTES {
                self.octets.extend_from_slice(body);
            } else {
                self.large.push((self.octets.len(), body.clone()));
                self.large_bytes += body.len() as u64;
            }
        }
        self.records += 1;
    }

    /// Fills the header in: the group is about to be written.
    pub(super) fn stamp(&mut self, synced: u64, incarnation: u64) {
        let length = self.records_end() - self.position - GROUP_HEADER_BYTES as u64;
        let header =
            GroupHeader { position: self.position, length, synced, incarnation, records: self.records };
        // INVARIANT: `new` made room for it.
        self.octets[..GROUP_HEADER_BYTES].copy_from_slice(&header.encode());
    }

    /// The octets on disk, padding included.
    pub(super) fn parts<'a>(&'a self, parts: &mut Vec<IoSlice<'a>>) {
        let mut rest = self.octets.as_slice();
        let mut at = 0;
        for (place, body) in &self.large {
            let (before, behind) = rest.split_at(place - at);
            parts.push(IoSlice::new(before));
            parts.push(IoSlice::new(body));
            rest = behind;
            at = *place;
        }
        parts.push(IoSlice::new(rest));
        let padding = (self.end() - self.records_end()) as usize;
        parts.push(IoSlice::new(PADDING.split_at(padding).0));
    }
}

/// The groups that the writer has not taken yet.
pub(super) struct Appender {
    filling: Group,
    /// Full groups, oldest first.
    full: Vec<Group>,
    group_bytes_max: u64,
    incarnation: u64,
    spare_buffers: Vec<Vec<u8>>,
    /// Set by the journal thread when it goes to sleep: whoever appends next has to wake it, and nobody else.
    pub(super) writer_sleeps: bool,
    /// Up to where somebody waits for a sync, whatever the mode.
    pub(super) sync_wanted: u64,
    /// The journal thread is to write everything and end.
    pub(super) is_closing: bool,
}

impl Appender {
    pub(super) fn new(position: u64, file_bytes: u64, incarnation: u64) -> Self {
        let group_bytes_max = GROUP_BYTES_MAX.min(file_bytes.saturating_sub(format::FILE_HEADER_BYTES));
        Self {
            filling: Group::new(position, Vec::new()),
            full: Vec::new(),
            group_bytes_max,
            incarnation,
            spare_buffers: Vec::new(),
            writer_sleeps: false,
            sync_wanted: 0,
            is_closing: false,
        }
    }

    /// Where the record begins and ends.
    pub(super) fn append(&mut self, record: &NewRecord<'_>) -> (u64, u64) {
        let too_long =
            self.filling.records_end() - self.filling.position + record.length() > self.group_bytes_max;
        if self.filling.records > 0 && too_long {
            // The next one is likely to be as long: growing its buffer step by step would copy it all once more.
            let room = (self.group_bytes_max as usize).min(self.filling.octets.len());
            self.close_group(room);
        }
        let begins_at = self.filling.records_end();
        self.filling.append(record, self.incarnation);
        (begins_at, self.filling.records_end())
    }

    /// Begins the next group, with a buffer of `room` octets if none is spare.
    fn close_group(&mut self, room: usize) {
        let buffer = self.spare_buffers.pop().unwrap_or_else(|| Vec::with_capacity(room));
        let next = Group::new(self.filling.end(), buffer);
        self.full.push(std::mem::replace(&mut self.filling, next));
    }

    /// Where the group that is being filled begins.
    pub(super) fn filling_position(&self) -> u64 {
        self.filling.position
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filling.records == 0 && self.full.is_empty()
    }

    /// Moves all groups there are to `to`.
    pub(super) fn take(&mut self, to: &mut impl Extend<Group>) {
        if self.filling.records > 0 {
            self.close_group(0);
        }
        to.extend(self.full.drain(..));
    }

    /// Takes as many buffers of written groups as it wants; the caller drops the others, without the lock.
    pub(super) fn give_back(&mut self, buffers: &mut Vec<Vec<u8>>) {
        let room = SPARE_BUFFERS_MAX.saturating_sub(self.spare_buffers.len());
        self.spare_buffers.extend(buffers.drain(..room.min(buffers.len())));
    }

    /// The journal thread is about to sleep: lets go of memory that a burst needed.
    pub(super) fn shrink(&mut self) {
        self.filling.octets.shrink_to(IDLE_BYTES_MAX);
        let mut kept = self.filling.octets.capacity();
        self.spare_buffers.retain(|buffer| {
            let keeps = kept + buffer.capacity() <= IDLE_BYTES_MAX;
            kept += if keeps { buffer.capacity() } else { 0 };
            keeps
        });
        if self.full.capacity() > 64 && self.full.is_empty() {
            self.full = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(head: &'a [&'a [u8]], bodies: &'a [Bytes]) -> NewRecord<'a> {
        let length =
            head.iter().map(|part| part.len()).sum::<usize>() + bodies.iter().map(Bytes::len).sum::<usize>();
        let header = RecordHeader { length: length as u32, kind: 1, payload_check: 0, queue: 0 };
        NewRecord { header, head, bodies }
    }

    #[test]
    fn octets_come_out_in_order_wherever_they_were_kept() {
        let mut appender = Appender::new(512, 64 << 20, 5);
        let large = Bytes::from(vec![7; BY_REFERENCE_BYTES]);
        let small = Bytes::from_static(b"small");
        let (_, first_end) = appender.append(&record(&[b"head"], &[large.clone(), small, large.clone()]));
        let (second, end) = appender.append(&record(&[b"tail"], &[]));
        assert_eq!(first_end, second);
        let mut groups = Vec::new();
        appender.take(&mut groups);
        let group = &mut groups[0];
        group.stamp(0, 5);
        let mut parts = Vec::new();
        group.parts(&mut parts);
        let octets = parts.iter().flat_map(|part| part.to_vec()).collect::<Vec<_>>();
        assert_eq!(octets.len() as u64, group.disk_bytes());
        assert_eq!(octets.len() as u64 % SECTOR, 0);
        let body = &octets[GROUP_HEADER_BYTES + RECORD_HEADER_BYTES..];
        assert!(body.starts_with(b"head\x07\x07"));
        assert_eq!(&body[4 + large.len()..][..5], b"small");
        let place = (second - 512) as usize;
        assert!(RecordHeader::decode(&octets[place..], second, 5).is_some());
        assert_eq!(&octets[(end - 512) as usize - 4..(end - 512) as usize], b"tail");
        assert_eq!(appender.filling_position(), format::round_up(end));
    }

    #[test]
    fn an_idle_appender_keeps_no_more_than_a_megabyte() {
        let mut appender = Appender::new(512, 64 << 20, 5);
        let head = vec![1_u8; 10_000];
        for _ in 0..2_000 {
            appender.append(&record(&[&head], &[]));
        }
        let mut groups = Vec::new();
        appender.take(&mut groups);
        assert!(groups.len() > 10);
        assert!(groups.iter().all(|group| group.disk_bytes() <= GROUP_BYTES_MAX));
        appender.give_back(&mut groups.into_iter().filter_map(Group::into_buffer).collect());
        assert_eq!(appender.spare_buffers.len(), SPARE_BUFFERS_MAX);
        appender.shrink();
        let kept = appender.spare_buffers.iter().map(Vec::capacity).sum::<usize>();
        assert!(kept + appender.filling.octets.capacity() <= IDLE_BYTES_MAX + 4096, "{kept}");
    }
}
