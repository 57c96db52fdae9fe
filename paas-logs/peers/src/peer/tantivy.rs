//! An index of tantivy with a document for each line.
//!
//! One thread indexes; merges go on as tantivy has them. A commit that follows each batch lets a line survive a crash as soon as
//! it does with ours, and is not how tantivy is mostly used: who has one commit at the end keeps a journal of their own. The index knows which tenant and which words a line has, but not where they stand, and stores the
//! line, compressed as ours; time is a column. Of a line's origin, position and level, which ours keeps, it has nothing.

use std::path::Path;

use paas_core::model::LogBatch;
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{BooleanQuery, Query, TermQuery};
use tantivy::schema::{
    FAST, Field, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions, Value,
};
use tantivy::store::{Compressor, ZstdCompressor};
use tantivy::{Index, IndexSettings, IndexWriter, Order, Searcher, TantivyDocument, Term};

use crate::corpus::{FREQUENT, tenant};
use crate::store::{Question, Store};

/// Bytes that are indexed in memory at most.
const MEMORY: usize = 100_000_000;

/// When lines are to survive a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    Each,
    Once,
}

#[derive(Clone, Copy, Debug)]
struct Fields {
    tenant: Field,
    time: Field,
    line: Field,
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let words = TextFieldIndexing::default()
        .set_tokenizer("default")
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::Basic);
    let line = TextOptions::default().set_indexing_options(words) | STORED;
    let fields = Fields {
        tenant: schema.add_text_field("tenant", STRING),
        time: schema.add_u64_field("time", FAST),
        line: schema.add_text_field("line", line),
    };
    (schema.build(), fields)
}

/// An index that is ready to be asked.
pub(crate) struct Tantivy {
    searcher: Searcher,
    fields: Fields,
}

impl Tantivy {
    /// Stores lines, until all is as it stays.
    pub(crate) fn fill(folder: &Path, batches: &[LogBatch], commit: Commit) {
        std::fs::create_dir_all(folder).unwrap();
        let (schema, fields) = schema();
        let docstore_compression = Compressor::Zstd(ZstdCompressor::default());
        let settings = IndexSettings { docstore_compression, ..IndexSettings::default() };
        let index = Index::builder().schema(schema).settings(settings).create_in_dir(folder).unwrap();
        let mut writer: IndexWriter = index.writer_with_num_threads(1, MEMORY).unwrap();
        for batch in batches {
            for (line, time) in batch.lines().zip(&batch.times) {
                let mut document = TantivyDocument::default();
                document.add_text(fields.tenant, batch.origin.tenant.as_str());
                document.add_u64(fields.time, time.0);
                document.add_text(fields.line, String::from_utf8_lossy(line.bytes));
                writer.add_document(document).unwrap();
            }
            if commit == Commit::Each {
                writer.commit().unwrap();
            }
        }
        writer.commit().unwrap();
        writer.wait_merging_threads().unwrap();
        // What was merged away is deleted with the next writer's first look.
        let writer: IndexWriter = index.writer_with_num_threads(1, MEMORY).unwrap();
        writer.garbage_collect_files().wait().unwrap();
    }

    pub(crate) fn open(folder: &Path) -> Self {
        let index = Index::open_in_dir(folder).unwrap();
        Self { searcher: index.reader().unwrap().searcher(), fields: schema().1 }
    }

    fn term(field: Field, text: &str) -> Box<dyn Query> {
        Box::new(TermQuery::new(Term::from_field_text(field, text), IndexRecordOption::Basic))
    }

    /// Of the largest tenant, lines with a word.
    fn with(&self, word: &str) -> BooleanQuery {
        let own = Self::term(self.fields.tenant, tenant(0).as_str());
        BooleanQuery::intersection(vec![own, Self::term(self.fields.line, word)])
    }

    /// The newest hundred lines and their times.
    fn newest(&self, query: &dyn Query) -> Vec<(u64, String)> {
        let newest = TopDocs::with_limit(100).order_by_u64_field("time", Order::Desc);
        let found = self.searcher.search(query, &newest).unwrap();
        let line = |(time, at): (Option<u64>, _)| {
            let document: TantivyDocument = self.searcher.doc(at).unwrap();
            let line =
                document.get_first(self.fields.line).and_then(|value| value.as_str().map(str::to_owned));
            (time.unwrap(), line.unwrap())
        };
        found.into_iter().map(line).collect()
    }
}

impl Store for Tantivy {
    fn answer(&mut self, question: &Question) -> usize {
        match question {
            Question::Newest => {
                self.newest(Self::term(self.fields.tenant, tenant(0).as_str()).as_ref()).len()
            }
            Question::Rare(word) => self.newest(&self.with(word)).len(),
            Question::Count => self.searcher.search(&self.with(FREQUENT), &Count).unwrap(),
        }
    }
}
