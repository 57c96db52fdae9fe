//! The compatibility table in a document: ports by backends, between two markers.
//!
//! The document is the only place in which results are kept. A program of suites replaces what it tells of the ports of
//! its own backends and leaves the rest, so that several programs, of several crates, fill one table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use paas_core::{Error, Result};

use crate::Suite;

/// Where the table begins in a document, on a line of its own.
const BEGIN: &str = "<!-- compatibility -->";
/// Where it ends.
const END: &str = "<!-- /compatibility -->";

/// How a backend does at a port.
#[derive(Debug)]
struct Cell {
    count: String,
    /// The sentences that it does not support, or nothing.
    unsupported: String,
}

/// Cells by port and backend.
#[derive(Debug)]
pub(crate) struct Table(BTreeMap<(String, String), Cell>);

impl Table {
    /// What these suites give where every case passes. Suites behind decorators prove the same and are left out.
    pub(crate) fn of<'a>(suites: impl IntoIterator<Item = &'a Suite>) -> Self {
        let plain = suites.into_iter().filter(|suite| !suite.backend().contains('+'));
        let cell = |suite: &Suite| ((suite.port().to_owned(), suite.backend().to_owned()), Cell::of(suite));
        Self(plain.map(cell).collect())
    }

    /// The document with these cells as they are here.
    ///
    /// # Errors
    /// `Invalid` for a document without the two markers.
    pub(crate) fn put_into(self, document: &str) -> Result<String> {
        let parts = document.split_once(BEGIN).and_then(|(before, rest)| {
            let (table, after) = rest.split_once(END)?;
            Some((before, table, after))
        });
        let (before, table, after) = parts.ok_or_else(|| {
            Error::invalid("the document has no place for the table").with("begin", BEGIN).with("end", END)
        })?;
        let mut cells = Self::read(table).0;
        cells.extend(self.0);
        Ok(format!("{before}{BEGIN}\n\n{}\n{END}{after}", Self(cells)))
    }

    /// Takes in what was written before.
    fn read(table: &str) -> Self {
        let cells = |line: &str| -> Vec<String> {
            let line = line.trim_matches('|');
            line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        };
        let mut rows = table.lines().filter(|line| line.starts_with("| ")).map(cells);
        let backends = rows.next().unwrap_or_default();
        let mut read = BTreeMap::new();
        for row in rows {
            for (backend, count) in backends.iter().zip(&row).skip(1).filter(|(_, count)| *count != NONE) {
                let cell = Cell { count: count.clone(), unsupported: String::new() };
                read.insert((row[0].clone(), backend.clone()), cell);
            }
        }
        for note in table.lines().filter_map(|line| line.strip_prefix("- `")) {
            if let Some((place, unsupported)) = note.split_once("`: ")
                && let Some((port, backend)) = place.split_once("` on `")
                && let Some(cell) = read.get_mut(&(port.to_owned(), backend.to_owned()))
            {
                unsupported.clone_into(&mut cell.unsupported);
            }
        }
        Self(read)
    }
}

impl Cell {
    fn of(suite: &Suite) -> Self {
        let (supported, lacking): (Vec<_>, Vec<_>) = suite.cases().partition(|(_, supported)| *supported);
        let lacking: Vec<String> = lacking.iter().map(|(case, _)| case.replace('_', " ")).collect();
        let count = match lacking.len() {
            0 => format!("{} passed", supported.len()),
            count => format!("{} passed, {count} unsupported", supported.len()),
        };
        Self { count, unsupported: lacking.join("; ") }
    }
}

/// What stands where a backend does not have a port.
const NONE: &str = "–";

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: BTreeSet<&String> = self.0.keys().map(|(port, _)| port).collect();
        let backends: BTreeSet<&String> = self.0.keys().map(|(_, backend)| backend).collect();
        write!(f, "| port |")?;
        backends.iter().try_for_each(|backend| write!(f, " {backend} |"))?;
        writeln!(f, "\n|---|{}", "---|".repeat(backends.len()))?;
        for port in ports {
            write!(f, "| `{port}` |")?;
            for backend in &backends {
                let cell = self.0.get(&(port.clone(), (*backend).clone()));
                write!(f, " {} |", cell.map_or(NONE, |cell| &cell.count))?;
            }
            writeln!(f)?;
        }
        let lacking = || self.0.iter().filter(|(_, cell)| !cell.unsupported.is_empty());
        if lacking().next().is_none() {
            return Ok(());
        }
        writeln!(f, "\n<details><summary>What is unsupported</summary>\n")?;
        for ((port, backend), cell) in lacking() {
            writeln!(f, "- `{port}` on `{backend}`: {}", cell.unsupported)?;
        }
        writeln!(f, "\n</details>")
    }
}

#[cfg(test)]
mod tests {
    use super::Table;
    use crate::memory::{Routers, StateStores, Tenancies};
    use crate::{Suite, suite};

    const EMPTY: &str = "# Mine\n<!-- compatibility -->\n<!-- /compatibility -->\nand more\n";

    fn memory() -> [Suite; 3] {
        [
            suite::tenancy::suite("memory", Tenancies::default),
            suite::tenancy::guarded("memory", Tenancies::default),
            suite::state_store::suite("memory", StateStores::default),
        ]
    }

    fn written(document: &str, suites: &[Suite]) -> String {
        Table::of(suites).put_into(document).unwrap()
    }

    #[test]
    fn the_table_has_a_row_per_port_and_a_column_per_backend() {
        let document = written(EMPTY, &memory());
        let document = written(&document, &[suite::router::suite("plain", Routers::plain)]);
        let lines: Vec<&str> = document.lines().collect();
        assert_eq!(
            lines[..5],
            ["# Mine", "<!-- compatibility -->", "", "| port | memory | plain |", "|---|---|---|"]
        );
        assert!(
            lines[5].starts_with("| `router` | – | ") && lines[5].ends_with(" unsupported |"),
            "{document}"
        );
        assert_eq!(lines[6], "| `state_store` | 27 passed, 3 unsupported | – |");
        assert_eq!(lines[7], "| `tenancy` | 13 passed | – |");
        assert!(document.ends_with("\n\n</details>\n\n<!-- /compatibility -->\nand more\n"), "{document}");
        assert!(document.contains("\n- `state_store` on `memory`: acknowledged writes survive a restart; "));
    }

    #[test]
    fn what_was_written_is_read_again() {
        let both = written(EMPTY, &[suite::router::suite("plain", Routers::plain)]);
        let both = written(&both, &memory());
        assert_eq!(written(&both, &memory()), both);
        assert_eq!(written(&both, &[suite::router::suite("plain", Routers::plain)]), both);
    }

    #[test]
    fn two_programs_fill_one_column() {
        let [tenancy, _, state] = memory();
        let first = written(EMPTY, &[tenancy]);
        assert!(!first.contains("state_store"));
        assert_eq!(written(&first, &[state]), written(EMPTY, &memory()));
    }

    #[test]
    fn a_document_without_a_place_for_it_is_refused() {
        assert!(Table::of(&memory()).put_into("# Mine\n").is_err());
        assert!(Table::of(&memory()).put_into("# Mine\n<!-- compatibility -->\n").is_err());
    }
}
