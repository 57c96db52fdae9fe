//! Milliseconds since the process first asked; what is compared on hot paths.

use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the start, never 0, so that 0 can mean "never".
pub(crate) fn now() -> u64 {
    START.elapsed().as_millis() as u64 + 1
}
