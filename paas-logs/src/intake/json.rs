//! JSON as it stands, a value at a time: nothing is built but what somebody asks for.
//!
//! Strings are any bytes: whoever sends a line that is no UTF-8 has it kept as it is.

use std::borrow::Cow;

use memchr::memchr2;
use paas_core::model::unescaped;

/// So deep objects and arrays may stand in each other.
const DEEPEST: usize = 64;

/// A text that is no JSON: where, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// How many bytes come before it.
    pub(crate) at: usize,
    pub(crate) why: &'static str,
}

/// A value. What it holds is read with [`Json::members`] or [`Json::items`] at once, and before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Its text without escapes.
    String(Cow<'a, [u8]>),
    /// A number, as it is written.
    Number(&'a [u8]),
    True,
    False,
    Null,
    Object,
    Array,
}

/// What is left of a text.
#[derive(Clone, Debug)]
pub(crate) struct Json<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Json<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// How much of the text was read.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// What stands between a place and here.
    pub(crate) fn since(&self, from: usize) -> &'a [u8] {
        self.text.get(from..self.at).unwrap_or_default()
    }

    fn refuse<T>(&self, why: &'static str) -> Result<T, Malformed> {
        Err(Malformed { at: self.at, why })
    }

    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next byte that is no space.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8, why: &'static str) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return self.refuse(why);
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing may follow.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_some() { self.refuse("nothing is expected after the value") } else { Ok(()) }
    }

    /// The next value.
    pub(crate) fn value(&mut self) -> Result<Value<'a>, Malformed> {
        match self.peek() {
            Some(b'"') => Ok(Value::String(unescaped(self.string()?))),
            Some(b'{') => Ok(Value::Object),
            Some(b'[') => Ok(Value::Array),
            Some(b't') => self.word(b"true", Value::True),
            Some(b'f') => self.word(b"false", Value::False),
            Some(b'n') => self.word(b"null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.refuse("a JSON value is expected"),
            None => self.refuse("a JSON value is expected, and the text ends"),
        }
    }

    fn word(&mut self, word: &'static [u8], value: Value<'a>) -> Result<Value<'a>, Malformed> {
        if !self.text[self.at..].starts_with(word) {
            return self.refuse("a JSON value is expected");
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<Value<'a>, Malformed> {
        let from = self.at;
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        self.at += self.text[from..].iter().take_while(|byte| is_part(byte)).count();
        let text = self.since(from);
        let number = std::str::from_utf8(text).ok().filter(|text| text.parse::<f64>().is_ok());
        if number.is_none() {
            self.at = from;
            return self.refuse("a number is expected");
        }
        Ok(Value::Number(text))
    }

    /// What stands between the quotes of a string.
    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        self.take(b'"', "a string is expected")?;
        let from = self.at;
        loop {
            let Some(found) = memchr2(b'"', b'\\', &self.text[self.at..]) else {
                self.at = self.text.len();
                return self.refuse("a string has no end");
            };
            self.at += found;
            if self.text[self.at] == b'"' {
                self.at += 1;
                return Ok(&self.text[from..self.at - 1]);
            }
            if self.at + 2 > self.text.len() {
                self.at = self.text.len();
                return self.refuse("a string has no end");
            }
            self.at += 2;
        }
    }

    fn enter(&mut self) -> Result<(), Malformed> {
        self.depth += 1;
        if self.depth > DEEPEST { self.refuse("values are nested too deeply") } else { Ok(()) }
    }

    /// The members of an object. Each `visit` reads the value.
    pub(crate) fn members(
        &mut self,
        mut visit: impl FnMut(&mut Self, &[u8]) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.take(b'{', "an object is expected")?;
        self.enter()?;
        if self.peek() != Some(b'}') {
            loop {
                self.skip_space();
                let name = unescaped(self.string()?);
                self.take(b':', "`:` is expected after a name")?;
                visit(self, &name)?;
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
            }
        }
        self.depth -= 1;
        self.take(b'}', "`,` or `}` is expected")
    }

    /// The values of an array. Each `visit` reads one.
    pub(crate) fn items(
        &mut self,
        mut visit: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.take(b'[', "an array is expected")?;
        self.enter()?;
        if self.peek() != Some(b']') {
            loop {
                visit(self)?;
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
            }
        }
        self.depth -= 1;
        self.take(b']', "`,` or `]` is expected")
    }

    /// Reads a value that nobody asks for; gives what stands there.
    pub(crate) fn skip(&mut self) -> Result<&'a [u8], Malformed> {
        self.skip_space();
        let from = self.at;
        match self.peek() {
            Some(b'"') => drop(self.string()?),
            Some(b'{') => self.members(|json, _| json.skip().map(drop))?,
            Some(b'[') => self.items(|json| json.skip().map(drop))?,
            _ => drop(self.value()?),
        }
        Ok(self.since(from))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn malformed(text: &str) -> (usize, &'static str) {
        let mut json = Json::new(text.as_bytes());
        let refused = json.skip().and_then(|_| json.end()).unwrap_err();
        (refused.at, refused.why)
    }

    #[test]
    fn what_is_no_json_is_told_with_the_place() {
        assert_eq!(malformed(r#"{"a":1"#), (6, "`,` or `}` is expected"));
        assert_eq!(malformed(r#"{"a" 1}"#), (5, "`:` is expected after a name"));
        assert_eq!(malformed(r#"{"a":1} x"#), (8, "nothing is expected after the value"));
        assert_eq!(malformed(r#"{"a":nul}"#), (5, "a JSON value is expected"));
        assert_eq!(malformed(r#"{"a":"b\"#), (8, "a string has no end"));
        assert_eq!(malformed("1.2.3"), (0, "a number is expected"));
        assert_eq!(malformed(&"[".repeat(65)).1, "values are nested too deeply");
        assert_eq!(malformed(""), (0, "a JSON value is expected, and the text ends"));
    }

    #[test]
    fn strings_are_any_bytes() {
        let text = b"[\"\xff\\n\\u00e4\", \"\"]";
        let (mut json, mut values) = (Json::new(text), Vec::new());
        json.items(|json| json.value().map(|value| values.push(value))).unwrap();
        let expected = [&b"\xff\n\xc3\xa4"[..], b""].map(|text| Value::String(text.to_vec().into()));
        assert_eq!(values, expected);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in "[\\[\\]{}\",:\\\\a0 tfn.-]{0,60}", bytes: Vec<u8>) {
            let _refused = Json::new(text.as_bytes()).skip();
            let _refused = Json::new(&bytes).skip();
        }

        #[test]
        fn what_is_json_is_read_to_its_end(number: f64, text: String) {
            let value = serde_json::json!({ "a": [number, text, null, true, { "b": [] }], "": {} });
            let text = value.to_string();
            let mut json = Json::new(text.as_bytes());
            prop_assert_eq!(json.skip(), Ok(text.as_bytes()));
            prop_assert_eq!(json.end(), Ok(()));
        }
    }
}
