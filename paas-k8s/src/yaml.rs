//! Values as YAML that every reader takes for the same.

use serde_json::Value;

/// How deep a value is indented in what holds it.
const STEP: usize = 2;

/// Writes a value as a document, ended by a newline.
pub(crate) fn write(value: &Value, text: &mut String) {
    if is_leaf(value) {
        leaf(value, text);
        text.push('\n');
    } else {
        block(value, 0, text);
    }
}

/// What stands on the line of its key.
fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    }
}

/// A map or list of more than nothing, each item on lines of its own. The first is not indented: what comes before has done it.
fn block(value: &Value, depth: usize, text: &mut String) {
    let mut is_first = true;
    let mut begin = |text: &mut String| {
        if !std::mem::take(&mut is_first) {
            text.extend(std::iter::repeat_n(' ', depth));
        }
    };
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                begin(text);
                quoted(key, text);
                text.push(':');
                under(value, depth, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                begin(text);
                text.push_str("- ");
                if is_leaf(item) {
                    leaf(item, text);
                    text.push('\n');
                } else {
                    block(item, depth + STEP, text);
                }
            }
        }
        _ => {}
    }
}

/// What a key leads to.
fn under(value: &Value, depth: usize, text: &mut String) {
    if is_leaf(value) {
        text.push(' ');
        leaf(value, text);
        text.push('\n');
    } else {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', depth + STEP));
        block(value, depth + STEP, text);
    }
}

fn leaf(value: &Value, text: &mut String) {
    match value {
        Value::String(string) => quoted(string, text),
        // Null, numbers, and what is empty are the same in JSON.
        other => text.push_str(&other.to_string()),
    }
}

/// Whether a text can stand without quotes: one that no version of YAML takes for something else.
fn is_plain(string: &str) -> bool {
    let mut characters = string.chars();
    let begins = characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '/');
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let words = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
    begins && characters.all(inner) && !words.iter().any(|word| string.eq_ignore_ascii_case(word))
}

/// A text; with quotes, and as JSON writes it, wherever it could be taken for anything else. Characters that a reader of
/// YAML refuses or takes for the end of a line are escaped.
fn quoted(string: &str, text: &mut String) {
    if is_plain(string) {
        text.push_str(string);
        return;
    }
    for c in Value::from(string).to_string().chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
}
