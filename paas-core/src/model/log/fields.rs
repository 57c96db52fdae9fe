//! What rules find out about lines.

use std::borrow::Cow;

use crate::model::filter::{pair, pairs, put_pair};

/// What is known of lines beside what stands in them: of each, `name=value` pairs.
///
/// The pairs of a line are text as [`pairs`] reads it, and empty where there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFields(Option<Box<Pairs>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pairs {
    /// Those of all lines.
    text: Vec<u8>,
    /// Where those of each line begin.
    starts: Vec<u32>,
}

impl LogFields {
    /// Those of no line yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is known of any line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text().is_empty()
    }

    /// The pairs of a line; none where nothing is known of it.
    #[must_use]
    pub fn of(&self, line: usize) -> &[u8] {
        let (text, starts) = (self.text(), self.starts());
        let Some(start) = starts.get(line) else { return &[] };
        let end = starts.get(line + 1).map_or(text.len(), |next| *next as usize);
        &text[*start as usize..end]
    }

    /// The pairs of all lines, one after the other.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |pairs| &pairs.text)
    }

    /// Where the pairs of each line begin in [`text`](Self::text).
    #[must_use]
    pub fn starts(&self) -> &[u32] {
        self.0.as_ref().map_or(&[], |pairs| &pairs.starts)
    }

    /// Adds what is known of the next line: pairs as [`put_pair`] writes them.
    pub fn push(&mut self, pairs: &[u8]) {
        let own = self.0.get_or_insert_default();
        own.starts.push(u32::try_from(own.text.len()).unwrap_or(u32::MAX));
        own.text.extend_from_slice(pairs);
    }

    /// What is left without those of so many of the first lines.
    #[must_use]
    pub fn without_first(&self, lines: usize) -> Self {
        let mut rest = Self::new();
        (lines..self.starts().len()).for_each(|line| rest.push(self.of(line)));
        rest
    }
}

/// Writes pairs, in which each name comes once.
///
/// ```
/// use paas_core::model::{LogPairs, pairs};
///
/// let mut own = LogPairs::default();
/// own.set("status", b"500");
/// own.set("path", b"/my cart");
/// own.set("status", b"502");
/// assert_eq!(own.bytes(), br#"path="/my cart" status=502"#);
/// assert_eq!(pairs(own.bytes()).count(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPairs(Vec<u8>);

impl LogPairs {
    /// Takes pairs that were written before in the place of its own.
    pub fn replace(&mut self, pairs: &[u8]) {
        self.0.clear();
        self.0.extend_from_slice(pairs);
    }

    /// Gives a name a value, in the place of the one that it had.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        put_pair(&mut self.0, name, value);
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        pair(&self.0, name.as_bytes())
    }

    /// Takes a name out, and gives the value that it had.
    pub fn remove(&mut self, name: &str) -> Option<Vec<u8>> {
        let value = self.get(name)?.into_owned();
        let mut rest = Vec::with_capacity(self.0.len());
        for (own, value) in pairs(&self.0).filter(|(own, _)| *own != name.as_bytes()) {
            put_pair(&mut rest, &String::from_utf8_lossy(own), &value);
        }
        self.0 = rest;
        Some(value)
    }

    /// They, as text.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pairs_are_read_as_they_were_written(
            values in prop::collection::btree_map("[a-z_@][a-z0-9_.@/-]{0,8}", any::<Vec<u8>>(), 0..6),
        ) {
            let mut own = LogPairs::default();
            values.iter().for_each(|(name, value)| own.set(name, value));
            let read: std::collections::BTreeMap<_, _> = pairs(own.bytes())
                .map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.into_owned()))
                .collect();
            prop_assert_eq!(&read, &values);
            if let Some((name, value)) = values.first_key_value() {
                prop_assert_eq!(own.remove(name), Some(value.clone()));
                prop_assert_eq!(own.get(name), None);
                prop_assert_eq!(pairs(own.bytes()).count(), values.len() - 1);
            }
        }
    }

    #[test]
    fn each_line_has_its_own() {
        let mut fields = LogFields::new();
        ["", "a=1", "", "b=2 c=3"].iter().for_each(|pairs| fields.push(pairs.as_bytes()));
        assert_eq!(
            (fields.of(0), fields.of(1), fields.of(3), fields.of(4)),
            (&b""[..], &b"a=1"[..], &b"b=2 c=3"[..], &b""[..])
        );
        let rest = fields.without_first(2);
        assert_eq!((rest.of(0), rest.of(1)), (&b""[..], &b"b=2 c=3"[..]));
    }
}
