//! The scanner's errors in the words of somebody who never read the YAML specification.

use crate::model::name::excerpt;

/// The column of the first `:` of a line where a key should end and does not, for want of a space.
pub(super) fn missing_space(line: &str) -> Option<usize> {
    let colon = line.find(':')?;
    let key = line[..colon].trim_start().trim_start_matches("- ");
    let fits = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    let follows = line[colon + 1..].starts_with(|c: char| !c.is_whitespace());
    (fits && follows && !line.contains(": ")).then(|| line[..colon].chars().count() + 1)
}

/// What the scanner means.
pub(super) fn explain(info: &str) -> String {
    const KNOWN: [(&str, &str); 20] = [
        ("tab", "a tab cannot indent; use spaces"),
        ("unknown anchor", "aliases (`*name`) are not supported; write the value out"),
        (
            "mapping values are not allowed",
            "a second `:` in one value, or a line that is indented too far; quote a text that holds `: `",
        ),
        ("illegal placement of ':'", "a `:` is not expected here; is a bracket never closed?"),
        ("simple key expect", "expected `key: value`; a `:` and a space are missing"),
        ("':' must be followed", "a space is missing after the `:`"),
        ("'-' must be followed", "a space is missing after the `-`"),
        ("block sequence entries", "a list written with `- ` begins on a line of its own"),
        ("invalid indentation in quoted", "a quote is never closed"),
        (
            "invalid indentation in flow",
            "this line is indented too little for the open bracket; is it never closed?",
        ),
        ("invalid indentation", "this line is indented unlike its neighbours"),
        ("unexpected end of stream", "a quote is never closed"),
        ("unexpected character", "a value cannot begin with this character; quote it"),
        ("flow sequence", "expected `,` or `]`; is a bracket never closed?"),
        ("flow mapping", "expected `,` or `}`; is a bracket never closed?"),
        (
            "block collection",
            "expected another `- ` item; a list and keys are mixed, or the indentation is off",
        ),
        ("block mapping", "expected another `key: value`, or less indentation"),
        ("recursion limit", "nested too deep"),
        ("invalid trailing content", "unexpected text after a quoted value; a `:` or `,` is missing"),
        ("document start", "this does not belong to what stands above; check the indentation"),
    ];
    let known = KNOWN.iter().find(|(part, _)| info.contains(part)).map(|(_, text)| (*text).to_owned());
    known.unwrap_or_else(|| format!("cannot be read as YAML: {}", excerpt(info)))
}
