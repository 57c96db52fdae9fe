//! What stands where a password stands: in a URL, after its name, or as a private key.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use memchr::memmem;
use paas_core::{Error, Result};

use super::{Detector, Text};

/// Private keys as in RFC 7468, from their first line to their last, or to the end of the text.
#[derive(Debug)]
pub(super) struct PrivateKeys;

/// Passwords in URLs (RFC 3986, userinfo), and values of fields that are named like one: in JSON, `name=value`, headers.
#[derive(Debug)]
pub(super) struct Passwords(AhoCorasick);

/// Names of such fields; they may be the end of a longer name, in any case of the letters.
const NAMES: [&str; 18] = [
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "secret_key",
    "secretkey",
    "secret-key",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "accesskey",
    "private_key",
    "privatekey",
    "token",
    "authorization",
    "set-cookie",
];

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const KEY: &[u8] = b"PRIVATE KEY";
const DASHES: &[u8] = b"-----";
/// A name of a kind of key is no longer than this.
const KIND: usize = 32;
/// Longest userinfo of a URL, in bytes.
const USER: usize = 512;

/// Whether a private key begins in a text and does not end in it.
pub(crate) fn is_open_key(text: &[u8]) -> bool {
    let last = memmem::rfind(text, BEGIN).map(|at| &text[at + BEGIN.len()..]);
    last.is_some_and(|rest| key_word(rest).is_some() && key_end(rest).is_none())
}

/// Where a key ends that has begun before this.
fn key_end(rest: &[u8]) -> Option<usize> {
    let ends = memmem::find_iter(rest, END).map(|at| at + END.len());
    ends.filter_map(|at| Some(at + key_word(&rest[at..])?)).next()
}

/// Where the label of a private key ends, if a text begins with one.
fn key_word(rest: &[u8]) -> Option<usize> {
    let near = &rest[..rest.len().min(KIND + KEY.len() + DASHES.len())];
    let end = memmem::find(near, DASHES)?;
    memmem::find(&near[..end], KEY).map(|_| end + DASHES.len())
}

/// Whether a line may be of a private key that has begun before it.
pub(crate) fn is_key_line(line: &[u8]) -> bool {
    is_key_body(line) || line.starts_with(END)
}

/// Whether a line is base64, or one of what stands before that.
fn is_key_body(line: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\r\n".contains(byte);
    let is_header = [&b"Proc-Type:"[..], b"DEK-Info:"].iter().any(|name| line.starts_with(name));
    is_header || line.iter().all(is_base64)
}

/// How much of a text may be of a key that does not end in it.
fn key_body(rest: &[u8]) -> usize {
    let mut length = 0;
    for line in rest.split_inclusive(|byte| *byte == b'\n') {
        if length > 0 && !is_key_body(line) {
            break;
        }
        length += line.len();
    }
    if rest[..length].ends_with(b"\n") { length - 1 } else { length }
}

impl Detector for PrivateKeys {
    fn find(&self, text: &Text<'_>, found: &mut dyn FnMut(usize, usize)) {
        let text = text.bytes;
        // Where no end is found once, there is none further on.
        let mut has_ends = true;
        let mut at = 0;
        while let Some(begin) = memmem::find(&text[at..], BEGIN).map(|begin| at + begin) {
            let after = begin + BEGIN.len();
            at = after;
            if key_word(&text[after..]).is_none() {
                continue;
            }
            let end = if has_ends { key_end(&text[after..]) } else { None };
            has_ends = end.is_some();
            at = after + end.unwrap_or_else(|| key_body(&text[after..]));
            found(begin, at);
        }
    }
}

impl Passwords {
    pub(super) fn new() -> Result<Self> {
        // The search with SIMD does not look over the case of letters, so the text is made lower.
        let finder = AhoCorasickBuilder::new().match_kind(MatchKind::LeftmostLongest).build(NAMES);
        let refused = |cause| Error::internal("the names of passwords cannot be compiled").with_source(cause);
        finder.map(Self).map_err(refused)
    }
}

impl Detector for Passwords {
    fn find(&self, text: &Text<'_>, found: &mut dyn FnMut(usize, usize)) {
        let (lower, text) = (text.lower(), text.bytes);
        for at in memmem::find_iter(text, b"://") {
            let start = at + 3;
            let length =
                text[start..].iter().take(USER).take_while(|byte| !b"/?# \t\r\n\"'<>".contains(byte)).count();
            let authority = &text[start..start + length];
            let Some(end) = memchr::memrchr(b'@', authority) else { continue };
            if let Some(colon) = memchr::memchr(b':', &authority[..end]).filter(|colon| colon + 1 < end) {
                found(start + colon + 1, start + end);
            }
        }
        // Up to where a value was looked at: what stands within need not be looked at again.
        let mut seen = 0;
        for name in self.0.find_iter(lower) {
            if name.end() < seen {
                continue;
            }
            let Some((start, end, is_hidden)) = value(text, name.end()) else { continue };
            seen = end;
            if is_hidden {
                found(start, end);
            }
        }
    }
}

/// Where the value of a field is whose name ends there, if it has one, and whether it is worth hiding.
fn value(text: &[u8], name: usize) -> Option<(usize, usize, bool)> {
    let skip = |mut at: usize, what: &[u8]| {
        while text.get(at).is_some_and(|byte| what.contains(byte)) {
            at += 1;
        }
        at
    };
    let at = skip(name, b"\\\"'");
    let at = skip(at, b" ");
    let sign = text.get(at).filter(|byte| b":=".contains(byte))?;
    // A URL, or a path of a program.
    if *sign == b':' && text.get(at + 1) == Some(&b':') {
        return None;
    }
    let mut start = skip(at + 1, b" =>");
    let is_nested = text.get(start) == Some(&b'\\');
    start = skip(start, b"\\");
    let quote = text.get(start).copied().filter(|byte| b"\"'".contains(byte));
    let start = if quote.is_some() { start + 1 } else { scheme(text, start) };
    let rest = &text[start..];
    let length = match quote {
        Some(quote) => quoted(rest, quote, is_nested),
        None => rest.iter().take_while(|byte| !b" \t\r\n,;&\"'}])<>".contains(byte)).count(),
    };
    let hidden = match &rest[..length] {
        b"" | b"null" | b"nil" | b"none" | b"None" | b"true" | b"false" | b"undefined" => false,
        // What is hidden already, or a reference.
        value => {
            value.iter().any(|byte| !b"*x.X".contains(byte))
                && !value.starts_with(b"[redacted:")
                && !b"{[$%".contains(&value[0])
        }
    };
    Some((start, start + length, hidden))
}

/// How long a value is that ends with this quote.
fn quoted(rest: &[u8], quote: u8, is_nested: bool) -> usize {
    let mut at = 0;
    while let Some(byte) = rest.get(at) {
        match *byte {
            b'\n' => break,
            b'\\' if is_nested => break,
            b'\\' => at += 2,
            byte if byte == quote => break,
            _ => at += 1,
        }
    }
    at.min(rest.len())
}

/// Passes over the scheme of a header of authorization.
fn scheme(text: &[u8], start: usize) -> usize {
    let schemes: [&[u8]; 4] = [b"Bearer ", b"Basic ", b"Token ", b"Digest "];
    let is_there = |scheme: &&&[u8]| {
        text[start..].get(..scheme.len()).is_some_and(|own| own.eq_ignore_ascii_case(scheme))
    };
    schemes.iter().find(is_there).map_or(start, |scheme| start + scheme.len())
}
