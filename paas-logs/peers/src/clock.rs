//! How long something takes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How long this process has had a processor, in all its threads, for itself and in the kernel.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// How many seconds of a processor some work takes, and what it gives.
pub(crate) fn processor<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let before = used();
    let made = work();
    ((used() - before).as_secs_f64(), made)
}

/// What it takes to do something once, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// From the call to the answer: the middle of all times.
    pub(crate) waited: f64,
    /// Time of a processor: all by how often it was done.
    pub(crate) processor: f64,
}

/// Does something over and over, for a while and at least a few times.
pub(crate) fn over_and_over<T>(mut work: impl FnMut() -> T) -> Taken {
    let (began, mut waited) = (Instant::now(), Vec::new());
    let (processor, ()) = processor(|| {
        while waited.len() < 5 || began.elapsed() < Duration::from_millis(200) {
            let started = Instant::now();
            drop(black_box(work()));
            waited.push(started.elapsed().as_secs_f64() * 1e3);
        }
    });
    waited.sort_by(f64::total_cmp);
    Taken { waited: waited[waited.len() / 2], processor: processor * 1e3 / waited.len() as f64 }
}
