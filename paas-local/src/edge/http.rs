//! HTTP/1.1: one request from its head to the answer's head, over as many attempts as are safe.
//!
//! - Nothing was sent (refused, or a kept connection that had closed): any request goes on to the next try.
//! - Perhaps something was sent and no answer began: only an idempotent request is repeated, and only if its body is
//!   empty or was read whole (at most 64 KiB); at most once for a kept connection and once for a new one.
//! - An answer began: it is passed on, and if it breaks off, so does the client's connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderValue, SET_COOKIE, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};

use super::balance::{Choice, Pick};
use super::body::{Outgoing, Upload};
use super::connection::{Busy, Client};
use super::gate::{Gate, Latch};
use super::header;
use super::refusal::Refusal;
use super::state::State;
use super::table::Service;
use super::traffic::Exchange;
use super::upgrade;
use super::upstream::{self, Failure, Held, KEEP_ALIVE, Terms};
use super::usage::{Endpoint, Kind};

/// The most endpoints asked for one request.
const MAX_ATTEMPTS: usize = 3;
/// Bodies up to this size are read whole when that makes a request repeatable.
const MAX_WHOLE: u64 = 64 * 1024;

/// One client connection and what all its requests share.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) core: Arc<State>,
    pub(crate) client: Arc<Client>,
    pub(crate) listener: Arc<str>,
    /// The client's address, as a header says it.
    pub(crate) ip: HeaderValue,
}

impl Peer {
    /// Answers one request, come what may.
    pub(crate) async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Response<Outgoing> {
        let busy = self.client.busy();
        let mut response = match Forward::new(&self, request).await {
            Ok(forward) => forward.run(busy).await,
            Err(refusal) => refusal.into_response(busy),
        };
        if self.core.clients.is_closing() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// One request on its way.
struct Forward<'a> {
    peer: &'a Arc<Peer>,
    started: Instant,
    host: String,
    request: Option<Request<Upload>>,
    /// What it takes to send the request again.
    replay: Option<Request<Upload>>,
    upgrade: Option<OnUpgrade>,
    /// The body waits for the instance's 100.
    latch: Option<Latch>,
    tried: Vec<Arc<Endpoint>>,
    /// How often the request may have been sent in vain, over a kept and over a new connection.
    lost: [u8; 2],
    exchange: Option<Exchange>,
}

impl<'a> Forward<'a> {
    async fn new(peer: &'a Arc<Peer>, request: Request<Incoming>) -> Result<Self, Refusal> {
        let started = Instant::now();
        let (mut parts, body) = request.into_parts();
        let host = admit(&mut parts)?;
        let chunked = parts.headers.contains_key(TRANSFER_ENCODING);
        let wanted = parts.extensions.remove::<OnUpgrade>();
        let protocol = header::prepare_request(&mut parts.headers);
        let trusted = peer.core.config.trust_forwarded || !peer.core.is_shared(&peer.listener);
        header::forwarded(&mut parts.headers, &peer.ip, trusted);
        let expects = parts.headers.remove(EXPECT);
        if chunked {
            parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let upgrade = wanted.filter(|_| protocol.is_some());
        let idempotent = parts.method.is_idempotent() && upgrade.is_none();
        peer.client.uploaded.store(0, Ordering::Relaxed);
        let body = take_body(peer, body, idempotent).await?;
        let mut request = Request::from_parts(parts, body);
        let latch = expects.and_then(|expectation| hold_back(&mut request, expectation));
        let replay = if idempotent { copy(&request) } else { None };
        Ok(Self {
            peer,
            started,
            host,
            request: Some(request),
            replay,
            upgrade,
            latch,
            tried: Vec::new(),
            lost: [0; 2],
            exchange: None,
        })
    }

    async fn run(mut self, busy: Busy) -> Response<Outgoing> {
        match self.attempts().await {
            Ok((response, held, cookie)) => self.answer(response, held, cookie, busy),
            Err(refusal) => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.answered(refusal.status().is_server_error());
                }
                refusal.into_response(busy)
            }
        }
    }

    fn service(&self) -> Result<Arc<Service>, Refusal> {
        let path = self.request.as_ref().map_or("/", |request| request.uri().path());
        let found =
            self.peer.core.tables.with(|table| table.find(&self.peer.listener, &self.host, path).cloned());
        found.ok_or_else(|| Refusal::NoRoute(self.host.clone()))
    }

    fn choose(&self, service: &Service) -> Result<Choice, Refusal> {
        let headers = self.request.as_ref().map(Request::headers);
        service.choose(headers).ok_or(Refusal::NoEndpoint)
    }

    async fn attempts(&mut self) -> Result<(Response<Incoming>, Held, Option<HeaderValue>), Refusal> {
        let mut service = self.service()?;
        let mut choice = self.choose(&service)?;
        let mut slot = choice.slot();
        let mut last = Refusal::NoEndpoint;
        let mut fresh = false;
        loop {
            let lease = match service.slots[slot].lease(Kind::Request, &self.tried) {
                Pick::Lease(lease) => lease,
                Pick::Stale => {
                    service = self.service()?;
                    choice = self.choose(&service)?;
                    slot = choice.slot();
                    continue;
                }
                Pick::Empty => match service.fallback(choice, &self.tried).filter(|other| *other != slot) {
                    Some(other) if self.tried.len() < MAX_ATTEMPTS => {
                        self.exchange.iter_mut().for_each(Exchange::failed);
                        slot = other;
                        continue;
                    }
                    _ => return Err(last),
                },
            };
            let traffic = &service.slots[slot].traffic;
            match &self.exchange {
                Some(exchange) if exchange.belongs_to(traffic) => exchange.retried(),
                _ => self.exchange = Some(traffic.begin(self.started)),
            }
            let endpoint = lease.endpoint().clone();
            let Some(request) = self.request.take() else { return Err(last) };
            let terms = Terms {
                config: &self.peer.core.config,
                client: &self.peer.client,
                repeatable: self.replay.is_some(),
                fresh,
            };
            match upstream::ask(lease, request, terms).await {
                Ok((response, held)) => {
                    endpoint.forgive();
                    return Ok((response, held, cookie_of(&service, choice, slot)));
                }
                Err(failure) => (last, fresh) = self.failed(failure, endpoint)?,
            }
        }
    }

    /// Decides what follows a failed attempt: the refusal if it was the last, and whether to avoid kept connections.
    fn failed(&mut self, failure: Failure, endpoint: Arc<Endpoint>) -> Result<(Refusal, bool), Refusal> {
        let (refusal, fresh) = match failure {
            Failure::Unsent(request, cause) => {
                tracing::debug!(service = &*endpoint.service, endpoint = &*endpoint.id, %cause, "cannot reach");
                self.request = Some(*request);
                endpoint.penalise();
                self.tried.push(endpoint);
                (Refusal::Unreachable, false)
            }
            Failure::Lost { reused, cause } => {
                tracing::debug!(service = &*endpoint.service, endpoint = &*endpoint.id, %cause, "lost");
                let lost = &mut self.lost[usize::from(!reused)];
                *lost += 1;
                if *lost > 1 {
                    return Err(Refusal::Lost);
                }
                self.request = Some(self.replay.as_ref().and_then(copy).ok_or(Refusal::Lost)?);
                if !reused {
                    endpoint.penalise();
                    self.tried.push(endpoint);
                }
                (Refusal::Lost, true)
            }
            Failure::Garbled(cause) => {
                tracing::warn!(service = &*endpoint.service, endpoint = &*endpoint.id, %cause, "no HTTP");
                return Err(Refusal::Garbled);
            }
            Failure::Late => return Err(Refusal::Late),
            Failure::Client => return Err(Refusal::Bad("the body ended early")),
        };
        if self.tried.len() >= MAX_ATTEMPTS { Err(refusal) } else { Ok((refusal, fresh)) }
    }

    fn answer(
        self,
        mut response: Response<Incoming>,
        mut held: Held,
        cookie: Option<HeaderValue>,
        busy: Busy,
    ) -> Response<Outgoing> {
        if let Some(latch) = &self.latch {
            latch.shut();
        }
        let Some(mut exchange) = self.exchange else { return Refusal::Lost.into_response(busy) };
        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        exchange.answered(response.status().is_server_error());
        held.limit(response.headers().get(KEEP_ALIVE));
        header::prepare_answer(response.headers_mut(), switching);
        if let Some(cookie) = cookie {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        *response.version_mut() = Version::HTTP_11;
        if switching {
            return match self.upgrade {
                Some(client) => upgrade::answer(self.peer, client, response, held, exchange, busy),
                None => Refusal::Garbled.into_response(busy),
            };
        }
        let (mut parts, body) = response.into_parts();
        parts.extensions.clear();
        Response::from_parts(parts, Outgoing::proxied(body, held, exchange, &self.peer.client, busy))
    }
}

/// Checks a request's head, puts its target in origin form and returns its host.
fn admit(parts: &mut Parts) -> Result<String, Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::Method);
    }
    if let Some(coding) = parts.headers.get(TRANSFER_ENCODING) {
        let single = parts.headers.get_all(TRANSFER_ENCODING).iter().count() == 1;
        if !single || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::Coding);
        }
        if parts.headers.contains_key(CONTENT_LENGTH) {
            return Err(Refusal::Bad("both content-length and transfer-encoding"));
        }
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let given = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::Bad("more than one host"));
    }
    if given.is_none() && parts.version == Version::HTTP_11 {
        return Err(Refusal::Bad("no host"));
    }
    let mut host = match given.map(HeaderValue::to_str) {
        Some(Ok(host)) => host.to_owned(),
        Some(Err(_)) => return Err(Refusal::Bad("not a host")),
        None => String::new(),
    };
    if let Some(authority) = parts.uri.authority() {
        host = authority.host().to_owned();
        let value = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::Bad("not a host"))?;
        parts.headers.insert(HOST, value);
        let target = parts.uri.path_and_query().cloned();
        parts.uri = target.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    parts.version = Version::HTTP_11;
    Ok(host)
}

/// The body as it will be sent; read whole where that is cheap and makes the request repeatable.
async fn take_body(peer: &Peer, body: Incoming, idempotent: bool) -> Result<Upload, Refusal> {
    if body.is_end_stream() {
        return Ok(Upload::Empty);
    }
    let small = body.size_hint().exact().is_some_and(|size| size <= MAX_WHOLE);
    let body = Upload::Stream(body, peer.client.clone());
    if !idempotent || !small {
        return Ok(body);
    }
    let whole = body.collect().await.map_err(|_| Refusal::Bad("the body ended early"))?;
    Ok(Upload::Whole(Some(whole.to_bytes())))
}

/// Passes an expectation on and keeps the body back until it is met; a body that was read already needs none.
fn hold_back(request: &mut Request<Upload>, expectation: HeaderValue) -> Option<Latch> {
    match std::mem::replace(request.body_mut(), Upload::Empty) {
        Upload::Stream(body, client) => {
            let (gate, latch) = Gate::new();
            *request.body_mut() = Upload::Gated(gate, Some((body, client)));
            request.headers_mut().insert(EXPECT, expectation);
            latch.watch(request);
            Some(latch)
        }
        body => {
            *request.body_mut() = body;
            None
        }
    }
}

/// The same request again, if its body can be had again.
fn copy(request: &Request<Upload>) -> Option<Request<Upload>> {
    let body = match request.body() {
        Upload::Empty => Upload::Empty,
        Upload::Whole(bytes) => Upload::Whole(bytes.clone()),
        Upload::Stream(..) | Upload::Gated(..) => return None,
    };
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// The cookie for a client that got its place with this request.
fn cookie_of(service: &Service, choice: Choice, slot: usize) -> Option<HeaderValue> {
    let Choice::NewClient(chosen, place) = choice else { return None };
    let name = service.sticky.as_deref().filter(|_| chosen == slot)?;
    HeaderValue::from_str(&format!("{name}={place}; Path=/; HttpOnly; SameSite=Lax")).ok()
}
