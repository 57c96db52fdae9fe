//! Alerts as signed calls of somebody's HTTP endpoint, after the Standard Webhooks specification.
//!
//! `docs/logs.md` tells what is sent, and how a receiver makes sure who sent it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use paas_core::model::{Clock, Notification, Scope};
use paas_core::port::{Backend, Notifier};
use paas_core::{Error, ErrorKind, Result};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::folder::blocking;

mod answer;
mod body;
mod config;
mod sign;

pub use config::{WebhookConfig, WebhookHeaders, WebhookUrl};
pub use sign::WebhookSecret;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// Headers that are this notifier's own.
const OWN: [HeaderName; 6] =
    [ID, TIMESTAMP, SIGNATURE, CONTENT_TYPE, hyper::header::HOST, hyper::header::CONTENT_LENGTH];

/// Tells an HTTP endpoint of alerts, in signed calls. Cloning shares its connections.
#[derive(Clone, Debug)]
pub struct WebhookNotifier {
    config: Arc<WebhookConfig>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    clock: Clock,
}

impl WebhookNotifier {
    /// A notifier that calls the endpoint of a configuration. Nothing is called yet.
    ///
    /// # Errors
    /// `Invalid` where the configuration cannot be used: there is no secret, or no time for an answer; `Unavailable` where no
    /// root certificates can be read.
    pub async fn connect(config: WebhookConfig) -> Result<Self> {
        config.check()?;
        let connector = HttpsConnectorBuilder::new();
        let authorities = config.authorities.clone();
        let tls = blocking(move || tls(authorities.as_deref())).await?;
        let connector = connector.with_tls_config(tls).https_or_http().enable_http1().build();
        // Alerts are rare: a connection that was kept would be closed by then.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { config: Arc::new(config), client, clock: Clock::system() })
    }

    /// Another clock: it tells the time that calls are signed with.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    fn request(&self, notification: &Notification) -> Result<Request<Full<Bytes>>> {
        let id = &notification.alert.id;
        let body = body::of(notification)?;
        let seconds = (self.clock.now().0 / 1_000).to_string();
        let signatures: Vec<String> =
            self.config.secrets.iter().map(|secret| secret.sign(id, &seconds, &body)).collect();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.config.url.uri().clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("paas-logs/", env!("CARGO_PKG_VERSION")))
            .header(TIMESTAMP, seconds)
            .header(SIGNATURE, signatures.join(" "))
            .body(Full::new(body))
            .map_err(|cause| Error::internal("a call cannot be written").with_source(cause))?;
        request.headers_mut().insert(ID, header_of(id)?);
        for (name, value) in self.config.headers.iter() {
            request.headers_mut().insert(name, value.clone());
        }
        Ok(request)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<()> {
        let answer = self.client.request(request).await;
        answer::outcome(answer.map_err(answer::unreached)?).await
    }
}

/// An alert's id, which what is signed has before the first full stop.
fn header_of(id: &str) -> Result<HeaderValue> {
    let refused =
        || Error::invalid("an alert's id is visible ASCII without a full stop").with("id", id.escape_debug());
    if id.is_empty() || id.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'.') {
        return Err(refused());
    }
    HeaderValue::from_str(id).map_err(|_| refused())
}

/// Who is believed to be who: whom the system believes, and those of a file.
fn tls(authorities: Option<&std::path::Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if let Some(path) = authorities {
        let unread = |cause| {
            Error::unavailable("the file of root certificates cannot be read")
                .with("path", path.display())
                .with_source(cause)
        };
        for certificate in CertificateDer::pem_file_iter(path).map_err(unread)? {
            let certificate = certificate.map_err(unread)?;
            roots.add(certificate).map_err(|cause| {
                Error::invalid("this is no root certificate").with("path", path.display()).with_source(cause)
            })?;
        }
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|cause| Error::internal("TLS cannot be used").with_source(cause))?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

#[async_trait]
impl Backend for WebhookNotifier {
    fn name(&self) -> &'static str {
        "webhook"
    }

    /// Calls nobody: an endpoint is only ever told of alerts.
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Notifier for WebhookNotifier {
    async fn notify(&self, _: &Scope, notification: &Notification) -> Result<()> {
        let deadline: Duration = self.config.deadline;
        let sent = tokio::time::timeout(deadline, self.send(self.request(notification)?)).await;
        let late = || {
            Error::new(ErrorKind::Timeout, "the endpoint does not answer in time")
                .with("seconds", deadline.as_secs_f32())
        };
        sent.unwrap_or_else(|_| Err(late())).map_err(|error| error.with("endpoint", self.config.url.host()))
    }
}
