//! Errors as an operator reads them.

/// An error with its causes: "disk" alone tells an operator nothing.
pub(crate) fn with_causes(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}
