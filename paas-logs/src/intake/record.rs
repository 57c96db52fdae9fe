//! One record: what of it is the line, and what is known of it.

use std::borrow::Cow;

use paas_core::model::{Level, LogStream, Timestamp, limit, put_pair};

use super::claims::Claims;
use super::json::{Json, Malformed, Value};
use crate::level::of_value;
use crate::process::stamp;

/// Which member is the line: the first of these that a record has.
const LINE: [&[u8]; 4] = [b"message", b"log", b"msg", b"line"];
const TIME: [&[u8]; 4] = [b"@timestamp", b"time", b"timestamp", b"date"];
const LEVEL: [&[u8]; 8] = [
    b"level",
    b"severity",
    b"lvl",
    b"loglevel",
    b"log.level",
    b"levelname",
    b"severity_text",
    b"severityText",
];
/// In which members agents name the instance that a line is of. The platform's own table says whose it is.
const INSTANCE: [&[u8]; 14] = [
    b"instance",
    b"service.instance.id",
    b"k8s.pod.uid",
    b"k8s.pod.name",
    b"kubernetes.pod_id",
    b"kubernetes.pod_uid",
    b"kubernetes.pod.uid",
    b"kubernetes.pod_name",
    b"kubernetes.pod.name",
    b"container.id",
    b"container_id",
    b"kubernetes.container_id",
    b"kubernetes.docker_id",
    b"kubernetes.container.id",
];
/// And those in which they name the file that it was read from.
const FILE: [&[u8]; 4] = [b"log.file.path", b"file", b"file.path", b"filepath"];
/// What is known of every line, and cannot be given.
const OWN: [&[u8]; 5] = [b"instance", b"revision", b"stream", b"level", b"time"];

/// With more fields, or with more bytes of them, they stand in the line.
const FIELDS: usize = 256;
const BYTES: usize = 32 * 1024;

/// What a record says; to be used for one after the other.
#[derive(Debug, Default)]
pub(crate) struct Record<'a> {
    line: Option<(usize, Cow<'a, [u8]>)>,
    time: Option<Timestamp>,
    level: Option<Level>,
    stream: Option<LogStream>,
    claims: Claims,
    pairs: Vec<u8>,
    fields: usize,
    /// A field has a name that no query can say.
    is_odd: bool,
    name: String,
}

impl<'a> Record<'a> {
    /// Forgets the last one.
    fn begin(&mut self) {
        self.line = None;
        (self.time, self.level, self.stream) = (None, None, None);
        self.claims.clear();
        self.pairs.clear();
        (self.fields, self.is_odd) = (0, false);
    }

    /// Begins one of which this is known.
    pub(super) fn begin_with(&mut self, line: Cow<'a, [u8]>, time: Option<Timestamp>, level: Option<Level>) {
        self.begin();
        self.line = Some((0, line));
        (self.time, self.level) = (time, level);
    }

    /// Reads an object, or a string that is the line.
    pub(crate) fn read(&mut self, json: &mut Json<'a>, read: Timestamp) -> Result<(), Malformed> {
        self.begin();
        json.peek();
        let from = json.at();
        match json.value()? {
            Value::String(line) => self.line = Some((0, line)),
            Value::Object => self.object(json, &mut Vec::new(), read)?,
            _ => return Err(Malformed { at: from, why: "a record is an object or a string" }),
        }
        if self.line.is_none() {
            // Its fields are found in it.
            self.line = Some((0, Cow::Borrowed(json.since(from))));
            self.pairs.clear();
            (self.fields, self.is_odd) = (0, false);
        }
        Ok(())
    }

    fn object(&mut self, json: &mut Json<'a>, path: &mut Vec<u8>, read: Timestamp) -> Result<(), Malformed> {
        json.members(|json, name| {
            let length = path.len();
            if length > 0 {
                path.push(b'.');
            }
            path.extend_from_slice(name);
            match json.peek() {
                Some(b'{') => self.object(json, path, read)?,
                Some(b'[') => {
                    let array = json.skip()?;
                    self.put(path, array);
                }
                _ => match json.value()? {
                    Value::String(text) => self.string(path, text, read),
                    Value::Number(text) => self.member(path, text, read),
                    Value::True => self.put(path, b"true"),
                    Value::False => self.put(path, b"false"),
                    _ => {}
                },
            }
            path.truncate(length);
            Ok(())
        })
    }

    fn string(&mut self, name: &[u8], text: Cow<'a, [u8]>, read: Timestamp) {
        let Some(rank) = LINE.iter().position(|own| *own == name) else {
            return self.member(name, &text, read);
        };
        match self.line.take() {
            Some((known, line)) if known <= rank => {
                self.line = Some((known, line));
                self.put(name, &text);
            }
            before => {
                if let Some((known, line)) = before {
                    self.put(LINE[known], &line);
                }
                self.line = Some((rank, text));
            }
        }
    }

    /// Takes what is known of it, however that is called.
    pub(super) fn member(&mut self, name: &[u8], text: &[u8], read: Timestamp) {
        if TIME.contains(&name) && self.time.is_none() {
            self.time = stamp(text, read);
            if self.time.is_some() {
                return;
            }
        }
        if LEVEL.contains(&name) && self.level.is_none() {
            self.level = of_value(text);
            if self.level.is_some() && name == b"level" {
                return;
            }
        }
        if matches!(name, b"stream" | b"log.iostream") && self.stream.is_none() {
            self.stream = match text {
                b"stdout" => Some(LogStream::Stdout),
                b"stderr" => Some(LogStream::Stderr),
                _ => None,
            };
            if self.stream.is_some() {
                return;
            }
        }
        if INSTANCE.contains(&name) || FILE.contains(&name) {
            self.claims.add(text);
        }
        self.put(name, text);
    }

    /// Keeps a field.
    fn put(&mut self, name: &[u8], value: &[u8]) {
        self.name.clear();
        if OWN.contains(&name)
            || !name.first().is_some_and(|first| first.is_ascii_alphabetic() || b"_@".contains(first))
        {
            self.name.push_str("sent.");
        }
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-@/".contains(&byte);
        match std::str::from_utf8(name) {
            Ok(text) if text.bytes().all(is_part) => self.name.push_str(text),
            _ => {
                self.name.extend(name.iter().map(|byte| if is_part(*byte) { char::from(*byte) } else { '_' }))
            }
        }
        self.is_odd |= self.name.len() > limit::FIELD_NAME;
        self.fields += 1;
        put_pair(&mut self.pairs, &self.name, value);
    }

    /// The line.
    pub(super) fn line(&self) -> &[u8] {
        self.line.as_ref().map_or(b"", |(_, line)| line)
    }

    pub(super) fn time(&self) -> Option<Timestamp> {
        self.time
    }

    pub(super) fn level(&self) -> Option<Level> {
        self.level
    }

    /// Its fields.
    pub(super) fn pairs(&self) -> &[u8] {
        &self.pairs
    }

    /// Whether its fields are more than what stands beside a line, or no query could say one of their names.
    pub(super) fn is_wide(&self) -> bool {
        self.is_odd || self.fields > FIELDS || self.pairs.len() > BYTES
    }

    pub(crate) fn stream(&self) -> Option<LogStream> {
        self.stream
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::draft::Draft;

    /// 2026-11-27T01:02:03.456Z
    const NOW: Timestamp = Timestamp(1_795_741_323_456);

    fn read(text: &str) -> (Draft, Vec<String>) {
        let (mut record, mut draft) = (Record::default(), Draft::default());
        record.read(&mut Json::new(text.as_bytes()), NOW).unwrap();
        draft.push(&record, NOW);
        (draft, record.claims().instances().map(str::to_owned).collect())
    }

    fn line(text: &str) -> (String, String) {
        let (draft, _) = read(text);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(draft.text.strip_suffix(b"\n").unwrap()), text(draft.fields.of(0)))
    }

    #[test]
    fn the_line_and_what_is_known_of_it() {
        for (text, expected, fields) in [
            (r#""a \"b\"""#, "a \"b\"", ""),
            (r#"{"message":"a","status":500,"ok":true,"none":null}"#, "a", "status=500 ok=true"),
            (r#"{"msg":"b","log":"c\n","message":"a"}"#, "a", "msg=b log=\"c\\n\""),
            (
                r#"{"message":"a","http":{"path":"/my cart","codes":[1, 2]},"e":{}}"#,
                "a",
                r#"http.path="/my cart" http.codes="[1, 2]""#,
            ),
            (
                r#"{"message":"a","a b=":"x","revision":7,"0":1,"level":"odd"}"#,
                "a",
                "a_b_=x sent.revision=7 sent.0=1 sent.level=odd",
            ),
            // Without a line, it is one.
            (
                r#" {"user":{"id":7}, "log":{"level":"warn"}}"#,
                r#"{"user":{"id":7}, "log":{"level":"warn"}}"#,
                "",
            ),
        ] {
            assert_eq!(line(text), (expected.to_owned(), fields.to_owned()), "{text}");
        }
    }

    #[test]
    fn its_time_level_and_stream_are_its_own() {
        let (draft, _) =
            read(r#"{"log":"a","@timestamp":"2026-11-27T01:02:01Z","level":"WARN","stream":"stderr"}"#);
        assert_eq!((draft.times[0], draft.levels[0]), (Timestamp(NOW.0 - 2_456), Some(Level::Warn)));
        assert!(draft.fields.is_empty());
        // A time that cannot be is kept, and does not count.
        let (draft, _) = read(r#"{"log":"a","time":"1999-11-27T01:02:01Z","severity":"error"}"#);
        assert_eq!((draft.times[0], draft.levels[0]), (NOW, Some(Level::Error)));
        assert_eq!(draft.fields.of(0), b"sent.time=1999-11-27T01:02:01Z severity=error");
    }

    #[test]
    fn too_many_fields_stand_in_the_line_and_none_is_lost() {
        let members: Vec<String> = (0..100_000).map(|at| format!(r#""f{at}":{at}"#)).collect();
        let (text, fields) = line(&format!(r#"{{"message":"a",{}}}"#, members.join(",")));
        assert!(text.starts_with("a f0=0 f1=1 ") && text.ends_with(" f99999=99999"));
        assert_eq!(fields, "");
        let (text, fields) = line(&format!(r#"{{"message":"a","{}":1}}"#, "x".repeat(200)));
        assert_eq!((text.len(), fields.as_str()), (204, ""));
    }

    #[test]
    fn instances_are_named_where_agents_name_them() {
        for (text, expected) in [
            (r#"{"instance":"i-7"}"#, vec!["i-7"]),
            (r#"{"kubernetes":{"pod_name":"web-x","pod_id":"u-1"}}"#, vec!["web-x", "u-1"]),
            (r#"{"log":{"file":{"path":"/var/log/pods/ns_web-x_u-1/web/0.log"}}}"#, vec!["web-x", "u-1"]),
            (r#"{"file":"/var/log/containers/web-x_ns_web-abc1.log"}"#, vec!["web-x", "abc1"]),
            (r#"{"file":"/etc/passwd"}"#, vec![]),
            (r#"{"instance":["i-7"]}"#, vec![]),
        ] {
            assert_eq!(read(text).1, expected, "{text}");
        }
    }
}
