//! Ports for instances: free ones, outside the range from which the kernel takes its own.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use paas_core::{Error, Result};

const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// How many ports of the range were tried, by every platform in this process: each goes on where the last one was.
static TRIED: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(getrandom::u32().unwrap_or_default()));

/// The ports in use.
#[derive(Debug, Default)]
pub(super) struct Ports(Mutex<BTreeSet<u16>>);

impl Ports {
    /// A port of the loopback address on which nobody listens. Ports are reused as late as possible.
    pub(super) fn take(&self) -> Result<u16> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in FIRST..=LAST {
            let place = TRIED.fetch_add(1, Ordering::Relaxed) % u32::from(LAST - FIRST + 1);
            let port = FIRST + u16::try_from(place).unwrap_or(0);
            if !used.contains(&port) && is_free(port) {
                used.insert(port);
                return Ok(port);
            }
        }
        Err(Error::unavailable("no free port for an instance").with("from", FIRST).with("to", LAST))
    }

    /// Marks a port of an instance that was found.
    pub(super) fn mark(&self, port: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
    }

    pub(super) fn free(&self, port: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&port);
    }
}

/// Whether nobody listens there.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind(address(port)).is_ok()
}

/// Where an instance of this port listens.
pub(super) fn address(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}
