//! Milliseconds since the process first asked; what is compared on hot paths.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the start, never 0, so that 0 can mean "never".
pub(crate) fn now() -> u64 {
    START.elapsed().as_millis() as u64 + 1
}

/// Nanoseconds since 1970, to tell one beginning from another.
pub(crate) fn stamp() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}
