//! chDB, which is ClickHouse in a process of Python's: `chdb.py` has the table and takes the times.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use paas_core::model::LogBatch;

use crate::clock::Taken;
use crate::corpus::{FREQUENT, tenant};
use crate::store::{Question, Store};

/// The folder of the Python package, where it is not among those of the machine's own.
const PACKAGES: &str = "PAAS_CHDB";

/// A process that has the lines, and is ready to be asked.
#[derive(Debug)]
pub(crate) struct Chdb {
    process: Child,
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) folder: PathBuf,
}

impl Chdb {
    /// Stores lines.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn fill(folder: &Path, batches: &[LogBatch]) -> Result<Self, String> {
        let (lines, folder) = (folder.join("lines.tsv"), folder.join("chdb"));
        let mut python = Command::new("python3");
        python.args(["-c", include_str!("chdb.py")]).args([&folder, &lines]);
        if let Some(packages) = std::env::var_os(PACKAGES) {
            python.env("PYTHONPATH", packages);
        }
        let started = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.map_err(|error| format!("needs the program `python3`: {error}"))?;
        let (asked, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut chdb = Self { process, asked, answers: BufReader::new(answers), folder };
        if chdb.heard() != "there" {
            return Err("needs the Python package chdb".to_owned());
        }
        write(&lines, batches);
        assert_eq!(chdb.ask(""), "filled", "chDB takes the lines");
        std::fs::remove_file(&lines).unwrap();
        Ok(chdb)
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.asked, "{question}").unwrap();
        self.heard()
    }

    fn heard(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// What an answer takes, and the lines that were found or counted.
    fn told(&mut self, question: &Question, is_timed: bool) -> (Taken, usize) {
        let own = format!("FROM lines WHERE tenant = '{}'", tenant(0));
        let newest = "ORDER BY time DESC LIMIT 100";
        let (sql, is_count) = match question {
            Question::Newest => (format!("SELECT time, line {own} {newest}"), false),
            Question::Rare(word) => {
                (format!("SELECT time, line {own} AND hasToken(line, '{word}') {newest}"), false)
            }
            Question::Count => (format!("SELECT count() {own} AND hasToken(line, '{FREQUENT}')"), true),
        };
        let answer = self.ask(&format!("{} {sql}", if is_timed { "time" } else { "once" }));
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let number = |name: &str| answer[name].as_f64().unwrap();
        let taken = Taken { waited: number("waited"), processor: number("processor") };
        (taken, number(if is_count { "value" } else { "rows" }) as usize)
    }
}

/// Writes lines as chDB reads them fastest of what is text.
fn write(file: &Path, batches: &[LogBatch]) {
    let mut text = String::new();
    for batch in batches {
        for (line, time) in batch.lines().zip(&batch.times) {
            let line = String::from_utf8_lossy(line.bytes);
            assert!(!line.contains(['\t', '\\']), "nothing to escape");
            writeln!(text, "{}\t{}\t{line}", batch.origin.tenant, time.0).unwrap();
        }
    }
    std::fs::write(file, text).unwrap();
}

impl Store for Chdb {
    fn answer(&mut self, question: &Question) -> usize {
        self.told(question, false).1
    }

    fn taken(&mut self, question: &Question) -> Taken {
        self.told(question, true).0
    }
}

impl Drop for Chdb {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
