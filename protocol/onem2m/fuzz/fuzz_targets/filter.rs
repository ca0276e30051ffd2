//! Filter criteria in JSON and access control rules.
#![no_main]
use onemec_onem2m::access::Rules;
use onemec_onem2m::filter::FilterCriteria;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(filter) = FilterCriteria::from_json(text) {
        assert_eq!(FilterCriteria::from_json(&filter.to_json()).unwrap(), filter);
    }
    if let Some((key, value)) = text.split_once('=') {
        let _ = FilterCriteria::default().add_query(key, value);
    }
    let _ = Rules::from_json(text);
});
