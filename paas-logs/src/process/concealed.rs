//! Takes out of fields that came with lines what is taken out of lines.

use std::borrow::Cow;

use paas_core::model::{LogFields, pairs, put_pair, unescaped};

use crate::fields::apart;
use crate::redact::{Redactor, Span};

/// The fields without what is taken out of them; `None` where that is nothing.
pub(super) fn fields(redactor: &Redactor, fields: &LogFields, counts: bool) -> Option<LogFields> {
    if fields.is_empty() {
        return None;
    }
    let (text, starts) = apart(fields);
    let spans = redactor.spans(&text, counts);
    if spans.is_empty() && !text.contains(&b'\\') {
        return None;
    }
    let mut concealed = LogFields::new();
    let mut spans = spans.iter().peekable();
    for line in 0..starts.len() {
        let start = starts[line] as usize;
        let end = starts.get(line + 1).map_or(text.len(), |next| *next as usize);
        while spans.next_if(|span| span.end <= start).is_some() {}
        let is_hit = spans.peek().is_some_and(|span| span.start < end);
        // What is escaped may be seen only without its escapes.
        if is_hit || fields.of(line).contains(&b'\\') {
            concealed.push(&line_without(redactor, fields.of(line)));
        } else {
            concealed.push(fields.of(line));
        }
    }
    Some(concealed)
}

/// The pairs of one line, each looked at as it is written and as it is meant.
fn line_without(redactor: &Redactor, line: &[u8]) -> Vec<u8> {
    let (mut out, mut written) = (Vec::with_capacity(line.len()), Vec::new());
    for (name, value) in pairs(line) {
        written.clear();
        let name = String::from_utf8_lossy(name);
        put_pair(&mut written, &name, &value);
        let spans = redactor.spans(&written, false);
        let is_named = spans.iter().any(|span| span.start < name.len());
        let value = if spans.is_empty() {
            value
        } else {
            let quoted = written.get(name.len() + 1) == Some(&b'"') && written.ends_with(b"\"");
            let (from, to) = (name.len() + 1 + usize::from(quoted), written.len() - usize::from(quoted));
            let rest = without(redactor, &written, (from, to), &spans);
            Cow::Owned(if quoted { unescaped(&rest).into_owned() } else { rest })
        };
        let spans = redactor.spans(&value, false);
        let value = without(redactor, &value, (0, value.len()), &spans);
        put_pair(&mut out, if is_named { "redacted" } else { &name }, &value);
    }
    out
}

/// A part of a text without what is taken out of it.
fn without(redactor: &Redactor, text: &[u8], (from, to): (usize, usize), spans: &[Span]) -> Vec<u8> {
    let (mut rest, mut at) = (Vec::with_capacity(to - from), from);
    for span in spans.iter().filter(|span| span.start < to && span.end > from) {
        rest.extend_from_slice(&text[at..span.start.max(at)]);
        rest.extend(redactor.mask(*span, text).bytes());
        at = span.end.clamp(at, to);
    }
    rest.extend_from_slice(&text[at..to]);
    rest
}

#[cfg(test)]
mod tests {
    use paas_core::model::{Redaction, Secret};

    use super::*;
    use crate::counter::Counters;

    fn concealed(lines: &[&[(&str, &str)]]) -> Vec<String> {
        let rules =
            [Redaction::Password, Redaction::Token, Redaction::PrivateKey, Redaction::Card, Redaction::Email];
        let secrets = [Secret::new("hunter2!").unwrap(), Secret::new("two\"\nlines").unwrap()];
        let redactor = Redactor::new(&rules, &secrets, &Counters::default()).unwrap();
        let mut own = LogFields::new();
        for line in lines {
            let mut pairs = Vec::new();
            line.iter().for_each(|(name, value)| put_pair(&mut pairs, name, value.as_bytes()));
            own.push(&pairs);
        }
        let own = fields(&redactor, &own, true).unwrap_or(own);
        (0..lines.len()).map(|line| String::from_utf8(own.of(line).to_vec()).unwrap()).collect()
    }

    #[test]
    fn nothing_that_is_taken_out_of_lines_gets_through_in_fields() {
        let told = concealed(&[
            &[("user", "bob"), ("token", "x hunter2! y"), ("status", "500")],
            &[("card", "4111111111111111")],
            &[("password", "long enough"), ("mail", "a@example.com")],
            &[("nested", "a two\"\nlines b")],
            &[("url", "http://bob:pass-word@host/")],
            &[("harmless", "with \"quotes\""), ("b", "")],
            &[("key", "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----")],
        ]);
        let all = told.join("|");
        for secret in ["hunter2!", "4111", "long", "enough", "a@example", "lines", "pass-word", "MII"] {
            assert!(!all.contains(secret), "{secret} in {all}");
        }
        assert!(told[0].starts_with("user=bob token=") && told[0].ends_with(" status=500"), "{all}");
        assert_eq!(told[5], "harmless=\"with \\\"quotes\\\"\" b=\"\"");
    }

    #[test]
    fn what_nothing_is_taken_out_of_stays_as_it_is() {
        assert_eq!(concealed(&[&[("a", "1")], &[], &[("b", "x y")]]), ["a=1", "", "b=\"x y\""]);
    }
}
