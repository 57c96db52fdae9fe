//! Somebody whom a webhook calls, and who makes sure of who calls.
#![allow(dead_code)] // Each test program that has it uses another part.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use paas_logs::{WebhookConfig, WebhookSecret};
use ring::hmac;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// 24 bytes.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What came in a call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) is_taken: bool,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether one of its signatures is made with a secret.
    pub(crate) fn is_signed(&self, secret: &str) -> bool {
        let secret = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let head = format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp"));
        let signed = [head.as_bytes(), &self.body].concat();
        self.header("webhook-signature").split(' ').any(|signature| {
            let tag = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
            hmac::verify(&key, &signed, &tag).is_ok()
        })
    }
}

/// What is answered: a status, headers and a body; or nothing, ever.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Status(u16, Vec<(&'static str, String)>, Bytes),
    Nothing,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), Bytes::new())
    }
}

#[derive(Debug)]
struct State {
    answer: Answer,
    calls: Vec<Call>,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
    is_tls: bool,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Self::with(None).await
    }

    /// One with a certificate for `localhost`, and that certificate in a file.
    pub(crate) async fn start_tls(folder: &tempfile::TempDir) -> (Self, PathBuf) {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let path = folder.path().join("authority.pem");
        std::fs::write(&path, own.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        (Self::with(Some(TlsAcceptor::from(Arc::new(config)))).await, path)
    }

    async fn with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { answer: Answer::status(204), calls: Vec::new() }));
        let (own, is_tls) = (Arc::clone(&state), tls.is_some());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (Arc::clone(&own), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => serve(tls.accept(stream).await.ok()?, state).await,
                        None => serve(stream, state).await,
                    }
                    Some(())
                });
            }
        });
        Self { address, state, task: task.abort_handle(), is_tls }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.state().answer = answer;
    }

    /// Calls that were taken, the oldest first.
    pub(crate) fn taken(&self) -> Vec<Call> {
        let state = self.state();
        state.calls.iter().filter(|call| call.is_taken).cloned().collect()
    }

    /// What was called, the oldest first.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    pub(crate) fn config(&self) -> WebhookConfig {
        let scheme = if self.is_tls { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}/hooks/1?of=acme", self.address.port());
        let secret: WebhookSecret = SECRET.parse().unwrap();
        WebhookConfig::new(url.parse().unwrap(), secret)
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<Mutex<State>>) {
    let service = service_fn(|request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let answer = {
                let mut state = state.lock().unwrap();
                let is_taken = matches!(state.answer, Answer::Status(200..300, ..));
                let call = Call { target: head.uri.to_string(), headers: head.headers, body, is_taken };
                state.calls.push(call);
                state.answer.clone()
            };
            let Answer::Status(status, headers, body) = answer else { return std::future::pending().await };
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok::<_, hyper::Error>(response.body(Full::new(body)).unwrap())
        }
    });
    // Whoever gives a call up closes the connection.
    let _closed =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
