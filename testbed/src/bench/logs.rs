//! Measures how log lines are kept and searched, beside others that do the same.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use crate::machine::CONSENT;
use crate::step::{say, step};
use crate::{Result, STRICT, cache, command, interrupt, live, package, python};

/// The program's own list.
#[path = "../../../paas-logs/peers/src/figure.rs"]
mod figure;

use figure::Figure;

/// The program that measures, and where its package is: it is no part of the workspace.
const PROGRAM: &str = "paas-logs-peers";
const MANIFEST: &str = "paas-logs/peers/Cargo.toml";

/// How the C library is told apart from other packages, and what brings it.
const HYPERSCAN: &str = "libhs";
const PACKAGES: [&str; 2] = ["pkg-config", "libhyperscan-dev"];

/// The Python package that has ClickHouse in it.
const CHDB: (&str, &str) = ("chdb-core", "26.9.0");

/// The variable by which the program is told where that is.
const FOLDER: &str = "PAAS_CHDB";

/// Looks which peers there are, builds the measuring program, and runs it. It prints a line for each figure, and says which
/// have no peer to be held against.
pub(crate) fn logs(names: &[&str], is_strict: bool, consent: bool) -> Result<ExitCode> {
    let figures = Figure::named(names)?;
    interrupt::listen()?;
    if figures.contains(&Figure::Keywords) {
        hyperscan(consent)?;
    }
    let chdb = if figures.contains(&Figure::Queries) { chdb(consent)? } else { None };
    let program = step("build the measuring program", || {
        live::built(&["build", "--release", "--manifest-path", MANIFEST], "bin", PROGRAM)
    })?;
    let folder = cache::folder("bench-logs")?;
    let mut measure = Command::new(program);
    measure.args(names).args(is_strict.then_some(STRICT)).current_dir(&folder);
    let status = command::status(measure.envs(chdb.map(|chdb| (FOLDER, chdb))));
    // What was interrupted has left what it stored.
    fs::remove_dir_all(&folder)?;
    Ok(ExitCode::from(u8::try_from(status?.code().unwrap_or(1)).unwrap_or(1)))
}

/// Whether a program says yes; in silence.
fn agrees(program: &str, arguments: &[&str]) -> Result<bool> {
    let mut asked = Command::new(program);
    asked.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command::is_there(program) && command::status(&mut asked)?.success())
}

fn hyperscan(consent: bool) -> Result<()> {
    if agrees("pkg-config", &["--exists", HYPERSCAN])? {
        return Ok(());
    }
    if consent {
        return package::add(&PACKAGES);
    }
    let packages = PACKAGES.join(", ");
    say!("Hyperscan: ignored: needs the packages {packages}; say {CONSENT} to have them installed");
    Ok(())
}

/// Where the package is, if it is not among those that Python has anyway.
fn chdb(consent: bool) -> Result<Option<PathBuf>> {
    let (package, version) = CHDB;
    if consent || python::has(package, version)? {
        return python::packaged(package, version).map(Some);
    }
    if !agrees("python3", &["-c", "import chdb"])? {
        say!("chDB: ignored: needs the Python package {package}; say {CONSENT} to have it installed");
    }
    Ok(None)
}
