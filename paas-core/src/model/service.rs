//! A service: the unit that is released, scaled, called and observed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::address::Protocol;
use super::command::Command;
use super::limit;
use super::name::{SecretName, ServiceName, VolumeName, excerpt};
use super::probe::{Check, Probe};
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

    /// Checks what one service can show by itself: each finding is the place within it and an error.
    pub(crate) fn findings(&self) -> Vec<(Vec<String>, Error)> {
        let mut found = Vec::new();
        let mut check = |wrong: bool, field: &str, message: &str| {
            if wrong {
                let path = field.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
                found.push((path, Error::invalid(message)));
            }
        };
        self.source_findings(&mut check);
        self.traffic_findings(&mut check);
        check(self.replicas > limit::REPLICAS, "replicas", "more replicas than a service may have (1000)");
        check(self.needs.len() > limit::NEEDS, "needs", "a service may need at most 50 others");
        check(self.volumes.len() > limit::VOLUMES, "volumes", "a service may have at most 10 volumes");
        check(self.limits.cpu.is_some_and(|cpu| cpu.millis == 0), "limits.cpu", "`cpu` is above 0");
        check(self.limits.memory.is_some_and(|memory| memory.0 == 0), "limits.memory", "`memory` is above 0");
        check(self.grace > Duration::from_secs(3_600), "grace", "`grace` is at most 1h");
        check(
            !self.volumes.is_empty() && self.release().overlaps(),
            "release",
            "a service with volumes is released by `recreate` or `ordered`, so that a volume never has two writers",
        );
        check(
            self.kind == Kind::Task && (self.port.is_some() || self.release.is_some()),
            "kind",
            "a task has neither `port` nor `release`",
        );
        for (name, volume) in &self.volumes {
            check(volume.size.0 == 0, &format!("volumes.{name}"), "the size of a volume is above 0");
        }
        found.extend(self.repeated());
        found.extend(self.env_findings());
        found
    }

    fn source_findings(&self, check: &mut impl FnMut(bool, &str, &str)) {
        check(self.sources().is_empty(), "", "a service needs one of `run`, `image` and `build`");
        let reference = |text: &String| {
            !text.is_empty() && text.len() <= 500 && text.bytes().all(|b| b.is_ascii_graphic())
        };
        check(
            self.image.as_ref().is_some_and(|image| !reference(image)),
            "image",
            "an image is a reference like registry.example.com/shop/api:1.4.0",
        );
        let folder =
            |text: &String| !text.is_empty() && text.len() <= 1_024 && !text.chars().any(char::is_control);
        check(
            self.build.as_ref().is_some_and(|build| !folder(build)),
            "build",
            "`build` is a folder like ./api",
        );
    }

    fn traffic_findings(&self, check: &mut impl FnMut(bool, &str, &str)) {
        check(self.port == Some(0), "port", "a port is between 1 and 65535");
        check(self.domain.len() > limit::DOMAINS, "domain", "a service may have at most 50 domains");
        check(
            self.port.is_none() && !self.domain.is_empty(),
            "domain",
            "a service with a domain needs a `port`",
        );
        check(
            self.protocol == Protocol::Tcp && !self.domain.is_empty(),
            "domain",
            "only `http` services can have a domain",
        );
        for (field, probe) in [("ready", &self.ready), ("live", &self.live)] {
            let asks_port = probe.as_ref().is_some_and(|probe| !matches!(probe.check, Check::Command(_)));
            check(self.port.is_none() && asks_port, field, "this probe needs a `port` to ask");
        }
    }

    /// Whatever is given twice in a list, at its second place.
    fn repeated(&self) -> Vec<(Vec<String>, Error)> {
        fn of<T: Ord + fmt::Display>(field: &str, items: &[T]) -> Vec<(Vec<String>, Error)> {
            let mut seen = BTreeSet::new();
            let again = items.iter().enumerate().filter(|(_, item)| !seen.insert(*item));
            again
                .map(|(at, item)| {
                    let error = Error::invalid("this is listed twice").with("item", item);
                    (vec![field.to_owned(), at.to_string()], error)
                })
                .collect()
        }
        let lists = [of("needs", &self.needs), of("secrets", &self.secrets), of("domain", &self.domain)];
        lists.into_iter().flatten().collect()
    }

    fn env_findings(&self) -> Vec<(Vec<String>, Error)> {
        let mut found = Vec::new();
        if self.env.len() > limit::ENV_VARS {
            let error = Error::invalid("too many variables").with("most", limit::ENV_VARS);
            found.push((vec!["env".to_owned()], error));
        }
        for (name, value) in &self.env {
            let mut add = |message| {
                let error = Error::invalid(message).with("name", excerpt(name));
                found.push((vec!["env".to_owned(), name.clone()], error));
            };
            if name.len() > limit::ENV_NAME || !is_variable(name) {
                add(
                    "a variable's name is letters, digits and underscores, no digit first, at most 200 bytes",
                );
            }
            if value.0.len() > limit::ENV_VALUE || value.0.contains('\0') {
                add("the value is longer than 32 KiB or has a NUL byte");
            }
            if self.secrets.iter().any(|secret| secret.as_str() == name) {
                add("this variable is both under `env` and under `secrets`");
            }
            if is_reserved(name) {
                add("the platform sets this variable; choose another name");
            }
        }
        for (at, secret) in self.secrets.iter().enumerate().filter(|(_, secret)| is_reserved(secret.as_str()))
        {
            let error =
                Error::invalid("the platform sets this variable; choose another name").with("name", secret);
            found.push((vec!["secrets".to_owned(), at.to_string()], error));
        }
        found
    }
}

/// Whether only the platform sets this variable.
fn is_reserved(name: &str) -> bool {
    name == "PORT" || name.starts_with("PAAS_")
}

fn is_variable(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.as_bytes().first().is_some_and(|first| !first.is_ascii_digit())
}

impl Service for ServiceSpec {
    fn describe(&self) -> Result<ServiceSpec> {
        Ok(self.clone())
    }
}
