//! Reading values that people may write short (a text) or long (a map).

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::limit;
use crate::Error;

struct TextOrMap<F, T>(&'static str, PhantomData<(F, T)>);

impl<'de, F, T> Visitor<'de> for TextOrMap<F, T>
where
    F: Deserialize<'de>,
    T: FromStr<Err = Error> + TryFrom<F, Error = Error>,
{
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
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        F::deserialize(MapAccessDeserializer::new(map))?.try_into().map_err(A::Error::custom)
    }
}

/// Reads a `T` from a text by `FromStr`, or from a map by way of its form `F`.
pub(super) fn text_or_map<'de, F, T, D>(deserializer: D, expecting: &'static str) -> Result<T, D::Error>
where
    F: Deserialize<'de>,
    T: FromStr<Err = Error> + TryFrom<F, Error = Error>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(TextOrMap::<F, T>(expecting, PhantomData))
}

struct OneOrMany<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + FromStr<Err = Error>> Visitor<'de> for OneOrMany<T> {
    type Value = Vec<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value or a list")
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        text.parse().map(|one| vec![one]).map_err(E::custom)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<T>, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list))
    }
}

/// Reads a list, or one text as a list of one.
pub(super) fn one_or_many<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de> + FromStr<Err = Error>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(OneOrMany(PhantomData))
}

/// Reads an optional list, or one text as a list of one.
pub(super) fn maybe_one_or_many<'de, T, D>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: Deserialize<'de> + FromStr<Err = Error>,
    D: Deserializer<'de>,
{
    struct Some<T>(Vec<T>);
    impl<'de, T: Deserialize<'de> + FromStr<Err = Error>> Deserialize<'de> for Some<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            one_or_many(deserializer).map(Self)
        }
    }
    Ok(Option::<Some<T>>::deserialize(deserializer)?.map(|some| some.0))
}

/// A whole number within bounds that its errors name.
struct Between<const LEAST: u32, const MOST: u32>(u32);

impl<const LEAST: u32, const MOST: u32> Visitor<'_> for Between<LEAST, MOST> {
    type Value = Self;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {LEAST} to {MOST}")
    }
    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self, E> {
        match u32::try_from(number) {
            Ok(number) if (LEAST..=MOST).contains(&number) => Ok(Self(number)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }
}

impl<'de, const LEAST: u32, const MOST: u32> Deserialize<'de> for Between<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(Self(0))
    }
}

/// Reads a port.
pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let port = Option::<Between<1, 65_535>>::deserialize(deserializer)?;
    Ok(port.and_then(|port| u16::try_from(port.0).ok()))
}

/// Reads a number of replicas.
pub(super) fn replicas<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Between::<0, { limit::REPLICAS }>::deserialize(deserializer).map(|replicas| replicas.0)
}

/// Reads an optional number of replicas.
pub(super) fn maybe_replicas<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let replicas = Option::<Between<0, { limit::REPLICAS }>>::deserialize(deserializer)?;
    Ok(replicas.map(|replicas| replicas.0))
}

/// Reads how many failures of a probe count.
pub(super) fn failures<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Between::<1, 100>::deserialize(deserializer).map(|failures| failures.0)
}
