//! Waiting for a condition.

use std::time::{Duration, Instant};

/// Pause between two questions.
pub const POLL: Duration = Duration::from_millis(10);
/// Nothing that a test waits for takes longer on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until the answer is `Some`.
///
/// # Panics
/// After [`PATIENCE`], saying `what`.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {} s", PATIENCE.as_secs());
        tokio::time::sleep(POLL).await;
    }
}
