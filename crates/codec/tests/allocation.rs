//! What decoding allocates: nothing for a message on its way, little for a table that is kept.
//!
//! A peer chooses the octets, so memory must follow from how many it sent and not from what it claims.
//! An allocator that counts per thread stands under the whole test binary.

#![expect(unsafe_code, reason = "a global allocator cannot be written without; this one only counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use leveret_codec::frame::{decode_frame, encode_body, encode_content_header, encode_method};
use leveret_codec::method::basic;
use leveret_codec::{ContentHeader, FieldTable, FieldTableRef, FieldValue, Method, MethodId, Properties};
use proptest::collection::vec;
use proptest::prelude::*;

/// Octets allocated for each octet of a table at most: a value takes 32, and the shortest one is one octet.
const MULTIPLE_MAX: usize = 32;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes on to the system's allocator as it came. The counter is a plain cell of the thread,
// initialised in place and without a destructor, so counting neither allocates nor outlives the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What `work` returns, and how many octets it allocated; what it freed is not subtracted.
fn counted<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    let result = work();
    (result, ALLOCATED.get() - before)
}

#[test]
fn the_counter_counts() {
    assert_eq!(counted(|| vec![0_u8; 1000]).1, 1000);
}

#[test]
fn a_publish_and_an_ack_are_decoded_without_allocating() {
    let headers = FieldTable::new().with("a", 1).with("b", FieldTable::new().with("c", "d")).encoded();
    let properties = Properties {
        content_type: Some(b"text/plain"),
        headers: Some(FieldTableRef::parse(&headers).unwrap()),
        delivery_mode: Some(2),
        ..Properties::default()
    };
    let publish = basic::Publish { exchange: "e", routing_key: "k", mandatory: false, immediate: false };
    let mut octets = Vec::new();
    encode_method(&mut octets, 1, &Method::BasicPublish(publish));
    encode_content_header(&mut octets, 1, &ContentHeader { class_id: 60, body_size: 5, properties });
    encode_body(&mut octets, 1, b"hello", 0);
    encode_method(&mut octets, 1, &Method::BasicAck(basic::Ack { delivery_tag: 1, multiple: true }));

    let (frames, allocated) = counted(|| {
        let mut rest = octets.as_slice();
        let mut frames = 0;
        while let Some((frame, size)) = decode_frame(rest, 4096).unwrap() {
            match frames {
                0 | 3 => assert!(Method::decode(frame.payload).is_ok()),
                1 => assert_eq!(ContentHeader::decode(frame.payload).unwrap().properties, properties),
                _ => assert_eq!(frame.payload, b"hello"),
            }
            frames += 1;
            rest = &rest[size..];
        }
        frames
    });
    assert_eq!((frames, allocated), (4, 0));
}

#[test]
fn a_deliver_is_written_into_the_room_there_is() {
    let mut out = Vec::with_capacity(256);
    let ((), allocated) = counted(|| {
        let deliver = basic::Deliver {
            consumer_tag: "t",
            delivery_tag: 1,
            redelivered: false,
            exchange: "e",
            routing_key: "k",
        };
        encode_method(&mut out, 1, &Method::BasicDeliver(deliver));
        let header = ContentHeader { class_id: 60, body_size: 5, properties: Properties::default() };
        encode_content_header(&mut out, 1, &header);
        encode_body(&mut out, 1, b"hello", 131_072);
    });
    assert_eq!(allocated, 0);
}

#[test]
fn the_most_wasteful_tables_stay_within_the_multiple() {
    let void_array = FieldTable::new().with("", vec![FieldValue::Void; 5000]).encoded();
    let void_entries = [0, b'V'].repeat(5000);
    let long_claim = b"\x01kS\xff\xff\xff\xff".to_vec();
    let long_array_claim = b"\x01kA\xff\xff\xff\xffVVVV".to_vec();
    for octets in [void_array, void_entries, long_claim, long_array_claim] {
        let (decoded, allocated) = counted(|| FieldTable::decode(&octets));
        assert!(
            allocated <= octets.len() * MULTIPLE_MAX,
            "{allocated} octets for {} ({})",
            octets.len(),
            decoded.is_ok(),
        );
    }
}

proptest! {
    #[test]
    fn no_octets_make_a_decoder_allocate_more_than_the_multiple(octets in vec(any::<u8>(), 0..300)) {
        for class_id in [10, 20, 30, 40, 50, 60, 85, 90] {
            for method_id in 0..=120 {
                let id = MethodId::new(class_id, method_id);
                let (decoded, allocated) = counted(|| Method::decode_args(id, &octets));
                prop_assert!(allocated <= octets.len() * MULTIPLE_MAX, "{decoded:?}");
            }
        }
        let (_, allocated) = counted(|| ContentHeader::decode(&octets).is_ok());
        prop_assert_eq!(allocated, 0);
        let (_, allocated) = counted(|| FieldTableRef::parse(&octets).is_ok());
        prop_assert_eq!(allocated, 0);
    }
}
