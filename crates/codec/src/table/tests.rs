//! Tables against literal octets, their limits, and what is refused.

use super::{FIELD_NESTING_MAX, FieldTable, FieldTableRef, FieldValue, FieldValueRef, ShortString};
use crate::error::{DecodeError, DecodeErrorKind};

/// One value of each type, the octets with its letter in front.
fn values() -> Vec<(FieldValue, &'static [u8])> {
    vec![
        (FieldValue::Boolean(true), b"t\x01"),
        (FieldValue::I8(-2), b"b\xfe"),
        (FieldValue::U8(254), b"B\xfe"),
        (FieldValue::I16(-2), b"s\xff\xfe"),
        (FieldValue::U16(65_534), b"u\xff\xfe"),
        (FieldValue::I32(-2), b"I\xff\xff\xff\xfe"),
        (FieldValue::U32(4_294_967_294), b"i\xff\xff\xff\xfe"),
        (FieldValue::I64(-2), b"l\xff\xff\xff\xff\xff\xff\xff\xfe"),
        (FieldValue::F32(1.0), b"f\x3f\x80\0\0"),
        (FieldValue::F64(1.0), b"d\x3f\xf0\0\0\0\0\0\0"),
        (FieldValue::Decimal { scale: 2, value: 314 }, b"D\x02\0\0\x01\x3a"),
        (FieldValue::LongString(b"text".to_vec()), b"S\0\0\0\x04text"),
        (FieldValue::Array(vec![FieldValue::Void, FieldValue::from(true)]), b"A\0\0\0\x03Vt\x01"),
        (FieldValue::Timestamp(1), b"T\0\0\0\0\0\0\0\x01"),
        (FieldValue::Table(FieldTable::new().with("k", FieldValue::Void)), b"F\0\0\0\x03\x01kV"),
        (FieldValue::Void, b"V"),
        (FieldValue::Bytes(vec![0, 255]), b"x\0\0\0\x02\0\xff"),
    ]
}

/// The octets of `depth` arrays, one in the other, in a table.
fn nested(depth: usize) -> Vec<u8> {
    let mut octets = b"\x01k".to_vec();
    for inside in (0..depth).rev() {
        octets.push(b'A');
        octets.extend_from_slice(&(inside as u32 * 5).to_be_bytes());
    }
    octets
}

#[test]
fn every_type_has_rabbitmqs_letter_and_layout() {
    for (value, octets) in values() {
        let octets = [b"\x01k", octets].concat();
        let table = FieldTable::new().with("k", value);
        assert_eq!(table.encoded(), octets);
        assert_eq!(FieldTable::decode(&octets).as_ref(), Ok(&table));
        let mut with_size = Vec::new();
        table.encode(&mut with_size);
        assert_eq!(with_size, [&(octets.len() as u32).to_be_bytes()[..], &octets].concat());
    }
}

#[test]
fn both_letters_of_a_long_integer_are_read() {
    let octets = b"\x01kL\xff\xff\xff\xff\xff\xff\xff\xfe";
    let table = FieldTableRef::parse(octets).unwrap();
    assert_eq!(table.get("k"), Some(FieldValueRef::I64(-2)));
    assert_eq!(table.as_bytes(), octets);
}

#[test]
fn every_value_cut_short_is_refused() {
    for (value, octets) in values() {
        for size in 0..octets.len() {
            let octets = [b"\x01k", &octets[..size]].concat();
            let error = FieldTableRef::parse(&octets).unwrap_err();
            assert_eq!(error.kind, DecodeErrorKind::Truncated, "{value:?} of {size} octets");
        }
    }
}

#[test]
fn faults_inside_nested_values_have_their_offset_from_the_outside() {
    let refused = |octets: &[u8]| FieldTableRef::parse(octets).unwrap_err();
    let unknown = DecodeError { kind: DecodeErrorKind::UnknownFieldType(b'?'), offset: 7 };
    assert_eq!(refused(b"\x01aA\0\0\0\x01?\x01bV"), unknown);
    let truncated = DecodeError { kind: DecodeErrorKind::Truncated, offset: 10 };
    assert_eq!(refused(b"\x01aF\0\0\0\x03\x01bt\x01cV"), truncated);
}

#[test]
fn nesting_is_allowed_up_to_the_limit() {
    assert_eq!(FieldTableRef::parse(&nested(FIELD_NESTING_MAX - 1)).map(|_| ()), Ok(()));
    let error = FieldTableRef::parse(&nested(FIELD_NESTING_MAX)).unwrap_err();
    assert_eq!(error, DecodeError { kind: DecodeErrorKind::NestingTooDeep, offset: 2 + 64 * 5 });
    let error = FieldTableRef::parse(&nested(10_000)).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::NestingTooDeep);
}

#[test]
fn a_table_is_too_deep_exactly_where_its_octets_cannot_be_read_again() {
    let in_table = |inner: FieldTable| FieldTable::new().with("a", inner);
    let in_array = |inner: FieldTable| FieldTable::new().with("a", FieldValue::Array(vec![inner.into()]));
    for wrap in [in_table, in_array] {
        let mut table = FieldTable::new();
        for level in 1..2 * FIELD_NESTING_MAX {
            let is_read = FieldTable::decode(&table.encoded()).is_ok();
            assert_eq!(table.is_too_deep(), !is_read, "{level}");
            let beside = table.clone().with("v", FieldValue::Array(Vec::new()));
            assert_eq!(beside.is_too_deep(), FieldTable::decode(&beside.encoded()).is_err(), "{level}");
            table = wrap(table);
        }
        assert!(table.is_too_deep());
    }
}

#[test]
fn order_and_duplicates_are_kept_and_the_first_one_is_found() {
    let table = FieldTable::new().with("b", 1).with("a", 2).with("b", 3);
    let octets = table.encoded();
    let borrowed = FieldTableRef::parse(&octets).unwrap();
    let keys: Vec<&[u8]> = borrowed.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [b"b", b"a", b"b"]);
    assert_eq!(borrowed.get("b"), Some(FieldValueRef::I32(1)));
    assert_eq!(borrowed.to_owned(), table);
    assert_eq!(table.get("b"), Some(&FieldValue::I32(1)));
    assert_eq!(table.get("c"), None);
    assert_eq!(table.len(), 3);
}

#[test]
fn set_and_remove_leave_no_duplicates() {
    let mut table = FieldTable::new().with("a", 1).with("b", 2).with("a", 3);
    table.set("a", "new");
    assert_eq!(table, FieldTable::new().with("a", "new").with("b", 2));
    table.set("c", true);
    assert_eq!(table.get("c"), Some(&FieldValue::Boolean(true)));
    table.insert("b", 4);
    assert_eq!(table.remove("b"), Some(FieldValue::I32(2)));
    assert_eq!(table, FieldTable::from_iter([("a", FieldValue::from("new")), ("c", FieldValue::from(true))]));
    assert_eq!(table.remove("b"), None);
}

#[test]
fn floats_are_equal_by_their_bits() {
    assert_eq!(FieldValue::F64(f64::NAN), FieldValue::F64(f64::NAN));
    assert_ne!(FieldValue::F32(0.0), FieldValue::F32(-0.0));
    assert_eq!(FieldValueRef::F32(f32::NAN), FieldValueRef::F32(f32::NAN));
    assert_ne!(FieldValue::I32(1), FieldValue::I64(1));
}

#[test]
fn integers_of_every_width_are_read_as_one() {
    for value in [FieldValue::I8(5), FieldValue::U8(5), FieldValue::I16(5), FieldValue::U32(5)] {
        assert_eq!(value.as_integer(), Some(5));
    }
    assert_eq!(FieldValue::Timestamp(5).as_integer(), None);
    assert_eq!(FieldValue::from("5").as_str(), Some("5"));
    assert_eq!(FieldValue::LongString(vec![0xff]).as_str(), None);
}

#[test]
fn short_strings_hold_any_255_octets() {
    assert_eq!(ShortString::try_from([0xff; 255].as_slice()).unwrap().len(), 255);
    assert_eq!(ShortString::try_from([0xff; 256].as_slice()).unwrap_err().size, 256);
    let not_text = ShortString::try_from([b'a', 0xff].as_slice()).unwrap();
    assert_eq!(not_text.as_str(), None);
    assert_eq!(not_text.to_string(), "a\u{fffd}");
    assert_eq!(ShortString::try_from("key").unwrap(), "key");
    assert_eq!(ShortString::cut(&"é".repeat(200)).len(), 254);
}
