//! Amounts with a unit, as people write them.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Unexpected;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::name::excerpt;
use crate::{Error, Result};

/// Reads a value that is written as text, and takes a bare number as its text, since `5` and `"5"` are one in YAML.
pub(super) struct TextVisitor<T>(pub(super) &'static str, pub(super) PhantomData<T>);

impl<T: FromStr<Err = Error>> serde::de::Visitor<'_> for TextVisitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
        number.to_string().parse().map_err(|_| E::invalid_value(Unexpected::Float(number), &self))
    }
}

macro_rules! as_text {
    ($name:ident, [$($type:literal),+], $expecting:literal, $pattern:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextVisitor($expecting, PhantomData))
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": [$($type),+], "pattern": $pattern, "description": $expecting })
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

/// A number of bytes: `512`, `64KiB`, `256MiB`, `5GiB`, `1TiB`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

as_text!(
    ByteSize,
    ["string", "integer"],
    "a size like 512, 64KiB, 256MiB or 5GiB",
    "^[0-9]+(B|KiB|MiB|GiB|TiB)?$"
);

const BYTE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for ByteSize {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "" => Some(1),
            unit => BYTE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes),
        };
        let bytes = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
        bytes.map(Self).ok_or_else(|| {
            Error::invalid("expected a size like 512, 64KiB, 256MiB or 5GiB").with("found", excerpt(text))
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = BYTE_UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        match unit {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Processor time in thousandths of a core: `500m`, `1`, `2.5`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CpuQuantity {
    /// Thousandths of a core.
    pub millis: u32,
}

as_text!(
    CpuQuantity,
    ["string", "number"],
    "processor time like 500m, 1 or 2.5",
    "^[0-9]+(m|\\.[0-9]{1,3})?$"
);

impl FromStr for CpuQuantity {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let millis = match text.strip_suffix('m') {
            Some(number) => number.parse::<u32>().ok(),
            None => thousandths(text),
        };
        millis.map(|millis| Self { millis }).ok_or_else(|| {
            Error::invalid("expected processor time like 500m, 1 or 2.5").with("found", excerpt(text))
        })
    }
}

impl fmt::Display for CpuQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millis.is_multiple_of(1_000) {
            write!(f, "{}", self.millis / 1_000)
        } else {
            write!(f, "{}m", self.millis)
        }
    }
}

/// A decimal number with at most three places, times a thousand.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty()
        || places.len() > 3
        || !whole.bytes().chain(places.bytes()).all(|b| b.is_ascii_digit())
    {
        return None;
    }
    format!("{whole}{places:0<3}").parse().ok()
}

/// A share in hundredths of a per cent, 0 % to 100 %: `5%`, `0.5%`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Percent {
    basis_points: u16,
}

as_text!(Percent, ["string"], "a share like 5% or 0.5%, at most 100%", "^[0-9]+(\\.[0-9]{1,2})?%$");

impl Percent {
    /// All of it.
    pub const ALL: Self = Self { basis_points: 10_000 };

    /// A whole per cent; more than 100 is 100.
    #[must_use]
    pub const fn whole(percent: u8) -> Self {
        Self { basis_points: if percent > 100 { 10_000 } else { percent as u16 * 100 } }
    }

    /// Hundredths of a per cent, 0 to 10,000.
    #[must_use]
    pub const fn basis_points(self) -> u32 {
        self.basis_points as u32
    }

    /// This share of a count, rounded up.
    #[must_use]
    pub fn of(self, count: u32) -> u32 {
        u32::try_from((u64::from(count) * u64::from(self.basis_points)).div_ceil(10_000)).unwrap_or(u32::MAX)
    }
}

impl FromStr for Percent {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        text.strip_suffix('%')
            .and_then(thousandths)
            .filter(|thousandths| *thousandths <= 100_000 && thousandths.is_multiple_of(10))
            .and_then(|thousandths| u16::try_from(thousandths / 10).ok())
            .map(|basis_points| Self { basis_points })
            .ok_or_else(|| {
                Error::invalid("expected a share like 5% or 0.5%, at most 100%").with("found", excerpt(text))
            })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, places) = (self.basis_points / 100, self.basis_points % 100);
        match places {
            0 => write!(f, "{whole}%"),
            _ if places.is_multiple_of(10) => write!(f, "{whole}.{}%", places / 10),
            _ => write!(f, "{whole}.{places:02}%"),
        }
    }
}

/// A length of time as people write it: `250ms`, `2m`, `1h 30m`. For serde's `with`.
pub mod duration {
    use serde::Deserializer;

    use super::{Duration, Error, PhantomData, Serializer, TextVisitor, excerpt};

    /// Writes it as text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    /// Reads it from text; at most a year.
    ///
    /// # Errors
    /// Where the text is no length of time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        struct Length(Duration);
        impl std::str::FromStr for Length {
            type Err = Error;
            fn from_str(text: &str) -> crate::Result<Self> {
                parse(text).map(Self)
            }
        }
        let visitor = TextVisitor::<Length>(EXPECTED, PhantomData);
        deserializer.deserialize_any(visitor).map(|length| length.0)
    }

    const EXPECTED: &str = "a length of time like 250ms, 30s or 2m, at most a year";

    pub(in crate::model) fn parse(text: &str) -> crate::Result<Duration> {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
        let duration = humantime::parse_duration(text).ok().filter(|duration| *duration <= YEAR);
        duration.ok_or_else(|| Error::invalid(format!("expected {EXPECTED}")).with("found", excerpt(text)))
    }

    /// Its JSON Schema.
    #[must_use]
    pub fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "a length of time like 250ms, 30s or 2m" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_survive_their_text() {
        for text in ["0B", "512B", "64KiB", "256MiB", "5GiB", "3TiB", "1025B"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        for text in ["500m", "1", "2500m"] {
            assert_eq!(text.parse::<CpuQuantity>().unwrap().to_string(), text);
        }
        for text in ["0%", "5%", "0.5%", "0.05%", "12.25%", "100%"] {
            assert_eq!(text.parse::<Percent>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_quantities_say_what_was_expected() {
        for text in ["", "-1", "5GB", "1.5MiB", "99999999999TiB", "MiB"] {
            assert!(text.parse::<ByteSize>().unwrap_err().to_string().contains("expected a size"), "{text}");
        }
        for text in ["", "m", "1.2345", "-1", "1e3"] {
            assert!(text.parse::<CpuQuantity>().is_err(), "{text}");
        }
        for text in ["5", "101%", "1.005%", "%", "-1%"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_of_a_count_is_rounded_up() {
        assert_eq!(Percent::whole(5).of(3), 1);
        assert_eq!(Percent::whole(50).of(3), 2);
        assert_eq!(Percent::ALL.of(3), 3);
        assert_eq!(Percent::whole(0).of(3), 0);
    }
}
