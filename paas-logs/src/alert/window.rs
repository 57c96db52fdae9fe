//! Whether enough lines came in a length of time.

use std::time::Duration;

use paas_core::model::Timestamp;

/// A line that comes so much later than a newer one may not be counted with those before it.
const LATE: Duration = Duration::from_secs(60);

/// The lines that may still make an alert, by when they were written.
#[derive(Debug)]
pub(super) struct Window {
    count: usize,
    within: Duration,
    /// In order.
    times: Vec<Timestamp>,
    newest: Timestamp,
    /// Until then nobody is told.
    quiet: Timestamp,
    held_back: u64,
}

impl Window {
    pub(super) fn new(count: u32, within: Duration) -> Self {
        let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        let (times, newest, quiet) = (Vec::new(), Timestamp(0), Timestamp(0));
        Self { count, within, times, newest, quiet, held_back: 0 }
    }

    /// Counts a line. `true` where it is one of enough within the time, and somebody is to be told.
    ///
    /// In whatever order lines come, as long as none comes more than [`LATE`] behind a newer one: there is an alert just
    /// when there are enough of them within the time.
    pub(super) fn add(&mut self, time: Timestamp) -> bool {
        if time < self.quiet {
            self.held_back += 1;
            return false;
        }
        self.newest = self.newest.max(time);
        let start = self.start(self.newest);
        if time < start {
            return false;
        }
        let gone = self.times.partition_point(|own| *own < start);
        self.times.drain(..gone);
        let at = self.times.partition_point(|own| *own <= time);
        self.times.insert(at, time);
        let last = self.times.len().saturating_sub(self.count);
        let mut firsts = at.saturating_sub(self.count - 1)..=at.min(last);
        self.times.len() >= self.count
            && firsts.any(|first| self.times[first + self.count - 1].since(self.times[first]) < self.within)
    }

    /// Somebody is told of a line of this time: nobody is again before the time is over. How many lines were counted meanwhile
    /// since the last time.
    pub(super) fn raised(&mut self, time: Timestamp, cool_down: Duration) -> u64 {
        self.times.clear();
        // Lines of the same moment have made this alert, too.
        self.quiet = self.quiet.max(time + cool_down.max(Duration::from_millis(1)));
        std::mem::take(&mut self.held_back)
    }

    /// What was counted until now was counted before, too.
    pub(super) fn recalled(&mut self) {
        self.held_back = 0;
    }

    /// From when on lines may count, where the newest is of this time.
    pub(super) fn start(&self, newest: Timestamp) -> Timestamp {
        let back = self.within + LATE;
        Timestamp(newest.0.saturating_sub(u64::try_from(back.as_millis()).unwrap_or(u64::MAX)))
    }

    pub(super) fn newest(&self) -> Timestamp {
        self.newest
    }

    /// Whether nothing of it counts any more.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.newest < self.start(now) && self.quiet < now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(second: u64) -> Timestamp {
        Timestamp(1_000_000_000 + second * 1_000)
    }

    fn window(count: u32, within: u64) -> Window {
        Window::new(count, Duration::from_secs(within))
    }

    #[test]
    fn enough_lines_within_the_time_make_an_alert() {
        let mut window = window(3, 60);
        assert!(!window.add(seconds(0)));
        assert!(!window.add(seconds(59)));
        assert!(!window.add(seconds(60)));
        assert!(window.add(seconds(61)));
    }

    #[test]
    fn nobody_is_told_again_before_the_time_is_over() {
        let mut window = window(1, 60);
        assert!(window.add(seconds(0)));
        assert_eq!(window.raised(seconds(0), Duration::from_secs(100)), 0);
        assert!(!window.add(seconds(0)) && !window.add(seconds(99)));
        assert!(window.add(seconds(100)));
        assert_eq!(window.raised(seconds(100), Duration::ZERO), 2);
        assert!(window.add(seconds(101)));
    }

    #[test]
    fn a_late_line_counts_where_it_was_written() {
        let mut window = window(3, 10);
        assert!(!window.add(seconds(0)) && !window.add(seconds(8)) && !window.add(seconds(50)));
        assert!(window.add(seconds(4)));
    }

    proptest! {
        #[test]
        fn in_whatever_order_there_is_an_alert_just_when_there_are_enough(
            mut times in prop::collection::vec(0_u64..120, 1..30),
            count in 1_u32..6,
            within in 1_u64..40,
            late in prop::collection::vec(0_u64..60, 30),
        ) {
            // What comes in the order of these is nowhere more than the bound behind.
            let mut order: Vec<(u64, u64)> = times.iter().zip(&late).map(|(time, late)| (time + late, *time)).collect();
            order.sort_unstable();
            let mut window = window(count, within);
            let mut alert = false;
            for (_, time) in order {
                alert |= window.add(seconds(time));
            }
            times.sort_unstable();
            let expected = times.windows(count as usize).any(|own| own[own.len() - 1] - own[0] < within);
            prop_assert_eq!(alert, expected);
        }
    }
}
