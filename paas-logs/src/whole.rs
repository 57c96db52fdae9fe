//! Small files that are read and replaced as a whole.

use std::io;
use std::path::Path;

use paas_core::Result;

use crate::codec::{Damage, Decoded};
use crate::disk::{Disk, DiskFile};
use crate::error::{damaged, failed};

/// What a file says, as `decode` reads it; what stands for nothing where it is not there.
pub(crate) fn read<T: Default>(
    disk: &dyn Disk,
    folder: &Path,
    name: &str,
    decode: impl FnOnce(&[u8]) -> Decoded<T>,
) -> Result<T> {
    let path = folder.join(name);
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(cause) => return Err(failed("read a file", &path, cause)),
    };
    let mut content = Vec::new();
    let read = file.length().and_then(|length| {
        content.resize(length as usize, 0);
        file.read_at(&mut content, 0)
    });
    read.map_err(|cause| failed("read a file", &path, cause))?;
    checked(&content).and_then(decode).map_err(|damage| damaged(&path, damage))
}

/// A check sum is the last four bytes.
fn checked(bytes: &[u8]) -> Decoded<&[u8]> {
    let (content, sum) = bytes.split_last_chunk::<4>().ok_or(Damage("it is cut off"))?;
    if crc32fast::hash(content).to_le_bytes() == *sum {
        Ok(content)
    } else {
        Err(Damage("its check sum is wrong"))
    }
}

/// Replaces a file: after a crash it is the old or the new one.
pub(crate) fn write(disk: &dyn Disk, folder: &Path, name: &str, mut content: Vec<u8>) -> Result<()> {
    let sum = crc32fast::hash(&content);
    content.extend(sum.to_le_bytes());
    let path = folder.join(name);
    replace(disk, &path, &content).map(drop).map_err(|cause| failed("write a file", &path, cause))
}

/// As [`write`], whatever the file has; gives it.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<Box<dyn DiskFile>> {
    let draft = path.with_extension("new");
    disk.remove(&draft)?;
    let file = disk.create(&draft)?;
    file.write_at(content, 0)?;
    file.sync()?;
    disk.rename(&draft, path)?;
    disk.sync_folder(path.parent().unwrap_or(path))?;
    Ok(file)
}
