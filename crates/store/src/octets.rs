//! Numbers and runs of octets as files and the catalog hold them: little endian, lengths in front. Reading is
//! total: what is too short or too large is `None`, never a panic. Knows no file and no format.

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// What is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `length` octets.
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[octet]| octet)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number whose octets sort as the numbers do: in keys.
    pub(crate) fn u64_sorted(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A number in groups of seven bits, see [`put_varint`].
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let octet = self.u8()?;
            let bits = u64::from(octet & 0x7f);
            number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
            if octet & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// Octets with their length in front.
    pub(crate) fn sized(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }

    /// Text with its length in front.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.sized()?).ok()
    }
}

/// Appends a number in groups of seven bits, lowest first; the high bit says that more follow.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends octets with their length in front.
pub(crate) fn put_sized(out: &mut Vec<u8>, octets: &[u8]) {
    put_varint(out, octets.len() as u64);
    out.extend_from_slice(octets);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_of_any_size_are_read_as_they_were_written(number: u64, behind: Vec<u8>) {
            let mut octets = Vec::new();
            put_varint(&mut octets, number);
            octets.extend_from_slice(&behind);
            let mut reader = Reader::new(&octets);
            prop_assert_eq!(reader.varint(), Some(number));
            prop_assert_eq!(reader.rest(), behind.as_slice());
        }

        #[test]
        fn reading_garbage_ends(octets: Vec<u8>) {
            let mut reader = Reader::new(&octets);
            while reader.sized().is_some() {}
            let _ = Reader::new(&octets).text();
        }
    }

    #[test]
    fn a_number_that_does_not_fit_is_none() {
        assert_eq!(Reader::new(&[0xff; 11]).varint(), None);
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(Reader::new(&too_large).varint(), None);
    }
}
