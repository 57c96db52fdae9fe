//! When a line was written, as it says itself.

use paas_core::model::Timestamp;

/// So many milliseconds before it is read a line may be written. Otherwise its stamp does not count.
const OLDEST: i64 = 24 * 60 * 60 * 1_000;
/// The same, where nobody knows in which zone its stamp is.
const OLDEST_WITHOUT_ZONE: i64 = 15 * 60 * 1_000;
/// So far ahead the clock of whoever wrote it may be.
const FUTURE: i64 = 60 * 1_000;

/// What a stamp says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    /// Milliseconds since 1970, in UTC where no zone is told.
    millis: i64,
    has_zone: bool,
}

/// The time that a text tells, where that may be the one at which a line was written that was read at `read`.
pub(crate) fn stamp(text: &[u8], read: Timestamp) -> Option<Timestamp> {
    let read = i64::try_from(read.0).ok()?;
    let stamp = of_text(text.trim_ascii(), read)?;
    let age = read.checked_sub(stamp.millis)?;
    let oldest = if stamp.has_zone { OLDEST } else { OLDEST_WITHOUT_ZONE };
    let time = (-FUTURE..=oldest).contains(&age).then_some(stamp.millis)?;
    u64::try_from(time).ok().map(Timestamp)
}

/// RFC 3339 and what is close to it, the stamps of nginx, Apache, Go and klog, or a number of seconds, milli-, micro- or
/// nanoseconds since 1970.
fn of_text(text: &[u8], read: i64) -> Option<Stamp> {
    let is_number = text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if is_number {
        return of_number(text);
    }
    let mut cursor = Cursor(text);
    let (year, month, day) = date(&mut cursor, read)?;
    cursor.one_of(b"Tt :")?;
    let hour = cursor.digits(2)?;
    cursor.one_of(b":")?;
    let minute = cursor.digits(2)?;
    let second = cursor.one_of(b":").and_then(|_| cursor.digits(2)).unwrap_or(0);
    let is_time = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && (1970..3000).contains(&year);
    if !is_time {
        return None;
    }
    let fraction = cursor.fraction();
    let zone = cursor.zone();
    if !cursor.0.is_empty() {
        return None;
    }
    let seconds =
        days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - zone.unwrap_or(0) * 60;
    Some(Stamp { millis: seconds * 1_000 + fraction, has_zone: zone.is_some() })
}

/// Year, month and day.
fn date(cursor: &mut Cursor<'_>, read: i64) -> Option<(i64, i64, i64)> {
    Some(match cursor.0 {
        [_, _, b'/', ..] => {
            // 27/Nov/2026:01:02:03 +0000
            let (day, _) = (cursor.digits(2)?, cursor.one_of(b"/")?);
            let month = cursor.month()?;
            cursor.one_of(b"/")?;
            (cursor.digits(4)?, month, day)
        }
        [_, _, _, _, b'-' | b'/', ..] => {
            let year = cursor.digits(4)?;
            cursor.one_of(b"-/")?;
            let month = cursor.digits(2)?;
            cursor.one_of(b"-/")?;
            (year, month, cursor.digits(2)?)
        }
        // 1127 01:02:03.456789, of the year in which it was read.
        _ => {
            let (month, day) = (cursor.digits(2)?, cursor.digits(2)?);
            let year = (1970..3000).find(|year| days(year + 1, 1, 1) * 86_400_000 > read)?;
            (year, month, day)
        }
    })
}

/// By how large it is a number is one of seconds, or of parts of them.
fn of_number(text: &[u8]) -> Option<Stamp> {
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let millis = match number {
        ..1e11 => number * 1e3,
        ..1e14 => number,
        ..1e17 => number / 1e3,
        _ => number / 1e6,
    };
    Some(Stamp { millis: millis as i64, has_zone: true })
}

/// Days from 1970 to a day of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the day of a leap year is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// What is left of a text.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let number = digits.iter().try_fold(0, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
        })?;
        self.0 = rest;
        Some(number)
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = if bytes.contains(first) { rest } else { return None };
        Some(*first)
    }

    fn month(&mut self) -> Option<i64> {
        const NAMES: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
        let (name, rest) = self.0.split_at_checked(3)?;
        let at = NAMES.chunks(3).position(|own| own.eq_ignore_ascii_case(name))?;
        self.0 = rest;
        i64::try_from(at + 1).ok()
    }

    /// Milliseconds of a second, behind a point or a comma.
    fn fraction(&mut self) -> i64 {
        if self.one_of(b".,").is_none() {
            return 0;
        }
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        let digit = |at: usize| digits.get(at).map_or(0, |byte| i64::from(byte - b'0'));
        digit(0) * 100 + digit(1) * 10 + digit(2)
    }

    /// Minutes east of Greenwich.
    fn zone(&mut self) -> Option<i64> {
        let before = self.0;
        self.one_of(b" ");
        let sign = match self.one_of(b"Zz+-") {
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(_) => return Some(0),
            None => {
                self.0 = before;
                return None;
            }
        };
        let hours = self.digits(2)?;
        self.one_of(b":");
        Some(sign * (hours * 60 + self.digits(2)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-27T01:02:03.456Z
    const NOW: Timestamp = Timestamp(1_795_741_323_456);

    #[test]
    fn stamps_are_read_as_loggers_write_them() {
        for text in [
            "2026-11-27T01:02:03.456Z",
            "2026-11-27 01:02:03,456",
            "2026-11-27T02:02:03.456789+01:00",
            "2026-11-26 20:02:03.456 -0500",
            "2026/11/27 01:02:03.456",
            "27/Nov/2026:02:02:03.456 +0100",
            "1127 01:02:03.456789",
            "1795741323.456",
            "1795741323456",
            "1795741323456789",
            "1795741323456000000",
        ] {
            assert_eq!(stamp(text.as_bytes(), NOW + std::time::Duration::from_secs(5)), Some(NOW), "{text}");
        }
        assert_eq!(NOW.to_string(), "2026-11-27T01:02:03.456Z");
    }

    #[test]
    fn what_cannot_be_the_time_of_a_line_is_none() {
        for text in [
            "",
            "yesterday",
            "2026-13-27T01:02:03Z",
            "2026-11-27T25:02:03Z",
            "2026-11-27T01:02:03Z and more",
            // Of the future, or too old.
            "2026-11-27T01:04:03Z",
            "2026-11-25T01:02:03Z",
            // Without a zone, and likely in another.
            "2026-11-27 00:02:03",
            "12",
        ] {
            assert_eq!(stamp(text.as_bytes(), NOW), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9TZ:/ .,+a-zA-Z-]{0,40}", read: u64) {
            stamp(text.as_bytes(), Timestamp(read));
        }

        #[test]
        fn every_time_is_read_as_it_is_written(millis in 1_000_000_000_000_u64..4_000_000_000_000) {
            let time = Timestamp(millis);
            prop_assert_eq!(stamp(time.to_string().as_bytes(), time), Some(time));
        }
    }
}
