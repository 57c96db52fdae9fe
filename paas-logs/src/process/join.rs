//! Lines that are one event: stack traces, and private keys, of which no part may get through.

use std::time::Duration;

use bytes::Bytes;
use memchr::memmem;
use paas_core::Result;
use paas_core::model::{
    Level, LogBatch, LogJoin, LogLine, LogOrigin, LogPlaces, LogPosition, LogRules, PatternFinder, Timestamp,
};
use tokio::time::Instant;

use crate::level::if_any;
use crate::redact::{is_key_line, is_open_key};

/// How long the last event waits for a line that belongs to it.
const PAUSE: Duration = Duration::from_secs(1);
/// Half a private key waits longer: without its beginning nobody knows what the rest is.
const KEY_PAUSE: Duration = Duration::from_secs(30);
/// Stands before the rest of a key whose beginning was given up: so it is known for what it is, and taken out.
const KEY_BEGIN: &[u8] = b"-----BEGIN PRIVATE KEY-----";
/// An event has at most so many lines, and about so many bytes.
const LINES: usize = 1_000;
const BYTES: usize = 256 * 1024;

/// Joins the lines of one origin.
#[derive(Debug)]
pub(crate) struct Joiner {
    rule: JoinRule,
    origin: LogOrigin,
    waiting: Option<Waiting>,
    /// The last event was given with a private key that had not ended.
    has_open_key: bool,
}

/// What belongs together. Cloning shares what was compiled.
#[derive(Clone, Debug)]
pub(crate) enum JoinRule {
    /// Nothing but private keys.
    None,
    StackTraces,
    Start(PatternFinder),
}

/// The last event: a line that belongs to it may come.
#[derive(Debug)]
struct Waiting {
    event: Event,
    /// Where it ends so far.
    end: LogPosition,
    since: Instant,
}

/// An event in the making. What is known of its first line is known of it.
#[derive(Debug)]
struct Event {
    text: Vec<u8>,
    level: Option<Level>,
    fields: Vec<u8>,
    lines: usize,
    time: Timestamp,
    place: LogPosition,
    trace: Trace,
    /// A private key has begun in it.
    has_open_key: bool,
}

/// What was seen of a stack trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trace {
    None,
    /// Of Python, whose last line is the only one that is not indented.
    Python,
    /// Of Go, which has calls that are not indented.
    Go,
}

impl Joiner {
    pub(crate) fn new(origin: LogOrigin, rule: JoinRule) -> Self {
        Self { rule, origin, waiting: None, has_open_key: false }
    }

    /// Takes in lines, and gives the events that are whole. The last one may wait for more.
    pub(crate) fn push(&mut self, batch: LogBatch) -> Option<LogBatch> {
        let is_plain = matches!(self.rule, JoinRule::None) && !has_key(&batch.buffer);
        if is_plain && !self.has_open_key && self.waiting.is_none() {
            return Some(batch);
        }
        let (mut whole, end) = (Vec::new(), batch.end());
        // After a gap nothing goes on.
        let waiting = self.waiting.take().map(|waiting| (waiting.event, goes_on(waiting.end, &batch)));
        let mut last = waiting.and_then(|(event, goes_on)| {
            if goes_on {
                return Some(event);
            }
            whole.push(event);
            None
        });
        for line in batch.lines() {
            match &mut last {
                Some(event) if self.rule.continues(event, line.bytes) => event.add(line.bytes),
                last => {
                    let is_in_key = last.as_ref().map_or(self.has_open_key, |event| event.has_open_key);
                    let is_rest = is_in_key && is_key_line(line.bytes);
                    whole.extend(last.replace(Event::new(&line, is_rest)));
                    self.has_open_key = false;
                }
            }
        }
        match last {
            Some(event) if !matches!(self.rule, JoinRule::None) || event.has_open_key => {
                let place = event.place;
                self.waiting = Some(Waiting { event, end, since: Instant::now() });
                self.events(&whole, place)
            }
            last => {
                whole.extend(last);
                self.events(&whole, end)
            }
        }
    }

    /// Whether what comes next may belong to what was before: to the last event, or to a private key that has not ended.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some() || self.has_open_key
    }

    /// The event that waits, once nothing has come for a second.
    pub(crate) fn overdue(&mut self) -> Option<LogBatch> {
        let pause = |waiting: &Waiting| if waiting.event.has_open_key { KEY_PAUSE } else { PAUSE };
        let waiting = self.waiting.take_if(|waiting| waiting.since.elapsed() >= pause(waiting))?;
        self.has_open_key = waiting.event.has_open_key;
        self.events(&[waiting.event], waiting.end)
    }

    /// One that goes on where another ended, be it within a private key.
    #[cfg(feature = "intake")]
    pub(crate) fn within_key(mut self, has_open_key: bool) -> Self {
        self.has_open_key = has_open_key;
        self
    }

    /// The event that waits, and whether it ends within a private key: nothing more comes for now.
    #[cfg(feature = "intake")]
    pub(crate) fn finish_for_now(mut self) -> (Option<LogBatch>, bool) {
        let has_open_key = self.waiting.as_ref().map_or(self.has_open_key, |own| own.event.has_open_key);
        (self.finish(), has_open_key)
    }

    /// The event that waits: nothing comes any more.
    pub(crate) fn finish(&mut self) -> Option<LogBatch> {
        let waiting = self.waiting.take()?;
        self.events(&[waiting.event], waiting.end)
    }

    /// Events as a batch that ends there.
    fn events(&self, events: &[Event], end: LogPosition) -> Option<LogBatch> {
        let first = events.first()?;
        let mut text = Vec::with_capacity(events.iter().map(|event| event.text.len() + 1).sum());
        let mut starts = Vec::with_capacity(events.len());
        for event in events {
            starts.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            text.extend_from_slice(&event.text);
            text.push(b'\n');
        }
        let buffer = Bytes::from(text);
        let mut batch = LogBatch::stamped(self.origin.clone(), buffer, starts, Vec::new(), first.place);
        batch.times = events.iter().map(|event| event.time).collect();
        batch.levels = if_any(events.iter().map(|event| event.level).collect());
        if events.iter().any(|event| !event.fields.is_empty()) {
            events.iter().for_each(|event| batch.fields.push(&event.fields));
        }
        batch.places = Some(LogPlaces { lines: events.iter().map(|event| event.place).collect(), end });
        Some(batch)
    }
}

/// Whether a batch begins where another ended. Nobody knows how long a stamp lasts, so a later one goes on: what is missing
/// between them comes as a gap.
fn goes_on(end: LogPosition, batch: &LogBatch) -> bool {
    let is_later = batch.position.incarnation == end.incarnation && batch.position > end;
    batch.position == end || !batch.stamps.is_empty() && is_later
}

impl JoinRule {
    /// As a service says, else as its app does.
    ///
    /// # Errors
    /// None of a rule that was checked.
    pub(crate) fn of(rules: &[LogRules]) -> Result<Self> {
        Ok(match rules.iter().rev().find_map(|rules| rules.join.as_ref()) {
            Some(LogJoin::StackTraces) => Self::StackTraces,
            Some(LogJoin::Start(pattern)) => Self::Start(pattern.finder()?),
            _ => Self::None,
        })
    }

    fn continues(&self, event: &Event, line: &[u8]) -> bool {
        if event.lines >= LINES || event.text.len() + line.len() > BYTES {
            return false;
        }
        let by_rule = match self {
            Self::None => false,
            Self::Start(pattern) => !pattern.is_match(line),
            Self::StackTraces => is_traced(event, line),
        };
        by_rule || event.has_open_key
    }
}

/// Whether a line goes on with a stack trace.
fn is_traced(event: &Event, line: &[u8]) -> bool {
    let indented = line.first().is_some_and(|byte| b" \t".contains(byte));
    let of_java = line.starts_with(b"Caused by: ") || line.starts_with(b"Suppressed: ");
    let of_go = line.starts_with(b"goroutine ");
    indented
        || of_java
        || of_go
        || match event.trace {
            Trace::None => false,
            Trace::Python => event.last_line().first().is_some_and(|byte| b" \t".contains(byte)),
            Trace::Go => line.is_empty() || line.ends_with(b")") || line.starts_with(b"created by "),
        }
}

/// Whether a private key may begin in a text.
fn has_key(text: &[u8]) -> bool {
    memmem::find(text, b"PRIVATE KEY").is_some()
}

impl Event {
    fn new(line: &LogLine<'_>, is_rest_of_key: bool) -> Self {
        let is_panic = line.bytes.starts_with(b"panic: ") || line.bytes.starts_with(b"fatal error: ");
        let mut event = Self {
            text: Vec::new(),
            level: line.level,
            fields: line.fields.to_vec(),
            lines: 0,
            time: line.time,
            place: line.position,
            trace: if is_panic { Trace::Go } else { Trace::None },
            has_open_key: false,
        };
        if is_rest_of_key {
            event.take(KEY_BEGIN);
            event.add(line.bytes);
        } else {
            event.take(line.bytes);
        }
        event
    }

    fn add(&mut self, line: &[u8]) {
        self.text.push(b'\n');
        self.take(line);
    }

    fn take(&mut self, line: &[u8]) {
        if line.starts_with(b"Traceback (most recent call last):") {
            self.trace = Trace::Python;
        } else if line.starts_with(b"goroutine ") {
            self.trace = Trace::Go;
        }
        if has_key(line) {
            self.has_open_key = is_open_key(line);
        }
        self.text.extend_from_slice(line);
        self.lines += 1;
    }

    fn last_line(&self) -> &[u8] {
        let start = memchr::memrchr(b'\n', &self.text).map_or(0, |at| at + 1);
        &self.text[start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{origin, rules};

    fn joiner(rules: &LogRules) -> Joiner {
        Joiner::new(origin(), JoinRule::of(std::slice::from_ref(rules)).unwrap())
    }

    /// What comes of a text that arrives in pieces of so many lines: each event, and where it began.
    fn joined(rules: &LogRules, text: &str, lines: usize) -> Vec<(u64, String)> {
        let mut joiner = joiner(rules);
        let mut events = Vec::new();
        let mut take = |batch: Option<LogBatch>| {
            for line in batch.iter().flat_map(LogBatch::lines) {
                events.push((line.position.sequence, String::from_utf8_lossy(line.bytes).into_owned()));
            }
        };
        let all: Vec<&str> = text.split_inclusive('\n').collect();
        let mut offset = 0;
        for piece in all.chunks(lines) {
            let piece = piece.concat();
            let position = LogPosition::offset(1, offset);
            offset += piece.len() as u64;
            take(joiner.push(LogBatch::new(origin(), Bytes::from(piece), Timestamp(1), position)));
        }
        take(joiner.finish());
        events
    }

    /// Whatever the pieces, these are the events.
    fn check(json: &str, text: &str, expected: &[&str]) {
        for lines in [1, 2, 3, 100] {
            let events = joined(&rules(json), text, lines);
            let texts: Vec<&str> = events.iter().map(|(_, text)| text.as_str()).collect();
            assert_eq!(texts, expected, "in pieces of {lines} lines");
            for (place, event) in &events {
                assert!(text[*place as usize..].starts_with(event.as_str()), "{event:?} at {place}");
            }
        }
    }

    const TRACES: &str = r#"{"join":"stack-traces"}"#;

    #[test]
    fn stack_traces_are_one_event() {
        let java = "java.lang.Error: y\n\tat a.B.c(B.java:1)\nCaused by: z\n\t... 2 more";
        let python = "Traceback (most recent call last):\n  File \"a.py\", line 1\nValueError: z";
        let go = "panic: x\n\ngoroutine 1 [running]:\nmain.main()\n\t/a.go:1 +0x1";
        let text = format!("a\nERROR x\n{java}\n{python}\nb\n{go}\nc\n");
        check(TRACES, &text, &["a", "ERROR x", java, python, "b", go, "c"]);
    }

    #[test]
    fn an_event_begins_with_a_line_that_matches() {
        let text = "2026 a\nb\n\n2026 c\n2026 d\n  e\n";
        check(r#"{"join":{"start":"^\\d{4} "}}"#, text, &["2026 a\nb\n", "2026 c", "2026 d\n  e"]);
    }

    #[test]
    fn a_private_key_is_one_event_without_any_rule() {
        let key = "-----BEGIN PRIVATE KEY-----\nMII\nabc\n-----END PRIVATE KEY-----";
        check("{}", &format!("a\nb {key} c\nd\n{key}\ne\n"), &["a", &format!("b {key} c"), "d", key, "e"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_key_is_known_however_late_it_comes() {
        let mut joiner = joiner(&LogRules::default());
        let mut offset = 0;
        let mut push = |joiner: &mut Joiner, text: &'static str| {
            let position = LogPosition::offset(1, offset);
            offset += text.len() as u64;
            joiner.push(LogBatch::new(origin(), Bytes::from_static(text.as_bytes()), Timestamp(1), position))
        };
        let key = "-----BEGIN PRIVATE KEY-----";
        for (text, given) in [("-----BEGIN RSA PRIVATE KEY-----\nMII\n", "MII"), ("abc\n", "abc")] {
            assert!(push(&mut joiner, text).is_none());
            tokio::time::advance(KEY_PAUSE).await;
            let event = joiner.overdue().unwrap();
            assert!(event.line(0).starts_with(b"-----BEGIN ") && event.line(0).ends_with(given.as_bytes()));
        }
        let given = push(&mut joiner, "def\n-----END RSA PRIVATE KEY-----\nafter\n").unwrap();
        let rest = format!("{key}\ndef\n-----END RSA PRIVATE KEY-----");
        assert_eq!((given.line(0), given.line(1)), (rest.as_bytes(), &b"after"[..]));
        assert_eq!(push(&mut joiner, "abc\n").unwrap().line(0), b"abc");
    }

    #[test]
    fn a_key_of_many_lines_is_known_to_its_end() {
        let text =
            format!("-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\nx\n", "abcd\n".repeat(2_500));
        let events = joined(&LogRules::default(), &text, 700);
        let is_key = |(_, event): &(u64, String)| event.starts_with("-----BEGIN PRIVATE KEY-----");
        assert!(events.len() == 4 && events[..3].iter().all(is_key), "{:?}", events.len());
        assert_eq!(events[3].1, "x");
    }

    #[test]
    fn what_waits_is_not_counted_as_read() {
        let mut joiner = joiner(&rules(TRACES));
        let batch = LogBatch::new(origin(), Bytes::from("a\nb\n"), Timestamp(1), LogPosition::offset(1, 10));
        let given = joiner.push(batch).unwrap();
        assert_eq!((given.starts.len(), given.end()), (1, LogPosition::offset(1, 12)));
        let rest = joiner.finish().unwrap();
        assert_eq!((rest.line(0), rest.end()), (&b"b"[..], LogPosition::offset(1, 14)));
        assert!(joiner.finish().is_none());
    }

    #[test]
    fn nothing_goes_on_after_a_gap() {
        let mut joiner = joiner(&rules(TRACES));
        let batch = |text: &'static [u8], at| {
            LogBatch::new(origin(), Bytes::from_static(text), Timestamp(1), LogPosition::offset(1, at))
        };
        assert!(joiner.push(batch(b"a\n", 0)).is_none());
        let given = joiner.push(batch(b"  b\nc\n", 50)).unwrap();
        assert_eq!((given.line(0), given.line(1), given.starts.len()), (&b"a"[..], &b"  b"[..], 2));
    }

    #[test]
    fn stamped_lines_join_over_batches() {
        let mut joiner = Joiner::new(origin(), JoinRule::None);
        let lines = ["-----BEGIN PRIVATE KEY-----\n", "MII\n", "-----END PRIVATE KEY-----\n"];
        let mut given = Vec::new();
        for (line, stamp) in lines.into_iter().zip([7_000_000, 7_000_000, 9_000_000]) {
            let index = u32::from(line.starts_with("MII"));
            let position = LogPosition { incarnation: 1, sequence: stamp, index };
            let buffer = Bytes::from_static(line.as_bytes());
            given.extend(joiner.push(LogBatch::stamped(origin(), buffer, vec![0], vec![stamp], position)));
        }
        let [event] = given.as_slice() else { panic!("{given:?}") };
        assert_eq!(event.line(0), lines.concat().trim_end().as_bytes());
        assert_eq!(event.end(), LogPosition { incarnation: 1, sequence: 9_000_000, index: 1 });
    }

    #[test]
    fn an_event_does_not_grow_without_end() {
        let text = format!("a\n{}", "  b\n".repeat(2_500));
        let lines: Vec<usize> =
            joined(&rules(TRACES), &text, 700).iter().map(|(_, event)| event.lines().count()).collect();
        assert_eq!(lines, [1_000, 1_000, 501]);
    }
}
