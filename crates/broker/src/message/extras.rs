//! What the broker notes of a message beside what its publisher sent. Most messages have nothing of it, and then it
//! takes no octet.
//!
//! ```text
//! extras:  bits u8 | expires at u64 | deliver at u64      little endian, milliseconds since 1970
//!          bits: 1 expires at, 2 deliver at, 4 deaths; a time is there if its bit is set
//! ```

use crate::time::Timestamp;

const EXPIRES_AT: u8 = 1;
const DELIVER_AT: u8 = 2;
const HAS_DEATHS: u8 = 4;

/// Octets of extras, at most.
pub(crate) const EXTRAS_BYTES_MAX: usize = 17;

/// What the broker notes of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// When it is due, while it waits to be routed.
    pub deliver_at: Option<Timestamp>,
    /// Its x-death header was written by the broker: a publisher's own is not trusted.
    pub has_deaths: bool,
}

impl Extras {
    /// Reads what [`Self::encode`] wrote; what is missing reads as nothing.
    #[must_use]
    pub fn decode(octets: &[u8]) -> Self {
        let Some((&bits, mut rest)) = octets.split_first() else { return Self::default() };
        let mut time = |bit: u8| {
            if bits & bit == 0 {
                return None;
            }
            let (octets, behind) = rest.split_first_chunk::<8>()?;
            rest = behind;
            Some(Timestamp(u64::from_le_bytes(*octets)))
        };
        let (expires_at, deliver_at) = (time(EXPIRES_AT), time(DELIVER_AT));
        Self { expires_at, deliver_at, has_deaths: bits & HAS_DEATHS != 0 }
    }

    /// The octets; none if there is nothing to note.
    #[must_use]
    pub fn encode(&self) -> EncodedExtras {
        let mut encoded = EncodedExtras { octets: [0; EXTRAS_BYTES_MAX], length: 0 };
        if *self == Self::default() {
            return encoded;
        }
        let mut put = |octets: &[u8]| {
            let end = encoded.length + octets.len();
            if let Some(place) = encoded.octets.get_mut(encoded.length..end) {
                place.copy_from_slice(octets);
                encoded.length = end;
            }
        };
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        put(&[bit(self.expires_at.is_some(), EXPIRES_AT)
            | bit(self.deliver_at.is_some(), DELIVER_AT)
            | bit(self.has_deaths, HAS_DEATHS)]);
        let times = [self.expires_at, self.deliver_at];
        times.into_iter().flatten().for_each(|time| put(&time.0.to_le_bytes()));
        encoded
    }
}

/// When a message with these extras expires.
#[inline]
pub(crate) fn expires_at(extras: &[u8]) -> Option<Timestamp> {
    let (&bits, rest) = extras.split_first()?;
    if bits & EXPIRES_AT == 0 {
        return None;
    }
    rest.first_chunk().map(|octets| Timestamp(u64::from_le_bytes(*octets)))
}

/// Extras as they are kept.
#[derive(Clone, Copy, Debug)]
pub struct EncodedExtras {
    octets: [u8; EXTRAS_BYTES_MAX],
    length: usize,
}

impl EncodedExtras {
    /// The octets.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_reads_the_same() {
        let times = [None, Some(Timestamp(0)), Some(Timestamp(u64::MAX))];
        for expires_at in times {
            for deliver_at in times {
                for has_deaths in [false, true] {
                    let extras = Extras { expires_at, deliver_at, has_deaths };
                    let encoded = extras.encode();
                    assert_eq!(Extras::decode(encoded.as_slice()), extras);
                    assert_eq!(super::expires_at(encoded.as_slice()), expires_at);
                }
            }
        }
        assert!(Extras::default().encode().as_slice().is_empty());
        assert_eq!(Extras::decode(&[]), Extras::default());
    }
}
