//! What a Traefik tells of the requests it has passed on: its metrics, read over HTTP.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use paas_core::{BoxError, Error, Result};
use tokio::net::TcpStream;

use super::exposition::{self, Unreadable};

/// Counts requests by the time they took. Its last bucket holds all of them.
const DURATIONS: &str = "traefik_service_request_duration_seconds_bucket";
/// How long one reading of one gateway may take.
const LONGEST: Duration = Duration::from_secs(3);
/// The largest answer that is read.
const MOST_BYTES: usize = 64 << 20;
/// The longest line that is read.
const MOST_OF_A_LINE: usize = 16 << 10;
/// How many gateways one name may stand for.
const MOST_GATEWAYS: usize = 64;
/// How many buckets a histogram may have.
const MOST_BUCKETS: usize = 128;

/// What sets a series apart: the labels but for the bucket's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Series {
    pub(super) service: String,
    pub(super) code: String,
    rest: String,
}

/// Requests by the time they took: upper bounds in microseconds, and how many took no longer. The last is of all.
pub(super) type Buckets = Vec<(u64, u64)>;

/// What one gateway has counted since it began.
pub(super) type Reading = HashMap<Series, Buckets>;

/// The gateways behind a name: every replica counts for itself.
pub(super) async fn gateways(address: &str) -> Result<Vec<SocketAddr>> {
    let unknown = |cause: BoxError| {
        Error::unavailable("the gateway's metrics have no address")
            .with("metrics", address)
            .with_source(cause)
    };
    let found = tokio::time::timeout(LONGEST, tokio::net::lookup_host(address)).await;
    let found = found.map_err(|elapsed| unknown(elapsed.into()))?.map_err(|cause| unknown(cause.into()))?;
    let mut all: Vec<SocketAddr> = found.take(MOST_GATEWAYS).collect();
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Asks one gateway. Of its services, only those that `is_wanted` names are kept.
pub(super) async fn read(at: SocketAddr, is_wanted: impl Fn(&str) -> bool) -> Result<Reading> {
    let failed = |cause: BoxError| {
        Error::unavailable("the gateway's metrics cannot be read").with("metrics", at).with_source(cause)
    };
    let answer = tokio::time::timeout(LONGEST, async {
        let body = ask(at).await?;
        collect(body, &is_wanted).await
    });
    answer.await.map_err(|elapsed| failed(elapsed.into()))?.map_err(failed)
}

async fn ask(at: SocketAddr) -> Result<Incoming, BoxError> {
    let stream = TokioIo::new(TcpStream::connect(at).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    // It ends with the body or, where that is given up, at once.
    tokio::spawn(connection);
    let request = Request::get("/metrics")
        .header("host", at.to_string())
        .header("accept", "text/plain;version=0.0.4")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status()).into());
    }
    Ok(response.into_body())
}

async fn collect(mut body: Incoming, is_wanted: &impl Fn(&str) -> bool) -> Result<Reading, BoxError> {
    let mut reader = Reader::default();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            reader.feed(&data, is_wanted).map_err(|Unreadable(why)| why)?;
        }
    }
    reader.end(is_wanted).map_err(|Unreadable(why)| why.into())
}

/// Takes an answer in as it comes, line by line.
#[derive(Default)]
struct Reader {
    bytes: usize,
    line: Vec<u8>,
    reading: Reading,
}

impl Reader {
    fn feed(&mut self, data: &[u8], is_wanted: &impl Fn(&str) -> bool) -> Result<(), Unreadable> {
        self.bytes = self.bytes.saturating_add(data.len());
        if self.bytes > MOST_BYTES {
            return Err(Unreadable("more metrics than are read"));
        }
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + part.len() > MOST_OF_A_LINE {
                return Err(Unreadable("a line that is too long"));
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.take(is_wanted)?;
            }
        }
        Ok(())
    }

    fn end(mut self, is_wanted: &impl Fn(&str) -> bool) -> Result<Reading, Unreadable> {
        self.take(is_wanted)?;
        for buckets in self.reading.values_mut() {
            buckets.sort_unstable();
            // All of them are in the last; what was read in between may be ahead of it by a request.
            buckets.dedup_by_key(|(bound, _)| *bound);
            if buckets.last().is_none_or(|(bound, _)| *bound != u64::MAX) {
                return Err(Unreadable("a histogram without a bucket for all"));
            }
        }
        Ok(self.reading)
    }

    /// Takes in the line that is complete.
    fn take(&mut self, is_wanted: &impl Fn(&str) -> bool) -> Result<(), Unreadable> {
        let line = std::mem::take(&mut self.line);
        if !line.starts_with(DURATIONS.as_bytes()) {
            return Ok(());
        }
        let line = std::str::from_utf8(&line).map_err(|_| Unreadable("a line that is no text"))?;
        let sample = exposition::sample(line.trim_end())?;
        let Some(service) = sample.label("service").filter(|service| is_wanted(service)) else {
            return Ok(());
        };
        let bound = sample.label("le").and_then(micros).ok_or(Unreadable("a bucket without a bound"))?;
        let count = whole(sample.value).ok_or(Unreadable("a count that is none"))?;
        let rest = sample.labels.iter().filter(|(name, _)| !["service", "code", "le"].contains(name));
        let series = Series {
            service: service.to_owned(),
            code: sample.label("code").unwrap_or_default().to_owned(),
            rest: rest.map(|(name, value)| format!("{name}={value:?},")).collect(),
        };
        let buckets = self.reading.entry(series).or_default();
        if buckets.len() == MOST_BUCKETS {
            return Err(Unreadable("more buckets than are read"));
        }
        buckets.push((bound, count));
        Ok(())
    }
}

/// Seconds as microseconds; infinity is the most there is.
fn micros(seconds: &str) -> Option<u64> {
    let seconds: f64 = seconds.parse().ok()?;
    if seconds == f64::INFINITY {
        return Some(u64::MAX);
    }
    whole((seconds * 1e6).round())
}

/// A count, which has no fraction.
fn whole(value: f64) -> Option<u64> {
    // Above this not every whole number is a number of this type.
    const MOST: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the bounds")]
    (value.fract() == 0.0 && (0.0..=MOST).contains(&value)).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(parts: &[&[u8]]) -> Result<Reading, Unreadable> {
        let mut reader = Reader::default();
        for part in parts {
            reader.feed(part, &|service| service.starts_with("own"))?;
        }
        reader.end(&|service| service.starts_with("own"))
    }

    const TEXT: &str = r#"# HELP it counts
go_goroutines 220
traefik_service_request_duration_seconds_bucket{code="200",method="GET",service="own@it",le="0.1"} 3
traefik_service_request_duration_seconds_bucket{code="200",method="GET",service="own@it",le="+Inf"} 5
traefik_service_request_duration_seconds_bucket{code="500",method="GET",service="own@it",le="+Inf"} 1
traefik_service_request_duration_seconds_bucket{code="200",method="GET",service="other@it",le="+Inf"} 9
traefik_service_request_duration_seconds_sum{code="200",method="GET",service="own@it"} 0.2
"#;

    #[test]
    fn only_wanted_histograms_are_kept() {
        let reading = read_all(&[TEXT.as_bytes()]).unwrap();
        let mut found: Vec<_> =
            reading.iter().map(|(series, buckets)| (series.code.as_str(), buckets.clone())).collect();
        found.sort();
        assert_eq!(found, [("200", vec![(100_000, 3), (u64::MAX, 5)]), ("500", vec![(u64::MAX, 1)])]);
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        let line = |labels: &str, value: &str| format!("{DURATIONS}{{{labels}}} {value}\n");
        for text in [
            line(r#"service="own",le="0.1""#, "1"),
            line(r#"service="own",le="x""#, "1"),
            line(r#"service="own",le="-1""#, "1"),
            line(r#"service="own""#, "1"),
            line(r#"service="own",le="+Inf""#, "1.5"),
            line(r#"service="own",le="+Inf""#, "-1"),
            line(r#"service="own",le="+Inf""#, "NaN"),
            line(&format!(r#"service="own",le="{}""#, "1".repeat(MOST_OF_A_LINE)), "1"),
            (0..=MOST_BUCKETS).map(|it| line(&format!(r#"service="own",le="{it}""#), "1")).collect(),
        ] {
            assert!(read_all(&[text.as_bytes()]).is_err(), "{}", &text[..text.len().min(200)]);
        }
        let mut endless = Reader { bytes: MOST_BYTES, ..Reader::default() };
        assert!(endless.feed(b"a", &|_| true).is_err());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_an_answer_is_cut(at in 0..TEXT.len(), more in 0..TEXT.len()) {
            let (first, last) = (at.min(more), at.max(more));
            let bytes = TEXT.as_bytes();
            prop_assert_eq!(
                read_all(&[&bytes[..first], &bytes[first..last], &bytes[last..]]).unwrap(),
                read_all(&[bytes]).unwrap()
            );
        }

        #[test]
        fn no_answer_is_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..TEXT.len()) {
            drop(read_all(&[&bytes]));
            let mut text = TEXT.as_bytes().to_vec();
            text.splice(at..at, bytes.drain(..));
            drop(read_all(&[&text]));
        }
    }
}
