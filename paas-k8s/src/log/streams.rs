//! A bounded number of streams, of which everybody has a turn.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// How many may be open at once.
#[derive(Debug)]
pub(super) struct Streams {
    free: Semaphore,
    waiting: AtomicUsize,
}

/// Somebody who waits, also if that is given up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Streams {
    pub(super) fn new(most: usize) -> Self {
        Self { free: Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)), waiting: AtomicUsize::new(0) }
    }

    /// Waits for one, in the order in which all came; `None` once there will be no more.
    pub(super) async fn acquire(&self) -> Option<SemaphorePermit<'_>> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        self.free.acquire().await.ok()
    }

    /// Whether somebody waits for one.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn close(&self) {
        self.free.close();
    }
}
