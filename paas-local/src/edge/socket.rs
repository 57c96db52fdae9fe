//! The control socket's place, also below directories whose path is longer than a socket's may be.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use paas_core::{Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use tokio::net::UnixStream;

const NAME: &str = "edge.sock";

/// The socket's path through a descriptor of its directory: short, however long the directory's path is.
struct ShortPath {
    _dir: rustix::fd::OwnedFd,
    path: PathBuf,
}

fn short_path(dir: &Path) -> std::io::Result<ShortPath> {
    let dir = open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()));
    Ok(ShortPath { _dir: dir, path })
}

/// Opens the control socket of the edge in `dir` (its own directory), for its owner only.
pub(crate) fn listen(dir: &Path) -> Result<UnixListener> {
    let bind = || -> std::io::Result<UnixListener> {
        let short = short_path(dir)?;
        match fs::remove_file(&short.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&short.path)?;
        fs::set_permissions(&short.path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|e| {
        Error::unavailable("cannot open the control socket")
            .with("path", dir.join(NAME).display())
            .with_source(e)
    })
}

pub(crate) async fn connect(dir: &Path) -> std::io::Result<UnixStream> {
    let short = short_path(dir)?;
    UnixStream::connect(&short.path).await
}

/// Makes the edge's directory, for its owner only, and locks it against a second edge.
pub(crate) fn lock(dir: &Path) -> Result<File> {
    let failed = |e: std::io::Error| {
        Error::unavailable("cannot use the edge's directory").with("path", dir.display()).with_source(e)
    };
    fs::create_dir_all(dir).map_err(failed)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    let file =
        File::options().create(true).write(true).truncate(false).open(dir.join("lock")).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::conflict("another edge serves this directory").with("path", dir.display()))
        }
        Err(error) => Err(failed(error.into())),
    }
}
