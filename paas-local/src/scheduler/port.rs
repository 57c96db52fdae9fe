//! Ports for instances: free ones, outside the range from which the kernel takes its own.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::{Mutex, PoisonError};

use paas_core::{Error, Result};

const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// The ports in use.
#[derive(Debug, Default)]
pub(super) struct Ports(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    used: BTreeSet<u16>,
    last: u16,
}

impl Ports {
    /// A port of the loopback address on which nobody listens. Ports are reused as late as possible.
    pub(super) fn take(&self) -> Result<u16> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last < FIRST {
            // Another platform on this machine likely began at another place.
            state.last = FIRST + u16::try_from(std::process::id() % u32::from(LAST - FIRST)).unwrap_or(0);
        }
        for _ in FIRST..=LAST {
            state.last = if state.last >= LAST { FIRST } else { state.last + 1 };
            let port = state.last;
            if !state.used.contains(&port) && TcpListener::bind(address(port)).is_ok() {
                state.used.insert(port);
                return Ok(port);
            }
        }
        Err(Error::unavailable("no free port for an instance").with("from", FIRST).with("to", LAST))
    }

    /// Marks a port of an instance that was found.
    pub(super) fn mark(&self, port: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).used.insert(port);
    }

    pub(super) fn free(&self, port: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).used.remove(&port);
    }
}

/// Where an instance of this port listens.
pub(super) fn address(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}
