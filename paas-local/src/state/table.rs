//! How records lie in the table, and how a batch of writes is committed.
//!
//! A key is `kind 0 tenant 0 id`, with nothing for a missing tenant, so bytes sort as [`Key`]s do. A value is its schema
//! (one byte), its version (eight, big-endian), and the caller's bytes.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use paas_core::model::{Key, Record, RecordChange, RecordKind, TenantId, Version};
use paas_core::port::Expected;
use paas_core::{Error, Result};
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::watch::Watchers;
use super::{Change, Write};
use crate::database::{Database, Fault};
use paas_core::backend::Fence;

const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Counts every write there ever was: the versions.
const VERSION: &str = "version";

const SCHEMA: u8 = 1;
const HEADER: usize = 9;

/// Makes the tables; gives the last version handed out.
pub(super) fn prepare(database: &Database) -> Result<u64> {
    database.write(|transaction| {
        transaction.open_table(RECORDS)?;
        let meta = transaction.open_table(META)?;
        let version = meta.get(VERSION)?.map_or(0, |version| version.value());
        Ok(version)
    })
}

/// The last version handed out.
pub(super) fn version(database: &Database) -> Result<u64> {
    database.read(|transaction| {
        let meta = transaction.open_table(META)?;
        Ok(meta.get(VERSION)?.map_or(0, |version| version.value()))
    })
}

pub(super) fn get(database: &Database, key: &Key) -> Result<Option<Record>> {
    let name = encode(key);
    database.read(|transaction: &ReadTransaction| {
        let records = transaction.open_table(RECORDS)?;
        let found = records.get(name.as_slice())?;
        let record = found.map(|value| decode(value.value()).map(|(version, value)| (version, own(value))));
        let record = record.transpose().map_err(|error| error.with("key", key))?;
        Ok(record.map(|(version, value)| Record { key: key.clone(), value, version }))
    })
}

pub(super) fn list(database: &Database, kind: RecordKind, tenant: Option<&TenantId>) -> Result<Vec<Record>> {
    let mut first = kind.as_str().as_bytes().to_vec();
    if let Some(tenant) = tenant {
        first.push(0);
        first.extend_from_slice(tenant.as_str().as_bytes());
    }
    let mut end = first.clone();
    first.push(0);
    end.push(1);
    database.read(|transaction| {
        let records = transaction.open_table(RECORDS)?;
        let mut found = Vec::new();
        for entry in records.range(first.as_slice()..end.as_slice())? {
            let (name, value) = entry?;
            let key = decode_key(kind, name.value())?;
            let (version, value) = decode(value.value()).map_err(|error| error.with("key", &key))?;
            found.push(Record { key, value: own(value), version });
        }
        Ok(found)
    })
}

fn own(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(value)
}

fn encode(key: &Key) -> Vec<u8> {
    let tenant = key.tenant.as_ref().map_or("", TenantId::as_str);
    [key.kind.as_str(), tenant, &key.id].join("\0").into_bytes()
}

fn decode_key(kind: RecordKind, name: &[u8]) -> Result<Key> {
    let damaged = || Error::internal("a record has a damaged key: put the database back from a backup");
    let text = std::str::from_utf8(name).map_err(|_| damaged())?;
    let mut parts = text.splitn(3, '\0').skip(1);
    let (Some(tenant), Some(id)) = (parts.next(), parts.next()) else { return Err(damaged()) };
    let tenant = if tenant.is_empty() { None } else { Some(TenantId::new(tenant)?) };
    Key::new(kind, tenant, id)
}

fn decode(stored: &[u8]) -> Result<(Version, &[u8])> {
    match stored.split_at_checked(HEADER) {
        Some(([SCHEMA, version @ ..], value)) => {
            let version = version.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
            Ok((Version(version), value))
        }
        Some(([schema, ..], _)) => {
            Err(Error::invalid("a record was written by a newer release: use that release")
                .with("found", schema)
                .with("newest known", SCHEMA))
        }
        _ => Err(Error::internal("a record is cut off: put the database back from a backup")),
    }
}

/// The one writer.
#[derive(Debug)]
pub(super) struct Committer {
    database: Arc<Database>,
    watchers: Arc<Watchers>,
    fence: Arc<Fence>,
    /// The last version handed out; `None` while it is unknown, after a failure.
    version: Option<u64>,
}

/// What one write comes to.
enum Verdict {
    Written(Version),
    Deleted,
    /// There was nothing to delete, which is `Ok`.
    Missing,
    Refused(Error),
}

impl Committer {
    pub(super) fn new(
        database: &Arc<Database>,
        watchers: &Arc<Watchers>,
        fence: &Arc<Fence>,
        version: u64,
    ) -> Self {
        let (database, watchers, fence) = (Arc::clone(database), Arc::clone(watchers), Arc::clone(fence));
        Self { database, watchers, fence, version: Some(version) }
    }

    /// Commits a batch, tells the watchers, and answers: in this order, so that who has an answer can read it, and who
    /// watches from then on is told only of what comes later.
    pub(super) fn commit(&mut self, batch: &mut Vec<Write>) {
        let writes = mem::take(batch);
        let before = match self.version.map_or_else(|| version(&self.database), Ok) {
            Ok(version) => version,
            Err(error) => return refuse(writes, error),
        };
        let outcome = self.database.write_if(|transaction| decide(transaction, &self.fence, &writes, before));
        match outcome {
            Ok((verdicts, after)) => {
                self.version = Some(after);
                self.answer(writes, verdicts);
            }
            Err(error) => self.recover(writes, before, error),
        }
    }

    fn answer(&self, writes: Vec<Write>, verdicts: Vec<Verdict>) {
        let mut told = Vec::new();
        let mut answers: Vec<Box<dyn FnOnce()>> = Vec::with_capacity(writes.len());
        for (Write { key, change, .. }, verdict) in writes.into_iter().zip(verdicts) {
            match (change, verdict) {
                (Change::Put(value, _, answer), Verdict::Written(version)) => {
                    let record = Record { key: key.clone(), value, version };
                    told.push((key, RecordChange::Put(record)));
                    answers.push(Box::new(move || answer.send(Ok(version))));
                }
                (Change::Delete(_, answer), Verdict::Deleted) => {
                    told.push((key.clone(), RecordChange::Deleted(key)));
                    answers.push(Box::new(move || answer.send(Ok(()))));
                }
                (Change::Delete(_, answer), Verdict::Missing) => {
                    answers.push(Box::new(|| answer.send(Ok(()))))
                }
                (change, Verdict::Refused(error)) => answers.push(Box::new(|| change.refuse(error))),
                (change, _) => {
                    let error = Error::internal("a write was answered as another one");
                    answers.push(Box::new(|| change.refuse(error)));
                }
            }
        }
        self.watchers.tell(told);
        for answer in answers {
            answer();
        }
    }

    /// After a failed commit the batch is in the database or it is not; the counter tells.
    fn recover(&mut self, writes: Vec<Write>, before: u64, error: Error) {
        self.version = version(&self.database).ok();
        if self.version == Some(before) {
            return refuse(writes, error);
        }
        // The sync has failed, so not even a batch that can be read is sure to survive.
        self.watchers.reset();
        let unknown = Error::new(error.kind(), "the disk failed: the write may or may not have happened");
        refuse(writes, unknown.with_source(error));
    }
}

impl Change {
    fn refuse(self, error: Error) {
        match self {
            Self::Put(.., answer) => answer.send(Err(error)),
            Self::Delete(_, answer) => answer.send(Err(error)),
        }
    }
}

/// Gives the same error to every write.
fn refuse(writes: Vec<Write>, error: Error) {
    let cause = Arc::new(error);
    for write in writes {
        let error = Error::new(cause.kind(), cause.message());
        let error = cause.context("path").into_iter().fold(error, |error, path| error.with("path", path));
        write.change.refuse(error.with("key", &write.key).with_source(Arc::clone(&cause)));
    }
}

/// Does what can be done of a batch, each write on top of those before it; gives the last version used.
fn decide(
    transaction: &WriteTransaction,
    fence: &Fence,
    writes: &[Write],
    before: u64,
) -> Result<((Vec<Verdict>, u64), bool), Fault> {
    let mut version = before;
    let mut verdicts = Vec::with_capacity(writes.len());
    let mut records = transaction.open_table(RECORDS)?;
    for write in writes {
        verdicts.push(match fence.admit_epoch(write.epoch) {
            Ok(()) => decide_one(&mut records, write, &mut version)?,
            Err(error) => Verdict::Refused(error),
        });
    }
    drop(records);
    let changed = version != before;
    if changed {
        transaction.open_table(META)?.insert(VERSION, version)?;
    }
    Ok(((verdicts, version), changed))
}

fn decide_one(
    records: &mut Table<'_, &'static [u8], &'static [u8]>,
    write: &Write,
    version: &mut u64,
) -> Result<Verdict, Fault> {
    let name = encode(&write.key);
    let found =
        records.get(name.as_slice())?.map(|stored| decode(stored.value()).map(|(version, _)| version));
    let found = match found.transpose() {
        Ok(found) => found,
        // Not this release's to overwrite.
        Err(error) => return Ok(Verdict::Refused(error.with("key", &write.key))),
    };
    let expected = match &write.change {
        Change::Put(_, Expected::Absent, _) => None,
        Change::Put(_, Expected::Version(expected), _) | Change::Delete(expected, _) => Some(*expected),
    };
    if found != expected {
        if let (Change::Delete(..), None) = (&write.change, found) {
            return Ok(Verdict::Missing);
        }
        let found = found.map_or_else(|| "none".to_owned(), |Version(version)| version.to_string());
        return Ok(Verdict::Refused(
            Error::conflict("the record is not the one expected")
                .with("key", &write.key)
                .with("found", found),
        ));
    }
    *version += 1;
    match &write.change {
        Change::Put(value, ..) => {
            let mut stored = Vec::with_capacity(HEADER + value.len());
            stored.push(SCHEMA);
            stored.extend_from_slice(&version.to_be_bytes());
            stored.extend_from_slice(value);
            records.insert(name.as_slice(), stored.as_slice())?;
            Ok(Verdict::Written(Version(*version)))
        }
        Change::Delete(..) => {
            records.remove(name.as_slice())?;
            Ok(Verdict::Deleted)
        }
    }
}
