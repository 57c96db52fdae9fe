//! The program that runs suites.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use paas_core::{Error, Result};

use crate::Suite;
use crate::case::{Proof, is_live, on, trial};
use crate::table::Table;

/// Suites as a test program with `harness = false`, which takes the arguments of `cargo test`.
pub struct Conformance {
    suites: Vec<Suite>,
    own: Vec<(String, Proof, Option<&'static str>)>,
    document: Option<PathBuf>,
}

impl fmt::Debug for Conformance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own: Vec<&String> = self.own.iter().map(|(name, ..)| name).collect();
        f.debug_struct("Conformance")
            .field("suites", &self.suites)
            .field("own", &own)
            .field("document", &self.document)
            .finish()
    }
}

/// Runs suites as a test program with `harness = false`.
#[must_use]
pub fn run(suites: impl IntoIterator<Item = Suite>) -> ExitCode {
    Conformance::new(suites).run()
}

/// With this variable set, a program writes its columns of the compatibility table instead of checking them.
const BLESS: &str = "PAAS_BLESS";

impl Conformance {
    /// A program of these suites.
    #[must_use]
    pub fn new(suites: impl IntoIterator<Item = Suite>) -> Self {
        Self { suites: suites.into_iter().collect(), own: Vec::new(), document: None }
    }

    /// Adds cases of the backend's own, by name.
    #[must_use]
    pub fn with_cases(mut self, own: impl IntoIterator<Item = (String, Proof)>) -> Self {
        self.own.extend(own.into_iter().map(|(name, proof)| (name, proof, None)));
        self
    }

    /// Adds cases of the backend's own that need a real peer: where [`is_live`] denies it, they show as ignored.
    #[must_use]
    pub fn with_cases_on(
        mut self,
        peer: &'static str,
        own: impl IntoIterator<Item = (String, Proof)>,
    ) -> Self {
        let lacks = (!is_live(peer)).then_some(peer);
        self.own.extend(own.into_iter().map(|(name, proof)| (name, proof, lacks)));
        self
    }

    /// Keeps the compatibility table in a document: ports by backends, and what is unsupported.
    ///
    /// The document says where by the lines `<!-- compatibility -->` and `<!-- /compatibility -->`. One more case fails
    /// where what it tells of the ports of this program's backends is not what its suites give. With the variable
    /// `PAAS_BLESS` set that is written instead, once every case was run and none failed. What other programs tell stays;
    /// to drop what is gone, empty the table and write it anew.
    ///
    /// A test runs in its package's folder; `concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")` is right anywhere.
    #[must_use]
    pub fn with_table(mut self, document: impl Into<PathBuf>) -> Self {
        self.document = Some(document.into());
        self
    }

    /// Runs what the arguments ask for.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let Self { suites, own, document } = self;
        let arguments = Arguments::from_args();
        // What needs a peer that is not there proves nothing: its columns stay.
        let table =
            document.map(|document| (document, Table::of(suites.iter().filter(|suite| suite.runs()))));
        let own = own.into_iter().map(|(name, proof, lacks)| on(lacks, trial(name, proof)));
        let mut trials: Vec<Trial> = suites.into_iter().flat_map(Suite::trials).chain(own).collect();
        let Some((document, table)) = table else {
            return libtest_mimic::run(&arguments, trials).exit_code();
        };
        if std::env::var_os(BLESS).is_none() || arguments.list {
            trials.push(checked(document, table));
            return libtest_mimic::run(&arguments, trials).exit_code();
        }
        let conclusion = libtest_mimic::run(&arguments, trials);
        match write(&conclusion, &document, table) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                #[expect(clippy::print_stderr, reason = "a test program talks to whoever runs it")]
                {
                    eprintln!("{}: the compatibility table stays as it was: {error:?}", document.display());
                }
                ExitCode::FAILURE
            }
        }
    }
}

fn read(document: &Path) -> Result<String> {
    fs::read_to_string(document).map_err(|cause| {
        Error::invalid("the document cannot be read").with("path", document.display()).with_source(cause)
    })
}

fn write(conclusion: &Conclusion, document: &Path, table: Table) -> Result<()> {
    if conclusion.has_failed() {
        return Err(Error::conflict("a case failed"));
    }
    if conclusion.num_filtered_out > 0 {
        return Err(Error::conflict("not every case was run").with("left out", conclusion.num_filtered_out));
    }
    let document_now = read(document)?;
    let written = table.put_into(&document_now)?;
    if written == document_now {
        return Ok(());
    }
    fs::write(document, written)
        .map_err(|cause| Error::internal("the document cannot be written").with_source(cause))
}

/// The case that fails where the table is stale.
fn checked(document: PathBuf, table: Table) -> Trial {
    let file = document.file_name().unwrap_or_default().display().to_string();
    Trial::test(format!("compatibility::{file}::the_table_is_what_the_suites_give"), move || {
        let stands = read(&document).map_err(|error| format!("{error:?}"))?;
        let given = table.put_into(&stands).map_err(|error| format!("{error:?}"))?;
        if stands == given {
            return Ok(());
        }
        Err(Failed::from(format!(
            "the table is stale; `{BLESS}=1 cargo test --workspace --test conformance` writes it anew\n{}{}",
            only('-', &stands, &given),
            only('+', &given, &stands),
        )))
    })
}

/// The lines that one text has and another has not.
fn only(sign: char, one: &str, other: &str) -> String {
    let lines = one.lines().filter(|line| !other.lines().any(|known| known == *line));
    lines.map(|line| format!("{sign} {line}\n")).collect()
}
