//! How grave a line is, as it says itself.

use paas_core::model::{Level, LogBatch, field};

/// The fields in which loggers tell it.
const FIELDS: [&str; 6] = ["level", "severity", "lvl", "loglevel", "log.level", "levelname"];
/// Only so far into a line a word is taken for its level.
const HEAD: usize = 160;

/// The level of each line, as it is known or as the line says it; nothing where no line has one.
pub(crate) fn levels(batch: &LogBatch) -> Vec<Option<Level>> {
    let known = |at: usize| batch.levels.get(at).copied().flatten();
    if_any((0..batch.starts.len()).map(|at| known(at).or_else(|| level(batch.line(at)))).collect())
}

/// The levels of lines as a batch has them: none where no line has one.
pub(crate) fn if_any(levels: Vec<Option<Level>>) -> Vec<Option<Level>> {
    if levels.iter().all(Option::is_none) { Vec::new() } else { levels }
}

/// The level that a line tells in a field of its own, or as a word near its beginning.
pub(crate) fn level(line: &[u8]) -> Option<Level> {
    let line = line.trim_ascii_start();
    if line.first() == Some(&b'{') {
        return FIELDS.iter().find_map(|name| of_value(&field(line, name)?));
    }
    let mut rest = &line[..line.len().min(HEAD)];
    while let Some(start) = rest.iter().position(u8::is_ascii_alphabetic) {
        let length = rest[start..].iter().position(|byte| !byte.is_ascii_alphanumeric());
        let (word, after) = rest[start..].split_at(length.unwrap_or(rest.len() - start));
        let before = start.checked_sub(1).map(|at| rest[at]);
        if let Some(value) = after.strip_prefix(b"=").filter(|_| is_field(word)) {
            let value = value.strip_prefix(b"\"").unwrap_or(value);
            let end = value.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(value.len());
            return of_value(&value[..end]);
        }
        let is_bracketed = before == Some(b'[') && after.first() == Some(&b']');
        if (word.iter().all(u8::is_ascii_uppercase) || is_bracketed)
            && let Some(level) = Level::of(word)
        {
            return Some(level);
        }
        rest = after;
    }
    None
}

fn is_field(word: &[u8]) -> bool {
    FIELDS.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
}

/// A level by its name, as loggers write it, or by its number, as bunyan and pino do.
pub(crate) fn of_value(value: &[u8]) -> Option<Level> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u8>().ok());
    match number {
        Some(10) => Some(Level::Trace),
        Some(20) => Some(Level::Debug),
        Some(30) => Some(Level::Info),
        Some(40) => Some(Level::Warn),
        Some(50) => Some(Level::Error),
        Some(60) => Some(Level::Fatal),
        _ => Level::of(value).or(match value {
            // As klog and MySQL write them.
            b"D" => Some(Level::Debug),
            b"I" | b"Note" | b"System" => Some(Level::Info),
            b"W" => Some(Level::Warn),
            b"E" => Some(Level::Error),
            b"F" => Some(Level::Fatal),
            _ => None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_found_where_loggers_write_it() {
        for (line, expected) in [
            (r#"{"time":"x","level":"warn","msg":"ERROR"}"#, Some(Level::Warn)),
            (r#"{"severity":"ERROR"}"#, Some(Level::Error)),
            (r#"{"log":{"level":"debug"}}"#, Some(Level::Debug)),
            (r#"{"level":50,"msg":"x"}"#, Some(Level::Error)),
            (r#"{"msg":"an ERROR"}"#, None),
            ("time=x level=info msg=\"an ERROR\"", Some(Level::Info)),
            ("time=x lvl=\"warning\" msg=y", Some(Level::Warn)),
            ("2026-11-27T01:02:03Z  WARN 1 --- [main] c.e.Shop : late", Some(Level::Warn)),
            ("2026-11-27 01:02:03,123 ERROR [worker] x", Some(Level::Error)),
            ("[error] 12#0: upstream timed out", Some(Level::Error)),
            ("INFO:root:started", Some(Level::Info)),
            ("2026-11-27T01:02:03Z INFO shop::inventory: reservation failed: an ERROR", Some(Level::Info)),
            ("an error in lower case is a word", None),
            ("10.0.0.1 - - \"GET / HTTP/1.1\" 200", None),
            ("", None),
        ] {
            assert_eq!(level(line.as_bytes()), expected, "{line}");
        }
    }
}
