//! A service: the unit that is released, scaled, called and observed.

mod check;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::address::Protocol;
use super::command::Command;
use super::limit;
use super::log::LogRules;
use super::name::{SecretName, ServiceName, VolumeName, excerpt};
use super::probe::Probe;
use super::quantity::{ByteSize, CpuQuantity, duration};
use super::release::{Release, Strategy};
use super::source::Source;
use super::volume::VolumeSpec;
use crate::{Error, Result};

/// Describes a service. A company implements it on its own types; [`ServiceSpec`] implements it for those from a file.
///
/// ```
/// use paas_core::model::{Service, ServiceSpec};
///
/// struct SpringBoot { jar: String, heap_mib: u32 }
///
/// impl Service for SpringBoot {
///     fn describe(&self) -> paas_core::Result<ServiceSpec> {
///         let mut spec = ServiceSpec::run(["java", &format!("-Xmx{}m", self.heap_mib), "-jar", &self.jar])?;
///         spec.port = Some(8080);
///         spec.ready = Some("/actuator/health".parse()?);
///         Ok(spec)
///     }
/// }
///
/// let spec = SpringBoot { jar: "shop.jar".into(), heap_mib: 256 }.describe()?;
/// assert_eq!(spec.port, Some(8080));
/// # Ok::<(), paas_core::Error>(())
/// ```
pub trait Service: Send + Sync {
    /// What should run. The same value gives the same description.
    ///
    /// # Errors
    /// `Invalid` where the values of the type make no service.
    fn describe(&self) -> Result<ServiceSpec>;
}

/// How much an instance may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Processor time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuQuantity>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
}

/// Whether a service serves, or runs to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// Runs until it is stopped; restarted when it ends.
    #[default]
    Service,
    /// Runs to its end once per release; exit code 0 is success.
    Task,
}

impl Kind {
    fn is_service(&self) -> bool {
        *self == Self::Service
    }
}

/// A public name under which a service is reached: `shop.example.com` or `shop.example.com/api`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain {
    /// The host name, lower case; `*.` in front matches one label.
    pub host: String,
    /// The path prefix, `/` for all.
    pub path: String,
}

impl FromStr for Domain {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid("a domain is a host name with an optional path, like shop.example.com/api")
                .with("domain", excerpt(text))
        };
        let (host, path) = match text.find('/') {
            Some(at) => text.split_at(at),
            None => (text, "/"),
        };
        let host = host.to_ascii_lowercase();
        let labels = host.strip_prefix("*.").unwrap_or(&host);
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let path_fits = path.len() <= 200
            && path.bytes().all(|b| b.is_ascii_graphic() && !b"?#%\\".contains(&b))
            && !path.contains("//")
            && !path.split('/').any(|segment| segment == ".." || segment == ".");
        if host.len() > 253 || !labels.split('.').all(label) || !path_fits {
            return Err(wrong());
        }
        let path = if path == "/" { path } else { path.trim_end_matches('/') };
        Ok(Self { host, path: path.to_owned() })
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, if self.path == "/" { "" } else { &self.path })
    }
}

impl Serialize for Domain {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A service as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Service")]
#[non_exhaustive]
pub struct ServiceSpec {
    /// A program on a host and its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Command>,
    /// A container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// A folder that is built into an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Whether it serves or runs to its end.
    #[serde(default, skip_serializing_if = "Kind::is_service")]
    pub kind: Kind,
    /// The port it listens on. On a host every instance gets a free one in `$PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::form::port")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// What is spoken on the port.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Protocol,
    /// How many instances a new service starts with; later the count belongs to whoever scales it.
    #[serde(default = "one", deserialize_with = "super::form::replicas")]
    #[schemars(range(max = 1_000))]
    pub replicas: u32,
    /// The services that must be ready before it starts. It reads their addresses in `<NEED>_HOST`, `<NEED>_PORT` and
    /// `<NEED>_URL`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<ServiceName>,
    /// How readiness is asked; without it, a connection to the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Probe>,
    /// How liveness is asked; an instance that fails is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Probe>,
    /// Its environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Scalar>,
    /// The secrets it reads as environment variables of the same names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretName>,
    /// How much an instance may use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// Its volumes, by name; each replica has its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<VolumeName, VolumeSpec>,
    /// The public names it is reached under.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "super::form::one_or_many")]
    #[schemars(schema_with = "domains")]
    pub domain: Vec<Domain>,
    /// A command that must end with exit code 0 before the release moves any traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_release: Option<Command>,
    /// How a new revision takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// How long an instance may take to end after it was asked to, before it is killed.
    #[serde(default = "ten_seconds", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub grace: Duration,
    /// What becomes of its log lines, besides what its app says.
    #[serde(default, skip_serializing_if = "LogRules::is_empty")]
    pub logs: LogRules,
}

fn one() -> u32 {
    1
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(super) fn domains(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "description": "one public name like shop.example.com or shop.example.com/api, or a list of them",
        "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "maxItems": limit::DOMAINS }],
    })
}

/// The value of an environment variable: a text, or a number or truth value that is taken as its text. From an app file
/// that is the text of the file: `1.10` stays `1.10`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Scalar(pub String);

/// The name by which the reader of app files knows that a value wants the source text.
pub(crate) const SCALAR: &str = "paas_core::model::Scalar";

impl<T: Into<String>> From<T> for Scalar {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, or true or false")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<Scalar, D::Error> {
                value.deserialize_any(self)
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(text.into())
            }
            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(value.to_string().into())
            }
            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(value.to_string().into())
            }
            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(value.to_string().into())
            }
            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(value.to_string().into())
            }
        }
        deserializer.deserialize_newtype_struct(SCALAR, Visitor)
    }
}

impl schemars::JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a text, or a number or truth value that is taken as its text",
            "type": ["string", "number", "boolean"],
        })
    }
}

impl ServiceSpec {
    fn empty() -> Self {
        Self {
            run: None,
            image: None,
            build: None,
            kind: Kind::Service,
            port: None,
            protocol: Protocol::default(),
            replicas: one(),
            needs: Vec::new(),
            ready: None,
            live: None,
            env: BTreeMap::new(),
            secrets: Vec::new(),
            limits: Limits::default(),
            volumes: BTreeMap::new(),
            domain: Vec::new(),
            before_release: None,
            release: None,
            grace: ten_seconds(),
            logs: LogRules::default(),
        }
    }

    /// A service that runs a program on a host.
    ///
    /// # Errors
    /// Those of [`Command::new`].
    pub fn run<I: IntoIterator<Item: Into<String>>>(arguments: I) -> Result<Self> {
        Ok(Self { run: Some(Command::new(arguments)?), ..Self::empty() })
    }

    /// A service that runs a container image.
    #[must_use]
    pub fn image(reference: impl Into<String>) -> Self {
        Self { image: Some(reference.into()), ..Self::empty() }
    }

    /// Every way in which it can run.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        let run = self.run.clone().map(Source::Run);
        let image = self.image.clone().map(Source::Image);
        run.into_iter().chain(image).chain(self.build.clone().map(Source::Build)).collect()
    }

    /// How it is released: as it says, else in order when it has volumes, else rolling.
    #[must_use]
    pub fn release(&self) -> Release {
        self.release.clone().unwrap_or_else(|| {
            let strategy = if self.volumes.is_empty() { Strategy::Rolling } else { Strategy::Ordered };
            Release { strategy, ..Release::default() }
        })
    }

    /// Whether it wants a part of the requests of its domains to reach a new revision before the others do.
    pub(crate) fn shares_out(&self) -> bool {
        matches!(self.release().strategy, Strategy::Canary { .. }) && !self.domain.is_empty()
    }
}

impl Service for ServiceSpec {
    fn describe(&self) -> Result<ServiceSpec> {
        Ok(self.clone())
    }
}
