//! `shop web`: the page, and the way to `api` under `/api`.

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use serde_json::json;

use crate::client::Client;
use crate::http::{Answer, VERSION, WEB_VERSION, answer, body, json_answer, trouble};
use crate::log;
use crate::serve::Service;
use crate::settings::Settings;

const PAGE: &str = include_str!("page.html");

#[derive(Debug)]
pub(crate) struct Web {
    settings: Settings,
    api: Client,
    page: Bytes,
}

impl Web {
    pub(crate) fn new(settings: Settings) -> Result<Self, String> {
        let api = Client::new(settings.upstream.as_ref().ok_or("no api is given")?)?;
        let page = PAGE
            .replace("{version}", &escape(&settings.version))
            .replace("{banner}", &escape(&settings.banner));
        Ok(Self { settings, api, page: page.into() })
    }

    /// Hands a request on to `api` and its answer back.
    async fn proxy(&self, request: Request<Incoming>) -> Result<Answer, Answer> {
        let wrong = |_| trouble(StatusCode::BAD_REQUEST, "not a path");
        let target = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let target: Uri = match target.strip_prefix("/api") {
            Some(rest) if rest.starts_with('/') => rest.parse().map_err(wrong)?,
            Some(rest) => format!("/{rest}").parse().map_err(wrong)?,
            None => return Err(trouble(StatusCode::NOT_FOUND, "there is no such page")),
        };
        let (parts, incoming) = request.into_parts();
        let mut onward = Request::new(body(incoming).await?);
        *onward.method_mut() = parts.method;
        *onward.uri_mut() = target;
        // What the caller says to the next hop about its connection stays here; the rest goes along.
        onward.headers_mut().extend(parts.headers);
        let answered = self.api.send(onward).await.map_err(|error| {
            log::warn(&error);
            trouble(StatusCode::BAD_GATEWAY, "api does not answer")
        })?;
        let kind = answered.headers().get(CONTENT_TYPE).cloned();
        let version = answered.headers().get(VERSION).cloned();
        let mut handed = answer(answered.status(), "application/json", answered.into_body());
        let headers = [(CONTENT_TYPE, kind), (HeaderName::from_static(VERSION), version)];
        handed.headers_mut().extend(headers.into_iter().filter_map(|(name, value)| Some((name, value?))));
        Ok(handed)
    }

    async fn page_or_api(&self, request: Request<Incoming>) -> Answer {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/ready") if self.settings.trouble.never_ready => {
                trouble(StatusCode::SERVICE_UNAVAILABLE, "never ready, as NEVER_READY asks")
            }
            // The page is there without `api`; were this to ask it, one bad `api` would take every `web` down.
            (&Method::GET, "/ready") => json_answer(StatusCode::OK, &json!({ "ready": true })),
            (&Method::GET, "/version") => {
                json_answer(StatusCode::OK, &json!({ "service": "web", "version": self.settings.version }))
            }
            _ if self.settings.trouble.fail.strikes() => {
                drop(body(request.into_body()).await);
                trouble(StatusCode::INTERNAL_SERVER_ERROR, "failed, as FAIL_RATE asks")
            }
            (&Method::GET, "/") => answer(StatusCode::OK, "text/html; charset=utf-8", self.page.clone()),
            (_, path) if path == "/api" || path.starts_with("/api/") => {
                self.proxy(request).await.unwrap_or_else(|refused| refused)
            }
            _ => trouble(StatusCode::NOT_FOUND, "there is no such page"),
        }
    }
}

impl Service for Web {
    fn version(&self) -> &str {
        &self.settings.version
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let mut answer = self.page_or_api(request).await;
        if let Ok(version) = HeaderValue::from_str(&self.settings.version) {
            answer.headers_mut().insert(WEB_VERSION, version);
        }
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
        escaped
    })
}
