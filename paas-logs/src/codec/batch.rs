//! Batches of lines, as they stand in files.

use bytes::Bytes;
use paas_core::model::{LogBatch, LogFields, LogPlaces, Timestamp};

use super::{Damage, Decoded, Reader, line, put_bytes, put_number, put_signed};

/// A batch: all that is known of its lines, and their bytes.
pub(crate) fn put_batch(out: &mut Vec<u8>, batch: &LogBatch) {
    line::put_origin(out, &batch.origin);
    line::put_position(out, batch.position);
    put_number(out, batch.starts.len() as u64);
    let (mut start, mut time, mut stamp) = (0, 0, 0);
    for own in &batch.starts {
        put_number(out, u64::from(own - start));
        start = *own;
    }
    for own in &batch.times {
        put_signed(out, own.0.wrapping_sub(time) as i64);
        time = own.0;
    }
    put_bytes(out, &batch.levels.iter().map(|level| line::code(*level)).collect::<Vec<_>>());
    put_number(out, batch.stamps.len() as u64);
    for own in &batch.stamps {
        put_signed(out, own.wrapping_sub(stamp) as i64);
        stamp = *own;
    }
    put_bytes(out, batch.fields.text());
    if !batch.fields.is_empty() {
        let lengths = (0..batch.starts.len()).map(|at| batch.fields.of(at).len());
        lengths.for_each(|length| put_number(out, length as u64));
    }
    match &batch.places {
        None => out.push(0),
        Some(places) => {
            out.push(1);
            line::put_position(out, places.end);
            places.lines.iter().for_each(|place| line::put_position(out, *place));
        }
    }
    put_bytes(out, &batch.buffer);
}

pub(crate) fn batch(reader: &mut Reader<'_>) -> Decoded<LogBatch> {
    let (origin, position) = (line::origin(reader)?, line::position(reader)?);
    // A line has a byte for where it begins, and one for its time.
    let count = reader.count_of(2)?;
    let (mut start, mut time, mut stamp) = (0_u32, 0_u64, 0_u64);
    let mut starts = Vec::with_capacity(count);
    for _ in 0..count {
        start = start.checked_add(reader.small()?).ok_or(Damage("a line begins too late"))?;
        starts.push(start);
    }
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        time = time.wrapping_add(reader.signed()? as u64);
        times.push(Timestamp(time));
    }
    let levels = reader.bytes()?.iter().map(|code| line::level(*code)).collect::<Decoded<_>>()?;
    let stamped = reader.count()?;
    let mut stamps = Vec::with_capacity(stamped);
    for _ in 0..stamped {
        stamp = stamp.wrapping_add(reader.signed()? as u64);
        stamps.push(stamp);
    }
    let fields = fields(reader, count)?;
    let places = match reader.fixed()? {
        [0] => None,
        [1] => {
            let end = line::position(reader)?;
            let lines = (0..count).map(|_| line::position(reader)).collect::<Decoded<_>>()?;
            Some(LogPlaces { lines, end })
        }
        _ => return Err(Damage("it is not known whether lines have places")),
    };
    let buffer = Bytes::copy_from_slice(reader.bytes()?);
    if starts.last().is_some_and(|last| *last as usize > buffer.len()) {
        return Err(Damage("a line begins after the end"));
    }
    if ![0, count].contains(&stamped) || position.sequence.checked_add(buffer.len() as u64).is_none() {
        return Err(Damage("the positions of lines are none"));
    }
    let mut batch = LogBatch::stamped(origin, buffer, starts, stamps, position);
    (batch.times, batch.levels, batch.fields, batch.places) = (times, levels, fields, places);
    Ok(batch)
}

/// What is known of so many lines.
fn fields(reader: &mut Reader<'_>, lines: usize) -> Decoded<LogFields> {
    let mut text = Reader(reader.bytes()?);
    let mut fields = LogFields::new();
    if text.0.is_empty() {
        return Ok(fields);
    }
    for _ in 0..lines {
        let length = reader.small()?;
        fields.push(text.take(length)?);
    }
    text.end()?;
    Ok(fields)
}
