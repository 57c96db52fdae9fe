//! Lines of the Prometheus text format, version 0.0.4, as far as a sample needs them.

use std::borrow::Cow;

/// One measured value.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    /// In the order of the line.
    pub(super) labels: Vec<(&'a str, Cow<'a, str>)>,
    pub(super) value: f64,
}

impl Sample<'_> {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find_map(|(own, value)| (*own == name).then_some(value.as_ref()))
    }
}

/// Why a line is no sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) &'static str);

/// More labels than any gateway gives a series.
const MOST_LABELS: usize = 64;

/// Reads a line that is no comment and not empty.
pub(super) fn sample(line: &str) -> Result<Sample<'_>, Unreadable> {
    let (name, rest) = word(line).ok_or(Unreadable("a line without a name"))?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    // The time of the measurement may follow.
    let mut numbers = rest.split_ascii_whitespace();
    let value = numbers.next().and_then(|number| number.parse().ok()).ok_or(Unreadable("no number"))?;
    if numbers.next().is_some_and(|time| time.parse::<i64>().is_err()) || numbers.next().is_some() {
        return Err(Unreadable("more than a number and a time"));
    }
    Ok(Sample { name, labels, value })
}

/// A name at the beginning of a text, and what follows.
fn word(text: &str) -> Option<(&str, &str)> {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let end = text.find(|c: char| !inner(c)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let begins = word.starts_with(|c: char| !c.is_ascii_digit());
    begins.then_some((word, rest))
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// The labels after an opening brace, and what follows the closing one.
fn labels(mut text: &str) -> Result<(Labels<'_>, &str), Unreadable> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches(' ');
        if let Some(rest) = text.strip_prefix('}') {
            return Ok((labels, rest));
        }
        if labels.len() == MOST_LABELS {
            return Err(Unreadable("too many labels"));
        }
        let (name, rest) = word(text).ok_or(Unreadable("a label without a name"))?;
        let rest = rest.strip_prefix("=\"").ok_or(Unreadable("a label without a value"))?;
        let (value, rest) = quoted(rest)?;
        labels.push((name, value));
        text = match rest.trim_start_matches(' ').strip_prefix(',') {
            Some(rest) => rest,
            None if rest.trim_start_matches(' ').starts_with('}') => rest,
            None => return Err(Unreadable("labels that no comma parts")),
        };
    }
}

/// A value after its opening quote, and what follows the closing one.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), Unreadable> {
    const OPEN: Unreadable = Unreadable("a value without an end");
    let end = text.find(['"', '\\']).ok_or(OPEN)?;
    if text[end..].starts_with('"') {
        return Ok((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = String::new();
    let mut rest = text;
    loop {
        let end = rest.find(['"', '\\']).ok_or(OPEN)?;
        value += &rest[..end];
        let mut next = rest[end..].chars();
        if next.next() == Some('"') {
            return Ok((Cow::Owned(value), next.as_str()));
        }
        value.push(match next.next() {
            Some('n') => '\n',
            Some(escaped @ ('"' | '\\')) => escaped,
            _ => return Err(Unreadable("an escape that there is not")),
        });
        rest = next.as_str();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sample_is_read_whatever_its_form() {
        let read = sample(r#"a_b:c{x="1", y="say \"hi\\\n\"",} 1.5e3 1700000000000"#).unwrap();
        assert_eq!((read.name, read.value), ("a_b:c", 1500.0));
        assert_eq!(read.label("x"), Some("1"));
        assert_eq!(read.label("y"), Some("say \"hi\\\n\""));
        assert_eq!(read.label("z"), None);
        assert_eq!(sample("up 1").unwrap(), Sample { name: "up", labels: Vec::new(), value: 1.0 });
        assert!(sample("up{} +Inf").unwrap().value.is_infinite());
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        for line in [
            "",
            "1a 1",
            "a",
            "a x",
            "a 1 x",
            "a 1 1 1",
            "a{",
            "a{x}1",
            "a{x=1} 1",
            r#"a{x="1} 1"#,
            r#"a{x="\q"} 1"#,
            r#"a{x="1"y="2"} 1"#,
            r#"a{x="1""#,
        ] {
            assert!(sample(line).is_err(), "{line}");
        }
        assert!(sample(&format!("a{{{}}} 1", r#"x="1","#.repeat(MOST_LABELS + 1))).is_err());
    }

    /// A value as the format writes it.
    fn escaped(value: &str) -> String {
        value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(line in any::<String>()) {
            drop(sample(&line));
        }

        #[test]
        fn nor_is_what_looks_like_a_sample(line in r#"[a-c]?\{?([a-c]?=?"?[\\"n,}é ]*){0,6}\}? ?[-0-9.e]*"#) {
            drop(sample(&line));
        }

        #[test]
        fn what_was_written_is_read(
            labels in prop::collection::vec(("[a-z_][a-z0-9_]{0,5}", any::<String>()), 0..8),
            value in any::<f64>().prop_filter("a number", |value| !value.is_nan()),
        ) {
            let written: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let line = format!("name{{{}}} {value}", written.join(","));
            let read = sample(&line).unwrap();
            prop_assert_eq!(read.value, value);
            let read: Vec<(String, String)> =
                read.labels.into_iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect();
            prop_assert_eq!(read, labels);
        }
    }
}
