//! Lines as JSON, for whoever keeps them elsewhere or looks at them with other tools.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use paas_core::backend::file_error;
use paas_core::model::{
    AppId, EnvironmentId, InstanceId, Level, LogEntry, LogKey, LogOrder, LogPosition, LogQuery, LogStream,
    RevisionNumber, Scope, ServiceId, TenantId, Timestamp, pairs,
};
use paas_core::port::LogStore;
use paas_core::{Error, Result};
use serde::Serialize;

/// At most so many lines come at once.
const LINES: usize = 1_000;
/// About so many bytes of lines come at once.
const BYTES: usize = 4 * 1024 * 1024;

/// All lines that a query finds in any store, in the order of time, as [JSON lines](https://jsonlines.org): each an object and
/// a newline.
///
/// | field | what it is |
/// |---|---|
/// | `time` | RFC 3339 with milliseconds, in UTC |
/// | `level` | `trace` to `fatal`; not there where it is not known |
/// | `tenant`, `environment`, `app`, `service`, `instance` | ids |
/// | `revision` | a number |
/// | `stream` | `stdout`, `stderr` or `combined` |
/// | `position` | where the line begins in its output: `incarnation`, `sequence`, `index` |
/// | `fields` | what rules found out beside the line, by name, each as text; not there where it is nothing |
/// | `line` | the line without its newline, where it is UTF-8 |
/// | `line_base64` | its bytes otherwise, in base64 with padding (RFC 4648, section 4) |
///
/// It takes a page of the store at a time, so it holds as much in memory as a page has, whatever there is to export. Lines that
/// are stored meanwhile come, too, if they are later than those that came before.
///
/// ```
/// # use std::sync::Arc;
/// # use paas_core::memory::MemoryLogStore;
/// # use paas_core::model::{LogQuery, Resource, Scope, TenantId};
/// # use paas_core::port::LogStore;
/// use paas_logs::LogExport;
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// # let store: Arc<dyn LogStore> = Arc::new(MemoryLogStore::new());
/// # let scope = Scope::testing(Resource::Platform);
/// let query = LogQuery::of(Resource::Tenant(TenantId::new("t-1")?));
/// let mut export = LogExport::new(store, scope, query);
/// while let Some(lines) = export.next().await? {
///     // They go to a file, a socket, a bucket.
///     println!("{} bytes, {:?}", lines.len(), export.progress());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LogExport {
    store: Arc<dyn LogStore>,
    scope: Scope,
    query: LogQuery,
    progress: LogExportProgress,
    is_over: bool,
}

/// How far an export has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogExportProgress {
    /// How many lines were given.
    pub lines: u64,
    /// How many bytes of JSON they are.
    pub bytes: u64,
    /// The last of them: an export goes on after it where [`LogQuery::after`] is this.
    pub last: Option<LogKey>,
}

impl LogExport {
    /// What a query finds; its order and limit do not count.
    #[must_use]
    pub fn new(store: Arc<dyn LogStore>, scope: Scope, mut query: LogQuery) -> Self {
        (query.order, query.limit) = (LogOrder::Oldest, LINES);
        Self { store, scope, query, progress: LogExportProgress::default(), is_over: false }
    }

    /// The next lines, whole ones; `None` once there are no more. After an error it goes on where it was.
    ///
    /// # Errors
    /// Those of [`LogStore::search`].
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.is_over {
            let page = self.store.search(&self.scope, &self.query).await?;
            let bytes: usize = page.entries.iter().map(|entry| entry.line.len()).sum();
            let mut out = Vec::with_capacity(bytes + page.entries.len() * 320);
            page.entries.iter().try_for_each(|entry| put(&mut out, entry))?;
            self.is_over = page.next.is_none();
            let Some(last) = page.entries.last().map(LogEntry::key) else { continue };
            // The next page is about as large as is wanted, if its lines are as long as these.
            self.query.limit = (BYTES * page.entries.len() / bytes.max(1)).clamp(1, LINES);
            // What is before it a store need not look at.
            self.query.from = self.query.from.max(last.time);
            self.query.after = Some(last.clone());
            self.progress.lines += page.entries.len() as u64;
            self.progress.bytes += out.len() as u64;
            self.progress.last = Some(last);
            return Ok(Some(out.into()));
        }
        Ok(None)
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// Those of [`LogExport::next`], and where it cannot be written; [`LogExport::progress`] counts the lines of a page that
    /// was written in part.
    pub async fn write_to(&mut self, out: &mut (impl Write + Send)) -> Result<LogExportProgress> {
        while let Some(lines) = self.next().await? {
            out.write_all(&lines)
                .map_err(|cause| file_error("write an export", "(output)".as_ref(), cause))?;
        }
        out.flush().map_err(|cause| file_error("write an export", "(output)".as_ref(), cause))?;
        Ok(self.progress.clone())
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> &LogExportProgress {
        &self.progress
    }
}

/// A line as it is exported.
#[derive(Serialize)]
struct Exported<'a> {
    time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<Level>,
    tenant: &'a TenantId,
    environment: &'a EnvironmentId,
    app: &'a AppId,
    service: &'a ServiceId,
    revision: RevisionNumber,
    instance: &'a InstanceId,
    stream: LogStream,
    position: LogPosition,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<Cow<'a, str>, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line_base64: Option<String>,
}

/// What is no UTF-8 is replaced.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn put(out: &mut Vec<u8>, entry: &LogEntry) -> Result<()> {
    let origin = &*entry.origin;
    let line = std::str::from_utf8(&entry.line).ok();
    let exported = Exported {
        time: entry.time,
        level: entry.level,
        tenant: &origin.tenant,
        environment: &origin.environment,
        app: &origin.app,
        service: &origin.service,
        revision: origin.revision,
        instance: &origin.instance,
        stream: origin.stream,
        position: entry.position,
        fields: pairs(&entry.fields).map(|(name, value)| (text(name), text(&value).into_owned())).collect(),
        line,
        line_base64: line.is_none().then(|| base64(&entry.line)),
    };
    serde_json::to_writer(&mut *out, &exported)
        .map_err(|cause| Error::internal("a line is no JSON").with_source(cause))?;
    out.push(b'\n');
    Ok(())
}

/// RFC 4648, section 4.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let number = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use paas_core::memory::MemoryLogStore;
    use paas_core::model::{LogBatch, LogOrigin, Resource};

    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let vectors = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, vector) in vectors.iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..length]), *vector);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    fn origin() -> LogOrigin {
        let [environment, app, service] = ["e-1", "a-1", "s-1"];
        let ids = (environment.parse().unwrap(), app.parse().unwrap(), service.parse().unwrap());
        let service = Resource::Service(TenantId::new("t-1").unwrap(), ids.0, ids.1, ids.2);
        let instance = InstanceId::new("i-1").unwrap();
        LogOrigin::new(&service, RevisionNumber(3), instance, LogStream::Stderr).unwrap()
    }

    async fn export(batches: &[LogBatch]) -> (String, LogExportProgress) {
        let (store, scope) = (MemoryLogStore::new(), Scope::testing(Resource::Platform));
        store.append(&scope, batches).await.unwrap();
        let query = LogQuery::of(Resource::Tenant(TenantId::new("t-1").unwrap()));
        let (mut export, mut out) = (LogExport::new(Arc::new(store), scope, query), Vec::new());
        let progress = export.write_to(&mut out).await.unwrap();
        assert_eq!(progress.bytes, out.len() as u64);
        (String::from_utf8(out).unwrap(), progress)
    }

    #[tokio::test]
    async fn a_line_is_exported_with_all_that_is_known_of_it() {
        let text = Bytes::from_static(b"a \"line\"\n\xff\xfe\n");
        let time = Timestamp(1_800_000_000_123);
        let mut batch = LogBatch::new(origin(), text, time, LogPosition::offset(2, 70));
        batch.levels = vec![Some(Level::Warn), None];
        [&b"a=1 b=\"x y\""[..], b""].iter().for_each(|pairs| batch.fields.push(pairs));
        let (text, _) = export(&[batch]).await;
        let common = r#""tenant":"t-1","environment":"e-1","app":"a-1","service":"s-1","revision":3,"instance":"i-1","stream":"stderr","position":{"incarnation":2,"sequence":"#;
        let expected = format!(
            "{{\"time\":\"2027-01-15T08:00:00.123Z\",\"level\":\"warn\",{common}70,\"index\":0}},\"fields\":{{\"a\":\"1\",\"b\":\"x y\"}},\"line\":\"a \\\"line\\\"\"}}\n\
             {{\"time\":\"2027-01-15T08:00:00.123Z\",{common}79,\"index\":0}},\"line_base64\":\"//4=\"}}\n"
        );
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn more_lines_than_a_page_come_in_the_order_of_time_each_once() {
        let batch = |number: u64| {
            // Now and then one is long, so that pages are of many sizes.
            let text =
                format!("{number:06}{}\n", "x".repeat(if number.is_multiple_of(900) { 300_000 } else { 0 }));
            let position = LogPosition { incarnation: number, sequence: 0, index: 0 };
            LogBatch::new(origin(), Bytes::from(text), Timestamp(1_000 + number / 7), position)
        };
        let batches: Vec<_> = (0..5_000).map(batch).collect();
        let (text, progress) = export(&batches).await;
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let numbers: Vec<String> =
            lines.iter().map(|line| line["line"].as_str().unwrap()[..6].to_owned()).collect();
        assert_eq!(numbers, (0..5_000).map(|number| format!("{number:06}")).collect::<Vec<_>>());
        assert_eq!((progress.lines, progress.last.unwrap().position.incarnation), (5_000, 4_999));
    }
}
