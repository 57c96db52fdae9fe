//! What is told of lines, as it stands in files.

use std::sync::Arc;

use paas_core::model::{Level, LogOrigin, LogPosition};

use super::{Damage, Decoded, Reader, put_bytes, put_number};

/// An origin, as JSON.
pub(crate) fn put_origin(out: &mut Vec<u8>, origin: &LogOrigin) {
    put_bytes(out, &serde_json::to_vec(origin).unwrap_or_default());
}

pub(crate) fn origin(reader: &mut Reader<'_>) -> Decoded<LogOrigin> {
    serde_json::from_slice(reader.bytes()?).map_err(|_| Damage("an origin is none"))
}

pub(crate) fn put_position(out: &mut Vec<u8>, position: LogPosition) {
    put_number(out, position.incarnation);
    put_number(out, position.sequence);
    put_number(out, position.index.into());
}

pub(crate) fn position(reader: &mut Reader<'_>) -> Decoded<LogPosition> {
    Ok(LogPosition { incarnation: reader.number()?, sequence: reader.number()?, index: reader.small()? })
}

/// How many origins there are, and each with the position at which it ends.
pub(crate) fn put_ends<'a>(
    out: &mut Vec<u8>,
    ends: impl ExactSizeIterator<Item = (&'a Arc<LogOrigin>, &'a LogPosition)>,
) {
    put_number(out, ends.len() as u64);
    for (origin, end) in ends {
        put_origin(out, origin);
        put_position(out, *end);
    }
}

pub(crate) fn ends(reader: &mut Reader<'_>) -> Decoded<Vec<(Arc<LogOrigin>, LogPosition)>> {
    let count = reader.count()?;
    (0..count).map(|_| Ok((Arc::new(origin(reader)?), position(reader)?))).collect()
}

/// A level as a number.
pub(crate) fn code(level: Option<Level>) -> u8 {
    level.map_or(0, |level| level as u8 + 1)
}

pub(crate) fn level(code: u8) -> Decoded<Option<Level>> {
    let Some(at) = code.checked_sub(1) else { return Ok(None) };
    Level::ALL.get(usize::from(at)).map(|level| Some(*level)).ok_or(Damage("a level is none"))
}
