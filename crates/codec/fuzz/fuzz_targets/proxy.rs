//! A proxy's header: it is found in its own octets alone, and not in fewer.
#![no_main]

use leveret_codec::proxy::{HEADER_BYTES_MAX, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    match decode(octets) {
        Ok(Some((header, size))) => {
            assert_eq!(decode(&octets[..size]), Ok(Some((header, size))));
            assert_eq!(decode(&octets[..size - 1]), Ok(None));
        }
        Ok(None) => assert!(octets.len() < HEADER_BYTES_MAX),
        Err(_) => {}
    }
});
