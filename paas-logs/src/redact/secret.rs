//! The values of secrets.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use paas_core::model::Secret;
use paas_core::{Error, Result};

use super::Detector;

/// Shorter values stand in too many lines by chance.
const SHORTEST: usize = 6;

/// Finds values, as they are and as they stand in JSON strings, in URLs, and in base64.
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
            forms.extend([value.to_vec(), json(value), url(value)]);
            // A value of several lines shows a line at a time.
            let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            forms.extend(lines.filter(|line| line.len() >= SHORTEST).map(<[u8]>::to_vec));
            forms.extend((0..3).filter_map(|shift| base64_inner(value, shift)));
        }
        if forms.is_empty() {
            return Ok(None);
        }
        let finder = AhoCorasickBuilder::new().match_kind(MatchKind::LeftmostLongest).build(forms);
        let refused = |_| Error::invalid("the values of secrets are too long to be looked for");
        finder.map(|finder| Some(Self(finder))).map_err(refused)
    }
}

/// As it stands in a JSON string.
fn json(value: &[u8]) -> Vec<u8> {
    let text = serde_json::to_vec(&String::from_utf8_lossy(value)).unwrap_or_default();
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(value).to_vec()
}

/// As it stands in a URL (RFC 3986, percent encoding).
fn url(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            out.extend(format!("%{byte:02X}").bytes());
        }
    }
    out
}

/// What is the same in base64 (RFC 4648) whatever stands after it, and `shift` bytes stand before it, modulo three.
fn base64_inner(value: &[u8], shift: usize) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // What shares a group with the bytes before depends on them.
    let own = value.get((3 - shift) % 3..)?;
    let whole = &own[..own.len() / 3 * 3];
    let text: Vec<u8> = whole
        .chunks(3)
        .flat_map(|group| {
            let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
            [18, 12, 6, 0].map(|at| ALPHABET[(bits >> at & 63) as usize])
        })
        .collect();
    (text.len() >= 8).then_some(text)
}

impl Detector for Values {
    fn find(&self, text: &[u8], found: &mut dyn FnMut(usize, usize)) {
        self.0.find_iter(text).for_each(|part| found(part.start(), part.end()));
    }
}
