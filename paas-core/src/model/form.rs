//! Reading values that people may write short (a text) or long (a map).

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

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
        text.parse().map_err(E::custom)
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
