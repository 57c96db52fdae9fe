//! Protocol buffers, as far as log records need them. What is not known is passed over.

use std::borrow::Cow;

use super::{Any, Attributes, DEEPEST, Entry, hexadecimal, take};
use crate::export::base64;
use crate::intake::lines::Refused;
use crate::intake::record::Record;
use crate::intake::sorted::Sorted;

const BROKEN: Refused = Refused::Body("the body is no ExportLogsServiceRequest in protobuf");

/// What stands in a field.
#[derive(Clone, Copy, Debug)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, with their numbers.
#[derive(Clone, Debug)]
struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    fn varint(&mut self) -> Result<u64, Refused> {
        let mut number = 0;
        for (at, byte) in self.0.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Ok(number);
            }
        }
        Err(BROKEN)
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], Refused> {
        let length = usize::try_from(length).map_err(|_| BROKEN)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(BROKEN)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn field(&mut self) -> Result<(u64, Field<'a>), Refused> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Number(little_endian(self.bytes(8)?)),
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.bytes(length)?)
            }
            5 => Field::Number(little_endian(self.bytes(4)?)),
            _ => return Err(BROKEN),
        };
        Ok((tag >> 3, field))
    }

    fn each(mut self, mut visit: impl FnMut(u64, Field<'a>) -> Result<(), Refused>) -> Result<(), Refused> {
        while !self.0.is_empty() {
            let (number, field) = self.field()?;
            visit(number, field)?;
        }
        Ok(())
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Reads an `ExportLogsServiceRequest`.
pub(crate) fn protobuf(body: &[u8], sorted: &mut Sorted) -> Result<(), Refused> {
    let mut record = Record::default();
    Message(body).each(|number, field| match (number, field) {
        (1, Field::Bytes(resource_logs)) => of_resource(resource_logs, &mut record, sorted),
        _ => Ok(()),
    })
}

fn of_resource<'a>(message: &'a [u8], record: &mut Record<'a>, sorted: &mut Sorted) -> Result<(), Refused> {
    // The resource may stand behind its records.
    let mut resource = Attributes::new();
    Message(message).each(|number, field| match (number, field) {
        (1, Field::Bytes(own)) => Message(own).each(|number, field| match (number, field) {
            (1, Field::Bytes(pair)) => attribute(pair, &mut resource, DEEPEST),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })?;
    Message(message).each(|number, field| match (number, field) {
        (2, Field::Bytes(scope_logs)) => of_scope(scope_logs, &resource, record, sorted),
        _ => Ok(()),
    })
}

fn of_scope<'a>(
    message: &'a [u8],
    resource: &Attributes<'a>,
    record: &mut Record<'a>,
    sorted: &mut Sorted,
) -> Result<(), Refused> {
    let mut scope = &b""[..];
    Message(message).each(|number, field| match (number, field) {
        (1, Field::Bytes(own)) => Message(own).each(|number, field| {
            if let (1, Field::Bytes(name)) = (number, field) {
                scope = name;
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    Message(message).each(|number, field| match (number, field) {
        (2, Field::Bytes(log_record)) => take(entry(log_record)?, resource, scope, record, sorted),
        _ => Ok(()),
    })
}

fn entry(message: &[u8]) -> Result<Entry<'_>, Refused> {
    let mut entry = Entry::default();
    Message(message).each(|number, field| {
        match (number, field) {
            (1, Field::Number(time)) => entry.time = time,
            (2, Field::Number(severity)) => entry.severity = severity,
            (3, Field::Bytes(text)) => entry.severity_text = Cow::Borrowed(text),
            (5, Field::Bytes(body)) => entry.body = any_value(body, DEEPEST)?,
            (6, Field::Bytes(pair)) => attribute(pair, &mut entry.attributes, DEEPEST)?,
            (9, Field::Bytes(trace)) => entry.trace = Cow::Owned(hexadecimal(trace)),
            (10, Field::Bytes(span)) => entry.span = Cow::Owned(hexadecimal(span)),
            (11, Field::Number(time)) => entry.observed = time,
            (12, Field::Bytes(name)) => entry.event = Cow::Borrowed(name),
            _ => {}
        }
        Ok(())
    })?;
    Ok(entry)
}

fn attribute<'a>(pair: &'a [u8], attributes: &mut Attributes<'a>, depth: usize) -> Result<(), Refused> {
    let (mut name, mut value) = (&b""[..], Any::Nothing);
    Message(pair).each(|number, field| {
        match (number, field) {
            (1, Field::Bytes(key)) => name = key,
            (2, Field::Bytes(message)) => value = any_value(message, depth)?,
            _ => {}
        }
        Ok(())
    })?;
    attributes.push((Cow::Borrowed(name), value));
    Ok(())
}

fn any_value(message: &[u8], depth: usize) -> Result<Any<'_>, Refused> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Refused::Body("values are nested too deeply"));
    };
    let mut value = Any::Nothing;
    Message(message).each(|number, field| {
        value = match (number, field) {
            (1, Field::Bytes(text)) => Any::String(Cow::Borrowed(text)),
            (2, Field::Number(yes)) => Any::Bool(yes != 0),
            (3, Field::Number(number)) => Any::Int(number.cast_signed()),
            (4, Field::Number(bits)) => Any::Double(f64::from_bits(bits)),
            (5, Field::Bytes(list)) => {
                let mut items = Vec::new();
                Message(list).each(|number, field| {
                    if let (1, Field::Bytes(item)) = (number, field) {
                        items.push(any_value(item, depth)?);
                    }
                    Ok(())
                })?;
                Any::Array(items)
            }
            (6, Field::Bytes(list)) => {
                let mut members = Attributes::new();
                Message(list).each(|number, field| match (number, field) {
                    (1, Field::Bytes(pair)) => attribute(pair, &mut members, depth),
                    _ => Ok(()),
                })?;
                Any::Map(members)
            }
            (7, Field::Bytes(bytes)) => Any::Bytes(base64(bytes)),
            _ => return Ok(()),
        };
        Ok(())
    })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use paas_core::model::{Level, Timestamp};
    use proptest::prelude::*;

    use super::*;

    /// A field of bytes.
    fn put(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut message = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(bytes);
        message
    }

    fn pair(name: &str, any: &[u8]) -> Vec<u8> {
        [put(1, name.as_bytes()), put(2, any)].concat()
    }

    fn fixed(number: u8, value: u64) -> Vec<u8> {
        [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
    }

    /// 2026-11-27T01:02:03.456Z
    const NOW: u64 = 1_795_741_323_456;

    fn request() -> Vec<u8> {
        let record = [
            fixed(1, (NOW - 1_000) * 1_000_000),
            vec![2 << 3, 17],
            put(3, b"Error"),
            put(5, &put(1, b"a\nb")),
            put(6, &pair("http.status", &[3 << 3, 0xf4, 3])),
            put(6, &pair("m", &put(6, &put(1, &pair("x", &[2 << 3, 1]))))),
            put(9, &[0xab; 2]),
            vec![15 << 3, 1],
        ];
        let scope = [put(1, &put(1, b"own")), put(2, &record.concat())].concat();
        let resource = put(1, &pair("k8s.pod.uid", &put(1, b"u-1")));
        put(1, &[put(2, &scope), put(1, &resource)].concat())
    }

    fn sorted() -> Sorted {
        Sorted::new(Timestamp(NOW), true, 1_000)
    }

    #[test]
    fn records_are_read_with_all_that_they_say() {
        let mut sorted = sorted();
        protobuf(&request(), &mut sorted).unwrap();
        let (claims, _, draft) = sorted.groups().next().unwrap();
        assert_eq!(claims.instances().collect::<Vec<_>>(), ["u-1"]);
        assert_eq!(draft.text, b"a\nb\n");
        assert_eq!((draft.levels[0], draft.times[0]), (Some(Level::Error), Timestamp(NOW - 1_000)));
        let fields = "trace_id=abab otel.scope.name=own http.status=500 m.x=true k8s.pod.uid=u-1";
        assert_eq!(String::from_utf8_lossy(draft.fields.of(0)), fields);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let request = request();
        for length in 1..request.len() {
            assert_eq!(protobuf(&request[..length], &mut sorted()), Err(BROKEN), "{length}");
        }
        let deep = (0..DEEPEST).fold(put(1, b"x"), |inner, _| put(5, &put(1, &inner)));
        let body = put(1, &put(2, &put(2, &put(5, &deep))));
        assert!(matches!(protobuf(&body, &mut sorted()), Err(Refused::Body(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, changed in prop::collection::vec((0_usize..200, any::<u8>()), 0..4)) {
            let _refused = protobuf(&bytes, &mut sorted());
            let mut request = request();
            for (at, byte) in changed {
                let at = at % request.len();
                request[at] = byte;
            }
            let _refused = protobuf(&request, &mut sorted());
        }
    }
}
