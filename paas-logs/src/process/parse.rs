//! What is found out about lines, and added to them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use paas_core::Result;
use paas_core::model::{
    CaptureRoom, FieldName, Level, LogAddition, LogBatch, LogFields, LogMatcher, LogPairs, LogRuleKind,
    LogRules, StoredLine, field,
};

use super::format::Format;
use super::stamp::stamp;
use crate::counter::{Counter, Counters};
use crate::level::{if_any, of_value};

/// Reads, renames and adds fields.
#[derive(Debug)]
pub(super) struct Parser {
    formats: Vec<(Format, Arc<Counter>)>,
    renames: Vec<(FieldName, FieldName, Arc<Counter>)>,
    additions: Vec<(LogAddition, LogMatcher, Arc<Counter>)>,
}

/// The cost of rules is measured on each of so many lines.
const MEASURED: usize = 16;

/// What is known of a line so far.
struct Draft<'a> {
    batch: &'a LogBatch,
    at: usize,
    fields: &'a mut LogPairs,
    level: Option<Level>,
    /// When it was written, as it says itself.
    time: Option<Cow<'a, [u8]>>,
}

impl Parser {
    /// Compiles the rules of an app and of its service, which come in this order.
    ///
    /// # Errors
    /// Where an expression takes too much memory.
    pub(super) fn new(rules: &[LogRules], counters: &Counters) -> Result<Self> {
        let mut parser = Self { formats: Vec::new(), renames: Vec::new(), additions: Vec::new() };
        // What the service itself says comes first.
        for format in rules.iter().rev().flat_map(|rules| &rules.parse) {
            parser.formats.push((Format::new(format)?, counters.of(LogRuleKind::Parse, format.name())));
        }
        for (old, new) in rules.iter().rev().flat_map(|rules| &rules.rename) {
            if parser.renames.iter().all(|(own, ..)| own != old) {
                let counter = counters.of(LogRuleKind::Rename, format!("{}: {}", old.as_str(), new.as_str()));
                parser.renames.push((old.clone(), new.clone(), counter));
            }
        }
        for addition in rules.iter().flat_map(|rules| &rules.add) {
            let counter = counters.of(LogRuleKind::Add, addition.filter.to_string());
            parser.additions.push((addition.clone(), addition.filter.matcher()?, counter));
        }
        Ok(parser)
    }

    /// Tells the batch what is known of its lines.
    pub(super) fn read(&self, batch: &mut LogBatch, counts: bool) {
        if self.formats.is_empty() && self.renames.is_empty() && self.additions.is_empty() {
            return;
        }
        let mut rooms: Vec<_> = self.formats.iter().map(|(format, _)| format.rooms()).collect();
        let (mut fields, mut levels, mut times) = (LogFields::new(), Vec::new(), Vec::new());
        let mut own = LogPairs::default();
        for at in 0..batch.starts.len() {
            let level = batch.levels.get(at).copied().flatten();
            own.replace(batch.fields.of(at));
            let mut draft = Draft { batch, at, fields: &mut own, level, time: None };
            let measured = if counts { Some(at % MEASURED == 0) } else { None };
            self.parse(&mut draft, &mut rooms, measured);
            self.rename(&mut draft, measured);
            self.add(&mut draft, measured);
            fields.push(draft.fields.bytes());
            levels.push(draft.level);
            let read = batch.times.get(at).copied().unwrap_or_default();
            times.push(draft.time.as_deref().and_then(|text| stamp(text, read)).unwrap_or(read));
        }
        batch.levels = if_any(levels);
        batch.fields = if fields.is_empty() { LogFields::new() } else { fields };
        batch.times = times;
    }

    fn parse(&self, draft: &mut Draft<'_>, rooms: &mut [Vec<CaptureRoom>], measured: Option<bool>) {
        let line = draft.batch.line(draft.at);
        for ((format, counter), rooms) in self.formats.iter().zip(rooms) {
            let told = counter.around(measured, || format.read(line, rooms, draft.fields));
            if let Some(told) = told {
                draft.level = told.level.and_then(of_value).or(draft.level);
                draft.time = told.time;
                return;
            }
        }
    }

    fn rename(&self, draft: &mut Draft<'_>, measured: Option<bool>) {
        for (old, new, counter) in &self.renames {
            counter.around(measured, || {
                let own = draft.fields.remove(old.as_str()).map(Cow::Owned);
                let line = draft.batch.line(draft.at);
                let value = own.or_else(|| field(line, old.as_str()))?;
                match new.as_str() {
                    "level" => draft.level = of_value(&value).or(draft.level),
                    "time" => draft.time = Some(value),
                    name => draft.fields.set(name, &value),
                }
                Some(())
            });
        }
    }

    fn add(&self, draft: &mut Draft<'_>, measured: Option<bool>) {
        for (addition, matcher, counter) in &self.additions {
            counter.around(measured, || {
                let line = StoredLine {
                    origin: &draft.batch.origin,
                    level: draft.level,
                    line: draft.batch.line(draft.at),
                    fields: draft.fields.bytes(),
                };
                matcher.matches(&line).then(|| {
                    draft.level = addition.level.or(draft.level);
                    for (name, value) in &addition.fields {
                        draft.fields.set(name.as_str(), value.0.as_bytes());
                    }
                })
            });
        }
    }
}

impl Counter {
    /// Does something about one line, and counts whether it was done; `measured` where that is counted at all, and whether its
    /// cost is that of others, too.
    fn around<T>(&self, measured: Option<bool>, act: impl FnOnce() -> Option<T>) -> Option<T> {
        let begun = (measured == Some(true)).then(Instant::now);
        let done = act();
        if let Some(begun) = begun {
            self.took(begun.elapsed() * MEASURED as u32);
        }
        if measured.is_some() {
            self.add(done.is_some().into());
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use paas_core::model::{LogPosition, Timestamp, pairs};

    use super::*;
    use crate::testing::{origin, rules};

    /// 2026-11-27T01:02:03.456Z
    const NOW: Timestamp = Timestamp(1_795_741_323_456);

    fn read(json: &str, text: &str) -> LogBatch {
        let mut batch = LogBatch::new(origin(), Bytes::from(text.to_owned()), NOW, LogPosition::offset(1, 0));
        batch.starts.truncate(1);
        Parser::new(&[rules(json)], &Counters::default()).unwrap().read(&mut batch, true);
        batch
    }

    fn told(format: &str, line: &str) -> (String, Option<Level>, u64) {
        let batch = read(&format!(r#"{{"parse":["{format}"]}}"#), line);
        let level = batch.levels.first().copied().flatten();
        (String::from_utf8(batch.fields.of(0).to_vec()).unwrap(), level, NOW.0 - batch.times[0].0)
    }

    #[test]
    fn formats_with_names_are_read() {
        let (info, warn, error) = (Some(Level::Info), Some(Level::Warn), Some(Level::Error));
        for (format, line, fields, level, age) in [
            (
                "nginx",
                r#"10.0.0.1 - bob [27/Nov/2026:01:02:03 +0000] "GET /cart?a=1 HTTP/1.1" 502 157 "-" "curl/8 x""#,
                r#"client=10.0.0.1 user=bob method=GET path=/cart?a=1 protocol=HTTP/1.1 status=502 bytes=157 referrer=- agent="curl/8 x""#,
                None,
                456,
            ),
            ("nginx", r#"::1 - - [x] "\x16\x03" 400 0"#, "client=::1 user=- status=400 bytes=0", None, 0),
            (
                "nginx",
                "2026/11/27 01:02:01 [error] 12#7: *9 upstream timed out",
                "pid=12 thread=7 connection=9",
                error,
                2_456,
            ),
            (
                "spring-boot",
                "2026-11-27T01:02:03.123Z  WARN 1 --- [shop] [           main] c.e.Shop     : late",
                "pid=1 application=shop thread=main logger=c.e.Shop",
                warn,
                333,
            ),
            (
                "spring-boot",
                "2026-11-27 01:02:03.123  INFO 1 --- [ main] c.e.Shop : up",
                "pid=1 thread=main logger=c.e.Shop",
                info,
                333,
            ),
            (
                "log4j",
                "2026-11-27 01:02:03,123 [main] INFO com.x.Y - up",
                "thread=main logger=com.x.Y",
                info,
                333,
            ),
            (
                "log4j",
                "2026-11-27 01:02:03,123 ERROR [w 1] com.x.Y: no",
                "thread=\"w 1\" logger=com.x.Y",
                error,
                333,
            ),
            ("go", "2026/11/27 01:02:03 main.go:23: up", "file=main.go line=23", None, 456),
            ("go", "E1127 01:02:03.123456   99 main.go:23] no", "thread=99 file=main.go line=23", error, 333),
            ("python", "2026-11-27 01:02:03,123 - a.b - WARNING - x", "logger=a.b", warn, 333),
            ("python", "ERROR:root:x", "logger=root", error, 0),
            ("python", "INFO:     Started", "", info, 0),
            (
                "mysql",
                "2026-11-27T01:02:03.123456Z 0 [Note] [MY-010747] [Server] Plugin",
                "thread=0 code=MY-010747 subsystem=Server",
                info,
                333,
            ),
            ("json", r#"{"ts":1795741323.123,"msg":"x"}"#, "", None, 333),
            ("logfmt", "time=2026-11-27T01:02:03.123Z msg=x", "", None, 333),
            ("nginx", "something else", "", None, 0),
        ] {
            let given = told(format, line);
            assert_eq!(given, (fields.to_owned(), level, age), "{format}: {line}");
        }
    }

    #[test]
    fn a_slow_query_is_read_once_its_lines_are_joined() {
        let line = "# Time: 2026-11-27T01:02:03.123456Z\n# User@Host: app[app] @ db [10.0.0.9]  Id: 8\n# Query_time: 2.5  Lock_time: 0.1 Rows_sent: 1  Rows_examined: 99\nSELECT 1;";
        let (fields, _, age) = told("mysql", line);
        assert_eq!(
            (fields.as_str(), age),
            ("user=app host=db query_time=2.5 lock_time=0.1 rows_sent=1 rows_examined=99", 333)
        );
    }

    #[test]
    fn the_first_format_that_fits_counts() {
        let rules = r#"{"parse":["nginx",{"pattern":"took (?<ms>\\d+)"},{"pattern":"(?<all>.+)"}]}"#;
        assert_eq!(read(rules, "it took 12 ms").fields.of(0), b"ms=12");
        assert_eq!(read(rules, "else").fields.of(0), b"all=else");
    }

    #[test]
    fn fields_get_other_names_and_more_are_added() {
        let rules = r#"{
            "parse": [{"pattern":"^(?<prio>\\w+) (?<who>\\w+)"}],
            "rename": {"prio":"level","who":"user","req":"request"},
            "add": [{"fields":{"team":"pay"}}, {"match":"user:bob level:warn","level":"error","fields":{"known":1}}]
        }"#;
        let batch = read(rules, "warn bob req=7");
        assert_eq!(batch.fields.of(0), b"request=7 user=bob team=pay known=1");
        assert_eq!(batch.levels, [Some(Level::Error)]);
        assert_eq!(read(rules, "-").fields.of(0), b"team=pay");
    }

    #[test]
    fn each_rule_counts_the_lines_that_it_changed() {
        let counters = Counters::default();
        let rules =
            rules(r#"{"parse":["nginx","logfmt"],"rename":{"a":"b"},"add":[{"match":"x","level":"warn"}]}"#);
        let parser = Parser::new(&[rules], &counters).unwrap();
        for counts in [true, false] {
            let text = Bytes::from_static(b"a=1 x\nb=2\nx\n");
            let mut batch = LogBatch::new(origin(), text, NOW, LogPosition::offset(1, 0));
            parser.read(&mut batch, counts);
            assert_eq!(pairs(batch.fields.of(0)).count(), 1);
        }
        let counts: Vec<_> =
            counters.all().into_iter().map(|count| (count.kind, count.rule, count.count)).collect();
        let expected = [
            (LogRuleKind::Parse, "logfmt", 2),
            (LogRuleKind::Parse, "nginx", 0),
            (LogRuleKind::Rename, "a: b", 1),
            (LogRuleKind::Add, "\"x\"", 2),
        ];
        assert_eq!(counts, expected.map(|(kind, rule, count)| (kind, rule.to_owned(), count)));
    }
}
