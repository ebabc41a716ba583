//! A method frame's payload: what is read can be written, and is then read as the same.
#![no_main]

use leveret_codec::Method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Ok(method) = Method::decode(octets) {
        let mut written = Vec::new();
        method.encode(&mut written);
        assert_eq!(Method::decode(&written), Ok(method));
    }
});
