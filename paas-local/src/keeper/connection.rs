//! One client of the keeper.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::frame::{Frame, FrameReader, FrameWriter};
use super::wire::{Note, Request};

/// A client that lets more than this wait is cut off; it connects again and lists.
const MAX_WAITING: usize = 16 * 1024 * 1024;

/// The keeper's side of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    reader: FrameReader,
    writer: FrameWriter,
    /// Said hello in our protocol.
    pub(crate) welcome: bool,
    /// Rung when the spool advances.
    pub(crate) bell: Option<Bell>,
    /// Waits for room in the socket.
    pub(crate) full: bool,
    pub(crate) broken: bool,
}

/// A pipe: a byte in it says that the spool has advanced.
#[derive(Debug)]
pub(crate) struct Bell {
    pub(crate) ours: OwnedFd,
    pub(crate) theirs: OwnedFd,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            reader: FrameReader::default(),
            writer: FrameWriter::default(),
            welcome: false,
            bell: None,
            full: false,
            broken: false,
        }
    }

    /// Reads until nothing more is there; the requests that are complete.
    pub(crate) fn read(&mut self) -> Vec<(Request, Frame)> {
        let mut requests = Vec::new();
        let mut take = |reader: &mut FrameReader| -> io::Result<()> {
            loop {
                let end = match reader.receive(self.socket.as_fd()) {
                    Ok(bytes) => bytes == 0,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                while let Some(frame) = reader.next()? {
                    requests.push((serde_json::from_slice(&frame.json)?, frame));
                }
                if end {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        // What was complete before the end still counts: a platform that dies has asked for it.
        self.broken |= take(&mut self.reader).is_err();
        requests
    }

    pub(crate) fn write(&mut self, note: &Note, body: &[u8], descriptors: Vec<OwnedFd>) {
        let queued = serde_json::to_vec(note)
            .map_err(io::Error::from)
            .and_then(|json| self.writer.push(&json, body, descriptors));
        self.broken |= queued.is_err() || self.writer.waiting() > MAX_WAITING;
    }

    /// Sends what the socket takes; whether something is left.
    pub(crate) fn flush(&mut self) -> bool {
        loop {
            match self.writer.send(self.socket.as_fd()) {
                Ok(()) => return false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.broken = true;
                    return false;
                }
            }
        }
    }

    pub(crate) fn ring(&self) {
        if let Some(bell) = &self.bell {
            // A bell that nobody answers fills up, and rings still.
            let _full = rustix::io::write(&bell.ours, &[1]);
        }
    }
}
