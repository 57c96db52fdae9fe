//! Frames on a stream socket: three lengths (JSON, body, descriptors), then JSON and body. Descriptors travel beside
//! the frame's first byte, so they have arrived when the frame is complete.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

const HEADER: usize = 12;
/// The most bytes of one frame.
pub(crate) const MAX_FRAME: usize = 8 * 1024 * 1024;
/// The most descriptors beside one frame (the kernel allows 253).
pub(crate) const MAX_DESCRIPTORS: usize = 250;

/// One message.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) json: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Takes frames out of a non-blocking socket.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    buffer: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl FrameReader {
    /// Receives what one call gives; 0 is the end.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS + 3))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut chunk = [0_u8; 16 * 1024];
        let received = rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut chunk)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        )?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if self.descriptors.len() > 4 * MAX_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors"));
        }
        self.buffer.extend_from_slice(&chunk[..received.bytes]);
        Ok(received.bytes)
    }

    /// The next complete frame.
    pub(crate) fn next(&mut self) -> io::Result<Option<Frame>> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let [json, body, count] = [0, 4, 8].map(|at| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize
        });
        if json.saturating_add(body) > MAX_FRAME || count > MAX_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "frame exceeds its bound"));
        }
        let end = HEADER + json + body;
        if self.buffer.len() < end {
            return Ok(None);
        }
        if self.descriptors.len() < count {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing"));
        }
        let frame = Frame {
            json: self.buffer[HEADER..HEADER + json].to_vec(),
            body: self.buffer[HEADER + json..end].to_vec(),
            descriptors: self.descriptors.drain(..count).collect(),
        };
        self.buffer.drain(..end);
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        Ok(Some(frame))
    }
}

/// Puts frames into a non-blocking socket, as it takes them.
#[derive(Debug, Default)]
pub(crate) struct FrameWriter {
    queue: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    sent: usize,
    bytes: usize,
}

impl FrameWriter {
    /// Queues a frame.
    pub(crate) fn push(&mut self, json: &[u8], body: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<()> {
        if json.len() + body.len() > MAX_FRAME || descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "frame exceeds its bound"));
        }
        let mut frame = Vec::with_capacity(HEADER + json.len() + body.len());
        for length in [json.len(), body.len(), descriptors.len()] {
            frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        }
        frame.extend_from_slice(json);
        frame.extend_from_slice(body);
        self.bytes += frame.len();
        self.queue.push_back((frame, descriptors));
        Ok(())
    }

    /// Bytes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.bytes
    }

    /// Sends until nothing waits or the socket is full (`WouldBlock`).
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        while let Some((frame, descriptors)) = self.queue.front_mut() {
            let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors"));
            }
            let sent = rustix::net::sendmsg(
                socket,
                &[IoSlice::new(&frame[self.sent..])],
                &mut control,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            )?;
            descriptors.clear();
            self.sent += sent;
            self.bytes -= sent;
            if self.sent == frame.len() {
                self.sent = 0;
                self.queue.pop_front();
            }
        }
        self.queue.shrink_to(16);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn frames_and_their_descriptors_arrive_in_order_and_in_pieces() {
        let (left, right) = UnixStream::pair().unwrap();
        left.set_nonblocking(true).unwrap();
        let mut writer = FrameWriter::default();
        let big = vec![7_u8; 3_000_000];
        writer.push(b"{}", &big, vec![left.try_clone().unwrap().into()]).unwrap();
        writer.push(b"[1]", b"", vec![]).unwrap();
        let mut reader = FrameReader::default();
        let mut frames = Vec::new();
        while frames.len() < 2 {
            let _full = writer.send(left.as_fd());
            reader.receive(right.as_fd()).unwrap();
            while let Some(frame) = reader.next().unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!((frames[0].body.len(), frames[0].descriptors.len()), (big.len(), 1));
        assert_eq!((frames[1].json.as_slice(), frames[1].descriptors.len()), (&b"[1]"[..], 0));
        assert_eq!(writer.waiting(), 0);
    }

    #[test]
    fn a_frame_beyond_the_bound_is_refused() {
        let (left, right) = UnixStream::pair().unwrap();
        rustix::io::write(&left, &[0xff; HEADER]).unwrap();
        let mut reader = FrameReader::default();
        reader.receive(right.as_fd()).unwrap();
        assert!(reader.next().is_err());
    }
}
