//! A command line as a list of arguments; no shell ever sees it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::limit;
use super::name::excerpt;
use super::service::Scalar;
use crate::{Error, Result};

/// What to run: a program and its arguments.
///
/// In an app file it is a text, split at white space with `'` and `"` to keep parts together and `\` before a single
/// character, or a list of arguments. `$NAME` and `${NAME}` stand for variables of the service's environment; each
/// expands within its one argument, whatever the value holds. `$$` is a dollar sign.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Command(Vec<String>);

impl Command {
    /// Takes a program and its arguments.
    ///
    /// # Errors
    /// `Invalid` when empty, too long (see [`limit`]), or with a NUL byte, which no argument can carry.
    pub fn new<I: IntoIterator<Item: Into<String>>>(arguments: I) -> Result<Self> {
        let arguments: Vec<String> = arguments.into_iter().map(Into::into).collect();
        if arguments.first().is_none_or(String::is_empty) {
            return Err(Error::invalid("a command needs a program"));
        }
        if arguments.len() > limit::ARGS {
            return Err(Error::invalid("too many arguments").with("most", limit::ARGS));
        }
        for argument in &arguments {
            if argument.len() > limit::ARG || argument.contains('\0') {
                return Err(Error::invalid("an argument is too long or has a NUL byte")
                    .with("argument", excerpt(argument))
                    .with("longest", limit::ARG));
            }
        }
        Ok(Self(arguments))
    }

    /// The program and its arguments, variables not yet expanded.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        &self.0
    }

    /// The arguments with every variable replaced by its value.
    ///
    /// # Errors
    /// `Invalid` naming a variable that `env` has not.
    pub fn expand(&self, env: &BTreeMap<String, String>) -> Result<Vec<String>> {
        self.expand_with(|name| env.get(name).cloned())
    }

    /// As [`Command::expand`], with what `value` knows of each variable.
    ///
    /// # Errors
    /// `Invalid` naming a variable that has no value.
    pub fn expand_with(&self, value: impl Fn(&str) -> Option<String>) -> Result<Vec<String>> {
        self.0.iter().map(|argument| expand(argument, &value)).collect()
    }

    /// The variables it mentions.
    ///
    /// # Errors
    /// `Invalid` for a `$` that no name follows.
    pub fn variables(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for argument in &self.0 {
            expand(argument, |name| {
                found.push(name.to_owned());
                Some(String::new())
            })?;
        }
        Ok(found)
    }
}

fn expand(text: &str, mut lookup: impl FnMut(&str) -> Option<String>) -> Result<String> {
    let wrong = || {
        Error::invalid("`$` needs a variable's name after it; write `$$` for a dollar sign")
            .with("in", excerpt(text))
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match rest.strip_prefix('{') {
            Some(inner) => inner.split_once('}').ok_or_else(wrong)?,
            None => rest
                .split_at(rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(wrong());
        }
        out.push_str(&lookup(name).ok_or_else(|| {
            Error::invalid("no such variable; set it under `env`, or need the service it belongs to")
                .with("variable", name)
        })?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Splits a text into arguments.
impl FromStr for Command {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut arguments = Vec::new();
        let mut current: Option<String> = None;
        let mut quote: Option<char> = None;
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(c);
                    current.get_or_insert_default();
                }
                (None | Some('"'), '\\') => {
                    let next =
                        chars.next().ok_or_else(|| Error::invalid("a backslash at the end of a command"))?;
                    current.get_or_insert_default().push(next);
                }
                (None, c) if c.is_whitespace() => arguments.extend(current.take()),
                (_, c) => current.get_or_insert_default().push(c),
            }
        }
        if let Some(open) = quote {
            return Err(Error::invalid("a quote is never closed")
                .with("quote", open)
                .with("command", excerpt(text)));
        }
        arguments.extend(current);
        Self::new(arguments)
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

struct Visitor;

impl<'de> serde::de::Visitor<'de> for Visitor {
    type Value = Command;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command as text or as a list of arguments")
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Command, E> {
        text.parse().map_err(E::custom)
    }
    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Command, A::Error> {
        let mut arguments = Vec::new();
        while let Some(Scalar(argument)) = list.next_element()? {
            arguments.push(argument);
        }
        Command::new(arguments).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for Command {
    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a command as text (split at white space, quotes keep parts together) or as a list of arguments",
            "oneOf": [
                { "type": "string", "minLength": 1 },
                { "type": "array", "items": { "type": ["string", "number", "boolean"] }, "minItems": 1, "maxItems": limit::ARGS },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        text.parse::<Command>().unwrap().0
    }

    #[test]
    fn text_is_split_as_people_expect() {
        assert_eq!(split(" ./api  --db x "), ["./api", "--db", "x"]);
        assert_eq!(split(r#"a "b c" 'd "e' f\ g "" "h\"i""#), ["a", "b c", "d \"e", "f g", "", "h\"i"]);
        for bad in ["", "  ", "a 'b", "a \\", "''"] {
            assert!(bad.parse::<Command>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variable_stays_within_its_argument() {
        let env = BTreeMap::from([("DB".to_owned(), "x y'; $Z".to_owned())]);
        let command: Command = "run $DB a${DB}b $$1".parse().unwrap();
        assert_eq!(command.expand(&env).unwrap(), ["run", "x y'; $Z", "ax y'; $Zb", "$1"]);
        let error = "run $NOPE".parse::<Command>().unwrap().expand(&env).unwrap_err();
        assert_eq!(error.context("variable"), Some("NOPE"));
        assert!("run $".parse::<Command>().unwrap().expand(&env).is_err());
    }
}
