//! The one thing that JSON may hold and YAML not: `"\ud83d\ude00"`, a character as a pair of UTF-16 escapes.

/// The pairs of a JSON text, rewritten as one YAML escape each, and how to find positions of the original again.
#[derive(Debug, Default)]
pub(super) struct Surrogates {
    rewritten: Option<String>,
    /// Where a pair stood in the rewritten text: line from 1, column from 0 of its end.
    pairs: Vec<(usize, usize)>,
}

/// `\ud83d\ude00` is 12 characters, `\U0001f600` is 10.
const SHORTER: usize = 2;

impl Surrogates {
    /// Looks only at text that begins like JSON: in YAML's other styles a backslash is a backslash.
    pub(super) fn of(text: &str) -> Self {
        if !text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).starts_with('{')
            || !text.contains("\\u")
        {
            return Self::default();
        }
        let mut out = String::with_capacity(text.len());
        let mut pairs = Vec::new();
        let (mut rest, mut line, mut column) = (text, 1, 0);
        while let Some(c) = rest.chars().next() {
            let taken = if c != '\\' {
                out.push(c);
                c.len_utf8()
            } else if let Some(pair) = pair(rest) {
                let escape = format!("\\U{:08x}", u32::from(pair));
                out.push_str(&escape);
                column += escape.len();
                pairs.push((line, column));
                rest = &rest[escape.len() + SHORTER..];
                continue;
            } else {
                // The escaped character goes along, so that `\\u` is no escape.
                let length = 1 + rest[1..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
                out.push_str(&rest[..length]);
                column += rest[..length].chars().count() - 1;
                length
            };
            (line, column) = if c == '\n' { (line + 1, 0) } else { (line, column + 1) };
            rest = &rest[taken..];
        }
        if pairs.is_empty() { Self::default() } else { Self { rewritten: Some(out), pairs } }
    }

    /// The text to read.
    pub(super) fn text<'a>(&'a self, original: &'a str) -> &'a str {
        self.rewritten.as_deref().unwrap_or(original)
    }

    /// The position in the original of one in the text that is read.
    pub(super) fn position(&self, line: usize, column: usize) -> (usize, usize) {
        let line_begins = self.pairs.partition_point(|(at, _)| *at < line);
        let before = self.pairs.partition_point(|pair| *pair <= (line, column)) - line_begins;
        (line, column + before * SHORTER)
    }
}

/// The character of a pair of escapes at the beginning of `text`.
fn pair(text: &str) -> Option<char> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
    };
    char::decode_utf16([unit(0)?, unit(6)?]).next()?.ok().filter(|c| u32::from(*c) > 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_becomes_one_escape_and_positions_stay() {
        let text = "{\"a\": \"\\ud83d\\ude00\", \"b\": \"\\\\ud83d\\ude00\"}";
        let surrogates = Surrogates::of(text);
        let read = surrogates.text(text);
        assert_eq!(read, "{\"a\": \"\\U0001f600\", \"b\": \"\\\\ud83d\\ude00\"}");
        let (here, there) = (read.find("\"b\"").unwrap(), text.find("\"b\"").unwrap());
        assert_eq!(surrogates.position(1, here), (1, there));
        assert_eq!(surrogates.position(1, 3), (1, 3));
    }

    #[test]
    fn text_that_is_not_json_stays() {
        for text in [
            "a: '\\ud83d\\ude00'",
            "{a: 1}",
            "{\"a\": \"\\u00e9\"}",
            "{\"a\": \"\\ud83d\"}",
            "{\\",
            "{\\\\\\u",
        ] {
            assert_eq!(Surrogates::of(text).text(text), text);
        }
    }
}
