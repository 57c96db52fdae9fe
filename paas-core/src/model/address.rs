//! Where a service is reached, and where its instances listen.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::id::InstanceId;
use super::workload::Slot;

/// What is spoken on a service's port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1, with upgrades.
    #[default]
    Http,
    /// A stream of bytes.
    Tcp,
}

impl schemars::JsonSchema for Protocol {
    fn schema_name() -> Cow<'static, str> {
        "Protocol".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "enum": ["http", "tcp"] })
    }
}

/// The stable address of a service's port: it outlives revisions, slots and instances.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Address {
    /// A host name or IP address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
}

impl Address {
    /// An address.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16, protocol: Protocol) -> Self {
        Self { host: host.into(), port, protocol }
    }

    /// As a URL: `http://127.0.0.1:20001`, `tcp://…`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = match self.protocol {
            Protocol::Http => "http",
            Protocol::Tcp => "tcp",
        };
        format!("{scheme}://{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where one instance listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// The instance.
    pub instance: InstanceId,
    /// The slot it runs in.
    pub slot: Slot,
    /// Its address.
    pub address: SocketAddr,
}
