//! Entries come back as they went in, in whatever order they are read and however often they are written.

use leveret_broker::vhost::VhostSettings;
use proptest::prelude::*;

use super::*;
use crate::definitions::change_of;
use crate::definitions::tests::definition;

fn block() -> impl Strategy<Value = BlockEntry> {
    // Few queues and positions, so that changes meet.
    let returns = prop::collection::vec(any::<[u32; 3]>(), 0..4);
    (0_u64..3, 0_u64..3, any::<[u32; 5]>(), any::<u64>(), any::<Vec<u8>>(), any::<[bool; 2]>(), returns)
        .prop_map(
            |(
                queue,
                first_position,
                [offset, length, count, live_bytes, body_bytes],
                file,
                settled,
                [expires, is_estimate],
                returns,
            )| {
                let returns = returns.into_iter();
                let returns =
                    returns.map(|[number, acquired, failed]| (number, Returns { acquired, failed }));
                BlockEntry {
                    queue: QueueId(queue << 8),
                    first_position: first_position << 8,
                    location: BlockLocation { file, offset, length },
                    count,
                    settled,
                    live_bytes,
                    body_bytes,
                    is_estimate,
                    expires,
                    returns: returns.collect(),
                }
            },
        )
}

fn change() -> impl Strategy<Value = Change> {
    let meta = (any::<u64>(), any::<u64>()).prop_map(|(position, next_queue_id)| {
        let [replay_from, _] = Meta { replay_from: JournalPosition(position), next_queue_id }.put();
        replay_from
    });
    prop_oneof![
        definition().prop_map(|definition| change_of(&definition)),
        block().prop_map(|block| block.put()),
        block().prop_map(|block| BlockEntry::delete(block.queue, block.first_position)),
        meta,
    ]
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), 0..30)
}

proptest! {
    #[test]
    fn blocks_and_numbers_come_back_as_they_went_in(
        block in block(), replay_from: u64, next_queue_id: u64,
    ) {
        let meta = Meta { replay_from: JournalPosition(replay_from), next_queue_id };
        let mut entries = Entries::new();
        apply(&mut entries, [block.put()].into_iter().chain(meta.put()));
        let contents = Contents::of(&entries);
        prop_assert_eq!(contents.errors, []);
        prop_assert_eq!(contents.blocks.get(&block.queue), Some(&vec![block.clone()]));
        prop_assert_eq!(contents.meta, meta);
    }

    #[test]
    fn changes_come_back_from_a_journal_record(changes in changes()) {
        prop_assert_eq!(decode_changes(&encode_changes(&changes)).unwrap(), changes);
    }

    #[test]
    fn a_cut_or_damaged_record_is_an_error_and_no_more(
        changes in changes(), cut: prop::sample::Index, octets: Vec<u8>,
    ) {
        let record = encode_changes(&changes);
        let cut = cut.index(record.len());
        prop_assert!(decode_changes(&record[..cut]).is_err());
        let _ = decode_changes(&octets);
    }

    #[test]
    fn changes_made_twice_or_from_any_point_on_again_come_to_the_same(
        changes in changes(), from: prop::sample::Index,
    ) {
        let mut once = Entries::new();
        apply(&mut once, changes.clone());
        let from = if changes.is_empty() { 0 } else { from.index(changes.len()) };
        let mut again = once.clone();
        apply(&mut again, changes[from..].to_vec());
        prop_assert_eq!(&again, &once);
    }

    #[test]
    fn the_order_of_entries_does_not_matter(
        changes in changes(), seed in any::<u64>(),
    ) {
        let mut entries = Entries::new();
        apply(&mut entries, changes);
        let mut mixed: Vec<_> = entries.iter().collect();
        mixed.sort_by_key(|(key, _)| crc32c::crc32c_append(seed as u32, key));
        let (sorted, mixed) = (Contents::of(&entries), Contents::of(mixed));
        prop_assert_eq!(format!("{sorted:?}"), format!("{mixed:?}"));
        prop_assert_eq!(sorted.errors, []);
        for blocks in sorted.blocks.values() {
            prop_assert!(blocks.iter().is_sorted_by_key(|block| block.first_position));
        }
    }

    #[test]
    fn garbage_is_reported_and_the_rest_is_read(key: Vec<u8>, value: Vec<u8>) {
        let vhost = change_of(&Definition::PutVhost("/".into(), VhostSettings::default()));
        let entries = [(vhost.key, vhost.value.unwrap()), (key, value)];
        let contents = Contents::of(entries);
        prop_assert!(!contents.definitions.is_empty());
    }
}

#[test]
fn definitions_come_in_an_order_in_which_they_can_be_made() {
    let rank = |definition: &Definition| match definition {
        Definition::BeginAccess | Definition::PutUser(_) => 0,
        Definition::PutVhost(..) => 1,
        Definition::PutPermissions(_) | Definition::PutTopicPermissions(_) => 2,
        Definition::PutPolicy(..) => 3,
        Definition::PutExchange(..) => 4,
        Definition::PutQueue(..) => 5,
        _ => 6,
    };
    proptest!(|(changes in changes())| {
        let mut entries = Entries::new();
        apply(&mut entries, changes);
        prop_assert!(Contents::of(&entries).definitions.iter().is_sorted_by_key(rank));
    });
}

#[test]
fn a_snapshot_is_of_definitions_and_stopped_queues_and_not_of_blocks() {
    let location = BlockLocation { file: 1, offset: 512, length: 100 };
    let (queue, first_position, count) = (QueueId(7), 9, 3);
    let block = BlockEntry {
        queue,
        first_position,
        location,
        count,
        settled: Vec::new(),
        live_bytes: 100,
        body_bytes: 90,
        is_estimate: false,
        expires: true,
        returns: Vec::new(),
    };
    assert!(!block.put().is_of_snapshot() && block.put().key.as_slice() < SNAPSHOT_FROM);
    let stopped = StoppedEntry { queue, reason: "lost".to_owned() };
    let vhost = definitions::change_of(&Definition::PutVhost("/".into(), VhostSettings::default()));
    assert!(stopped.put().is_of_snapshot() && vhost.is_of_snapshot());
    for meta in Meta::default().put() {
        assert!(!meta.is_of_snapshot() && meta.key.as_slice() >= SNAPSHOT_FROM);
    }
}
