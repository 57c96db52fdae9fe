use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use k8s_openapi::jiff;
use kube::Client;
use kube::client::Body;
use paas_core::model::{
    AppId, EnvironmentId, InstanceId, LogOrigin, LogStream, Resource, RevisionNumber, ServiceId, TenantId,
};

use super::super::streams::Streams;
use super::*;
use crate::scheduler::Outputs;
use crate::{Connection, ConnectionConfig};

/// Some moment, in seconds.
const THEN: u64 = 1_700_000_000;
/// So many lines are there when somebody comes first.
const LINES: u64 = 5;

type Sent = UnsyncBoxBody<Bytes, io::Error>;

/// How a stream goes on after what is there when somebody comes first.
#[derive(Clone, Copy, Debug)]
enum After {
    /// With nothing that comes later.
    Silence,
    /// So many bytes before its end it breaks off.
    Cut(usize),
    /// So many bytes before its end it ends, as if that was all.
    End(usize),
}

/// A kubelet whose only container writes two lines every two seconds.
#[derive(Debug, Default)]
struct Kubelet {
    /// How the first streams of those who follow go on.
    first: Vec<After>,
    /// How all others do that are not told what comes later.
    others: Option<After>,
    /// It has thrown away the container before, and says so in place of its output.
    forgetful: bool,
    /// How many have asked to follow.
    asked: AtomicUsize,
    /// The pod has been removed.
    gone: AtomicBool,
}

fn line(number: u64) -> Bytes {
    let stamp = jiff::Timestamp::from_second(i64::try_from(THEN + number).unwrap()).unwrap();
    Bytes::from(format!("{stamp:.9} line {number}\n"))
}

impl Kubelet {
    fn client(self: Arc<Self>) -> Client {
        let begun = Instant::now();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = self.answer(&request, begun.elapsed().as_secs());
            async move { Ok::<_, Infallible>(answer) }
        });
        Client::new(service, "default")
    }

    fn answer(&self, request: &Request<Body>, age: u64) -> Response<Sent> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        if path.ends_with("/pods") {
            return body(stream::iter([Bytes::from_static(PODS)]));
        }
        if !path.ends_with("/log") {
            return body(stream::iter([Bytes::from_static(NAMESPACE)]));
        }
        if query.contains("previous=true") && self.forgetful {
            return body(stream::iter([Bytes::from_static(
                b"unable to retrieve container logs for containerd://1",
            )]));
        }
        if query.contains("previous=true") || self.gone.load(Ordering::Relaxed) {
            let mut none = body(stream::empty());
            *none.status_mut() = StatusCode::BAD_REQUEST;
            return none;
        }
        if let Some(others) = self.others
            && !query.contains("follow=true")
        {
            return part(others);
        }
        let there = stream::iter((0..LINES + age).map(line));
        if !query.contains("follow=true") {
            return body(there);
        }
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(after) = self.first.get(asked).copied().or(self.others) {
            return part(after);
        }
        // Two at a time, one after the other.
        let later = stream::unfold((LINES + age, 0), |(number, ready)| async move {
            if ready == 0 {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Some((line(number), (number + 1, (ready + 1) % 2)))
        });
        body(there.chain(later))
    }
}

const NAMESPACE: &[u8] =
    br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"x"}}"#;
/// The only pod there is now.
const PODS: &[u8] =
    br#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{},"items":[
    {"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"i","uid":"u-1"}}]}"#;

/// What is there first, and no more.
fn part(after: After) -> Response<Sent> {
    let there: Vec<u8> = (0..LINES).flat_map(line).collect();
    let there = Bytes::from(there);
    let but = |bytes: usize| there.slice(..there.len() - bytes);
    match after {
        After::Silence => body(stream::iter([there]).chain(stream::pending())),
        After::End(bytes) => body(stream::iter([but(bytes)])),
        After::Cut(bytes) => {
            // What comes before the cut arrives by itself.
            let parts = stream::iter([Ok(but(bytes)), Err(io::Error::other("cut"))]).then(|part| async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                part
            });
            sent(parts)
        }
    }
}

fn body(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response<Sent> {
    sent(lines.map(Ok))
}

fn sent(parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response<Sent> {
    Response::new(StreamBody::new(parts.map(|part| part.map(Frame::data))).boxed_unsync())
}

/// Somebody who follows the instance.
struct Reader {
    kubelet: Arc<Kubelet>,
    view: watch::Sender<View>,
    items: mpsc::Receiver<Result<LogItem>>,
    texts: Vec<String>,
    shared: Arc<Shared>,
    origin: LogOrigin,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reader {
    async fn new(kubelet: Kubelet, position: Option<LogPosition>, output: Output, uid: Option<&str>) -> Self {
        let kubelet = Arc::new(kubelet);
        let config = ConnectionConfig::default().platform("test");
        let connection = Connection::from_client(Arc::clone(&kubelet).client(), config).await.unwrap();
        let (outputs, streams, closed) = (Outputs::default(), Streams::new(1), watch::Sender::new(()));
        let shared = Arc::new(Shared { connection, outputs, streams, closed });
        let resource = Resource::Service(
            TenantId::new("t-1").unwrap(),
            EnvironmentId::new("e-1").unwrap(),
            AppId::new("a-1").unwrap(),
            ServiceId::new("s-1").unwrap(),
        );
        let instance = InstanceId::new("i-1").unwrap();
        let origin = LogOrigin::new(&resource, RevisionNumber(1), instance, LogStream::Combined).unwrap();
        let (namespace, pod, uid) = ("room".into(), "i".into(), uid.map(str::to_owned));
        let writer = Writer { namespace, pod, uid, container: "service", origin: origin.clone(), output };
        let view = watch::Sender::new(View::Here(output));
        let (sender, items) = mpsc::channel(8);
        let own = Instance::new(Arc::clone(&shared), writer, view.subscribe(), sender, position);
        let task = tokio::spawn(own.follow());
        Self { kubelet, view, items, texts: Vec::new(), shared, origin, task }
    }

    /// Takes all that comes until it is so, or there is no more, or for two minutes; tells whether it is so.
    async fn until(&mut self, is_so: impl Fn(&[String]) -> bool) -> bool {
        let received = async {
            while !is_so(&self.texts) {
                match self.items.recv().await.map(Result::unwrap) {
                    Some(LogItem::Batch(batch)) => {
                        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                        self.texts.extend(batch.lines().map(|line| text(line.bytes)));
                    }
                    Some(LogItem::Gap { .. }) => self.texts.push("gap".into()),
                    None => break,
                    Some(other) => panic!("{other:?}"),
                }
            }
        };
        let is_in_time = timeout(Duration::from_secs(120), received).await.is_ok();
        is_in_time && is_so(&self.texts)
    }

    /// Removes the pod, tells whoever follows of it, and gives all that came until the reading is over.
    async fn until_gone(mut self) -> Vec<String> {
        self.kubelet.gone.store(true, Ordering::Relaxed);
        self.view.send_replace(View::Gone);
        self.until(|_| false).await;
        assert!(self.items.is_closed(), "after two minutes there is {:?}", self.texts);
        std::mem::take(&mut self.texts)
    }
}

/// Follows from this position on, for at most two minutes, until the line of this number comes; gives all that came.
async fn follow(kubelet: Kubelet, position: Option<LogPosition>, until: u64) -> Vec<String> {
    let mut reader = Reader::new(kubelet, position, Output::Open(0), None).await;
    let wanted = format!("line {until}");
    let is_there = reader.until(|texts| texts.contains(&wanted)).await;
    assert!(is_there, "after two minutes there is {:?}", reader.texts);
    let until = reader.texts.iter().position(|text| *text == wanted).unwrap();
    reader.texts.drain(..=until).collect()
}

fn first(first: &[After]) -> Kubelet {
    Kubelet { first: first.to_vec(), ..Kubelet::default() }
}

fn numbered(lines: std::ops::RangeInclusive<u64>) -> Vec<String> {
    lines.map(|number| format!("line {number}")).collect()
}

/// The position after a line.
fn after(number: u64) -> LogPosition {
    LogPosition { incarnation: 0, sequence: (THEN + number) * 1_000_000_000, index: 1 }
}

/// After a clock was set back, lines that were given may have later stamps than the last one: stamps alone do not tell that
/// it is not there any more, and a container that writes all the time never falls silent.
#[tokio::test(start_paused = true)]
async fn a_lost_last_line_does_not_hold_up_what_comes_all_the_time() {
    let gone = LogPosition { incarnation: 1, sequence: (THEN - 30) * 1_000_000_000, index: 1 };
    let texts = follow(Kubelet::default(), Some(gone), 20).await;
    assert_eq!(texts, [vec!["gap".to_owned()], numbered(0..=20)].concat());
}

#[tokio::test(start_paused = true)]
async fn a_last_line_that_comes_late_is_found() {
    let there = LogPosition { incarnation: 1, ..after(7) };
    assert_eq!(follow(Kubelet::default(), Some(there), 20).await, numbered(8..=20));
}

/// The server ends a stream that broke behind it as if it was whole.
#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_before_the_last_line_does_not_begin_all_anew() {
    let before_the_last_two = 2 * line(0).len();
    let kubelet = first(&[After::End(before_the_last_two), After::End(before_the_last_two + 3)]);
    assert_eq!(follow(kubelet, Some(after(4)), 20).await, numbered(5..=20));
}

#[tokio::test(start_paused = true)]
async fn whoever_has_to_leave_the_stream_to_others_misses_nothing() {
    let mut reader = Reader::new(Kubelet::default(), None, Output::Open(0), None).await;
    let shared = Arc::clone(&reader.shared);
    let other = tokio::spawn(async move {
        while let Some(_stream) = shared.streams.acquire().await {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    assert!(reader.until(|texts| texts.len() > 60).await, "{:?}", reader.texts);
    other.abort();
    assert_eq!(reader.texts[..60], numbered(0..=59));
}

#[tokio::test(start_paused = true)]
async fn a_container_before_that_is_forgotten_keeps_nobody_from_the_newest() {
    let kubelet = Kubelet { forgetful: true, ..Kubelet::default() };
    assert_eq!(follow(kubelet, None, 20).await, numbered(0..=20));
}

/// A kubelet's reader may hold on to a file that is written no more, and so may the next.
#[tokio::test(start_paused = true)]
async fn streams_that_miss_a_new_file_are_opened_anew_until_one_does_not() {
    assert_eq!(follow(first(&[After::Silence, After::Silence]), None, 100).await, numbered(0..=100));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_cut_in_the_middle_comes_whole_with_the_next_stream() {
    for cut in [1, 4, 7, 20] {
        let kubelet = first(&[After::Cut(cut), After::End(cut), After::Cut(cut + 1), After::End(cut)]);
        assert_eq!(follow(kubelet, None, 20).await, numbered(0..=20), "{cut}");
    }
}

/// What the last line of a container that ended lacks is told from what a stream lacks that broke.
#[tokio::test(start_paused = true)]
async fn a_last_line_without_a_newline_is_given_once_and_whole() {
    let first = [3, 2].map(After::End).to_vec();
    let kubelet = Kubelet { first, others: Some(After::End(1)), ..Kubelet::default() };
    let mut reader = Reader::new(kubelet, None, Output::Ended(0), None).await;
    assert!(reader.until(|texts| texts.len() == 5).await, "{:?}", reader.texts);
    assert!(!reader.until(|texts| texts.len() > 5).await, "{:?}", reader.texts);
    assert_eq!(reader.until_gone().await, numbered(0..=4));
}

#[tokio::test(start_paused = true)]
async fn what_came_of_a_last_line_whose_pod_is_gone_is_given_with_a_gap() {
    for after in [After::Cut(1), After::End(1)] {
        let kubelet = Kubelet { others: Some(after), ..Kubelet::default() };
        let mut reader = Reader::new(kubelet, None, Output::Open(0), None).await;
        assert!(reader.until(|texts| texts.len() == 4).await);
        assert_eq!(
            reader.until_gone().await,
            [numbered(0..=4), vec!["gap".to_owned()]].concat(),
            "{after:?}"
        );
    }
}

/// The next pod of a StatefulSet has the same name.
#[tokio::test(start_paused = true)]
async fn another_pod_of_the_same_name_is_not_read() {
    let ended = || Kubelet { others: Some(After::End(0)), ..Kubelet::default() };
    let reader = Reader::new(ended(), None, Output::Ended(0), Some("u-0")).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(reader.until_gone().await, [""; 0]);
    let mut reader = Reader::new(ended(), None, Output::Ended(0), Some("u-1")).await;
    assert!(reader.until(|texts| texts.len() == 5).await);
    assert_eq!(reader.until_gone().await, numbered(0..=4));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_keeps_nobody_waiting() {
    let mut lazy = Reader::new(Kubelet::default(), None, Output::Open(0), None).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    // Another reader, for whom there is no other stream.
    let (view, (sender, mut items)) = (watch::Sender::new(View::Here(Output::Open(0))), mpsc::channel(8));
    let mut origin = lazy.origin.clone();
    origin.instance = InstanceId::new("i-2").unwrap();
    let (namespace, pod, output) = ("room".into(), "i".into(), Output::Open(0));
    let writer = Writer { namespace, pod, uid: None, container: "service", origin, output };
    let own = Instance::new(Arc::clone(&lazy.shared), writer, view.subscribe(), sender, None);
    let task = tokio::spawn(own.follow());
    let heard = timeout(Duration::from_secs(60), items.recv()).await;
    assert!(heard.is_ok(), "nobody hears anything while one does not read");
    task.abort();
    // Who reads again at last has missed nothing.
    assert!(lazy.until(|texts| texts.len() >= 60).await);
    assert_eq!(lazy.texts[..60], numbered(0..=59));
}
