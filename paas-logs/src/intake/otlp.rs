//! Log records of OpenTelemetry, as protobuf and as JSON: both say the same, and become the same lines.

use std::borrow::Cow;

use paas_core::model::Level;

use super::lines::Refused;
use super::record::Record;
use super::sorted::Sorted;

pub(crate) use json::json;
pub(crate) use protobuf::protobuf;

mod json;
mod protobuf;

/// So deep values may stand in each other.
const DEEPEST: usize = 32;

/// Attributes, in order.
type Attributes<'a> = Vec<(Cow<'a, [u8]>, Any<'a>)>;

/// The value of an attribute, or a body.
#[derive(Clone, Debug, Default, PartialEq)]
enum Any<'a> {
    #[default]
    Nothing,
    String(Cow<'a, [u8]>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Array(Vec<Any<'a>>),
    Map(Attributes<'a>),
    /// In base64, as JSON has them.
    Bytes(String),
}

/// What a record says.
#[derive(Clone, Debug, Default, PartialEq)]
struct Entry<'a> {
    /// Nanoseconds since 1970; 0 where it does not say.
    time: u64,
    observed: u64,
    severity: u64,
    severity_text: Cow<'a, [u8]>,
    body: Any<'a>,
    attributes: Attributes<'a>,
    /// In hexadecimal.
    trace: Cow<'a, [u8]>,
    span: Cow<'a, [u8]>,
    event: Cow<'a, [u8]>,
}

/// As the specification orders severities.
fn level(severity: u64) -> Option<Level> {
    Some(match severity {
        1..=4 => Level::Trace,
        5..=8 => Level::Debug,
        9..=12 => Level::Info,
        13..=16 => Level::Warn,
        17..=20 => Level::Error,
        21..=24 => Level::Fatal,
        _ => return None,
    })
}

/// Takes a record of a resource and a scope.
fn take<'a>(
    entry: Entry<'a>,
    resource: &Attributes<'_>,
    scope: &[u8],
    record: &mut Record<'a>,
    sorted: &mut Sorted,
) -> Result<(), Refused> {
    let line = match entry.body {
        Any::String(text) => text,
        Any::Nothing => Cow::Borrowed(&b""[..]),
        other => {
            let mut text = Vec::new();
            other.write(&mut text);
            Cow::Owned(text)
        }
    };
    let (level, read) = (level(entry.severity), sorted.read());
    record.begin_with(line, None, level);
    let time = if entry.time == 0 { entry.observed } else { entry.time };
    if time != 0 {
        record.member(b"time", time.to_string().as_bytes(), read);
    }
    let texts = [
        (&b"severity_text"[..], if level.is_some() { &b""[..] } else { &entry.severity_text }),
        (b"trace_id", &entry.trace),
        (b"span_id", &entry.span),
        (b"event.name", &entry.event),
        (b"otel.scope.name", scope),
    ];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        record.member(name, text, read);
    }
    let mut path = Vec::new();
    for (name, value) in entry.attributes.iter().chain(resource) {
        value.members(name, &mut path, &mut |name, text| record.member(name, text, read));
    }
    sorted.push(record)?;
    Ok(())
}

impl Any<'_> {
    /// Calls `put` for what stands in it, with names joined by dots.
    fn members(&self, name: &[u8], path: &mut Vec<u8>, put: &mut dyn FnMut(&[u8], &[u8])) {
        let length = path.len();
        if length > 0 {
            path.push(b'.');
        }
        path.extend_from_slice(name);
        match self {
            Self::Nothing => {}
            Self::String(text) => put(path, text),
            Self::Map(members) => members.iter().for_each(|(name, value)| value.members(name, path, put)),
            other => {
                let mut text = Vec::new();
                other.write(&mut text);
                // Bytes stand between quotes in JSON only.
                let bare = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
                put(path, bare.unwrap_or(&text));
            }
        }
        path.truncate(length);
    }

    /// As JSON.
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => out.extend(b"null"),
            Self::String(text) => quote(out, text),
            Self::Bool(yes) => out.extend(if *yes { &b"true"[..] } else { b"false" }),
            Self::Int(number) => out.extend(number.to_string().bytes()),
            Self::Double(number) if number.is_finite() => out.extend(number.to_string().bytes()),
            Self::Double(number) => quote(out, number.to_string().as_bytes()),
            Self::Bytes(text) => quote(out, text.as_bytes()),
            Self::Array(items) => {
                out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Map(members) => {
                out.push(b'{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    quote(out, name);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// A string of JSON.
fn quote(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'\n' => out.extend(b"\\n"),
            0..0x20 => out.extend(format!("\\u{byte:04x}").bytes()),
            other => out.push(*other),
        }
    }
    out.push(b'"');
}

/// RFC 4648, section 8, in lower case.
fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    let digit = |four: u8| b"0123456789abcdef"[usize::from(four)];
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_are_joined_and_arrays_stay() {
        let text = |text: &'static str| Any::String(Cow::Borrowed(text.as_bytes()));
        let name = |name: &'static str| Cow::Borrowed(name.as_bytes());
        let list = Any::Array(vec![text("a\"\n"), Any::Double(1.5), Any::Nothing, Any::Double(f64::NAN)]);
        let value = Any::Map(vec![
            (name("b"), Any::Map(vec![(name("c"), Any::Int(-1)), (name("d"), Any::Nothing)])),
            (name("e"), list),
            (name("f"), Any::Bytes("AA==".into())),
            (name("g"), Any::Bool(true)),
        ]);
        let mut told = Vec::new();
        let mut put = |name: &[u8], text: &[u8]| {
            told.push([name, text].map(|own| String::from_utf8_lossy(own).into_owned()))
        };
        value.members(b"a", &mut Vec::new(), &mut put);
        let list = r#"["a\"\n",1.5,null,"NaN"]"#;
        assert_eq!(told, [["a.b.c", "-1"], ["a.e", list], ["a.f", "AA=="], ["a.g", "true"]]);
        let mut text = Vec::new();
        value.write(&mut text);
        let expected = format!(r#"{{"b":{{"c":-1,"d":null}},"e":{list},"f":"AA==","g":true}}"#);
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
