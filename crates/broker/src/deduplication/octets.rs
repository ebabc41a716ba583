//! The octets of an id, most of which are short: those lie where the id lies, so that to remember one takes no
//! allocation. Of an id that is longer than any name a digest stands for it, so that what is remembered is small
//! whatever clients send.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// An id as text, a UUID say, takes as many with its kind in front.
const INLINE_BYTES: usize = 38;

/// Octets of an id that is kept whole.
const WHOLE_BYTES_MAX: usize = 256;

/// The kind of digests, which no value of a header has.
const DIGEST: u8 = b'h';

/// What a message's id is, its kind in front.
#[derive(Clone)]
pub(crate) enum IdOctets {
    /// So many of these octets.
    Short(u8, [u8; INLINE_BYTES]),
    Long(Arc<[u8]>),
}

impl IdOctets {
    /// An id of this kind.
    pub(crate) fn new(kind: u8, octets: &[u8]) -> Self {
        if octets.len() > WHOLE_BYTES_MAX {
            // The digest is kept for restarts, so it stays what it is.
            let digest = Sha256::new().chain_update([kind]).chain_update(octets).finalize();
            return Self::new(DIGEST, &digest);
        }
        let mut short = [kind; INLINE_BYTES];
        match short.get_mut(1..=octets.len()) {
            Some(place) => {
                place.copy_from_slice(octets);
                Self::Short(octets.len() as u8 + 1, short)
            }
            None => Self::Long([&[kind], octets].concat().into()),
        }
    }

    /// The same from what [`Self::as_slice`] gave, or gave when ids of any length were kept whole.
    pub(super) fn from_slice(octets: &[u8]) -> Self {
        octets.split_first().map_or_else(|| Self::new(0, &[]), |(&kind, octets)| Self::new(kind, octets))
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short(length, octets) => octets.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(octets) => octets,
        }
    }
}

impl PartialEq for IdOctets {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for IdOctets {}

impl fmt::Debug for IdOctets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_all_lengths_are_what_they_were() {
        for length in [0, 1, INLINE_BYTES - 2, INLINE_BYTES - 1, INLINE_BYTES, WHOLE_BYTES_MAX] {
            let octets: Vec<u8> = (0..length).map(|number| number as u8).collect();
            let id = IdOctets::new(b's', &octets);
            assert_eq!(id.as_slice(), [b"s", &octets[..]].concat());
            assert_eq!(matches!(id, IdOctets::Short(..)), length < INLINE_BYTES);
            assert_eq!(IdOctets::from_slice(id.as_slice()), id);
        }
        assert_ne!(IdOctets::new(b's', b""), IdOctets::new(b's', b"\0"));
        assert_eq!(size_of::<IdOctets>(), INLINE_BYTES + 2);
    }

    #[test]
    fn of_long_ids_a_digest_is_kept_by_which_they_are_told_apart() {
        let octets = vec![b'x'; 100_000];
        let id = IdOctets::new(b's', &octets);
        assert_eq!(id.as_slice().len(), 33);
        assert_eq!(id, IdOctets::new(b's', &octets));
        assert_eq!(IdOctets::from_slice(id.as_slice()), id);
        // As it was kept before there were digests.
        assert_eq!(IdOctets::from_slice(&[b"s", &octets[..]].concat()), id);
        assert_ne!(id, IdOctets::new(b's', &octets[1..]));
        assert_ne!(id, IdOctets::new(b'x', &octets));
        // A short id that has the octets of the digest is another one.
        assert_ne!(id, IdOctets::new(b's', &id.as_slice()[1..]));
        // It is on disks: whoever changes it makes brokers forget.
        let known = IdOctets::new(b's', &[b'x'; WHOLE_BYTES_MAX + 1]);
        assert_eq!(known.as_slice()[..5], [b'h', 141, 78, 144, 110]);
    }
}
