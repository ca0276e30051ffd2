//! Whole primitives: what is read is written and read again to the same.
#![no_main]
use bytes::Bytes;
use onemec_onem2m::notification::Notification;
use onemec_onem2m::{Request, Response};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(request) = Request::from_json(&bytes) {
        let _ = request.check(1_700_000_000_000);
        assert_eq!(Request::from_json(&request.to_json().into()).unwrap(), request);
    }
    if let Ok(response) = Response::from_json(&bytes) {
        let _ = Response::from_json(&response.to_json().into()).unwrap();
    }
    if let Ok(notification) = Notification::from_json(&bytes) {
        assert_eq!(Notification::from_json(&notification.to_json().into()).unwrap(), notification);
    }
});
