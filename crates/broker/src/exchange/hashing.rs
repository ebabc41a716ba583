//! Hashes that are the same in every process, so that a restart moves no key: those of the standard library are
//! seeded anew each time. They are no defence against keys chosen to collide, which only unbalance the
//! publisher's own queues.

use leveret_codec::table::FieldValueRef;

const OCTETS_SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const LENGTH_SEED: u64 = 0xd6e8_feb8_6659_fd93;
const MIX_SEED: u64 = 0xa076_1d64_78bd_642f;

/// Multiplies to 128 bits and folds the halves: each bit of both numbers has a say in each bit of the result.
pub(crate) fn mix(one: u64, other: u64) -> u64 {
    let product = u128::from(one ^ MIX_SEED) * u128::from(other ^ OCTETS_SEED);
    (product >> 64) as u64 ^ product as u64
}

/// Hash of some octets.
pub(crate) fn hash(octets: &[u8]) -> u64 {
    let (words, rest) = octets.as_chunks::<8>();
    let mut state = words.iter().fold(LENGTH_SEED, |state, word| mix(state, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    state = mix(state, u64::from_le_bytes(last));
    mix(state, octets.len() as u64)
}

/// Hash of a header's value. Integers of all widths are alike, and so are strings and byte arrays.
pub(crate) fn hash_value(value: &FieldValueRef<'_>) -> u64 {
    match value {
        FieldValueRef::LongString(octets) | FieldValueRef::Bytes(octets) => hash(octets),
        _ => match value.as_integer() {
            Some(integer) => hash(&integer.to_le_bytes()),
            None => {
                let mut encoded = Vec::new();
                value.to_owned().encode(&mut encoded);
                hash(&encoded)
            }
        },
    }
}
