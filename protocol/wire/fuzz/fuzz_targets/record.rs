#![no_main]
//! Records: the parser takes no more than it is given.

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use onemec_wire::Record;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok((record, len)) = Record::parse(&bytes) {
        assert!(len <= bytes.len());
        assert_eq!(record.head().len() + record.body().len() + onemec_wire::record::RECORD_HEADER_BYTES, len);
    }
});
