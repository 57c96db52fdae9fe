//! Tokens that say by their beginning what they are, and signed tokens (RFC 7519).

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use paas_core::{Error, Result};

use super::{Detector, Text};

/// Finds tokens.
#[derive(Debug)]
pub(super) struct Tokens(AhoCorasick);

/// Of what the rest of a token is made.
#[derive(Clone, Copy)]
enum Of {
    /// Capital letters and digits.
    Capitals,
    /// Letters, digits, `-` and `_`.
    Letters,
    /// Those, and dots.
    Dotted,
}

/// How tokens begin, how long the rest is at least, and what it is made of.
const BEGINNINGS: [(&str, usize, Of); 38] = [
    ("paaslog_", 64, Of::Letters),
    ("ghp_", 30, Of::Letters),
    ("gho_", 30, Of::Letters),
    ("ghu_", 30, Of::Letters),
    ("ghs_", 30, Of::Dotted),
    ("ghr_", 30, Of::Letters),
    ("github_pat_", 30, Of::Letters),
    ("glpat-", 20, Of::Dotted),
    ("gldt-", 20, Of::Letters),
    ("glrt-", 20, Of::Dotted),
    ("xoxb-", 20, Of::Letters),
    ("xoxp-", 20, Of::Letters),
    ("xoxa-", 20, Of::Letters),
    ("xoxr-", 20, Of::Letters),
    ("xoxs-", 20, Of::Letters),
    ("xapp-", 20, Of::Letters),
    ("AKIA", 16, Of::Capitals),
    ("ASIA", 16, Of::Capitals),
    ("sk_live_", 16, Of::Letters),
    ("sk_test_", 16, Of::Letters),
    ("rk_live_", 16, Of::Letters),
    ("rk_test_", 16, Of::Letters),
    ("pk_live_", 16, Of::Letters),
    ("whsec_", 20, Of::Letters),
    ("sk-ant-", 20, Of::Letters),
    ("sk-proj-", 20, Of::Letters),
    ("AIza", 35, Of::Letters),
    ("ya29.", 20, Of::Dotted),
    ("npm_", 36, Of::Letters),
    ("pypi-", 50, Of::Letters),
    ("dop_v1_", 60, Of::Letters),
    ("hvs.", 20, Of::Dotted),
    ("hvb.", 20, Of::Dotted),
    ("SG.", 40, Of::Dotted),
    ("dckr_pat_", 20, Of::Letters),
    ("shpat_", 30, Of::Letters),
    ("AGE-SECRET-KEY-1", 50, Of::Capitals),
    (SIGNED, 0, Of::Dotted),
];

/// The beginning of a JSON object in base64: the header of a signed token.
const SIGNED: &str = "eyJ";

/// The header and the content of a signed token have at least so many bytes.
const SHORTEST_PART: usize = 10;

impl Tokens {
    pub(super) fn new() -> Result<Self> {
        let mut builder = AhoCorasickBuilder::new();
        let finder =
            builder.match_kind(MatchKind::LeftmostFirst).build(BEGINNINGS.iter().map(|(text, ..)| text));
        let refused =
            |cause| Error::internal("the beginnings of tokens cannot be compiled").with_source(cause);
        finder.map(Self).map_err(refused)
    }
}

impl Of {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Capitals => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Letters => byte.is_ascii_alphanumeric() || b"-_".contains(&byte),
            Self::Dotted => byte.is_ascii_alphanumeric() || b"-_.".contains(&byte),
        }
    }
}

impl Detector for Tokens {
    fn find(&self, text: &Text<'_>, found: &mut dyn FnMut(usize, usize)) {
        let text = text.bytes;
        let mut known = 0;
        for beginning in self.0.find_iter(text) {
            let (start, rest) = (beginning.start(), &text[beginning.end()..]);
            let inner = start.checked_sub(1).is_some_and(|at| text[at].is_ascii_alphanumeric());
            if start < known || inner {
                continue;
            }
            let (name, least, of) = BEGINNINGS[beginning.pattern().as_usize()];
            if name == SIGNED && rest.iter().take(SHORTEST_PART).any(|byte| *byte == b'.') {
                continue;
            }
            let mut length = rest.iter().take_while(|byte| of.has(**byte)).count();
            // A sentence ends with a dot.
            while length > 0 && rest[length - 1] == b'.' && name != SIGNED {
                length -= 1;
            }
            let is_token = if name == SIGNED { is_signed(&rest[..length]) } else { length >= least };
            if is_token {
                known = beginning.end() + length;
                found(start, known);
            }
        }
    }
}

/// Three parts with dots between them, of which the last may be empty. More of them is taken for one, too.
fn is_signed(rest: &[u8]) -> bool {
    let mut parts = rest.split(|byte| *byte == b'.').map(<[u8]>::len);
    let long = |part: Option<usize>| part.is_some_and(|part| part >= SHORTEST_PART);
    long(parts.next()) && long(parts.next()) && parts.next().is_some()
}
