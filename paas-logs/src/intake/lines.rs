//! JSON lines: an object or a string each; or an array of them; or plain text.

use super::json::{Json, Malformed};
use super::sorted::{Sorted, TooMany};

/// What keeps a body from being taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The first record, from 1, that is none; in which column, from 1; and why.
    Record {
        record: usize,
        column: usize,
        why: &'static str,
    },
    /// What is no record is wrong.
    Body(&'static str),
    TooMany,
}

impl From<TooMany> for Refused {
    fn from(_: TooMany) -> Self {
        Self::TooMany
    }
}

impl Refused {
    pub(super) fn record(body: &[u8], record: usize, malformed: Malformed) -> Self {
        let before = body.get(..malformed.at).unwrap_or(body);
        let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |at| at + 1) + 1;
        Self::Record { record, column, why: malformed.why }
    }
}

/// Reads records, and sorts them by where they come from.
pub(crate) fn json(body: &[u8], sorted: &mut Sorted) -> Result<(), Refused> {
    let (mut json, mut record, mut number) = (Json::new(body), super::record::Record::default(), 0);
    if json.peek() == Some(b'[') {
        let mut too_many = false;
        let read = json.items(|json| {
            number += 1;
            record.read(json, sorted.read())?;
            too_many |= sorted.push(&record).is_err();
            if too_many { Err(Malformed { at: 0, why: "" }) } else { Ok(()) }
        });
        if too_many {
            return Err(Refused::TooMany);
        }
        return read.and_then(|()| json.end()).map_err(|wrong| Refused::record(body, number.max(1), wrong));
    }
    while json.peek().is_some() {
        number += 1;
        record.read(&mut json, sorted.read()).map_err(|wrong| Refused::record(body, number, wrong))?;
        sorted.push(&record)?;
    }
    Ok(())
}

/// Takes each line as one.
pub(crate) fn text(body: &[u8], sorted: &mut Sorted) -> Result<(), Refused> {
    let lines = body.strip_suffix(b"\n").unwrap_or(body);
    if body.is_empty() {
        return Ok(());
    }
    for line in lines.split(|byte| *byte == b'\n') {
        sorted.push_line(line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use paas_core::model::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn sorted() -> Sorted {
        Sorted::new(Timestamp(1_800_000_000_000), false, 1_000)
    }

    fn refused(body: &str) -> Refused {
        json(body.as_bytes(), &mut sorted()).unwrap_err()
    }

    fn texts(read: impl Fn(&[u8], &mut Sorted) -> Result<(), Refused>, body: &str) -> Vec<u8> {
        let mut sorted = sorted();
        read(body.as_bytes(), &mut sorted).unwrap();
        sorted.groups().flat_map(|(_, _, draft)| draft.text.clone()).collect()
    }

    #[test]
    fn lines_arrays_and_streams_of_records_are_read() {
        for body in [
            "\"a\"\n{\"log\":\"b\"}\n",
            "[\"a\", {\"log\":\"b\"}]\n",
            "\"a\"{\"log\":\"b\"}",
            "\n\"a\"\r\n\n\"b\"",
        ] {
            assert_eq!(texts(json, body), b"a\nb\n", "{body}");
        }
        assert_eq!(texts(json, ""), b"");
        assert_eq!(texts(text, "a\n\nb"), b"a\n\nb\n");
        assert_eq!(texts(text, ""), b"");
    }

    #[test]
    fn the_first_record_that_is_none_is_told_with_its_column() {
        let why = "`,` or `}` is expected";
        assert_eq!(refused("\"a\"\n{\"log\":\"b\" x}\n"), Refused::Record { record: 2, column: 12, why });
        let why = "a record is an object or a string";
        assert_eq!(refused("\"a\"\n7"), Refused::Record { record: 2, column: 1, why });
        assert_eq!(refused("[\"a\",7]"), Refused::Record { record: 2, column: 6, why });
        assert_eq!(refused(&"\"a\"\n".repeat(1_001)), Refused::TooMany);
        assert_eq!(refused(&format!("[{}\"a\"]", "\"a\",".repeat(1_000))), Refused::TooMany);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(like in "[\\[\\]{}\":,a\\\\\n]{0,80}", bytes: Vec<u8>) {
            let _refused = json(like.as_bytes(), &mut sorted());
            let _refused = json(&bytes, &mut sorted());
            let _refused = text(&bytes, &mut sorted());
        }

        #[test]
        fn every_line_is_kept_as_it_was_sent(lines in prop::collection::vec("[^\n]{0,20}", 1..20)) {
            let body: String = lines.iter().map(|line| format!("{}\n", serde_json::json!({ "message": line }))).collect();
            let expected: String = lines.iter().map(|line| format!("{line}\n")).collect();
            prop_assert_eq!(texts(json, &body), expected.as_bytes());
            prop_assert_eq!(texts(text, &expected), expected.as_bytes());
        }
    }
}
