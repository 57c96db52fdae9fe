//! The compatibility table, from what suites list and backends declare.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::Suite;

/// A Markdown table of ports by backends: how many cases each passes, and which it does not support. Suites behind
/// decorators are left out. It follows from the lists of cases and the declared capabilities alone, so a test can
/// compare it with a stored copy; that the cases do pass is what [`run`](crate::run) proves.
#[must_use]
pub fn compatibility<'a>(suites: impl IntoIterator<Item = &'a Suite>) -> String {
    let plain: Vec<&Suite> = suites.into_iter().filter(|suite| !suite.backend.contains('+')).collect();
    let backends: BTreeSet<&str> = plain.iter().map(|suite| suite.backend()).collect();
    let mut ports: BTreeMap<&str, BTreeMap<&str, &Suite>> = BTreeMap::new();
    for suite in &plain {
        ports.entry(suite.port).or_default().insert(suite.backend(), suite);
    }
    let mut table = String::from("| port |");
    backends.iter().for_each(|backend| push(&mut table, format_args!(" {backend} |")));
    push(&mut table, format_args!("\n|---|{}\n", "---|".repeat(backends.len())));
    for (port, row) in &ports {
        push(&mut table, format_args!("| `{port}` |"));
        for backend in &backends {
            match row.get(backend) {
                Some(suite) => push(&mut table, format_args!(" {} |", cell(suite))),
                None => table.push_str(" – |"),
            }
        }
        table.push('\n');
    }
    table.push_str(&unsupported(&plain));
    table
}

fn cell(suite: &Suite) -> String {
    let passed = suite.cases().filter(|(_, supported)| *supported).count();
    match suite.planned.len() - passed {
        0 => format!("{passed} passed"),
        ignored => format!("{passed} passed, {ignored} unsupported"),
    }
}

fn unsupported(suites: &[&Suite]) -> String {
    let mut list = String::new();
    for suite in suites {
        for (case, _) in suite.cases().filter(|(_, supported)| !supported) {
            let case = case.replace('_', " ");
            push(&mut list, format_args!("- `{}` on {}: {case}\n", suite.port, suite.backend));
        }
    }
    if list.is_empty() { list } else { format!("\nUnsupported:\n\n{list}") }
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(more);
}

#[cfg(test)]
mod tests {
    use crate::memory::{Routers, StateStores, Tenancies};
    use crate::{compatibility, suite};

    #[test]
    fn the_table_has_a_row_per_port_and_a_column_per_backend() {
        let suites = [
            suite::tenancy::suite("memory", Tenancies::default),
            suite::tenancy::guarded("memory", Tenancies::default),
            suite::state_store::suite("memory", StateStores::default),
            suite::router::suite("plain", Routers::plain),
        ];
        let table = compatibility(&suites);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[..2], ["| port | memory | plain |", "|---|---|---|"]);
        assert!(lines[2].starts_with("| `router` | – | ") && lines[2].contains(" unsupported |"), "{table}");
        assert!(lines[3].contains("27 passed, 3 unsupported | – |"), "{table}");
        assert_eq!(lines[4], "| `tenancy` | 7 passed | – |");
        assert!(table.contains("- `state_store` on memory: deletes survive a restart\n"), "{table}");
    }
}
