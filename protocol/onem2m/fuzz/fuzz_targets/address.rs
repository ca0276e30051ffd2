//! Addresses, identifiers and HTTP paths.
#![no_main]
use onemec_onem2m::CseIdentity;
use onemec_onem2m::address::{Address, from_http_path, to_http_path};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let me = CseIdentity { base_name: "cse-in".into(), cse_id: "/id-in".into(), sp_id: "sp.example".into() };
    if let Ok(address) = Address::parse(text) {
        let rendered = address.to_string();
        assert_eq!(Address::parse(&rendered).unwrap(), address);
        address.host(&me);
        address.target(&me);
    }
    let once = me.normal_id(text).into_owned();
    assert_eq!(me.normal_id(&once), once);
    let _ = from_http_path(text);
    let _ = to_http_path(text);
});
