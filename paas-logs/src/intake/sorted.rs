//! The records of a request, sorted by the output that they say they are of.

use std::collections::HashMap;

use paas_core::model::{LogStream, Timestamp};

use super::claims::Claims;
use super::draft::Draft;
use super::record::Record;

/// A request has more records than it may.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooMany;

/// Records of one request.
#[derive(Debug)]
pub(crate) struct Sorted {
    read: Timestamp,
    /// Whether it matters which instances they name.
    by_claim: bool,
    most: usize,
    records: usize,
    places: HashMap<(Claims, Option<LogStream>), usize>,
    drafts: Vec<(Claims, Option<LogStream>, Draft)>,
    /// Where the last record went: the next one likely goes there, too.
    last: usize,
}

impl Sorted {
    /// No records yet, of which there may be so many.
    pub(crate) fn new(read: Timestamp, by_claim: bool, most: usize) -> Self {
        let (places, drafts) = (HashMap::new(), Vec::new());
        Self { read, by_claim, most, records: 0, places, drafts, last: 0 }
    }

    /// When they were read.
    pub(crate) fn read(&self) -> Timestamp {
        self.read
    }

    pub(crate) fn push(&mut self, record: &Record<'_>) -> Result<(), TooMany> {
        static NOTHING: Claims = Claims::none();
        let claims = if self.by_claim { record.claims() } else { &NOTHING };
        let read = self.read;
        self.draft(claims, record.stream())?.push(record, read);
        Ok(())
    }

    pub(crate) fn push_line(&mut self, line: &[u8]) -> Result<(), TooMany> {
        let read = self.read;
        self.draft(&Claims::none(), None)?.push_line(line, read);
        Ok(())
    }

    fn draft(&mut self, claims: &Claims, stream: Option<LogStream>) -> Result<&mut Draft, TooMany> {
        if self.records >= self.most {
            return Err(TooMany);
        }
        self.records += 1;
        let is_same = self.drafts.get(self.last).is_some_and(|(own, of, _)| own == claims && *of == stream);
        if !is_same {
            let key = (claims.clone(), stream);
            self.last = match self.places.get(&key) {
                Some(place) => *place,
                None => {
                    self.drafts.push((claims.clone(), stream, Draft::default()));
                    self.places.insert(key, self.drafts.len() - 1);
                    self.drafts.len() - 1
                }
            };
        }
        Ok(&mut self.drafts[self.last].2)
    }

    pub(crate) fn records(&self) -> usize {
        self.records
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn groups(&self) -> impl Iterator<Item = &(Claims, Option<LogStream>, Draft)> {
        self.drafts.iter()
    }

    /// What instances they say they are of, by which output, and the lines; each once.
    pub(crate) fn into_groups(self) -> Vec<(Claims, Option<LogStream>, Draft)> {
        self.drafts
    }
}
