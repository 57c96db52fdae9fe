//! The body of a request: read, unpacked and paid for piece by piece, and never more of it than may be.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zstd::stream::raw::{DParameter, Decoder};
use zstd::stream::zio;

use super::answer::Refusal;
use super::rate::Turn;

/// Memory is counted in pieces of so many bytes.
pub(super) const PIECE: usize = 1_024;
/// Frames of Zstandard that ask for a larger window are refused: 8 MiB, as its specification recommends.
const WINDOW: u32 = 23;
/// So much of a body that is not wanted is read, so that whoever sends it sees the answer.
const UNWANTED: usize = 1024 * 1024;

/// A body, and the room that it takes.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) bytes: Vec<u8>,
    /// Held until nothing of it is in memory any more.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// What was unpacked so far.
struct Room<'a> {
    taken: Taken,
    most: usize,
    memory: &'a Arc<Semaphore>,
    turn: &'a Turn,
    refused: Option<Refusal>,
}

impl Room<'_> {
    fn charge(&mut self, bytes: usize) -> Result<(), Refusal> {
        let length = self.taken.bytes.len() + bytes;
        if length > self.most {
            return Err(Refusal::too_large("the body has too many bytes when it is unpacked", self.most));
        }
        self.turn.pay(bytes).map_err(Refusal::too_fast)?;
        let held = self.taken.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = length.div_ceil(PIECE).saturating_sub(held);
        if let Ok(more) = u32::try_from(more)
            && more > 0
        {
            let full = |_| Refusal::busy("there is no memory for more bodies now", Duration::from_secs(1));
            let permit = Arc::clone(self.memory).try_acquire_many_owned(more).map_err(full)?;
            match &mut self.taken.room {
                Some(room) => room.merge(permit),
                none => *none = Some(permit),
            }
        }
        Ok(())
    }
}

impl Write for Room<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(refusal) = self.charge(bytes.len()) {
            self.refused = Some(refusal);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.taken.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How it is packed.
enum Packed<'a> {
    Not(Room<'a>),
    Gzip(Box<MultiGzDecoder<Room<'a>>>),
    Zstandard(Box<zio::Writer<Room<'a>, Decoder<'static>>>),
}

impl<'a> Packed<'a> {
    fn new(headers: &HeaderMap, room: Room<'a>) -> Result<Self, Refusal> {
        let encoding = headers.get(CONTENT_ENCODING).map_or(Ok("identity"), |value| value.to_str());
        match encoding.unwrap_or("?").trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Not(room)),
            "gzip" | "x-gzip" => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(room)))),
            "zstd" => {
                let unready =
                    |_| Refusal::busy("there is no memory to unpack the body", Duration::from_secs(1));
                let mut decoder = Decoder::new().map_err(unready)?;
                decoder.set_parameter(DParameter::WindowLogMax(WINDOW)).map_err(unready)?;
                Ok(Self::Zstandard(Box::new(zio::Writer::new(room, decoder))))
            }
            _ => {
                let why = "this `Content-Encoding` is not known here: send `gzip`, `zstd`, or a body that is not packed";
                Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why))
            }
        }
    }

    fn room(&mut self) -> &mut Room<'a> {
        match self {
            Self::Not(room) => room,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstandard(decoder) => decoder.writer_mut(),
        }
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let outcome = match self {
            Self::Not(room) => room.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes),
            Self::Zstandard(decoder) => decoder.write_all(bytes),
        };
        self.checked(outcome)
    }

    fn finish(mut self) -> Result<Taken, Refusal> {
        let outcome = match &mut self {
            Self::Not(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zstandard(decoder) => decoder.finish(),
        };
        self.checked(outcome)?;
        let room = self.room();
        Ok(Taken { bytes: std::mem::take(&mut room.taken.bytes), room: room.taken.room.take() })
    }

    fn checked(&mut self, outcome: io::Result<()>) -> Result<(), Refusal> {
        let Err(error) = outcome else { return Ok(()) };
        Err(self.room().refused.take().unwrap_or_else(|| {
            let why = format!("the body is not packed as its `Content-Encoding` says: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, why)
        }))
    }
}

/// Reads a body of at most so many bytes.
pub(super) async fn read(
    headers: &HeaderMap,
    body: &mut Incoming,
    most: usize,
    memory: &Arc<Semaphore>,
    turn: &Turn,
) -> Result<Taken, Refusal> {
    let taken = Taken { bytes: Vec::new(), room: None };
    let mut packed = Packed::new(headers, Room { taken, most, memory, turn, refused: None })?;
    if body.size_hint().lower() > most as u64 {
        return Err(Refusal::too_large("the body has too many bytes", most));
    }
    while let Some(frame) = body.frame().await {
        let broken =
            |error| Refusal::new(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"));
        if let Ok(bytes) = frame.map_err(broken)?.into_data() {
            packed.add(&bytes)?;
        }
    }
    packed.finish()
}

/// Reads what is not wanted of a body, as far as that is little. Whether it is all.
pub(super) async fn discard(body: &mut Incoming) -> bool {
    let mut left = UNWANTED;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, bytes::Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    body.is_end_stream()
}
