//! Faults and findings as sentences.

use super::tree::{Content, NodeId, Tree};
use super::value::{Plain, What, one_of};
use crate::Error;
use crate::model::app::nearest;
use crate::model::name::excerpt;

/// A finding of the model with its context, as one sentence.
pub(super) fn in_a_sentence(error: &Error) -> String {
    let mut sentence = error.message().to_owned();
    let context: Vec<String> = error
        .contexts()
        .filter(|(key, _)| *key != "did you mean")
        .map(|(key, value)| format!("{key}: {}", excerpt(value)))
        .collect();
    if !context.is_empty() {
        sentence.push_str(&format!(" ({})", context.join(", ")));
    }
    if let Some(near) = error.context("did you mean") {
        sentence.push_str(&format!("; did you mean `{}`?", excerpt(near)));
    }
    sentence
}

/// What a fault is in words.
pub(super) struct Words {
    pub(super) message: String,
    pub(super) expected: Option<String>,
    pub(super) nearest: Option<String>,
}

impl Words {
    pub(super) fn of(tree: &Tree, node: NodeId, what: What) -> Self {
        match what {
            What::UnknownKey { key, known } => Self::unknown_key(tree, node, &key, known),
            What::UnknownWord { word, known } => {
                let near = nearest(&word, known.iter().copied()).map(str::to_owned);
                let expected = one_of(known);
                let hint = near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                let message = format!("expected {expected}, found \"{}\"{hint}", excerpt(&word));
                Self { message, expected: Some(expected), nearest: near }
            }
            What::Missing(key) => {
                let message = format!("the key `{key}` is missing in {}", place(&tree.path(node)));
                Self { message, expected: Some(key.to_owned()), nearest: None }
            }
            What::Wrong { expected } => {
                let message = format!("expected {expected}, found {}", found(tree, node, &expected));
                Self { message, expected: Some(expected), nearest: None }
            }
            What::Other(message) => Self { message, expected: None, nearest: None },
        }
    }

    fn unknown_key(tree: &Tree, node: NodeId, key: &str, known: &'static [&'static str]) -> Self {
        let path = tree.path(node);
        let near = nearest(key, known.iter().copied()).or_else(|| habit(key, known)).map(str::to_owned);
        let hint = match &near {
            Some(near) => format!("; did you mean `{near}`?"),
            None => format!("; it may have {}", one_of(known)),
        };
        let message = format!("unknown key `{}` in {}{hint}", excerpt(key), place(&path));
        Self { message, expected: Some(one_of(known)), nearest: near }
    }
}

/// What people are used to from other tools.
fn habit(key: &str, known: &'static [&'static str]) -> Option<&'static str> {
    const HABITS: [(&str, &str); 24] = [
        ("cmd", "run"),
        ("command", "run"),
        ("entrypoint", "run"),
        ("exec", "run"),
        ("environment", "env"),
        ("depends_on", "needs"),
        ("requires", "needs"),
        ("links", "needs"),
        ("healthcheck", "ready"),
        ("health", "ready"),
        ("readiness", "ready"),
        ("readinessProbe", "ready"),
        ("liveness", "live"),
        ("livenessProbe", "live"),
        ("instances", "replicas"),
        ("scale", "replicas"),
        ("host", "domain"),
        ("hostname", "domain"),
        ("strategy", "release"),
        ("deploy", "release"),
        ("mounts", "volumes"),
        ("resources", "limits"),
        ("cpu", "limits.cpu"),
        ("memory", "limits.memory"),
    ];
    let (_, meant) = HABITS.iter().find(|(habit, _)| *habit == key)?;
    let first = meant.split('.').next().unwrap_or(meant);
    known.contains(&first).then_some(*meant)
}

/// What people call the map at this path.
fn place(path: &[String]) -> String {
    match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => "an app file".to_owned(),
        ["services", _] => "a service".to_owned(),
        ["environments", _] => "an environment".to_owned(),
        ["environments", _, "services", _] => "a service of an environment".to_owned(),
        [.., "volumes", _] => "a volume".to_owned(),
        [.., list, index] if index.parse::<usize>().is_ok() => format!("an item of `{}`", excerpt(list)),
        [.., last] => format!("`{}`", excerpt(last)),
    }
}

/// What stands at a node, in words.
fn found(tree: &Tree, node: NodeId, expected: &str) -> String {
    match &tree.nodes[node].content {
        Content::List(_) => "a list".to_owned(),
        Content::Map(_) => "a map".to_owned(),
        Content::Scalar { text, plain: true } if text.is_empty() => "nothing".to_owned(),
        Content::Scalar { text, plain: true } if Plain::of(text) != Plain::Text => excerpt(text),
        Content::Scalar { text, plain } => {
            let bare = matches!(Plain::of(text), Plain::Bool(_) | Plain::Unsigned(_));
            let wanted = expected.contains("number") || expected.contains("true");
            let hint = if !plain && bare && wanted { "; without quotes it is no text" } else { "" };
            format!("\"{}\"{hint}", excerpt(text))
        }
    }
}
