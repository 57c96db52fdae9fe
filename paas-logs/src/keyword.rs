//! Finds which lines of a batch match any of many queries, in one pass over its bytes.
//!
//! Most lines have none of the words that are looked for. So a block is first scanned for the words that the queries need
//! (Aho-Corasick with SIMD; where they are too many for that, `grams`); only a line that has one is held against the query.

mod grams;

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use paas_core::model::{LogBatch, LogFilter, LogMatcher, StoredLine, WordNeed, is_word};
use paas_core::{Error, Result};

use crate::fields::apart;
use grams::Grams;

/// Of more words than these SIMD does not look for any at once.
const FEW: usize = 64;
/// About so many bytes are put into lower case at a time: they are still near when they are searched.
const PIECE: usize = 16 * 1024;

/// Queries that are ready to be held against batches.
#[derive(Clone, Debug)]
pub(crate) struct Keywords {
    matchers: Vec<LogMatcher>,
    /// Those that need no word: every line is held against them.
    wordless: Vec<usize>,
    words: Vec<Words>,
}

/// Words in lower case, and which queries want a look where one stands.
#[derive(Clone, Debug)]
struct Words {
    finder: Finder,
    queries: Vec<Vec<usize>>,
}

#[derive(Clone, Debug)]
enum Finder {
    /// The longest first, so that where several begin the longest is found. Of the others at that place none stands there
    /// whole.
    Few(AhoCorasick),
    Many(Grams),
}

impl Keywords {
    /// Compiles queries.
    ///
    /// # Errors
    /// Where an expression in one of them takes too much memory.
    pub(crate) fn new<'a>(filters: impl IntoIterator<Item = &'a LogFilter>) -> Result<Self> {
        let (mut matchers, mut wordless) = (Vec::new(), Vec::new());
        let mut wanted: HashMap<Box<[u8]>, Vec<usize>> = HashMap::new();
        for (query, filter) in filters.into_iter().enumerate() {
            matchers.push(filter.matcher()?);
            match one_of(&filter.words()) {
                Some(words) => words.into_iter().for_each(|word| wanted.entry(word).or_default().push(query)),
                None => wordless.push(query),
            }
        }
        let (mut many, mut few): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(word, _)| Grams::takes(word));
        if many.len() <= FEW {
            few.append(&mut many);
        }
        let words = [Words::many(many), Words::few(few)?];
        Ok(Self { matchers, wordless, words: words.into_iter().flatten().collect() })
    }

    /// Calls `each` with every query and the number of every line that it matches, line by line of each query.
    pub(crate) fn find(&self, batch: &LogBatch, mut each: impl FnMut(usize, usize)) {
        if self.matchers.is_empty() {
            return;
        }
        let mut candidates = Vec::new();
        for query in &self.wordless {
            candidates.extend((0..batch.starts.len()).map(|line| (*query, line)));
        }
        let (fields, starts) = if self.words.is_empty() { Default::default() } else { apart(&batch.fields) };
        for words in &self.words {
            words.candidates(&batch.buffer, &batch.starts, &mut candidates);
            words.candidates(&fields, &starts, &mut candidates);
        }
        candidates.sort_unstable();
        candidates.dedup();
        for (query, at) in candidates {
            if self.matchers[query].matches(&StoredLine::of(batch, at)) {
                each(query, at);
            }
        }
    }
}

impl Words {
    fn many(wanted: Vec<(Box<[u8]>, Vec<usize>)>) -> Option<Self> {
        let (words, queries): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
        (!words.is_empty()).then(|| Self { finder: Finder::Many(Grams::new(words)), queries })
    }

    fn few(mut wanted: Vec<(Box<[u8]>, Vec<usize>)>) -> Result<Option<Self>> {
        if wanted.is_empty() {
            return Ok(None);
        }
        wanted.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        let (words, queries): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
        // `Standard` would turn the search with SIMD off.
        let finder = AhoCorasickBuilder::new().match_kind(MatchKind::LeftmostFirst).build(words);
        let refused = |cause| Error::invalid("there are too many words to look for").with_source(cause);
        Ok(Some(Self { finder: Finder::Few(finder.map_err(refused)?), queries }))
    }

    /// Adds the lines that may match by a text of theirs, and the queries they may match.
    fn candidates(&self, text: &[u8], starts: &[u32], candidates: &mut Vec<(usize, usize)>) {
        let mut line = Cursor::new(starts);
        let mut last = None;
        let each = |start, word: usize| {
            let at = line.of(start);
            if last.replace((word, at)) != Some((word, at)) {
                candidates.extend(self.queries[word].iter().map(|query| (*query, at)));
            }
        };
        match &self.finder {
            Finder::Few(finder) => few(finder, text, starts, each),
            Finder::Many(grams) => grams.find(text, each),
        }
        // Without escapes a line may have words that it does not have as it stands.
        let mut line = Cursor::new(starts);
        let mut last = None;
        for place in memchr::memchr_iter(b'\\', text) {
            let at = line.of(place);
            if last != Some(at) {
                candidates.extend(self.queries.iter().flatten().map(|query| (*query, at)));
                last = Some(at);
            }
        }
    }
}

/// Calls `each` with where a whole word begins and its number.
fn few(finder: &AhoCorasick, text: &[u8], starts: &[u32], mut each: impl FnMut(usize, usize)) {
    let mut lower = Vec::with_capacity(PIECE);
    let mut begin = 0;
    // A piece ends where a line does, and no word goes beyond.
    for end in starts.iter().map(|start| *start as usize).chain([text.len()]) {
        if end < text.len() && end - begin < PIECE {
            continue;
        }
        lower.clear();
        lower.extend(text[begin..end].iter().map(u8::to_ascii_lowercase));
        for found in finder.find_iter(&lower) {
            let before = found.start().checked_sub(1).is_some_and(|at| is_word(lower[at]));
            if !before && !lower.get(found.end()).is_some_and(|byte| is_word(*byte)) {
                each(begin + found.start(), found.pattern().as_usize());
            }
        }
        begin = end;
    }
}

/// Tells which line a place is in; places are asked for in order.
struct Cursor<'a> {
    starts: &'a [u32],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(starts: &'a [u32]) -> Self {
        Self { starts, at: 0 }
    }

    fn of(&mut self, place: usize) -> usize {
        while self.starts.get(self.at + 1).is_some_and(|next| *next as usize <= place) {
            self.at += 1;
        }
        self.at
    }
}

/// Words of which a matching line has one, if that is known.
fn one_of(need: &WordNeed) -> Option<Vec<Box<[u8]>>> {
    match need {
        WordNeed::Word(word) => Some(vec![word.clone()]),
        // The rarest would be best: it is likely that of the longest.
        WordNeed::All(parts) => {
            parts.iter().filter_map(one_of).max_by_key(|words| words.iter().map(|word| word.len()).min())
        }
        WordNeed::Any(parts) => {
            parts.iter().map(one_of).collect::<Option<Vec<_>>>().map(|words| words.concat())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use paas_core::model::{LogPosition, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::level::levels;
    use crate::testing::origin;

    fn batch(text: &[u8]) -> LogBatch {
        let buffer = Bytes::copy_from_slice(text);
        let mut batch = LogBatch::new(origin(), buffer, Timestamp(1), LogPosition::offset(1, 0));
        batch.levels = levels(&batch);
        batch
    }

    /// What is found, and what a look at every line finds.
    fn both(queries: &[&str], text: &[u8]) -> [Vec<(usize, usize)>; 2] {
        let filters: Vec<LogFilter> = queries.iter().map(|query| query.parse().unwrap()).collect();
        let (keywords, batch) = (Keywords::new(&filters).unwrap(), batch(text));
        let mut found = Vec::new();
        keywords.find(&batch, |query, line| found.push((query, line)));
        let mut naive = Vec::new();
        for (query, filter) in filters.iter().enumerate() {
            let matcher = filter.matcher().unwrap();
            for at in 0..batch.starts.len() {
                if matcher.matches(&StoredLine::of(&batch, at)) {
                    naive.push((query, at));
                }
            }
        }
        [found, naive]
    }

    #[test]
    fn words_are_found_that_begin_alike_or_stand_in_each_other() {
        let [found, naive] =
            both(&["out", "outofmemory", "memory", "of"], b"Out OutOfMemory\nmemory of out\noutof\n");
        assert_eq!(found, naive);
        assert_eq!(found, [(0, 0), (0, 1), (1, 0), (2, 1), (3, 1)]);
    }

    #[test]
    fn every_kind_of_query_is_found() {
        let queries = [
            "error",
            "-health",
            "a OR b",
            "\"conn refused\"",
            "conn*",
            "/x\\d/",
            "status:5*",
            "level:>=warn",
            "msg:second",
            "stream:stdout",
        ];
        let text =
            b"ERROR x1\nhealth a\nconn refused status=503\n{\"msg\":\"first\\nsecond\",\"level\":\"warn\"}\n";
        let [found, naive] = both(&queries, text);
        assert_eq!(found, naive);
        for (number, query) in queries.iter().enumerate() {
            assert!(found.iter().any(|(own, _)| *own == number), "{query}");
        }
    }

    #[test]
    fn fields_of_a_line_end_before_those_of_the_next() {
        let filters: Vec<LogFilter> = ["a:out", "b:of"].map(|query| query.parse().unwrap()).to_vec();
        let mut batch = batch(b"x\ny\n");
        ["a=out", "b=of"].iter().for_each(|pairs| batch.fields.push(pairs.as_bytes()));
        let mut found = Vec::new();
        Keywords::new(&filters).unwrap().find(&batch, |query, line| found.push((query, line)));
        assert_eq!(found, [(0, 0), (1, 1)]);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_look_at_every_line_finds(
            words in prop::collection::vec("[ab]{1,4}", 1..6),
            text in prop::collection::vec(prop::sample::select(b"aabbAB  \n\\\"n=".to_vec()), 0..200),
        ) {
            let queries: Vec<String> = words.iter().enumerate().map(|(at, word)| match at % 4 {
                0 => word.clone(),
                1 => format!("-{word}"),
                2 => format!("{word} OR f:{word}"),
                _ => format!("\"{word} {word}\""),
            }).collect();
            let [found, naive] = both(&queries.iter().map(String::as_str).collect::<Vec<_>>(), &text);
            prop_assert_eq!(found, naive);
        }
    }

    proptest! {
        // Hundreds of queries take their time.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn many_words_are_found_as_few_are(
            words in prop::collection::hash_set("[ab]{4,8}|[a-z_]{3,9}", 100..200),
            text in prop::collection::vec(prop::sample::select(b"aabbAB_z \n\\".to_vec()), 0..400),
        ) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut text = text;
            // Some of the words stand in it.
            words.iter().step_by(7).for_each(|word| text.extend(format!("{word} {}", word.to_ascii_uppercase()).bytes()));
            let [found, naive] = both(&words, &text);
            prop_assert_eq!(found, naive);
        }
    }
}
