//! A table without its size: both kinds read the same, and what is read can be written.
#![no_main]

use leveret_codec::{FieldTable, FieldTableRef};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Ok(table) = FieldTableRef::parse(octets) {
        let owned = table.to_owned();
        assert_eq!(owned.len(), table.iter().count());
        assert_eq!(FieldTable::decode(&owned.encoded()), Ok(owned));
    }
});
