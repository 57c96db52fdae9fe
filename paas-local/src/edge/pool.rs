//! Idle connections to one endpoint, the latest used first.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use hyper::client::conn::http1::SendRequest;

use super::body::Upload;
use super::clock;

/// The most idle connections kept for one endpoint.
const MAX_IDLE: usize = 256;
/// How long an idle connection is kept, unless the instance said less.
pub(crate) const IDLE_MS: u64 = 30_000;
/// What may not be repeated goes only over connections used this short a while ago: fewer than the idle timeout of
/// any server in use, so that it cannot cross the server's closing.
const FRESH_MS: u64 = 500;

/// A connection that can take a request.
pub(crate) struct Idle {
    pub(crate) sender: SendRequest<Upload>,
    pub(crate) socket: OwnedFd,
    /// Not to be used after this time.
    pub(crate) until: u64,
    pub(crate) since: u64,
}

/// Idle connections to one endpoint.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Idle>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.len()).finish()
    }
}

impl Pool {
    /// Takes a live connection. What cannot be repeated asks for `certain`: one that was used a moment ago and whose
    /// socket is open and silent as of now.
    pub(crate) fn take(&self, certain: bool) -> Option<Idle> {
        loop {
            let idle = {
                let mut list = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                let now = clock::now();
                if certain && now.saturating_sub(list.last()?.since) > FRESH_MS {
                    return None;
                }
                list.pop().filter(|idle| now < idle.until)?
            };
            if idle.sender.is_ready() && (!certain || is_silent(&idle.socket)) {
                return Some(idle);
            }
        }
    }

    /// Keeps a connection; `keep` is asked under the lock, so that nothing is added after [`Pool::clear`].
    pub(crate) fn put(&self, idle: Idle, keep: impl FnOnce() -> bool) {
        let mut list = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if keep() && list.len() < MAX_IDLE {
            list.push(idle);
        }
    }

    pub(crate) fn clear(&self) {
        let dropped = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(dropped);
    }

    /// Drops what was idle for too long or was closed by the instance.
    pub(crate) fn sweep(&self) {
        let now = clock::now();
        let mut list = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|idle| now < idle.until && idle.sender.is_ready());
    }

    pub(crate) fn len(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Whether nothing, not even the end, waits to be read.
fn is_silent(socket: &OwnedFd) -> bool {
    use rustix::net::RecvFlags;
    let mut byte = [0u8; 1];
    matches!(
        rustix::net::recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT),
        Err(rustix::io::Errno::AGAIN)
    )
}
