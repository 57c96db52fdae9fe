//! The JSON encoding: names in camel case, 64-bit numbers as strings, ids in hexadecimal.

use std::borrow::Cow;

use super::{Any, Attributes, DEEPEST, Entry, take};
use crate::intake::json::{Json, Malformed, Value};
use crate::intake::lines::Refused;
use crate::intake::record::Record;
use crate::intake::sorted::Sorted;

/// Reads an `ExportLogsServiceRequest`.
pub(crate) fn json(body: &[u8], sorted: &mut Sorted) -> Result<(), Refused> {
    let (mut json, mut reader) =
        (Json::new(body), Reader { record: Record::default(), sorted, refused: None });
    let read = list(&mut json, b"resourceLogs", &mut |json| reader.of_resource(json));
    let read = read.and_then(|()| json.end());
    let number = reader.sorted.records() + 1;
    match reader.refused {
        Some(refused) => Err(refused),
        None => read.map_err(|wrong| Refused::record(body, number, wrong)),
    }
}

/// Calls `visit` for each item of the lists of this name that an object has, and passes over what else there is.
fn list<'a>(
    json: &mut Json<'a>,
    name: &[u8],
    visit: &mut dyn FnMut(&mut Json<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    json.members(|json, own| if own == name { json.items(&mut *visit) } else { json.skip().map(drop) })
}

struct Reader<'a, 's> {
    record: Record<'a>,
    sorted: &'s mut Sorted,
    refused: Option<Refused>,
}

impl<'a> Reader<'a, '_> {
    fn of_resource(&mut self, json: &mut Json<'a>) -> Result<(), Malformed> {
        // The resource may stand behind its records.
        let (mut first, mut resource) = (json.clone(), Attributes::new());
        first.members(|json, name| match name {
            b"resource" => json.members(|json, name| match name {
                b"attributes" => attributes(json, &mut resource, DEEPEST),
                _ => json.skip().map(drop),
            }),
            _ => json.skip().map(drop),
        })?;
        list(json, b"scopeLogs", &mut |json| self.of_scope(json, &resource))
    }

    fn of_scope(&mut self, json: &mut Json<'a>, resource: &Attributes<'a>) -> Result<(), Malformed> {
        let (mut first, mut scope) = (json.clone(), Cow::Borrowed(&b""[..]));
        first.members(|json, name| match name {
            b"scope" => json.members(|json, name| match name {
                b"name" => text(json).map(|name| scope = name),
                _ => json.skip().map(drop),
            }),
            _ => json.skip().map(drop),
        })?;
        list(json, b"logRecords", &mut |json| {
            let entry = entry(json)?;
            take(entry, resource, &scope, &mut self.record, self.sorted).map_err(|refused| {
                self.refused = Some(refused);
                Malformed { at: json.at(), why: "the record is refused" }
            })
        })
    }
}

fn entry<'a>(json: &mut Json<'a>) -> Result<Entry<'a>, Malformed> {
    let mut entry = Entry::default();
    json.members(|json, name| {
        match name {
            b"timeUnixNano" => entry.time = parsed(json)?,
            b"observedTimeUnixNano" => entry.observed = parsed(json)?,
            b"severityNumber" => entry.severity = parsed(json)?,
            b"severityText" => entry.severity_text = text(json)?,
            b"body" => entry.body = any_value(json, DEEPEST)?,
            b"attributes" => attributes(json, &mut entry.attributes, DEEPEST)?,
            b"traceId" => entry.trace = text(json)?,
            b"spanId" => entry.span = text(json)?,
            b"eventName" => entry.event = text(json)?,
            _ => drop(json.skip()?),
        }
        Ok(())
    })?;
    Ok(entry)
}

fn attributes<'a>(json: &mut Json<'a>, all: &mut Attributes<'a>, depth: usize) -> Result<(), Malformed> {
    json.items(|json| {
        let (mut name, mut value) = (Cow::Borrowed(&b""[..]), Any::Nothing);
        json.members(|json, own| {
            match own {
                b"key" => name = text(json)?,
                b"value" => value = any_value(json, depth)?,
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        all.push((name, value));
        Ok(())
    })
}

fn any_value<'a>(json: &mut Json<'a>, depth: usize) -> Result<Any<'a>, Malformed> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Malformed { at: json.at(), why: "values are nested too deeply" });
    };
    let mut value = Any::Nothing;
    if json.peek() == Some(b'n') {
        return json.value().map(|_| value);
    }
    json.members(|json, name| {
        value = match name {
            b"stringValue" => Any::String(text(json)?),
            b"boolValue" => Any::Bool(matches!(json.value()?, Value::True)),
            b"intValue" => Any::Int(parsed(json)?),
            b"doubleValue" => Any::Double(parsed(json)?),
            b"bytesValue" => Any::Bytes(String::from_utf8_lossy(&text(json)?).into_owned()),
            b"arrayValue" => {
                let mut items = Vec::new();
                list(json, b"values", &mut |json| any_value(json, depth).map(|item| items.push(item)))?;
                Any::Array(items)
            }
            b"kvlistValue" => {
                let mut members = Attributes::new();
                json.members(|json, name| match name {
                    b"values" => attributes(json, &mut members, depth),
                    _ => json.skip().map(drop),
                })?;
                Any::Map(members)
            }
            _ => return json.skip().map(drop),
        };
        Ok(())
    })?;
    Ok(value)
}

fn text<'a>(json: &mut Json<'a>) -> Result<Cow<'a, [u8]>, Malformed> {
    json.peek();
    let at = json.at();
    match json.value()? {
        Value::String(text) => Ok(text),
        Value::Null => Ok(Cow::Borrowed(b"")),
        _ => Err(Malformed { at, why: "a string is expected" }),
    }
}

/// A number, or one as a string.
fn parsed<T: std::str::FromStr>(json: &mut Json<'_>) -> Result<T, Malformed> {
    json.peek();
    let at = json.at();
    let text = match json.value()? {
        Value::String(text) => text,
        Value::Number(text) => Cow::Borrowed(text),
        _ => return Err(Malformed { at, why: "a number is expected" }),
    };
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
    number.ok_or(Malformed { at, why: "a number is expected" })
}

#[cfg(test)]
mod tests {
    use paas_core::model::{Level, Timestamp};
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-27T01:02:03.456Z
    const NOW: u64 = 1_795_741_323_456;

    const REQUEST: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{
        "timeUnixNano":"1795741322456000000","severityNumber":17,"severityText":"Error",
        "body":{"stringValue":"a\nb"},"traceId":"abab","flags":1,"attributes":[
        {"key":"http.status","value":{"intValue":"500"}},
        {"key":"m","value":{"kvlistValue":{"values":[{"key":"x","value":{"boolValue":true}}]}}},
        {"key":"l","value":{"arrayValue":{"values":[{"doubleValue":1.5},{}]}}}]}],
        "scope":{"name":"own"}}],
        "resource":{"attributes":[{"key":"k8s.pod.uid","value":{"stringValue":"u-1"}}]}}]}"#;

    fn sorted() -> Sorted {
        Sorted::new(Timestamp(NOW), true, 1_000)
    }

    #[test]
    fn records_are_read_with_all_that_they_say() {
        let mut sorted = sorted();
        json(REQUEST.as_bytes(), &mut sorted).unwrap();
        let (claims, _, draft) = sorted.groups().next().unwrap();
        assert_eq!(claims.instances().collect::<Vec<_>>(), ["u-1"]);
        assert_eq!(draft.text, b"a\nb\n");
        assert_eq!((draft.levels[0], draft.times[0]), (Some(Level::Error), Timestamp(NOW - 1_000)));
        let fields =
            "trace_id=abab otel.scope.name=own http.status=500 m.x=true l=[1.5,null] k8s.pod.uid=u-1";
        assert_eq!(String::from_utf8_lossy(draft.fields.of(0)), fields);
    }

    #[test]
    fn what_is_cut_off_is_refused_with_its_place() {
        for length in 0..REQUEST.len() {
            assert!(json(&REQUEST.as_bytes()[..length], &mut sorted()).is_err(), "{length}");
        }
        let wrong = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":"x"}]}]}]}"#;
        let why = "a number is expected";
        assert_eq!(json(wrong, &mut sorted()), Err(Refused::Record { record: 1, column: 65, why }));
        let few = &mut Sorted::new(Timestamp(NOW), true, 0);
        assert_eq!(json(REQUEST.as_bytes(), few), Err(Refused::TooMany));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(changed in prop::collection::vec((0_usize..1_000, any::<u8>()), 0..4)) {
            let mut request = REQUEST.as_bytes().to_vec();
            for (at, byte) in changed {
                let at = at % request.len();
                request[at] = byte;
            }
            let _refused = json(&request, &mut sorted());
        }
    }
}
