//! The pauses between looks at something that takes its time.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
/// What is looked for this long is worth no more calls.
const LONGEST: Duration = Duration::from_secs(2);

/// Pauses that double, until it has been long enough.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
    until: Instant,
}

impl Pauses {
    /// For so long, all together.
    pub(crate) fn within(time: Duration) -> Self {
        Self::until(Instant::now() + time)
    }

    /// Until then.
    pub(crate) fn until(until: Instant) -> Self {
        Self { next: FIRST, until }
    }

    /// Waits for the next look; `false` where there was the last.
    pub(crate) async fn rest(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.until {
            return false;
        }
        tokio::time::sleep_until(self.until.min(now + self.next)).await;
        self.next = (self.next * 2).min(LONGEST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn looks_become_rare_and_come_to_an_end_in_time() {
        let (began, mut pauses, mut looks) = (Instant::now(), Pauses::within(Duration::from_secs(8)), 0);
        while pauses.rest().await {
            looks += 1;
        }
        assert_eq!((looks, began.elapsed()), (9, Duration::from_secs(8)));
    }
}
