//! Fields of a line as it is: of JSON objects, and `name=value` pairs. Nothing is built but what is asked for.

use std::borrow::Cow;

/// The text of a field of a line, if it has one: a value of a JSON object, where the line begins as one (`user.id` is a
/// member of a member), else of a `name=value` pair. Strings come without quotes and escapes; of two of the same name the
/// first counts.
///
/// A line that is cut off or broken gives what stands before the break.
#[must_use]
pub fn field<'a>(line: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    let line = line.trim_ascii_start();
    if line.first() == Some(&b'{') { member(line, name.as_bytes()) } else { pair(line, name.as_bytes()) }
}

/// A member of the object that a text begins with.
fn member<'a>(object: &'a [u8], name: &[u8]) -> Option<Cow<'a, [u8]>> {
    let mut rest = object.strip_prefix(b"{")?.trim_ascii_start();
    while rest.first() == Some(&b'"') {
        let (key, after) = string(rest)?;
        let value = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let key = unescaped(key);
        if *key == *name {
            return text(value);
        }
        let below = name.strip_prefix(&*key).and_then(|below| below.strip_prefix(b"."));
        if let Some(found) = below.and_then(|below| member(value, below)) {
            return Some(found);
        }
        rest = skip(value)?.trim_ascii_start().strip_prefix(b",")?.trim_ascii_start();
    }
    None
}

/// What stands between the quotes that a text begins with, and what comes after them.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        match inner.get(at)? {
            b'"' => return Some((&inner[..at], &inner[at + 1..])),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The value that a text begins with.
fn text(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    if let Some((inner, _)) = string(value) {
        return Some(unescaped(inner));
    }
    let rest = skip(value)?;
    Some(Cow::Borrowed(value[..value.len() - rest.len()].trim_ascii_end()))
}

/// What comes after the value that a text begins with.
fn skip(value: &[u8]) -> Option<&[u8]> {
    let mut rest = value;
    let mut depth = 0_usize;
    loop {
        match rest.first()? {
            b'"' => rest = string(rest)?.1,
            b'{' | b'[' => (depth, rest) = (depth + 1, &rest[1..]),
            b'}' | b']' if depth == 0 => return Some(rest),
            b'}' | b']' => (depth, rest) = (depth - 1, &rest[1..]),
            b',' if depth == 0 => return Some(rest),
            _ => rest = &rest[1..],
        }
    }
}

/// A JSON string's text. What is no escape stays as it stands.
#[must_use]
pub fn unescaped(inner: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', inner) else { return Cow::Borrowed(inner) };
    let mut text = Vec::with_capacity(inner.len());
    let (mut rest, mut next) = (inner, Some(first));
    while let Some(at) = next {
        text.extend_from_slice(&rest[..at]);
        rest = unescape(&rest[at..], &mut text);
        next = memchr::memchr(b'\\', rest);
    }
    text.extend_from_slice(rest);
    Cow::Owned(text)
}

/// Adds what a text begins with, which is a backslash, as it is meant, and gives what comes after.
fn unescape<'a>(rest: &'a [u8], text: &mut Vec<u8>) -> &'a [u8] {
    let plain = match rest.get(1) {
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'r') => b'\r',
        Some(b'b') => 8,
        Some(b'f') => 12,
        Some(kept @ (b'"' | b'\\' | b'/')) => *kept,
        Some(b'u') => {
            let (character, after) = unicode(rest).unwrap_or((char::REPLACEMENT_CHARACTER, &rest[2..]));
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return after;
        }
        _ => {
            text.push(b'\\');
            return &rest[1..];
        }
    };
    text.push(plain);
    &rest[2..]
}

/// The character that `\uXXXX` stands for, or two of them, and what comes after.
fn unicode(rest: &[u8]) -> Option<(char, &[u8])> {
    fn unit(rest: &[u8]) -> Option<(u16, &[u8])> {
        let digits = rest.strip_prefix(b"\\u")?.get(..4)?;
        let digits =
            std::str::from_utf8(digits).ok().filter(|own| own.bytes().all(|b| b.is_ascii_hexdigit()))?;
        Some((u16::from_str_radix(digits, 16).ok()?, &rest[6..]))
    }
    let (first, after) = unit(rest)?;
    if let Some(character) = char::from_u32(u32::from(first)) {
        return Some((character, after));
    }
    let (second, after) = unit(after)?;
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((character, after))
}

/// The value of the first `name=value` of a text.
pub(crate) fn pair<'a>(text: &'a [u8], name: &[u8]) -> Option<Cow<'a, [u8]>> {
    pairs(text).find(|(own, _)| *own == name).map(|(_, value)| value)
}

/// The `name=value` pairs of a text, in order; a value may stand between quotes. Words that are no pairs are passed over.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], Cow<'_, [u8]>)> {
    let mut rest = text.trim_ascii_start();
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = rest.iter().position(|b| b.is_ascii_whitespace() || *b == b'=').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            let Some(value) = after.strip_prefix(b"=") else {
                rest = after.trim_ascii_start();
                continue;
            };
            let (value, after) = match string(value) {
                Some((inner, after)) => (unescaped(inner), after),
                None => {
                    let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
                    (Cow::Borrowed(&value[..end]), &value[end..])
                }
            };
            rest = after.trim_ascii_start();
            return Some((name, value));
        }
        None
    })
}

/// Adds a pair to those of a text, so that [`pairs`] reads it. A name has no white space and no `=`.
pub fn put_pair(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !out.is_empty() {
        out.push(b' ');
    }
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    let is_plain = |byte: &u8| !byte.is_ascii_whitespace() && !matches!(byte, b'"' | b'\\');
    if !value.is_empty() && value.iter().all(is_plain) {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'\n' => out.extend(b"\\n"),
            other => out.push(*other),
        }
    }
    out.push(b'"');
}
