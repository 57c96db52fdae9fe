//! Parts that are measured by themselves. For benchmarks.

use paas_core::Result;
use paas_core::model::{LogBatch, LogFilter};

use crate::keyword::Keywords;

/// Queries that are held against lines.
#[derive(Debug)]
pub struct Scanner(Keywords);

impl Scanner {
    /// Compiles queries.
    ///
    /// # Errors
    /// Where an expression takes too much memory.
    pub fn new(filters: &[LogFilter]) -> Result<Self> {
        Keywords::new(filters).map(Self)
    }

    /// How many lines match, once for each query.
    #[must_use]
    pub fn count(&self, batch: &LogBatch) -> usize {
        let mut found = 0;
        self.0.find(batch, |_, _| found += 1);
        found
    }
}
