//! A run of frames: what is found is written again octet by octet.
#![no_main]

use leveret_codec::frame::{decode_frame, encode_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let mut rest = octets;
    while let Ok(Some((frame, size))) = decode_frame(rest, 4096) {
        let mut written = Vec::new();
        encode_frame(&mut written, frame.frame_type, frame.channel, frame.payload);
        assert_eq!(written, &rest[..size]);
        rest = &rest[size..];
    }
});
