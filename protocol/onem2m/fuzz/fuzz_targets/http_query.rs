//! Path, query and headers of an HTTP request.
#![no_main]
use bytes::Bytes;
use onemec_onem2m::http_binding::{request_from_http, request_to_http};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (target, header) = text.split_once('\n').unwrap_or((text, ""));
    let mut http = http::Request::get(target).header("X-M2M-RI", "r");
    for name in ["X-M2M-Origin", "X-M2M-RVI", "X-M2M-OT", "X-M2M-RTU", "X-M2M-RET", "Content-Type", "Authorization"] {
        http = http.header(name, header);
    }
    let Ok(http) = http.body(()) else { return };
    if let Ok(request) = request_from_http(&http.into_parts().0, Bytes::new()) {
        let _ = request_to_http(&request, "host:80");
    }
});
