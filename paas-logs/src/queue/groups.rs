//! How far each group is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use paas_core::Result;
use paas_core::model::LogGroup;
use tokio::sync::Mutex;

use crate::codec::{Damage, Decoded, Reader, put_bytes, put_number};
use crate::disk::Disk;
use crate::journal::Part;
use crate::whole;

const NAME: &str = "groups";

/// How far a reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    /// How many bytes of files come before the frame that is next.
    pub(super) at: u64,
    /// How many batches of that frame it has.
    pub(super) skip: u64,
    /// How many bytes of lines come before the next.
    pub(super) weight: u64,
    /// The number of the file.
    pub(super) number: u64,
}

impl Mark {
    /// At the begin of a file.
    pub(super) fn of(part: &Part) -> Self {
        Self { at: part.start.at, skip: 0, weight: part.start.weight, number: part.number }
    }
}

/// A group.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    /// What comes before it was committed.
    pub(super) committed: Mark,
    /// Held by the consumer that has the lines; all of the group's consumers share it.
    pub(super) turn: Arc<Mutex<()>>,
}

/// The groups that are there.
pub(super) type Groups = BTreeMap<LogGroup, Group>;

/// Reads them.
pub(super) fn read(disk: &dyn Disk, folder: &Path) -> Result<Groups> {
    whole::read(disk, folder, NAME, of_bytes)
}

fn of_bytes(content: &[u8]) -> Decoded<Groups> {
    let mut reader = Reader(content);
    let mut groups = Groups::new();
    for _ in 0..reader.count()? {
        let name = std::str::from_utf8(reader.bytes()?).ok().and_then(|name| LogGroup::new(name).ok());
        let name = name.ok_or(Damage("the name of a group is none"))?;
        let (at, skip) = (reader.number()?, reader.number()?);
        let committed = Mark { at, skip, weight: reader.number()?, number: reader.number()? };
        groups.insert(name, Group { committed, ..Group::default() });
    }
    reader.end()?;
    Ok(groups)
}

/// Replaces what is written of them.
pub(super) fn write(disk: &dyn Disk, folder: &Path, groups: &Groups) -> Result<()> {
    whole::write(disk, folder, NAME, to_bytes(groups))
}

fn to_bytes(groups: &Groups) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, groups.len() as u64);
    for (name, group) in groups {
        let own = group.committed;
        put_bytes(&mut out, name.as_str().as_bytes());
        [own.at, own.skip, own.weight, own.number]
            .into_iter()
            .for_each(|number| put_number(&mut out, number));
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(marks: Vec<(u64, u64, u64, u64)>) {
            let group = |(number, own): (usize, &(u64, u64, u64, u64))| {
                let committed = Mark { at: own.0, skip: own.1, weight: own.2, number: own.3 };
                (LogGroup::new(format!("g{number}")).unwrap(), Group { committed, ..Group::default() })
            };
            let groups: Groups = marks.iter().enumerate().map(group).collect();
            let read = of_bytes(&to_bytes(&groups)).unwrap();
            let marks = |groups: &Groups| groups.iter().map(|(name, own)| (name.clone(), own.committed)).collect::<Vec<_>>();
            prop_assert_eq!(marks(&read), marks(&groups));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            drop(of_bytes(&bytes));
        }
    }
}
