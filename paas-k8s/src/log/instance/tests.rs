use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

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
    AppId, EnvironmentId, InstanceId, LogStream, Resource, RevisionNumber, ServiceId, TenantId,
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

/// A kubelet whose only container writes a line every second, and how often it was asked.
#[derive(Default)]
struct Kubelet {
    asked: AtomicU32,
    /// So many who follow are given the first file, and nothing that comes later.
    deaf: u32,
    /// So many are cut off in the middle of the last line that is there.
    cut: u32,
}

fn line(number: u64) -> Bytes {
    let stamp = jiff::Timestamp::from_second(i64::try_from(THEN + number).unwrap()).unwrap();
    Bytes::from(format!("{stamp:.9} line {number}\n"))
}

impl Kubelet {
    fn client(self) -> Client {
        let (kubelet, begun) = (Arc::new(self), Instant::now());
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = kubelet.answer(&request, begun.elapsed().as_secs());
            async move { Ok::<_, Infallible>(answer) }
        });
        Client::new(service, "default")
    }

    fn answer(&self, request: &Request<Body>, age: u64) -> Response<Sent> {
        if !request.uri().path().ends_with("/log") {
            let found =
                br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"x"}}"#;
            return body(stream::iter([Bytes::from_static(found)]));
        }
        let query = request.uri().query().unwrap_or_default();
        if query.contains("previous=true") {
            let mut none = body(stream::empty());
            *none.status_mut() = StatusCode::BAD_REQUEST;
            return none;
        }
        let there = stream::iter((0..LINES + age).map(line));
        if !query.contains("follow=true") {
            return body(there);
        }
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if asked < self.cut {
            let whole = (0..LINES - 1).map(|number| Ok(line(number)));
            let torn = [Ok(line(LINES - 1).slice(..34)), Err(io::Error::other("cut"))];
            // What comes before the cut arrives by itself.
            let torn = stream::iter(torn).then(|part| async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                part
            });
            return sent(stream::iter(whole).chain(torn));
        }
        if asked < self.deaf {
            return body(stream::iter((0..LINES).map(line)).chain(stream::pending()));
        }
        let later = stream::unfold(LINES + age, |number| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((line(number), number + 1))
        });
        body(there.chain(later))
    }
}

fn body(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response<Sent> {
    sent(lines.map(Ok))
}

fn sent(parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response<Sent> {
    Response::new(StreamBody::new(parts.map(|part| part.map(Frame::data))).boxed_unsync())
}

/// Follows from this position on, for at most two minutes, until the line of this number comes; gives all that came.
async fn follow(kubelet: Kubelet, position: Option<LogPosition>, until: u64) -> Vec<String> {
    let config = ConnectionConfig::default().platform("test");
    let connection = Connection::from_client(kubelet.client(), config).await.unwrap();
    let shared = Shared {
        connection,
        outputs: Outputs::default(),
        streams: Streams::new(1),
        closed: watch::Sender::new(()),
    };
    let resource = Resource::Service(
        TenantId::new("t-1").unwrap(),
        EnvironmentId::new("e-1").unwrap(),
        AppId::new("a-1").unwrap(),
        ServiceId::new("s-1").unwrap(),
    );
    let instance = InstanceId::new("i-1").unwrap();
    let origin = LogOrigin::new(&resource, RevisionNumber(1), instance, LogStream::Combined).unwrap();
    let output = Output::Open(0);
    let writer = Writer { namespace: "room".into(), pod: "i-1".into(), container: "service", origin, output };
    let view = watch::Sender::new(View::Here(output));
    let (sender, mut items) = mpsc::channel(8);
    let own = Instance::new(Arc::new(shared), writer, view.subscribe(), sender, position);
    let task = tokio::spawn(own.follow());
    let mut texts: Vec<String> = Vec::new();
    let wanted = format!("line {until}");
    let received = async {
        while texts.last() != Some(&wanted) {
            match items.recv().await.unwrap().unwrap() {
                LogItem::Batch(batch) => {
                    texts.extend(batch.lines().map(|line| String::from_utf8_lossy(line.bytes).into_owned()));
                }
                LogItem::Gap { .. } => texts.push("gap".into()),
                other => panic!("{other:?}"),
            }
        }
    };
    let is_in_time = timeout(Duration::from_secs(120), received).await.is_ok();
    task.abort();
    assert!(is_in_time, "after two minutes there is {texts:?}");
    texts
}

fn numbered(lines: std::ops::RangeInclusive<u64>) -> Vec<String> {
    lines.map(|number| format!("line {number}")).collect()
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
    let there = LogPosition { incarnation: 1, sequence: (THEN + 7) * 1_000_000_000, index: 1 };
    assert_eq!(follow(Kubelet::default(), Some(there), 20).await, numbered(8..=20));
}

/// A kubelet's reader may hold on to a file that is written no more, and so may the next.
#[tokio::test(start_paused = true)]
async fn streams_that_miss_a_new_file_are_opened_anew_until_one_does_not() {
    assert_eq!(follow(Kubelet { deaf: 2, ..Kubelet::default() }, None, 100).await, numbered(0..=100));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_cut_in_the_middle_comes_whole_with_the_next_stream() {
    assert_eq!(follow(Kubelet { cut: 3, ..Kubelet::default() }, None, 20).await, numbered(0..=20));
}
