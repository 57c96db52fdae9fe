//! A request and its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use paas_core::model::LogCredential;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{self, Refusal, Tongue};
use super::bulk::{self, Item};
use super::draft::Draft;
use super::lines::{self, Refused};
use super::sorted::Sorted;
use super::{Intake, body, credential, elasticsearch, otlp};

/// So long somebody may go on to send what nobody wants.
const UNWANTED: Duration = Duration::from_secs(1);
const BUSY: Duration = Duration::from_secs(1);

/// In what form lines come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Text,
    Bulk,
    OtlpJson,
    OtlpProtobuf,
}

/// What somebody wants.
enum Wish {
    Send(Form),
    Ask(Response<Full<Bytes>>),
}

pub(super) async fn answer(intake: &Arc<Intake>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, mut body) = request.into_parts();
    let tongue = tongue(&head.headers);
    let is_head = head.method == Method::HEAD;
    let deadline = Instant::now() + intake.config.request_timeout;
    let answered = async {
        let credential = intake.credential(&head.headers).await?;
        match wish(&head.method, head.uri.path(), &head.headers)? {
            Wish::Ask(response) => Ok(response),
            Wish::Send(form) => intake.take(&credential, form, &head.headers, &mut body, deadline).await,
        }
    };
    let mut response = match answered.await {
        Ok(response) => response,
        Err(mut refusal) => {
            refusal.is_unread = !matches!(timeout(UNWANTED, body::discard(&mut body)).await, Ok(true));
            answer::refusal(&refusal, tongue)
        }
    };
    if is_head {
        *response.body_mut() = Full::default();
    }
    response
}

/// Errors are told in the form in which records come.
fn tongue(headers: &HeaderMap) -> Tongue {
    if content_type(headers) == answer::PROTOBUF { Tongue::Protobuf } else { Tongue::Json }
}

fn content_type(headers: &HeaderMap) -> &str {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

fn wish(method: &Method, path: &str, headers: &HeaderMap) -> Result<Wish, Refusal> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let kind = content_type(headers);
    let form = match parts.as_slice() {
        ["v1", "lines"] if kind == "text/plain" => Form::Text,
        ["v1", "lines"] => Form::Json,
        ["v1", "logs"] if kind == answer::PROTOBUF => Form::OtlpProtobuf,
        ["v1", "logs"] if kind == "application/json" => Form::OtlpJson,
        ["v1", "logs"] if method == Method::POST => {
            let why = "OTLP comes as `application/x-protobuf` or `application/json`";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        ["_bulk"] | [_, "_bulk"] | [_, _, "_bulk"] => Form::Bulk,
        _ => return elasticsearch::answer(method, &parts).map(Wish::Ask),
    };
    let is_put = form == Form::Bulk && method == Method::PUT;
    if method == Method::POST || is_put { Ok(Wish::Send(form)) } else { Err(Refusal::method("POST")) }
}

impl Intake {
    async fn credential(&self, headers: &HeaderMap) -> Result<LogCredential, Refusal> {
        let token = credential::token(headers).ok_or_else(Refusal::unauthorized)?;
        match timeout(self.config.head_timeout, self.commit.ports.directory.sender(&token)).await {
            Ok(Ok(Some(credential))) => Ok(credential),
            Ok(Ok(None)) => Err(Refusal::unauthorized()),
            Ok(Err(error)) => {
                tracing::warn!(?error, "nobody can tell whose a credential is");
                Err(Refusal::busy("credentials cannot be looked up now", error.retry_after().unwrap_or(BUSY)))
            }
            Err(_) => Err(Refusal::busy("credentials cannot be looked up now", BUSY)),
        }
    }

    async fn take(
        self: &Arc<Self>,
        credential: &LogCredential,
        form: Form,
        headers: &HeaderMap,
        body: &mut hyper::body::Incoming,
        deadline: Instant,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let begun = Instant::now();
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let turn = self.rates.enter(credential, length.unwrap_or(0)).map_err(Refusal::too_fast)?;
        let full = |_| Refusal::busy("too many requests are in work", BUSY);
        let permit = Arc::clone(&self.requests).try_acquire_owned().map_err(full)?;
        let reading = body::read(headers, body, self.config.body, &self.memory, &turn);
        let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
        let taken = timeout_at(deadline, reading).await.map_err(late)??;
        // Whoever sends may go now: what has begun ends, and counts until then.
        let (intake, credential) = (Arc::clone(self), credential.clone());
        let work = tokio::spawn(async move {
            let (_turn, _permit, _room) = (turn, permit, taken.room);
            intake.store(&credential, form, taken.bytes).await
        });
        let (items, quarantined, records) = match timeout_at(deadline, work).await {
            Ok(Ok(stored)) => stored?,
            Ok(Err(_)) => return Err(Refusal::busy("the request could not be worked on", BUSY)),
            Err(_) => return Err(Refusal::busy("it takes too long to store the lines", BUSY)),
        };
        Ok(match form {
            Form::Bulk => answer::json(StatusCode::OK, bulk::answer(&items, begun.elapsed().as_millis())),
            Form::OtlpJson => answer::otlp(quarantined, Tongue::Json),
            Form::OtlpProtobuf => answer::otlp(quarantined, Tongue::Protobuf),
            Form::Json | Form::Text => {
                let taken = records - quarantined;
                answer::json(StatusCode::OK, format!(r#"{{"taken":{taken},"quarantined":{quarantined}}}"#))
            }
        })
    }

    /// Reads records and stores their lines. What became of items, how many records nobody could be found for, and of how many.
    async fn store(
        &self,
        credential: &LogCredential,
        form: Form,
        body: Vec<u8>,
    ) -> Result<(Vec<Item>, u64, u64), Refusal> {
        let (now, most) = (self.commit.ports.clock.now(), self.config.records);
        let by_claim = self.is_collector(credential);
        let parsed = tokio::task::spawn_blocking(move || {
            let mut sorted = Sorted::new(now, by_claim, most);
            parse(form, &body, &mut sorted).map(|items| (items, sorted))
        });
        let failed = |_| Refusal::busy("the body could not be read", BUSY);
        let parsed = parsed.await.map_err(failed)?;
        let (items, sorted) = parsed.map_err(|refused| Refusal::of(&refused, most))?;
        let records = sorted.records() as u64;
        let (drafts, quarantined) = self.attribute(credential, sorted).await?;
        let lines: u64 = drafts.iter().map(|(_, draft): &(_, Draft)| draft.lines() as u64).sum();
        self.commit.store(drafts).await?;
        // Counted once: whoever is refused sends it again.
        for (claims, reason, draft) in quarantined {
            self.quarantine.count(credential, reason, (&claims, &draft), now);
        }
        Ok((items, records - lines, records))
    }
}

fn parse(form: Form, body: &[u8], sorted: &mut Sorted) -> Result<Vec<Item>, Refused> {
    match form {
        Form::Json => lines::json(body, sorted)?,
        Form::Text => lines::text(body, sorted)?,
        Form::Bulk => return bulk::bulk(body, sorted),
        Form::OtlpJson => otlp::json(body, sorted)?,
        Form::OtlpProtobuf => otlp::protobuf(body, sorted)?,
    }
    Ok(Vec::new())
}
