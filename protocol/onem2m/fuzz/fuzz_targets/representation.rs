//! Bodies of CREATE and UPDATE of every type, and the encoding of attributes.
#![no_main]
use bytes::Bytes;
use onemec_onem2m::tables::RESOURCE_TYPES;
use onemec_onem2m::{Attributes, representation};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    let _ = Attributes::decode(&mut &*body);
    let Some(ty) = RESOURCE_TYPES.get(usize::from(*first)).and_then(|t| t.ty) else { return };
    let body = Bytes::copy_from_slice(body);
    let _ = representation::update(ty, &body);
    if let Ok(made) = representation::create(ty, &body) {
        let mut encoded = Vec::new();
        made.attributes.encode(&mut encoded);
        assert_eq!(Attributes::decode(&mut &encoded[..]).unwrap(), made.attributes);
    }
});
