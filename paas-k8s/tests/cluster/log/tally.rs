//! What a reader was given, by instance.

use std::collections::BTreeMap;

use paas_core::model::{InstanceId, LogOrigin};

use super::*;

#[derive(Debug, Default)]
pub(super) struct Tally {
    instances: Vec<Own>,
}

#[derive(Debug)]
struct Own {
    origin: LogOrigin,
    lines: Vec<String>,
    /// The last line that began with each word.
    last: BTreeMap<String, String>,
    /// The position after each line.
    after: Vec<LogPosition>,
    /// Before which line each gap is.
    gaps: Vec<usize>,
    at: Option<LogPosition>,
}

impl Tally {
    /// Takes in items until it is so, or there are no more.
    pub(super) async fn take_until(
        &mut self,
        items: &mut Items,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        while !is_so(self) {
            let next = tokio::time::timeout(Duration::from_secs(100), items.next()).await;
            match next.unwrap_or_else(|_| panic!("no more comes after {}", self.brief())) {
                Some(item) => self.take(item?),
                None => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, item: LogItem) {
        match item {
            LogItem::Batch(batch) => {
                let own = self.of(&batch.origin);
                assert!(own.at.is_none_or(|at| at <= batch.position), "{:?} {:?}", own.at, batch.position);
                for line in batch.lines() {
                    let text = String::from_utf8_lossy(line.bytes);
                    let text = text.trim_end_matches('.').to_owned();
                    let word = text.split(' ').next().unwrap_or_default();
                    own.last.insert(word.to_owned(), text.clone());
                    own.lines.push(text);
                    own.after.push(LogPosition { index: line.position.index + 1, ..line.position });
                }
                own.at = Some(batch.end());
            }
            LogItem::Gap { origin, .. } => {
                let own = self.of(&origin.unwrap());
                own.gaps.push(own.lines.len());
            }
            _ => {}
        }
    }

    fn of(&mut self, origin: &LogOrigin) -> &mut Own {
        let found = self.instances.iter().position(|own| own.origin == *origin);
        let at = found.unwrap_or_else(|| {
            let origin = origin.clone();
            let (lines, after, gaps) = (Vec::new(), Vec::new(), Vec::new());
            self.instances.push(Own { origin, lines, last: BTreeMap::new(), after, gaps, at: None });
            self.instances.len() - 1
        });
        &mut self.instances[at]
    }

    fn brief(&self) -> String {
        let own = |own: &Own| {
            format!("{} lines of {}, the last {:?}", own.lines.len(), own.origin.instance, own.lines.last())
        };
        self.instances.iter().map(own).collect::<Vec<_>>().join("; ")
    }

    /// How many instances have written so many lines.
    pub(super) fn with(&self, lines: usize) -> usize {
        self.instances.iter().filter(|own| own.lines.len() >= lines).count()
    }

    pub(super) fn lines(&self) -> usize {
        self.instances.iter().map(|own| own.lines.len()).sum()
    }

    pub(super) fn gaps(&self) -> usize {
        self.instances.iter().map(|own| own.gaps.len()).sum()
    }

    /// How many instances have said that they end.
    pub(super) fn ended(&self) -> usize {
        self.instances.iter().filter(|own| own.is_over()).count()
    }

    pub(super) fn origins(&self) -> Vec<(&LogOrigin, bool)> {
        self.instances.iter().map(|own| (&own.origin, own.is_over())).collect()
    }

    /// The lines of the only instance.
    pub(super) fn only(&self) -> &[String] {
        assert_eq!(self.instances.len(), 1);
        &self.instances[0].lines
    }

    /// Whether each of these is the last line of the first instance that began with its word.
    pub(super) fn ends_with(&self, lines: &[&str]) -> bool {
        let last = |own: &Own| lines.iter().all(|line| own.last.values().any(|last| last == line));
        self.instances.first().is_some_and(last)
    }

    /// The position after so many lines of the first instance.
    pub(super) fn after(&self, lines: usize) -> (InstanceId, LogStream, LogPosition) {
        let own = &self.instances[0];
        (own.origin.instance.clone(), own.origin.stream, own.after[lines - 1])
    }

    /// Where a successor goes on.
    pub(super) fn positions(&self) -> Vec<(InstanceId, LogStream, LogPosition)> {
        let own = |own: &Own| Some((own.origin.instance.clone(), own.origin.stream, own.at?));
        self.instances.iter().filter_map(own).collect()
    }

    /// Every instance's lines are there, each once and in order.
    pub(super) fn assert_exact(&self) {
        assert_eq!(self.gaps(), 0, "{}", self.brief());
        self.assert_exact_between_gaps(&["line"]);
        assert!(self.instances.iter().all(|own| own.lines[0] == "line 0"), "{}", self.brief());
    }

    /// No line is missing without a gap, none is doubled, and each word's numbers are in order.
    pub(super) fn assert_exact_between_gaps(&self, words: &[&str]) {
        for own in &self.instances {
            words.iter().for_each(|word| own.assert_numbered(word));
        }
    }
}

impl Own {
    fn is_over(&self) -> bool {
        self.lines.last().is_some_and(|line| line.starts_with("end "))
    }

    fn assert_numbered(&self, word: &str) {
        // Who has no position begins with the oldest line that is still there.
        let mut next = self.number_from(0, word).unwrap_or(0);
        let mut gap = 0;
        for (at, line) in self.lines.iter().enumerate() {
            while self.gaps.get(gap).is_some_and(|before| *before <= at) {
                gap += 1;
                // Whatever comes next, it is later.
                next = self.number_from(at, word).unwrap_or(next).max(next);
            }
            if let Some(number) = numbered(line, word).or_else(|| numbered(line, "end")) {
                assert_eq!(number, next, "{line:?} of {} after {} gaps", self.origin.instance, gap);
                next += 1;
            }
        }
    }

    fn number_from(&self, at: usize, word: &str) -> Option<u64> {
        self.lines[at..].iter().find_map(|line| numbered(line, word))
    }
}

fn numbered(line: &str, word: &str) -> Option<u64> {
    line.strip_prefix(word)?.trim().parse().ok()
}
