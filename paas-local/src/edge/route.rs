//! What the edge is told: one [`Route`] per service, and the bounds of everything in it.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::net::SocketAddr;

use hyper::header::{HeaderName, HeaderValue};
use paas_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The listener of public domains, unless a [`HostRule`] names another.
pub const PUBLIC: &str = "public";

/// The highest weight of a slot; weights are relative to their sum.
pub const MAX_WEIGHT: u32 = 10_000;
/// The most services one edge serves.
pub const MAX_ROUTES: usize = 10_000;
const MAX_NOTE: usize = 4 * 1024;
/// The most host rules of one service.
pub const MAX_HOSTS: usize = 256;
/// The most internal listeners of one service.
pub const MAX_LISTENERS: usize = 16;
/// The most endpoints of one slot.
pub const MAX_ENDPOINTS: usize = 1_024;
/// The longest id, listener or cookie name.
pub const MAX_NAME: usize = 200;
/// The longest domain name.
pub const MAX_DOMAIN: usize = 253;
/// The longest path prefix.
pub const MAX_PATH: usize = 1_024;

/// One of the two slots of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotName {
    /// The first slot.
    Blue,
    /// The second slot.
    Green,
}

impl Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blue => "blue",
            Self::Green => "green",
        })
    }
}

/// What a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1, request by request.
    #[default]
    Http,
    /// Bytes, connection by connection.
    Tcp,
}

/// One instance that can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointRule {
    /// The instance's id, unique in its service.
    pub id: String,
    /// Where it listens.
    pub addr: SocketAddr,
}

/// One slot of a service: its share of the traffic and who serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotRule {
    /// Which slot.
    pub slot: SlotName,
    /// The revision that runs in it; traffic is counted by slot and revision.
    pub revision: u64,
    /// Its share, relative to the other slot's; 0 keeps it warm without traffic.
    pub weight: u32,
    /// The instances that are ready.
    #[serde(default)]
    pub endpoints: Vec<EndpointRule>,
}

/// Requests of a domain and below a path are the service's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRule {
    /// An exact name, `*.name` for all names below it, or `*` for whatever no other rule takes.
    pub domain: String,
    /// A path prefix, matched by whole segments; the longest wins.
    #[serde(default = "root")]
    pub path: String,
    /// The listener that the rule is for.
    #[serde(default = "public")]
    pub listener: String,
}

impl HostRule {
    /// All paths of a domain, on the listener [`PUBLIC`].
    pub fn new(domain: impl Into<String>) -> Self {
        Self { domain: domain.into(), path: root(), listener: public() }
    }
}

fn root() -> String {
    "/".to_owned()
}

fn public() -> String {
    PUBLIC.to_owned()
}

/// Requests with this header go to this slot, whatever its weight, while it has endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// The header's name.
    pub name: String,
    /// The value, compared as bytes.
    pub value: String,
    /// Where such requests go.
    pub slot: SlotName,
}

/// Everything the edge knows of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The service's id.
    pub service: String,
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// Listeners that are the service's alone: its stable internal addresses.
    #[serde(default)]
    pub listen: Vec<String>,
    /// Domains on shared listeners; HTTP only.
    #[serde(default)]
    pub hosts: Vec<HostRule>,
    /// At most one entry per slot.
    #[serde(default)]
    pub slots: Vec<SlotRule>,
    /// Requests that choose their slot by a header; HTTP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderRule>,
    /// The cookie that keeps a client on its slot; HTTP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<String>,
    /// What whoever set the route wants to remember with it, at most 4 KiB;
    /// [`ServiceUsage::note`](super::ServiceUsage::note) repeats it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Route {
    /// An HTTP service without addresses and endpoints; set the fields that matter.
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            protocol: Protocol::Http,
            listen: Vec::new(),
            hosts: Vec::new(),
            slots: Vec::new(),
            header: None,
            sticky: None,
            note: String::new(),
        }
    }

    /// Checks every bound; the error names the field.
    ///
    /// # Errors
    /// `Invalid`, with the context `service` and `field`.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(|error| error.with("service", &self.service))
    }

    fn check(&self) -> Result<()> {
        name("service", &self.service)?;
        count("note", self.note.len(), MAX_NOTE)?;
        count("listen", self.listen.len(), MAX_LISTENERS)?;
        for (i, listener) in self.listen.iter().enumerate() {
            name(&format!("listen[{i}]"), listener)?;
            if self.listen[..i].contains(listener) {
                return Err(bad(&format!("listen[{i}]"), "the listener is named twice", listener));
            }
        }
        count("hosts", self.hosts.len(), MAX_HOSTS)?;
        for (i, host) in self.hosts.iter().enumerate() {
            host.check(&format!("hosts[{i}]"))?;
        }
        if self.protocol == Protocol::Tcp {
            self.check_tcp()?;
        }
        self.check_slots()?;
        self.check_header()?;
        self.sticky.as_deref().map_or(Ok(()), cookie_name)
    }

    fn check_tcp(&self) -> Result<()> {
        let http_only = [
            ("hosts", !self.hosts.is_empty()),
            ("header", self.header.is_some()),
            ("sticky", self.sticky.is_some()),
        ];
        match http_only.into_iter().find(|(_, present)| *present) {
            Some((field, _)) => Err(bad(field, "only an http service can have this", "tcp")),
            None => Ok(()),
        }
    }

    fn check_slots(&self) -> Result<()> {
        let mut ids = HashSet::new();
        for (i, slot) in self.slots.iter().enumerate() {
            if self.slots[..i].iter().any(|other| other.slot == slot.slot) {
                return Err(bad(&format!("slots[{i}].slot"), "the slot is named twice", slot.slot));
            }
            if slot.weight > MAX_WEIGHT {
                return Err(bad(&format!("slots[{i}].weight"), "the weight is above 10000", slot.weight));
            }
            count(&format!("slots[{i}].endpoints"), slot.endpoints.len(), MAX_ENDPOINTS)?;
            for (j, endpoint) in slot.endpoints.iter().enumerate() {
                let field = format!("slots[{i}].endpoints[{j}]");
                name(&format!("{field}.id"), &endpoint.id)?;
                if endpoint.addr.port() == 0 {
                    return Err(bad(&format!("{field}.addr"), "the port is 0", endpoint.addr));
                }
                if !ids.insert(&endpoint.id) {
                    return Err(bad(&format!("{field}.id"), "the endpoint is named twice", &endpoint.id));
                }
            }
        }
        Ok(())
    }

    fn check_header(&self) -> Result<()> {
        let Some(rule) = &self.header else { return Ok(()) };
        if rule.name.len() > MAX_NAME || HeaderName::from_bytes(rule.name.as_bytes()).is_err() {
            return Err(bad("header.name", "not a header name", &rule.name));
        }
        if rule.value.len() > MAX_PATH || HeaderValue::from_str(&rule.value).is_err() {
            return Err(bad("header.value", "not a header value", &rule.value));
        }
        if !self.slots.iter().any(|slot| slot.slot == rule.slot) {
            return Err(bad("header.slot", "the service has no such slot", rule.slot));
        }
        Ok(())
    }
}

impl HostRule {
    fn check(&self, field: &str) -> Result<()> {
        name(&format!("{field}.listener"), &self.listener)?;
        let domain = self.domain.strip_prefix("*.").unwrap_or(&self.domain);
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let any = self.domain == "*";
        let literal = domain.starts_with('[') && domain.ends_with(']') && domain.len() <= 41;
        if !any && !literal && (self.domain.len() > MAX_DOMAIN || !domain.split('.').all(label)) {
            return Err(bad(&format!("{field}.domain"), "not a domain name", &self.domain));
        }
        let plain = |b: u8| b.is_ascii_graphic() && b != b'?' && b != b'#';
        if !self.path.starts_with('/') || self.path.len() > MAX_PATH || !self.path.bytes().all(plain) {
            return Err(bad(&format!("{field}.path"), "not a path that starts with a slash", &self.path));
        }
        Ok(())
    }
}

fn name(field: &str, value: &str) -> Result<()> {
    if value.is_empty() || value.len() > MAX_NAME || !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad(field, "not a name of 1 to 200 visible ASCII characters", value));
    }
    Ok(())
}

fn cookie_name(value: &str) -> Result<()> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if value.is_empty() || value.len() > MAX_NAME || !value.bytes().all(token) {
        return Err(bad("sticky", "not a cookie name", value));
    }
    Ok(())
}

fn count(field: &str, have: usize, limit: usize) -> Result<()> {
    if have > limit {
        return Err(bad(field, "too many entries", have).with("limit", limit));
    }
    Ok(())
}

fn bad(field: &str, message: &str, value: impl Display) -> Error {
    let mut value = value.to_string();
    if let Some((cut, _)) = value.char_indices().nth(80) {
        value.truncate(cut);
        value.push_str("...");
    }
    Error::invalid(message).with("field", field).with("value", value)
}
