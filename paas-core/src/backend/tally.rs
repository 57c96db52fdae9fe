//! Counts of log lines, as stores answer them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::model::{LogBucket, LogCount, Timestamp};
use crate::{Error, Result};

/// Most spans of an answer.
const SPANS: usize = 10_000;
/// Most values of an answer.
const VALUES: usize = 1_000;

/// How many lines fall into each span of time: what [`LogStore::histogram`](crate::port::LogStore::histogram) answers.
#[derive(Debug)]
pub struct SpanCounts {
    step: Duration,
    step_ms: u64,
    counts: BTreeMap<u64, u64>,
}

impl SpanCounts {
    /// Counts in spans of a step.
    ///
    /// # Errors
    /// `Invalid` where the step is no whole number of milliseconds of at least one.
    pub fn new(step: Duration) -> Result<Self> {
        let step_ms = u64::try_from(step.as_millis()).unwrap_or(u64::MAX);
        if step_ms == 0 || Duration::from_millis(step_ms) != step {
            let wrong = "the step of a histogram is a whole number of milliseconds, at least one";
            return Err(Error::invalid(wrong).with("step", format!("{step:?}")));
        }
        Ok(Self { step, step_ms, counts: BTreeMap::new() })
    }

    /// One more line, of this time.
    pub fn add(&mut self, time: Timestamp) {
        *self.counts.entry(time.0 / self.step_ms * self.step_ms).or_default() += 1;
    }

    /// The spans that have any, in the order of time.
    ///
    /// # Errors
    /// `Invalid` where there are more than 10,000.
    pub fn finish(self) -> Result<Vec<LogBucket>> {
        if self.counts.len() > SPANS {
            return Err(Error::invalid("the histogram has too many spans of time: take a longer step")
                .with("step", format!("{:?}", self.step))
                .with("spans", self.counts.len())
                .with("most", SPANS));
        }
        Ok(self.counts.into_iter().map(|(from, count)| LogBucket::new(Timestamp(from), count)).collect())
    }
}

/// How many lines have each value of a field: what [`LogStore::top`](crate::port::LogStore::top) answers.
#[derive(Debug, Default)]
pub struct ValueCounts(HashMap<String, u64>);

impl ValueCounts {
    /// One more line, with this value; what is no UTF-8 in it is replaced.
    pub fn add(&mut self, value: &[u8]) {
        *self.0.entry(String::from_utf8_lossy(value).into_owned()).or_default() += 1;
    }

    /// The most frequent first, and then by the value; so many, and at most 1,000.
    #[must_use]
    pub fn finish(self, most: usize) -> Vec<LogCount> {
        let mut all: Vec<LogCount> =
            self.0.into_iter().map(|(value, count)| LogCount::new(value, count)).collect();
        all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        all.truncate(most.min(VALUES));
        all
    }
}
