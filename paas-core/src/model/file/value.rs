//! Reads typed values out of the tree, and says of every error which node it is about.

use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, Expected, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::tree::{Content, NodeId, Tree};

/// What a plain scalar is by YAML 1.2's core schema; all other scalars are texts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Text,
}

impl Plain {
    pub(super) fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            "true" | "True" | "TRUE" => Self::Bool(true),
            "false" | "False" | "FALSE" => Self::Bool(false),
            _ => Self::number(text).unwrap_or(Self::Text),
        }
    }

    fn number(text: &str) -> Option<Self> {
        let digits = |text: &str, radix: u32| {
            (!text.is_empty() && text.chars().all(|c| c.is_digit(radix)))
                .then(|| u64::from_str_radix(text, radix).ok())
        };
        if let Some(hexadecimal) = text.strip_prefix("0x") {
            return digits(hexadecimal, 16)?.map(Self::Unsigned);
        }
        if let Some(octal) = text.strip_prefix("0o") {
            return digits(octal, 8)?.map(Self::Unsigned);
        }
        let (negative, bare) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        if let Some(Some(number)) = digits(bare, 10) {
            return if !negative || number == 0 {
                Some(Self::Unsigned(number))
            } else {
                0i64.checked_sub_unsigned(number).map(Self::Negative)
            };
        }
        let sign = if negative { -1.0 } else { 1.0 };
        match bare {
            ".inf" | ".Inf" | ".INF" => return Some(Self::Float(sign * f64::INFINITY)),
            ".nan" | ".NaN" | ".NAN" if bare == text => return Some(Self::Float(f64::NAN)),
            _ => {}
        }
        // A digit somewhere before the exponent, and nothing that Rust knows as a number and YAML does not.
        let mantissa = bare.split(['e', 'E']).next()?;
        let fits = mantissa.bytes().any(|b| b.is_ascii_digit())
            && bare.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
        fits.then(|| text.parse().ok().map(Self::Float))?
    }
}

/// What does not fit.
#[derive(Clone, Debug)]
pub(super) enum What {
    UnknownKey { key: String, known: &'static [&'static str] },
    UnknownWord { word: String, known: &'static [&'static str] },
    Missing(&'static str),
    Wrong { expected: String },
    Other(String),
}

/// An error and the node it is about.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) node: Option<NodeId>,
    pub(super) what: What,
}

impl Fault {
    fn new(what: What) -> Self {
        Self { node: None, what }
    }

    /// The innermost node wins.
    fn at(mut self, node: NodeId) -> Self {
        self.node.get_or_insert(node);
        self
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(What::Other(message.to_string()))
    }
    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(What::Wrong { expected: in_words(&expected.to_string()) })
    }
    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(What::Wrong { expected: in_words(&expected.to_string()) })
    }
    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::UnknownKey { key: key.to_owned(), known })
    }
    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::UnknownWord { word: word.to_owned(), known })
    }
    fn missing_field(key: &'static str) -> Self {
        Self::new(What::Missing(key))
    }
}

/// The expectations of serde's own visitors in the words of an app file.
fn in_words(expected: &str) -> String {
    match expected {
        "a string" | "a borrowed string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        struct_or_other if struct_or_other.starts_with("struct ") => "a map",
        other => other,
    }
    .to_owned()
}

/// A node as serde reads it.
///
/// The type that is read decides, not the look of the text: for a text, the source of `1.10` or `on` is taken as it
/// stands, unless it is null.
#[derive(Clone, Copy)]
pub(super) struct Value<'t> {
    tree: &'t Tree,
    node: NodeId,
    key: bool,
}

impl<'t> Value<'t> {
    pub(super) fn root(tree: &'t Tree) -> Self {
        Self { tree, node: Tree::ROOT, key: false }
    }

    fn child(self, node: NodeId, key: bool) -> Self {
        Self { node, key, ..self }
    }

    /// Reads a value of this type from the whole tree.
    pub(super) fn read<T: Deserialize<'t>>(self) -> Result<T, Fault> {
        T::deserialize(self).map_err(|fault| fault.at(self.node))
    }

    /// The source of a scalar that is not null.
    fn source(self) -> Option<&'t str> {
        match &self.tree.nodes[self.node].content {
            Content::Scalar { text, plain } if self.key || !plain || Plain::of(text) != Plain::Null => {
                Some(text)
            }
            _ => None,
        }
    }

    fn visit<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.tree.nodes[self.node].content {
            Content::Scalar { text, plain } if self.key || !plain => visitor.visit_str(text),
            Content::Scalar { text, .. } => match Plain::of(text) {
                Plain::Null => visitor.visit_unit(),
                Plain::Bool(value) => visitor.visit_bool(value),
                Plain::Unsigned(value) => visitor.visit_u64(value),
                Plain::Negative(value) => visitor.visit_i64(value),
                Plain::Float(value) => visitor.visit_f64(value),
                Plain::Text => visitor.visit_str(text),
            },
            Content::List(items) => visitor.visit_seq(Items { of: self, rest: items.iter() }),
            Content::Map(entries) => {
                visitor.visit_map(Entries { of: self, rest: entries.iter(), value: None })
            }
        }
    }

    fn text<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Fault> {
        let read = match self.source() {
            Some(text) => visitor.visit_str(text),
            None => self.visit(visitor),
        };
        read.map_err(|fault| fault.at(self.node))
    }
}

impl<'t> Deserializer<'t> for Value<'t> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit(visitor).map_err(|fault| fault.at(self.node))
    }

    fn deserialize_str<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.text(visitor)
    }

    fn deserialize_identifier<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.text(visitor)
    }

    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Fault> {
        let read = match &self.tree.nodes[self.node].content {
            // `ready:` with nothing after it is a slip; an explicit null says what it means.
            Content::Scalar { text, plain: true } if !text.is_empty() && Plain::of(text) == Plain::Null => {
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        };
        read.map_err(|fault| fault.at(self.node))
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.source() {
            Some(text) if name == crate::model::service::SCALAR => {
                visitor.visit_str(text).map_err(|fault: Fault| fault.at(self.node))
            }
            _ => visitor.visit_newtype_struct(self).map_err(|fault| fault.at(self.node)),
        }
    }

    fn deserialize_enum<V: Visitor<'t>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let read = match self.source() {
            Some(text) => visitor.visit_enum(Word(text)),
            None => Err(Fault::new(What::Wrong { expected: one_of(words) })),
        };
        read.map_err(|fault| fault.at(self.node))
    }

    forward_to_deserialize_any! {
        <V: Visitor<'t>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct ignored_any
    }
}

/// `` `a`, `b` or `c` ``
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

struct Items<'t> {
    of: Value<'t>,
    rest: std::slice::Iter<'t, NodeId>,
}

impl<'t> SeqAccess<'t> for Items<'t> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'t>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.rest.find(|node| !self.of.tree.nodes[**node].dropped).copied() else {
            return Ok(None);
        };
        seed.deserialize(self.of.child(node, false)).map(Some).map_err(|fault| fault.at(node))
    }
}

struct Entries<'t> {
    of: Value<'t>,
    rest: std::slice::Iter<'t, (NodeId, NodeId)>,
    value: Option<NodeId>,
}

impl<'t> MapAccess<'t> for Entries<'t> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'t>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let tree = self.of.tree;
        let Some((key, value)) = self.rest.find(|(_, value)| !tree.nodes[*value].dropped).copied() else {
            return Ok(None);
        };
        self.value = Some(value);
        seed.deserialize(self.of.child(key, true)).map(Some).map_err(|fault| fault.at(key))
    }

    fn next_value_seed<T: DeserializeSeed<'t>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some(node) = self.value.take() else {
            return Err(Fault::custom("a value is read before its key"));
        };
        seed.deserialize(self.of.child(node, false)).map_err(|fault| fault.at(node))
    }
}

/// The word of an enum without data.
struct Word<'t>(&'t str);

impl<'t> EnumAccess<'t> for Word<'t> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'t>>(self, seed: T) -> Result<(T::Value, Self), Fault> {
        seed.deserialize(StrDeserializer::new(self.0)).map(|variant| (variant, self))
    }
}

impl<'t> VariantAccess<'t> for Word<'t> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'t>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(StrDeserializer::new(self.0))
    }

    fn tuple_variant<V: Visitor<'t>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::invalid_type(Unexpected::UnitVariant, &visitor))
    }

    fn struct_variant<V: Visitor<'t>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        Err(Fault::invalid_type(Unexpected::UnitVariant, &visitor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, plain) in [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("null", Plain::Null),
            ("nUll", Plain::Text),
            ("true", Plain::Bool(true)),
            ("False", Plain::Bool(false)),
            ("yes", Plain::Text),
            ("no", Plain::Text),
            ("on", Plain::Text),
            ("08080", Plain::Unsigned(8080)),
            ("0o17", Plain::Unsigned(15)),
            ("017", Plain::Unsigned(17)),
            ("0x1F", Plain::Unsigned(31)),
            ("+5", Plain::Unsigned(5)),
            ("-5", Plain::Negative(-5)),
            ("-0", Plain::Unsigned(0)),
            ("8_080", Plain::Text),
            ("0x", Plain::Text),
            ("-0x1", Plain::Text),
            ("1.10", Plain::Float(1.1)),
            ("1e3", Plain::Float(1000.0)),
            (".5", Plain::Float(0.5)),
            ("5.", Plain::Float(5.0)),
            (".", Plain::Text),
            ("e3", Plain::Text),
            ("1.2.3", Plain::Text),
            ("-.inf", Plain::Float(f64::NEG_INFINITY)),
            ("inf", Plain::Text),
            ("nan", Plain::Text),
            ("infinity", Plain::Text),
            ("99999999999999999999", Plain::Float(1e20)),
            ("1:30", Plain::Text),
            ("0b11", Plain::Text),
        ] {
            assert_eq!(Plain::of(text), plain, "{text}");
        }
    }
}
