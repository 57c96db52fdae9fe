//! Who is called, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use paas_core::model::quantity;
use paas_core::{Error, Result};
use serde::Deserialize;

use super::{OWN, WebhookSecret};

/// Whom a webhook notifier calls. `Debug` shows neither secrets nor more of the URL than its host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WebhookConfig {
    /// The endpoint.
    pub url: WebhookUrl,
    /// What calls are signed with. While a secret is replaced there are two, the new one first, and each call has a signature of
    /// both.
    pub secrets: Vec<WebhookSecret>,
    /// How long a call may take, from the connection to the answer. Eight seconds, where nothing else is said; the guard ends a
    /// call after ten, where nothing else is said to it.
    #[serde(default = "deadline", with = "quantity::duration")]
    pub deadline: Duration,
    /// Further headers of each call, like one that lets it through a gateway.
    #[serde(default)]
    pub headers: WebhookHeaders,
    /// A PEM file of root certificates that count beside those of the system.
    #[serde(default)]
    pub authorities: Option<PathBuf>,
}

fn deadline() -> Duration {
    Duration::from_secs(8)
}

impl WebhookConfig {
    /// Calls of this endpoint, signed with this secret.
    #[must_use]
    pub fn new(url: WebhookUrl, secret: WebhookSecret) -> Self {
        let (secrets, headers) = (vec![secret], WebhookHeaders::default());
        Self { url, secrets, deadline: deadline(), headers, authorities: None }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.secrets.is_empty() {
            return Err(Error::invalid("a webhook needs a secret to sign with").with("missing", "secrets"));
        }
        if self.deadline.is_zero() {
            return Err(Error::invalid("a webhook needs time for an answer").with("missing", "deadline"));
        }
        Ok(())
    }
}

/// An address with the scheme `http` or `https`. `Debug` shows no more of it than the host: a path may be a secret.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WebhookUrl(Uri);

impl WebhookUrl {
    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    pub(super) fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }
}

impl FromStr for WebhookUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || Error::invalid("expected an address like https://example.com/alerts");
        let uri: Uri = text.parse().map_err(|cause| refused().with_source(cause))?;
        let has_scheme = uri.scheme_str().is_some_and(|scheme| ["http", "https"].contains(&scheme));
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if !has_scheme || has_user || uri.host().is_none_or(str::is_empty) || text.contains('#') {
            return Err(refused());
        }
        Ok(Self(uri))
    }
}

impl TryFrom<String> for WebhookUrl {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({}://{}/…)", self.0.scheme_str().unwrap_or_default(), self.host())
    }
}

/// Headers of a call, by name. `Debug` hides their values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct WebhookHeaders(HeaderMap);

impl WebhookHeaders {
    /// Adds a header, or changes it.
    ///
    /// # Errors
    /// `Invalid` where it is none, or one that the notifier writes itself.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let refused = |message| Error::invalid(message).with("header", name.escape_debug());
        let header: HeaderName = name.parse().map_err(|_| refused("this is no name of a header"))?;
        if OWN.contains(&header) {
            return Err(refused("a webhook writes this header itself"));
        }
        let value = HeaderValue::from_str(value).map_err(|_| refused("this is no value of a header"));
        let mut value = value?;
        value.set_sensitive(true);
        self.0.insert(header, value);
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter()
    }
}

impl TryFrom<BTreeMap<String, String>> for WebhookHeaders {
    type Error = Error;

    fn try_from(all: BTreeMap<String, String>) -> Result<Self> {
        let mut headers = Self::default();
        all.iter().try_for_each(|(name, value)| headers.set(name, value))?;
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn read(more: &str) -> Result<WebhookConfig, serde_json::Error> {
        let url = "https://pager.example.com/hooks/t0k3n";
        serde_json::from_str(&format!(r#"{{"url":"{url}","secrets":["{SECRET}"]{more}}}"#))
    }

    #[test]
    fn a_configuration_is_read_and_shows_no_secret() {
        let config = read(r#","deadline":"3s","headers":{"Authorization":"Bearer t0k3n"}"#).unwrap();
        assert_eq!(config.deadline, Duration::from_secs(3));
        let shown = format!("{config:?}");
        assert!(shown.contains("pager.example.com") && shown.contains("authorization"), "{shown}");
        assert!(!shown.contains("t0k3n") && !shown.contains("MfKQ9"), "{shown}");
        assert_eq!(read("").unwrap().deadline, Duration::from_secs(8));
    }

    #[test]
    fn what_is_not_known_or_not_right_is_refused() {
        let wrong = [r#","dead_line":"3s""#, r#","headers":{"Webhook-Id":"1"}"#, r#","headers":{"a b":"1"}"#];
        for more in wrong {
            assert!(read(more).is_err(), "{more}");
        }
        let urls =
            ["", "/hooks", "ftp://a/b", "https://ann:pass@example.com/", "https://a/#b", "example.com"];
        for url in urls {
            assert!(url.parse::<WebhookUrl>().is_err(), "{url}");
        }
        let mut config = read("").unwrap();
        config.secrets.clear();
        assert!(config.check().is_err());
    }
}
