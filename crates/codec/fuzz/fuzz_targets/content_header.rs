//! A header frame's payload: what is read can be written, and is then read as the same.
#![no_main]

use leveret_codec::{ContentHeader, Properties};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Ok(header) = ContentHeader::decode(octets) {
        let mut written = Vec::new();
        header.encode(&mut written);
        assert_eq!(ContentHeader::decode(&written), Ok(header));
        assert_eq!(Properties::decode(ContentHeader::property_octets(octets)), Ok(header.properties));
    }
});
