//! The HTTP binding (TS-0009): a server per listener, hyper underneath, the mapping in `onemec_onem2m`.

mod addresses;
mod connection;
mod credential;
mod exchange;
mod figures;
mod heads;
mod listener;
mod options;
mod preface;

pub use addresses::{Addresses, Place};
pub use figures::HttpFigures;
pub use listener::{Listener, Running};
pub use options::{HttpLimits, ListenerOptions};

/// Whether JSON text is nested more deeply than `max`, by its brackets alone: looked at before any parser recurses.
fn depth_exceeds(json: &[u8], max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json {
        match (byte, in_string) {
            (_, true) if escaped => escaped = false,
            (b'\\', true) => escaped = true,
            (b'"', _) => in_string = !in_string,
            (b'{' | b'[', false) => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            (b'}' | b']', false) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::depth_exceeds;

    #[test]
    fn brackets_in_texts_do_not_count() {
        assert!(!depth_exceeds(br#"{"a":"[[[[\"[["}"#, 1));
        assert!(depth_exceeds(br#"{"a":[1]}"#, 1));
        assert!(!depth_exceeds(br#"[1][2][3]"#, 1));
    }
}
