//! Properties of the codec that hold for all values and all octets: what is written is read as the same,
//! what is read can be written again, and no octets make a decoder panic.
//!
//! Values are grown by proptest, which prints the seed and the smallest failing case.

mod methods;

use std::collections::HashSet;

use leveret_codec::frame::{
    FRAME_OVERHEAD, decode_frame, encode_body, encode_content_header, encode_frame, encode_method,
};
use leveret_codec::{
    ContentHeader, FieldTable, FieldTableRef, FieldValue, Frame, FrameType, Method, MethodId, Properties,
    ShortString,
};
use methods::{Ingredients, every_method};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn short_text() -> impl Strategy<Value = String> {
    "\\PC{0,40}".prop_filter("a short string", |text| text.len() <= 255)
}

fn key() -> impl Strategy<Value = ShortString> {
    vec(any::<u8>(), 0..12).prop_map(|octets| ShortString::try_from(octets.as_slice()).expect("few octets"))
}

fn table_of(value: impl Strategy<Value = FieldValue>) -> impl Strategy<Value = FieldTable> {
    vec((key(), value), 0..6).prop_map(|entries| entries.into_iter().collect())
}

fn scalar() -> impl Strategy<Value = FieldValue> {
    prop_oneof![
        any::<bool>().prop_map(FieldValue::Boolean),
        any::<i8>().prop_map(FieldValue::I8),
        any::<u8>().prop_map(FieldValue::U8),
        any::<i16>().prop_map(FieldValue::I16),
        any::<u16>().prop_map(FieldValue::U16),
        any::<i32>().prop_map(FieldValue::I32),
        any::<u32>().prop_map(FieldValue::U32),
        any::<i64>().prop_map(FieldValue::I64),
        any::<u32>().prop_map(|bits| FieldValue::F32(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| FieldValue::F64(f64::from_bits(bits))),
        any::<(u8, u32)>().prop_map(|(scale, value)| FieldValue::Decimal { scale, value }),
        vec(any::<u8>(), 0..40).prop_map(FieldValue::LongString),
        any::<u64>().prop_map(FieldValue::Timestamp),
        Just(FieldValue::Void),
        vec(any::<u8>(), 0..40).prop_map(FieldValue::Bytes),
    ]
}

fn table() -> impl Strategy<Value = FieldTable> {
    let value = scalar().prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(FieldValue::Array),
            table_of(inner).prop_map(FieldValue::Table),
        ]
    });
    table_of(value)
}

fn ingredients() -> impl Strategy<Value = Ingredients> {
    let texts = [short_text(), short_text(), short_text()];
    let octets = [vec(any::<u8>(), 0..300), vec(any::<u8>(), 0..300)];
    (texts, octets, table(), any::<[bool; 5]>(), any::<u16>(), any::<u32>(), any::<u64>()).prop_map(
        |(texts, octets, table, bits, u16, u32, u64)| Ingredients {
            texts,
            octets,
            table,
            bits,
            u16,
            u32,
            u64,
        },
    )
}

/// What a content header is made of, owned: strings, headers, octets, timestamp.
#[derive(Debug)]
struct OwnedProperties {
    strings: Vec<Option<Vec<u8>>>,
    headers: Option<Vec<u8>>,
    octets: [Option<u8>; 2],
    timestamp: Option<u64>,
}

impl OwnedProperties {
    fn borrow(&self) -> Properties<'_> {
        let string = |index: usize| self.strings[index].as_deref();
        Properties {
            content_type: string(0),
            content_encoding: string(1),
            headers: self
                .headers
                .as_deref()
                .map(|octets| FieldTableRef::parse(octets).expect("a table was encoded")),
            delivery_mode: self.octets[0],
            priority: self.octets[1],
            correlation_id: string(2),
            reply_to: string(3),
            expiration: string(4),
            message_id: string(5),
            timestamp: self.timestamp,
            message_type: string(6),
            user_id: string(7),
            app_id: string(8),
            cluster_id: string(9),
        }
    }
}

fn properties() -> impl Strategy<Value = OwnedProperties> {
    let strings = vec(option::of(vec(any::<u8>(), 0..256)), 10);
    let headers = option::of(table().prop_map(|table| table.encoded()));
    let octets = [option::of(any::<u8>()), option::of(any::<u8>())];
    (strings, headers, octets, option::of(any::<u64>())).prop_map(|(strings, headers, octets, timestamp)| {
        OwnedProperties { strings, headers, octets, timestamp }
    })
}

/// Every method of the protocol as (class, id), by asking each possible pair for its name.
fn every_id() -> impl Iterator<Item = MethodId> {
    (0..=100)
        .flat_map(|class| (0..=130).map(move |method| MethodId::new(class, method)))
        .filter(|id| id.name().is_some())
}

fn encoded(method: &Method<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    method.encode(&mut out);
    out
}

#[test]
fn the_methods_of_these_tests_are_all_there_are() {
    let ingredients = Ingredients::default();
    let tried: HashSet<MethodId> = every_method(&ingredients).iter().map(Method::id).collect();
    assert_eq!(tried, every_id().collect());
    assert_eq!(tried.len(), 66);
}

proptest! {
    #[test]
    fn every_method_is_read_as_it_was_written(ingredients in ingredients(), channel: u16) {
        for method in every_method(&ingredients) {
            let payload = encoded(&method);
            prop_assert_eq!(Method::decode(&payload), Ok(method.clone()));
            let mut octets = Vec::new();
            encode_method(&mut octets, channel, &method);
            let frame = Frame { frame_type: FrameType::Method, channel, payload: &payload };
            prop_assert_eq!(decode_frame(&octets, u32::MAX), Ok(Some((frame, payload.len() + FRAME_OVERHEAD))));
        }
    }

    #[test]
    fn every_method_that_lacks_or_has_octets_is_refused(ingredients in ingredients(), cut: usize) {
        for method in every_method(&ingredients) {
            let mut payload = encoded(&method);
            prop_assert!(Method::decode(&payload[..cut % payload.len()]).is_err(), "{}", method.name());
            payload.push(0);
            prop_assert!(Method::decode(&payload).is_err(), "{}", method.name());
        }
    }

    #[test]
    fn every_header_is_read_as_it_was_written(properties in properties(), class_id: u16, body_size: u64) {
        let header = ContentHeader { class_id, body_size, properties: properties.borrow() };
        let mut octets = Vec::new();
        header.encode(&mut octets);
        prop_assert_eq!(ContentHeader::decode(&octets), Ok(header));
        prop_assert_eq!(Properties::decode(ContentHeader::property_octets(&octets)), Ok(header.properties));
        let mut framed = Vec::new();
        encode_content_header(&mut framed, 1, &header);
        let frame = Frame { frame_type: FrameType::Header, channel: 1, payload: &octets };
        prop_assert_eq!(decode_frame(&framed, u32::MAX), Ok(Some((frame, framed.len()))));
    }

    #[test]
    fn every_table_is_read_as_it_was_written(table in table()) {
        let octets = table.encoded();
        let borrowed = FieldTableRef::parse(&octets).unwrap();
        prop_assert_eq!(borrowed.as_bytes(), octets.as_slice());
        prop_assert_eq!(borrowed.iter().count(), table.len());
        for ((key, value), (borrowed_key, borrowed_value)) in table.iter().zip(borrowed) {
            prop_assert_eq!(key.as_bytes(), borrowed_key);
            prop_assert_eq!(value, &borrowed_value.to_owned());
        }
        prop_assert_eq!(borrowed.to_owned(), table);
    }

    #[test]
    fn a_body_comes_out_of_its_frames_whole(body in vec(any::<u8>(), 0..500), frame_max in 9_u32..200) {
        let mut octets = Vec::new();
        encode_body(&mut octets, 3, &body, frame_max);
        let mut rest = octets.as_slice();
        let mut gathered = Vec::new();
        while let Some((frame, size)) = decode_frame(rest, frame_max - FRAME_OVERHEAD as u32).unwrap() {
            prop_assert!(size <= frame_max as usize);
            prop_assert_eq!((frame.frame_type, frame.channel), (FrameType::Body, 3));
            gathered.extend_from_slice(frame.payload);
            rest = &rest[size..];
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(gathered, body);
    }

    #[test]
    fn no_octets_make_a_decoder_panic(octets in vec(any::<u8>(), 0..200), max: u32) {
        let frame = decode_frame(&octets, max);
        prop_assert!(frame.is_err() || frame.is_ok());
        for id in every_id() {
            if let Ok(method) = Method::decode_args(id, &octets) {
                prop_assert_eq!(method.id(), id);
                let again = encoded(&method);
                prop_assert_eq!(Method::decode(&again), Ok(method));
            }
        }
        if let Ok(header) = ContentHeader::decode(&octets) {
            let mut again = Vec::new();
            header.encode(&mut again);
            prop_assert_eq!(ContentHeader::decode(&again), Ok(header));
        }
        if let Ok(table) = FieldTable::decode(&octets) {
            prop_assert_eq!(FieldTable::decode(&table.encoded()), Ok(table));
        }
    }

    #[test]
    fn damage_to_a_table_is_refused_or_read_but_never_a_panic(
        table in table(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut octets = table.encoded();
        prop_assume!(!octets.is_empty());
        for (index, octet) in damage {
            let index = index.index(octets.len());
            octets[index] = octet;
        }
        if let Ok(table) = FieldTable::decode(&octets) {
            prop_assert_eq!(FieldTable::decode(&table.encoded()), Ok(table));
        }
    }

    #[test]
    fn frames_are_found_one_after_the_other(payloads in vec(vec(any::<u8>(), 0..50), 0..8)) {
        let mut octets = Vec::new();
        for payload in &payloads {
            encode_frame(&mut octets, FrameType::Body, 1, payload);
        }
        let mut rest = octets.as_slice();
        for payload in &payloads {
            let (frame, size) = decode_frame(rest, 50).unwrap().unwrap();
            prop_assert_eq!(frame.payload, payload.as_slice());
            rest = &rest[size..];
        }
        prop_assert!(rest.is_empty());
    }
}
