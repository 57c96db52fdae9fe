//! Numbers that stand for people: of cards, telephones, and states' registers.

use std::ops::Range;

use super::{Detector, Text};

/// Numbers of payment cards: known beginnings and lengths, grouped as printed on cards or not at all, with a right check
/// digit (ISO/IEC 7812-1).
#[derive(Debug)]
pub(super) struct Cards;

/// Telephone numbers as ITU-T E.164 writes them, with a `+`; and ten digits grouped as in North America.
#[derive(Debug)]
pub(super) struct Phones;

/// Numbers of people in the registers of some states: US social security, Chinese resident identity, Spanish DNI and NIE, UK
/// national insurance. Check digits are checked where there are any.
#[derive(Debug)]
pub(super) struct NationalIds;

/// Digits, and what stands between them.
struct Digits<'a> {
    start: usize,
    end: usize,
    text: &'a [u8],
}

/// No number of digits alone has fewer of them, and what stands between them.
const SHORTEST: usize = 8;

/// Numbers that no letter or digit touches.
fn runs<'a>(text: &'a Text<'_>) -> impl Iterator<Item = Digits<'a>> {
    let touched = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let bytes = text.bytes;
    let is_whole = move |run: &&Range<usize>| {
        let before = run.start.checked_sub(1).map(|at| &bytes[at]);
        run.len() >= SHORTEST && !touched(before) && !touched(bytes.get(run.end))
    };
    let digits =
        move |run: &Range<usize>| Digits { start: run.start, end: run.end, text: &bytes[run.clone()] };
    text.numbers().iter().filter(is_whole).map(digits)
}

impl Digits<'_> {
    /// Its groups, each as where it begins and ends.
    fn groups(&self) -> Vec<(usize, usize)> {
        let mut groups = Vec::new();
        let mut start = 0;
        for (at, byte) in self.text.iter().enumerate() {
            if !byte.is_ascii_digit() {
                groups.push((start, at));
                start = at + 1;
            }
        }
        groups.push((start, self.text.len()));
        groups
    }

    /// Whether its groups are as long as these.
    fn is_shaped(&self, lengths: &[usize]) -> bool {
        // Most are not even as long.
        self.text.len() == lengths.iter().sum::<usize>() + lengths.len() - 1
            && self.groups().iter().map(|(start, end)| end - start).eq(lengths.iter().copied())
    }
}

/// The longest number of a card that begins with the first of some groups: how many groups it takes.
fn card(text: &[u8], groups: &[(usize, usize)]) -> Option<usize> {
    // The longest shape has five.
    let lengths: Vec<usize> = groups.iter().take(5).map(|(start, end)| end - start).collect();
    let shapes: [&[usize]; 4] = [&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 4, 3]];
    let printed = shapes.iter().filter(|shape| lengths.starts_with(shape)).map(|shape| shape.len());
    let whole = (13..=19).contains(&lengths[0]).then_some(1);
    printed
        .chain(whole)
        .filter(|count| {
            let (start, end) = (groups[0].0, groups[count - 1].1);
            let digits: Vec<u8> =
                text[start..end].iter().filter(|b| b.is_ascii_digit()).map(|b| b - b'0').collect();
            let separators = text[start..end].iter().filter(|b| !b.is_ascii_digit());
            is_issued(&digits)
                && luhn(&digits)
                && separators.clone().all(|b| Some(b) == separators.clone().next())
        })
        .max()
}

/// Whether a card number of this length begins so.
fn is_issued(digits: &[u8]) -> bool {
    let first =
        |count: usize| digits.iter().take(count).fold(0_u32, |number, digit| number * 10 + u32::from(*digit));
    match digits.len() {
        13 => first(1) == 4,
        14 => matches!(first(3), 300..=305) || matches!(first(2), 36 | 38 | 39),
        15 => matches!(first(2), 34 | 37),
        16 => {
            first(1) == 4
                || matches!(first(2), 51..=55 | 65 | 62)
                || matches!(first(4), 2221..=2720 | 3528..=3589 | 6011)
                || matches!(first(3), 644..=649)
        }
        17 | 18 => first(2) == 62,
        19 => first(1) == 4 || matches!(first(2), 62),
        _ => false,
    }
}

/// The check of ISO/IEC 7812-1, annex B.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let value = u32::from(*digit) * if at % 2 == 1 { 2 } else { 1 };
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}

impl Detector for Cards {
    fn find(&self, text: &Text<'_>, found: &mut dyn FnMut(usize, usize)) {
        for run in runs(text).filter(|run| run.text.len() >= 13) {
            let groups = run.groups();
            let mut at = 0;
            while at < groups.len() {
                match card(run.text, &groups[at..]) {
                    Some(count) => {
                        found(run.start + groups[at].0, run.start + groups[at + count - 1].1);
                        at += count;
                    }
                    None => at += 1,
                }
            }
        }
    }
}

impl Detector for Phones {
    fn find(&self, text: &Text<'_>, found: &mut dyn FnMut(usize, usize)) {
        for run in runs(text) {
            let count = || run.text.iter().filter(|byte| byte.is_ascii_digit()).count();
            let before = run.start.checked_sub(1).map(|at| text.bytes[at]);
            if before == Some(b'+') && (8..=15).contains(&count()) {
                found(run.start - 1, run.end);
            } else if run.is_shaped(&[3, 3, 4]) || run.is_shaped(&[1, 3, 3, 4]) {
                found(run.start, run.end);
            }
        }
        // `(555) 123-4567`.
        for open in memchr::memchr_iter(b'(', text.bytes) {
            if let Some(length) = after_area(&text.bytes[open + 1..]) {
                found(open, open + 1 + length);
            }
        }
    }
}

/// How long the rest of a number is whose area stands in parentheses, of which the first was read.
fn after_area(text: &[u8]) -> Option<usize> {
    let (area, rest) = text.split_first_chunk::<4>()?;
    if !area[..3].iter().all(u8::is_ascii_digit) || area[3] != b')' {
        return None;
    }
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let number = rest.first_chunk::<8>()?;
    let is_number = number[..3].iter().chain(&number[4..]).all(u8::is_ascii_digit)
        && matches!(number[3], b'-' | b'.' | b' ')
        && !rest.get(8).is_some_and(u8::is_ascii_digit);
    is_number.then(|| text.len() - rest.len() + 8)
}

impl Detector for NationalIds {
    fn find(&self, text: &Text<'_>, found: &mut dyn FnMut(usize, usize)) {
        for run in runs(text) {
            let is_social =
                run.is_shaped(&[3, 2, 4]) && run.text[3] == b'-' && run.text[6] == b'-' && is_ssn(run.text);
            if is_social || is_resident(run.text) {
                found(run.start, run.end);
            }
        }
        for Range { start, end } in words(text) {
            let word = &text.bytes[start..end];
            if is_resident(word) || is_spanish(word) || is_insurance(word) {
                found(start, end);
            }
        }
    }
}

/// Runs of letters and digits around numbers that begin or end with a letter, as long as the numbers that have letters.
fn words(text: &Text<'_>) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.bytes;
    // The longest has 18 bytes; of a longer run it need not be known how long it is.
    let alphanumeric = |byte: &&u8| byte.is_ascii_alphanumeric();
    let ahead = move |from: usize| bytes[from..].iter().take(20).take_while(alphanumeric).count();
    let behind = move |to: usize| bytes[..to].iter().rev().take(20).take_while(alphanumeric).count();
    let around = move |run: &Range<usize>| {
        let first = run.start - behind(run.start)..run.start + ahead(run.start);
        let last = run.end - behind(run.end)..run.end + ahead(run.end);
        let last = (last != first).then_some(last);
        std::iter::once(first).chain(last)
    };
    let is_one = move |word: &Range<usize>| {
        matches!(word.len(), 9 | 18) && bytes[word.clone()].iter().any(u8::is_ascii_alphabetic)
    };
    text.numbers().iter().flat_map(around).filter(is_one)
}

/// Three digits that were given out, two, and four, none of them zeros.
fn is_ssn(text: &[u8]) -> bool {
    let (area, group, serial) = (&text[..3], &text[4..6], &text[7..]);
    area != b"000" && area != b"666" && area[0] != b'9' && group != b"00" && serial != b"0000"
}

/// GB 11643-1999: a place, a day, a number, and a check character by ISO 7064 (MOD 11-2).
fn is_resident(text: &[u8]) -> bool {
    const CHECKS: &[u8; 11] = b"10X98765432";
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let Some((digits, check)) = text.split_first_chunk::<17>() else { return false };
    let [check] = check else { return false };
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(&digits[6..8], b"18" | b"19" | b"20") {
        return false;
    }
    let sum: u32 = digits.iter().zip(WEIGHTS).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    check.to_ascii_uppercase() == CHECKS[(sum % 11) as usize]
}

/// Eight digits, of a NIE the first a letter instead, and a letter that follows from them.
fn is_spanish(text: &[u8]) -> bool {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let Ok([first, rest @ .., letter]) = <&[u8; 9]>::try_from(text) else { return false };
    let first = match first {
        b'X' => b'0',
        b'Y' => b'1',
        b'Z' => b'2',
        first => *first,
    };
    let digits = std::iter::once(&first).chain(rest);
    if !digits.clone().all(u8::is_ascii_digit) {
        return false;
    }
    let number = digits.fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    *letter == LETTERS[(number % 23) as usize]
}

/// Two letters, six digits, and a letter from A to D.
fn is_insurance(text: &[u8]) -> bool {
    let Ok([first, second, digits @ .., last]) = <&[u8; 9]>::try_from(text) else { return false };
    let given = |byte: &u8| byte.is_ascii_uppercase() && !b"DFIQUV".contains(byte);
    let unused = [b"BG", b"GB", b"NK", b"KN", b"TN", b"NT", b"ZZ"];
    given(first)
        && given(second)
        && *second != b'O'
        && !unused.contains(&&[*first, *second])
        && digits.iter().all(u8::is_ascii_digit)
        && (b'A'..=b'D').contains(last)
}
