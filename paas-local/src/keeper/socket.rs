//! Listening sockets, held so that connections queue while the edge is away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use paas_core::ErrorKind;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use super::intent::Intents;
use super::journal::Journal;
use super::model::check_id;
use super::wire::Refusal;

const FILE: &str = "listeners";
const BACKLOG: i32 = 4096;
const MAX_LISTENERS: usize = 1024;

/// What was asked for, and what it became: a port 0 becomes one port for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    asked: SocketAddr,
    bound: SocketAddr,
}

/// The listening sockets of a keeper.
#[derive(Debug)]
pub(crate) struct Sockets {
    places: BTreeMap<String, Place>,
    held: BTreeMap<String, OwnedFd>,
}

impl Sockets {
    /// Binds what is stored. A port that somebody else holds (the edge, still) is tried again when it is asked for.
    pub(crate) fn open(intents: &Intents, journal: &mut Journal) -> Self {
        let places: BTreeMap<String, Place> = intents.table(FILE).unwrap_or_else(|error| {
            journal.note("cannot read the listeners", error);
            BTreeMap::new()
        });
        let held = places
            .iter()
            .filter_map(|(name, place)| match bind(place.bound) {
                Ok(socket) => Some((name.clone(), socket)),
                Err(refusal) => {
                    journal.note("cannot bind a listener yet", refusal.line());
                    None
                }
            })
            .collect();
        Self { places, held }
    }

    pub(crate) fn listen(
        &mut self,
        name: &str,
        asked: SocketAddr,
        intents: &Intents,
    ) -> Result<SocketAddr, Refusal> {
        check_id(name, "listener")?;
        if let Some(place) = self.places.get(name).copied() {
            if place.asked != asked && place.bound != asked {
                let refusal = Refusal::new(ErrorKind::Conflict, "the listener has another address");
                return Err(refusal.with("listener", name).with("held", place.bound));
            }
            self.socket(name)?;
            return Ok(place.bound);
        }
        if self.places.len() >= MAX_LISTENERS {
            return Err(Refusal::new(ErrorKind::Throttled, "too many listeners").with("limit", MAX_LISTENERS));
        }
        let socket = bind(asked).map_err(|refusal| refusal.with("listener", name))?;
        let bound = address(&socket)?;
        self.places.insert(name.to_owned(), Place { asked, bound });
        if let Err(error) = intents.store_table(FILE, &self.places) {
            self.places.remove(name);
            return Err(Refusal::io("cannot store the listener", &error).with("listener", name));
        }
        self.held.insert(name.to_owned(), socket);
        Ok(bound)
    }

    /// A duplicate of the socket.
    pub(crate) fn take(&mut self, name: &str) -> Result<OwnedFd, Refusal> {
        self.socket(name)?
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| Refusal::io("cannot duplicate the listener", &error).with("listener", name))
    }

    /// Takes a socket back from somebody who held a duplicate while the keeper died.
    pub(crate) fn give(&mut self, name: &str, socket: OwnedFd) -> Result<(), Refusal> {
        let Some(place) = self.places.get(name) else { return Err(unknown(name)) };
        let listens = rustix::net::sockopt::socket_acceptconn(&socket).unwrap_or(false);
        if !listens || address(&socket)? != place.bound {
            return Err(Refusal::invalid("not the socket of this listener")
                .with("listener", name)
                .with("address", place.bound));
        }
        self.held.entry(name.to_owned()).or_insert(socket);
        Ok(())
    }

    pub(crate) fn unlisten(&mut self, name: &str, intents: &Intents) -> Result<(), Refusal> {
        let Some(place) = self.places.remove(name) else { return Ok(()) };
        if let Err(error) = intents.store_table(FILE, &self.places) {
            self.places.insert(name.to_owned(), place);
            return Err(Refusal::io("cannot store the listeners", &error).with("listener", name));
        }
        self.held.remove(name);
        Ok(())
    }

    fn socket(&mut self, name: &str) -> Result<&OwnedFd, Refusal> {
        let place = self.places.get(name).ok_or_else(|| unknown(name))?;
        if !self.held.contains_key(name) {
            let socket = bind(place.bound).map_err(|refusal| refusal.with("listener", name))?;
            self.held.insert(name.to_owned(), socket);
        }
        self.held.get(name).ok_or_else(|| unknown(name))
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(ErrorKind::NotFound, "no such listener").with("listener", name)
}

fn bind(addr: SocketAddr) -> Result<OwnedFd, Refusal> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let attempt = || {
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &addr)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    attempt().map_err(|error: rustix::io::Errno| {
        let message =
            if error == rustix::io::Errno::ADDRINUSE { "the address is in use" } else { "cannot listen" };
        Refusal::io(message, &error.into()).with("address", addr)
    })
}

fn address(socket: &OwnedFd) -> Result<SocketAddr, Refusal> {
    rustix::net::getsockname(socket)
        .and_then(SocketAddr::try_from)
        .map_err(|error| Refusal::io("the socket has no address", &error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_port_and_a_taken_port_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let intents = Intents::open(dir.path());
        let mut journal = Journal::open(dir.path());
        let mut sockets = Sockets::open(&intents, &mut journal);
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let bound = sockets.listen("edge", any, &intents).unwrap();
        assert_eq!(sockets.listen("edge", any, &intents).unwrap(), bound);
        let taken = sockets.listen("other", bound, &intents).unwrap_err();
        assert_eq!(taken.kind, ErrorKind::Conflict);
        assert!(taken.line().contains(&bound.to_string()), "{}", taken.line());
        // The edge still holds a duplicate when the keeper dies: the new one gets it back.
        let duplicate = sockets.take("edge").unwrap();
        drop(sockets);
        let mut again = Sockets::open(&intents, &mut journal);
        assert!(again.take("edge").is_err());
        again.give("edge", duplicate).unwrap();
        assert_eq!(address(&again.take("edge").unwrap()).unwrap(), bound);
        drop(again);
        let mut last = Sockets::open(&intents, &mut journal);
        assert_eq!(last.listen("edge", any, &intents).unwrap(), bound);
        last.unlisten("edge", &intents).unwrap();
        assert!(last.take("edge").is_err());
    }
}
