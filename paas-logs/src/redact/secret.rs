//! The values of secrets.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use paas_core::model::Secret;
use paas_core::{Error, Result};

use super::{Detector, Text};

/// Shorter values stand in too many lines by chance.
const SHORTEST: usize = 6;

/// Finds values, as they are and as they stand in JSON strings, in URLs and forms, and in base64.
pub(super) struct Values(AhoCorasick);

impl std::fmt::Debug for Values {
    /// It is made of secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Values")
    }
}

impl Values {
    pub(super) fn new(secrets: &[Secret]) -> Result<Option<Self>> {
        let mut forms: BTreeSet<Vec<u8>> = BTreeSet::new();
        for value in secrets.iter().map(|secret| secret.expose().trim_ascii()) {
            if value.len() < SHORTEST {
                continue;
            }
            forms.insert(value.to_vec());
            forms.extend(json(value));
            forms.extend(url(value));
            // A value of several lines shows a line at a time.
            let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            forms.extend(lines.filter(|line| line.len() >= SHORTEST).map(<[u8]>::to_vec));
            let alphabets = [b"+/", b"-_"];
            let base64 = |last| (0..3).filter_map(move |shift| base64_inner(value, shift, last));
            forms.extend(alphabets.into_iter().flat_map(base64));
        }
        if forms.is_empty() {
            return Ok(None);
        }
        let finder = AhoCorasickBuilder::new().match_kind(MatchKind::LeftmostLongest).build(forms);
        let refused = |_| Error::invalid("the values of secrets are too long to be looked for");
        finder.map(|finder| Some(Self(finder))).map_err(refused)
    }
}

/// As it stands in JSON strings: as most write it; as Go does, which escapes what HTML knows; as PHP does, which escapes slashes; and
/// in ASCII alone, as Python writes it.
fn json(value: &[u8]) -> [Vec<u8>; 4] {
    let text = serde_json::to_string(&String::from_utf8_lossy(value)).unwrap_or_default();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default();
    let escaped = |is_wanted: fn(char) -> bool| {
        let mut out = String::new();
        for letter in text.chars() {
            if is_wanted(letter) {
                let mut units = [0; 2];
                letter
                    .encode_utf16(&mut units)
                    .iter()
                    .for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            } else {
                out.push(letter);
            }
        }
        out.into_bytes()
    };
    let of_html = escaped(|letter| "<>&\u{2028}\u{2029}".contains(letter));
    [text.into(), of_html, text.replace('/', "\\/").into(), escaped(|letter| !letter.is_ascii())]
}

/// As it stands in a URL (RFC 3986, percent encoding; its digits in either case) and in a form, where a space is a plus sign.
fn url(value: &[u8]) -> [Vec<u8>; 3] {
    let encoded = |is_upper: bool, space: &str| {
        let mut out = String::new();
        for byte in value {
            match byte {
                b' ' => out.push_str(space),
                byte if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) => out.push(char::from(*byte)),
                byte if is_upper => out.push_str(&format!("%{byte:02X}")),
                byte => out.push_str(&format!("%{byte:02x}")),
            }
        }
        out.into_bytes()
    };
    [encoded(true, "%20"), encoded(false, "%20"), encoded(true, "+")]
}

/// What is the same in base64 (RFC 4648, whose two alphabets differ in the `last` letters) whatever stands after it, and `shift`
/// bytes stand before it, modulo three.
fn base64_inner(value: &[u8], shift: usize, last: &[u8; 2]) -> Option<Vec<u8>> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // What shares a group with the bytes before depends on them.
    let own = value.get((3 - shift) % 3..)?;
    let whole = &own[..own.len() / 3 * 3];
    let text: Vec<u8> = whole
        .chunks(3)
        .flat_map(|group| {
            let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
            [18, 12, 6, 0].map(|at| {
                let digit = (bits >> at & 63) as usize;
                LETTERS.get(digit).copied().unwrap_or_else(|| last[digit - LETTERS.len()])
            })
        })
        .collect();
    (text.len() >= 8).then_some(text)
}

impl Detector for Values {
    fn find(&self, text: &Text<'_>, found: &mut dyn FnMut(usize, usize)) {
        self.0.find_iter(text.bytes).for_each(|part| found(part.start(), part.end()));
    }
}
