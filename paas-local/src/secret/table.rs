//! How secrets lie in their database.
//!
//! `names`: `tenant 0 name` → schema, newest version, whether it is deleted. The entry of a deleted secret stays, so that
//! no version comes twice. `values`: `tenant 0 name 0 version` → schema, id of the key, sealed value. Numbers are
//! big-endian.

use chacha20poly1305::XChaCha20Poly1305;
use paas_core::model::{Secret, SecretName, SecretVersion, TenantId};
use paas_core::{Error, Result};
use redb::{ReadableTable, TableDefinition, TableError};

use super::key::{KeyId, Keyring, seal, unseal};
use crate::database::{Database, Fault};

const NAMES: TableDefinition<&[u8], (u8, u64, bool)> = TableDefinition::new("names");
const VALUES: TableDefinition<&[u8], (u8, u64, &[u8])> = TableDefinition::new("values");
const KEYS: TableDefinition<&str, u64> = TableDefinition::new("keys");
const PROOFS: TableDefinition<u64, &[u8]> = TableDefinition::new("proofs");

const SCHEMA: u8 = 1;
const CURRENT: &str = "current";
const RETIRING: &str = "retiring";
/// Values encrypted again in one transaction: at most 4 MiB.
const RENEWED: usize = 64;

fn encode(tenant: &TenantId, name: &SecretName) -> Vec<u8> {
    [tenant.as_str(), name.as_str()].join("\0").into_bytes()
}

fn versioned(name: &[u8], version: u64) -> Vec<u8> {
    [name, &[0], &version.to_be_bytes()].concat()
}

/// What a value is bound to: its key in the table names tenant, name and version without ambiguity, since none of the
/// first two can hold a zero byte.
fn bond(place: &[u8], key: KeyId) -> Vec<u8> {
    [b"paas-secret-1".as_slice(), &key.to_be_bytes(), place].concat()
}

fn readable(schema: u8) -> Result<()> {
    if schema == SCHEMA {
        return Ok(());
    }
    Err(Error::invalid("a secret was written by a newer release: use that release")
        .with("found", schema)
        .with("newest known", SCHEMA))
}

fn open(
    keys: &Keyring,
    place: &[u8],
    (schema, key, sealed): (u8, KeyId, &[u8]),
) -> Result<zeroize::Zeroizing<Vec<u8>>> {
    readable(schema)?;
    let opened = keys.get(key).and_then(|cipher| unseal(cipher, &bond(place, key), sealed));
    opened.ok_or_else(|| {
        Error::internal("a stored secret does not open: its file was altered, put it back from a backup")
    })
}

/// Reads a number of the keys' table; a database that was never written has no tables.
fn key_note(database: &Database, note: &str) -> Result<Option<KeyId>> {
    database.read(|transaction| match transaction.open_table(KEYS) {
        Ok(keys) => Ok(keys.get(note)?.map(|id| id.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(cause) => Err(cause.into()),
    })
}

pub(super) fn current(database: &Database) -> Result<Option<KeyId>> {
    key_note(database, CURRENT)
}

pub(super) fn retiring(database: &Database) -> Result<Option<KeyId>> {
    key_note(database, RETIRING)
}

pub(super) fn proof(database: &Database, id: KeyId) -> Result<Option<Vec<u8>>> {
    database.read(|transaction| {
        let proofs = transaction.open_table(PROOFS)?;
        Ok(proofs.get(id)?.map(|proof| proof.value().to_vec()))
    })
}

/// Names the current key, and with it the one that it replaces.
pub(super) fn set_current(
    database: &Database,
    id: KeyId,
    replaced: Option<KeyId>,
    proof: &[u8],
) -> Result<()> {
    database.write(|transaction| {
        transaction.open_table(NAMES)?;
        transaction.open_table(VALUES)?;
        let mut keys = transaction.open_table(KEYS)?;
        keys.insert(CURRENT, id)?;
        if let Some(replaced) = replaced {
            keys.insert(RETIRING, replaced)?;
        }
        transaction.open_table(PROOFS)?.insert(id, proof)?;
        Ok(())
    })
}

/// Forgets the key that was retired.
pub(super) fn set_retired(database: &Database, old: KeyId) -> Result<()> {
    database.write(|transaction| {
        transaction.open_table(KEYS)?.remove(RETIRING)?;
        transaction.open_table(PROOFS)?.remove(old)?;
        Ok(())
    })
}

/// Whether any value is encrypted with a key.
pub(super) fn uses(database: &Database, id: KeyId) -> Result<bool> {
    database.read(|transaction| {
        for entry in transaction.open_table(VALUES)?.iter()? {
            if entry?.1.value().1 == id {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

/// Encrypts some of the values again that another key than the current one holds; whether there are more.
pub(super) fn renew(database: &Database, keys: &Keyring) -> Result<bool> {
    let Some(old) = retiring(database)? else { return Ok(false) };
    let (id, cipher) = keys.current();
    database.write_if(|transaction| {
        let mut values = transaction.open_table(VALUES)?;
        let mut stale = Vec::new();
        for entry in values.iter()? {
            let (place, value) = entry?;
            if value.value().1 == old {
                stale.push(place.value().to_vec());
            }
            if stale.len() == RENEWED {
                break;
            }
        }
        for place in &stale {
            let plain = match values.get(place.as_slice())? {
                Some(value) => open(keys, place, value.value())?,
                None => continue,
            };
            let sealed = seal(cipher, &bond(place, id), &plain)?;
            values.insert(place.as_slice(), (SCHEMA, id, sealed.as_slice()))?;
        }
        let some = !stale.is_empty();
        Ok((some, some))
    })
}

pub(super) fn put(
    database: &Database,
    keys: &Keyring,
    tenant: &TenantId,
    name: &SecretName,
    value: &Secret,
) -> Result<SecretVersion> {
    let name = encode(tenant, name);
    let (id, cipher): (KeyId, &XChaCha20Poly1305) = keys.current();
    database.write(|transaction| {
        let mut names = transaction.open_table(NAMES)?;
        let last = match names.get(name.as_slice())?.map(|entry| entry.value()) {
            Some((schema, last, _)) => readable(schema).map(|()| last)?,
            None => 0,
        };
        let version = last + 1;
        let place = versioned(&name, version);
        let sealed = seal(cipher, &bond(&place, id), value.expose())?;
        names.insert(name.as_slice(), (SCHEMA, version, false))?;
        transaction.open_table(VALUES)?.insert(place.as_slice(), (SCHEMA, id, sealed.as_slice()))?;
        Ok(SecretVersion(version))
    })
}

pub(super) fn get(
    database: &Database,
    keys: &Keyring,
    tenant: &TenantId,
    name: &SecretName,
    SecretVersion(version): SecretVersion,
) -> Result<Option<Secret>> {
    let place = versioned(&encode(tenant, name), version);
    let opened = database.read(|transaction| {
        let values = transaction.open_table(VALUES)?;
        let Some(value) = values.get(place.as_slice())? else { return Ok(None) };
        let opened = open(keys, &place, value.value())
            .map_err(|error| error.with("secret", name).with("version", version))?;
        Ok(Some(opened))
    })?;
    // Moved, not copied, into the secret, which clears it in the end.
    opened.map(|mut plain| Secret::new(std::mem::take(&mut *plain))).transpose()
}

/// The range of everything whose key starts with these bytes and a zero.
fn below(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    ([prefix, &[0]].concat(), [prefix, &[1]].concat())
}

pub(super) fn list(database: &Database, tenant: &TenantId) -> Result<Vec<(SecretName, SecretVersion)>> {
    let (first, end) = below(tenant.as_str().as_bytes());
    database.read(|transaction| {
        let names = transaction.open_table(NAMES)?;
        let mut found = Vec::new();
        for entry in names.range(first.as_slice()..end.as_slice())? {
            let (place, entry) = entry?;
            let (schema, version, deleted) = entry.value();
            readable(schema)?;
            if !deleted {
                found.push((decode(&place.value()[first.len()..])?, SecretVersion(version)));
            }
        }
        Ok(found)
    })
}

fn decode(name: &[u8]) -> Result<SecretName, Fault> {
    let text = std::str::from_utf8(name).ok();
    let name = text.and_then(|text| SecretName::new(text).ok());
    let damaged = || Error::internal("a secret has a damaged name: put the database back from a backup");
    Ok(name.ok_or_else(damaged)?)
}

pub(super) fn delete(database: &Database, tenant: &TenantId, name: &SecretName) -> Result<()> {
    let name = encode(tenant, name);
    let (first, end) = below(&name);
    database.write_if(|transaction| {
        let mut names = transaction.open_table(NAMES)?;
        let Some((schema, last, deleted)) = names.get(name.as_slice())?.map(|entry| entry.value()) else {
            return Ok(((), false));
        };
        readable(schema)?;
        if deleted {
            return Ok(((), false));
        }
        names.insert(name.as_slice(), (SCHEMA, last, true))?;
        let mut values = transaction.open_table(VALUES)?;
        values.retain_in(first.as_slice()..end.as_slice(), |_, _| false)?;
        Ok(((), true))
    })
}
