//! Addresses of electronic mail, as people have them (a part of RFC 5322).

use super::{Detector, Text};

/// Finds addresses.
#[derive(Debug)]
pub(super) struct Emails;

/// RFC 5321, 4.5.3.1: the local part has at most so many bytes, and the domain.
const LOCAL: usize = 64;
const DOMAIN: usize = 255;

impl Detector for Emails {
    fn find(&self, text: &Text<'_>, found: &mut dyn FnMut(usize, usize)) {
        let text = text.bytes;
        for at in memchr::memchr_iter(b'@', text) {
            let local =
                |byte: &&u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(byte) || **byte >= 0x80;
            let before = text[..at].iter().rev().take(LOCAL).take_while(local).count();
            let domain = |byte: &&u8| byte.is_ascii_alphanumeric() || b".-".contains(byte) || **byte >= 0x80;
            let rest = &text[at + 1..];
            let mut after = rest.iter().take(DOMAIN).take_while(domain).count();
            while after > 0 && b".-".contains(&rest[after - 1]) {
                after -= 1;
            }
            if before > 0 && is_domain(&rest[..after]) {
                found(at - before, at + 1 + after);
            }
        }
    }
}

/// Names with dots between them, the last of which is no number.
fn is_domain(text: &[u8]) -> bool {
    let mut names = text.rsplit(|byte| *byte == b'.');
    let top = names.next().unwrap_or_default();
    let is_top =
        top.len() >= 2 && top.iter().all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80 || *byte == b'-');
    let mut rest = names.peekable();
    is_top && rest.peek().is_some() && rest.all(|name| !name.is_empty())
}
