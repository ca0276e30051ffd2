#![no_main]
//! Bodies of the transport's own frames: what decodes encodes to the same bytes.

use libfuzzer_sys::fuzz_target;
use onemec_wire::codec::{decode, encode};
use onemec_wire::greeting::{Credit, Fail, GoAway, Greeting, TransferEnd};

fuzz_target!(|data: &[u8]| {
    macro_rules! same {
        ($($t:ty),*) => {$(
            if let Ok(value) = decode::<$t>(data) {
                assert_eq!(encode(&value).as_deref(), Ok(data));
            }
        )*};
    }
    same!(Greeting, Credit, GoAway, Fail, TransferEnd);
});
