#![no_main]
//! Datagrams: what decodes encodes to the same bytes.

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use onemec_wire::datagram::{decode, encode};

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok((service, body)) = decode(&bytes)
        && let Ok(again) = encode(service, &body)
    {
        assert_eq!(again, bytes);
    }
});
