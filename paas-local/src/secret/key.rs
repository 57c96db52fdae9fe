//! The keys: one file each, 32 bytes, mode 0600, named after the key's id.
//!
//! The database says which key is current and which one is being retired, and holds a proof of each: a constant encrypted
//! with it, so that a wrong key is noticed when the store opens. Key files are written before the database names them
//! and deleted after nothing needs them.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use paas_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::table;
use crate::database::Database;
use crate::error::file as failed;
use crate::file;

const KEY: usize = 32;
const NONCE: usize = 24;
const PROOF: &[u8] = b"paas-secret-key";

/// Names a key.
pub(super) type KeyId = u64;

/// The keys in use: one, or two during a rotation.
#[derive(Debug)]
pub(super) struct Keyring {
    current: KeyId,
    ciphers: BTreeMap<KeyId, XChaCha20Poly1305>,
}

fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|cause| {
        Error::unavailable("the operating system gives no random bytes")
            .with_source(std::io::Error::other(cause))
    })
}

/// Encrypts in place, so that no copy of the plaintext stays: `nonce | ciphertext | tag`.
pub(super) fn seal(cipher: &XChaCha20Poly1305, bound_to: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
    let mut nonce = XNonce::default();
    random(&mut nonce)?;
    // With room for the tag from the start: growing would leave a copy behind.
    let mut buffer = Zeroizing::new(Vec::with_capacity(plain.len() + 16));
    buffer.extend_from_slice(plain);
    cipher
        .encrypt_in_place(&nonce, bound_to, &mut *buffer)
        .map_err(|_| Error::internal("a secret could not be encrypted"))?;
    Ok([nonce.as_slice(), buffer.as_slice()].concat())
}

/// Decrypts what `seal` gave for the same bond; `None` where anything differs.
pub(super) fn unseal(
    cipher: &XChaCha20Poly1305,
    bound_to: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
    let nonce = XNonce::try_from(nonce).ok()?;
    let mut buffer = Zeroizing::new(sealed.to_vec());
    cipher.decrypt_in_place(&nonce, bound_to, &mut *buffer).ok()?;
    Some(buffer)
}

impl Keyring {
    /// Reads every key that the database names; makes the first one where it names none.
    pub(super) fn open(directory: &Path, database: &Database) -> Result<Self> {
        file::ensure_dir(directory)?;
        let Some(current) = table::current(database)? else { return Self::first(directory, database) };
        let mut ciphers = BTreeMap::new();
        for id in std::iter::once(current).chain(table::retiring(database)?) {
            if id != current && !path(directory, id).exists() && !table::uses(database, id)? {
                // Deleted just before a crash, which kept the database from being told.
                continue;
            }
            let cipher = read(&path(directory, id))?;
            let proof = table::proof(database, id)?;
            if proof.and_then(|proof| unseal(&cipher, &bond(id), &proof)).is_none_or(|proof| *proof != PROOF)
            {
                return Err(Error::internal(
                    "the key is not the one these secrets were encrypted with: put the right one back",
                )
                .with("path", path(directory, id).display()));
            }
            ciphers.insert(id, cipher);
        }
        Ok(Self { current, ciphers })
    }

    /// The database names no key, so it holds no ciphertext.
    fn first(directory: &Path, database: &Database) -> Result<Self> {
        // One that was made just before a crash serves; one that was cut off does not.
        let whole = |id: &KeyId| path(directory, *id).metadata().is_ok_and(|found| found.len() == KEY as u64);
        let left = file::names(directory)?
            .into_iter()
            .find_map(|name| KeyId::from_str_radix(name.strip_suffix(".key")?, 16).ok().filter(whole));
        let (id, cipher) = match left {
            Some(id) => (id, read(&path(directory, id))?),
            None => make(directory)?,
        };
        table::set_current(database, id, None, &seal(&cipher, &bond(id), PROOF)?)?;
        Ok(Self { current: id, ciphers: BTreeMap::from([(id, cipher)]) })
    }

    pub(super) fn current(&self) -> (KeyId, &XChaCha20Poly1305) {
        // The current key is always one of them.
        (self.current, &self.ciphers[&self.current])
    }

    pub(super) fn get(&self, id: KeyId) -> Option<&XChaCha20Poly1305> {
        self.ciphers.get(&id)
    }

    /// Makes a new key the current one; the old one stays until it is retired.
    pub(super) fn renew(&mut self, directory: &Path, database: &Database) -> Result<()> {
        let (id, cipher) = make(directory)?;
        let proof = seal(&cipher, &bond(id), PROOF)?;
        table::set_current(database, id, Some(self.current), &proof)?;
        self.ciphers.insert(id, cipher);
        self.current = id;
        Ok(())
    }

    /// Deletes the key that is being retired, once nothing is encrypted with it.
    pub(super) fn retire(&mut self, directory: &Path, database: &Database) -> Result<()> {
        let Some(old) = table::retiring(database)? else { return Ok(()) };
        let path = path(directory, old);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("delete the old key", &path, cause));
            }
            _ => file::sync_dir(directory)?,
        }
        table::set_retired(database, old)?;
        self.ciphers.remove(&old);
        Ok(())
    }
}

/// What the proof of a key is bound to.
fn bond(id: KeyId) -> [u8; 8] {
    id.to_be_bytes()
}

fn path(directory: &Path, id: KeyId) -> PathBuf {
    directory.join(format!("{id:016x}.key"))
}

fn make(directory: &Path) -> Result<(KeyId, XChaCha20Poly1305)> {
    let mut key = Zeroizing::new([0; KEY]);
    random(&mut *key)?;
    let mut id = [0; 8];
    random(&mut id)?;
    let id = KeyId::from_be_bytes(id);
    file::create_new(&path(directory, id), &*key)?;
    Ok((id, cipher(&key)))
}

fn cipher(key: &[u8; KEY]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.into())
}

fn read(path: &Path) -> Result<XChaCha20Poly1305> {
    let refused = |kind, message: &str| Error::new(kind, message.to_owned()).with("path", path.display());
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path);
    let mut file = opened.map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => refused(
            ErrorKind::Internal,
            "the key of the secrets is missing: put it back from a backup; without it they cannot be read",
        ),
        _ => failed("read the key of the secrets", path, cause),
    })?;
    let found = file.metadata().map_err(|cause| failed("look at the key of the secrets", path, cause))?;
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let error = refused(
            ErrorKind::Denied,
            "others may read the key of the secrets: take it from them with chmod 600",
        );
        return Err(error.with("mode", format!("{mode:o}")));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        let error = refused(
            ErrorKind::Denied,
            "the key of the secrets belongs to another user: chown it to this one",
        );
        return Err(error.with("owner", found.uid()));
    }
    if !found.is_file() || found.len() != KEY as u64 {
        let error = refused(
            ErrorKind::Internal,
            "the key of the secrets has the wrong length: put it back from a backup",
        );
        return Err(error.with("bytes", found.len()).with("expected", KEY));
    }
    let mut key = Zeroizing::new([0; KEY]);
    file.read_exact(&mut *key).map_err(|cause| failed("read the key of the secrets", path, cause))?;
    Ok(cipher(&key))
}
