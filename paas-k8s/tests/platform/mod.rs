//! A whole platform on a cluster.

mod access;
mod calls;
pub(crate) mod client;
mod count;
mod drain;
mod drift;
mod exec;
mod export;
mod inside;
mod log;
pub(crate) mod node;
mod policy;
mod pull;
mod release;
mod room;
pub(crate) mod status;
mod term;
mod token;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use paas_core::engine::EngineConfig;
use paas_core::memory::{MemoryAuditLog, MemoryAuthorizer};
use paas_core::model::{
    AppName, AppSpec, ByteSize, Clock, CpuQuantity, IdSource, Limits, Operation, Principal, ServiceName,
    ServiceSpec, TenantName,
};
use paas_core::platform::{AppHandle, Platform};
use paas_core::{Error, ErrorKind, Result};
use paas_k8s::{BackendsConfig, Connection, ConnectionConfig, KubeBackends};
use paas_testkit::Proof;

use crate::fixture::rooms::{broken, client};
use crate::fixture::router::metrics;

pub(crate) type Case = fn() -> Pin<Box<dyn Future<Output = Result<()>>>>;

/// The list of a module's cases.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), || Box::pin($name()))),*]
    };
}
pub(crate) use cases;

/// The longest time of one case.
const LONGEST: Duration = Duration::from_secs(240);
/// That of one that does the same again and again.
const LONGEST_OF_LONG: Duration = Duration::from_secs(900);

pub(crate) fn trials() -> impl Iterator<Item = (String, Proof)> {
    named(
        "platform",
        [
            access::CASES,
            calls::CASES,
            count::CASES,
            release::CASES,
            drift::CASES,
            exec::CASES,
            export::CASES,
            log::CASES,
            pull::CASES,
            room::CASES,
            status::CASES,
            term::CASES,
            token::CASES,
        ]
        .concat(),
    )
}

/// The cases that need a cluster of two nodes to themselves.
pub(crate) fn on_two_nodes() -> impl Iterator<Item = (String, Proof)> {
    named("platform", drain::CASES.to_vec())
}

/// The cases that need a network plugin that enforces policies.
pub(crate) fn on_enforcing_network() -> impl Iterator<Item = (String, Proof)> {
    named("platform", policy::CASES.to_vec())
}

/// The cases that need the image of a platform.
pub(crate) fn on_image() -> impl Iterator<Item = (String, Proof)> {
    named("platform", inside::CASES.to_vec())
}

/// Those that take nodes away, for which all others have to wait.
pub(crate) fn trials_with_fake_nodes() -> impl Iterator<Item = (String, Proof)> {
    named("nodes", node::CASES.to_vec())
}

/// Cases as trials, each with a runtime and a deadline of its own.
pub(crate) fn named(
    group: &'static str,
    cases: Vec<(&'static str, Case)>,
) -> impl Iterator<Item = (String, Proof)> {
    within(LONGEST, group, cases)
}

/// Cases that take long.
pub(crate) fn long(
    group: &'static str,
    cases: Vec<(&'static str, Case)>,
) -> impl Iterator<Item = (String, Proof)> {
    within(LONGEST_OF_LONG, group, cases)
}

fn within(
    longest: Duration,
    group: &'static str,
    cases: Vec<(&'static str, Case)>,
) -> impl Iterator<Item = (String, Proof)> {
    cases.into_iter().map(move |(name, case)| {
        let proof: Proof = Box::new(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime
                .block_on(async { tokio::time::timeout(longest, case()).await })
                .map_err(|_| Error::new(ErrorKind::Timeout, "the case exceeds its deadline"))?
        });
        (format!("{group}::{name}"), proof)
    })
}

/// A platform of one case alone, and somebody who may do everything on it.
pub(crate) struct World {
    pub(crate) name: String,
    pub(crate) platform: Platform,
    pub(crate) user: Principal,
    pub(crate) client: Client,
}

pub(crate) fn unique_name() -> String {
    format!("e2e-{}", IdSource::random(Clock::system()).next())
}

/// How long anything may take.
pub(crate) const SOON: Duration = Duration::from_secs(90);

pub(crate) fn web() -> ServiceName {
    ServiceName::new("web").unwrap()
}

/// A service that serves, and says of which version it is.
pub(crate) fn serving(version: &str, replicas: u32) -> ServiceSpec {
    let mut service = ServiceSpec::image("testbed.local/instance:1");
    service.env.insert("VERSION".into(), version.into());
    service.port = Some(8080);
    service.replicas = replicas;
    service.grace = Duration::from_secs(5);
    service.limits = Limits { cpu: Some(CpuQuantity { millis: 50 }), memory: Some(ByteSize(32 << 20)) };
    service
}

pub(crate) fn app(service: &ServiceSpec) -> AppSpec {
    AppSpec::new("shop").unwrap().with_service("web", service).unwrap()
}

async fn open(name: &str) -> Result<Platform> {
    open_by(name, None).await
}

/// How platforms are configured here.
pub(crate) async fn config() -> Result<BackendsConfig> {
    let mut config = BackendsConfig::default();
    config.router = config.router.gateway("default", "testbed").metrics(metrics().await?);
    Ok(config)
}

/// A platform that reaches the cluster by this kubeconfig, or by the one of the environment.
pub(crate) async fn open_by(name: &str, kubeconfig: Option<&Path>) -> Result<Platform> {
    open_with(name, kubeconfig, config().await?).await
}

pub(crate) async fn open_with(
    name: &str,
    kubeconfig: Option<&Path>,
    config: BackendsConfig,
) -> Result<Platform> {
    let mut connection = ConnectionConfig::default().platform(name);
    connection.kubeconfig = kubeconfig.map(Path::to_owned);
    let connection = Connection::connect(connection).await?;
    open_over(&connection, config, EngineConfig::default()).await
}

async fn open_over(
    connection: &Connection,
    config: BackendsConfig,
    engine: EngineConfig,
) -> Result<Platform> {
    let backends = KubeBackends::open(connection, config).await?;
    let builder = backends.builder().audit(Arc::new(MemoryAuditLog::new())).engine(engine);
    builder.authorizer(Arc::new(MemoryAuthorizer::allow_all())).build().await
}

impl World {
    pub(crate) async fn new() -> Result<Self> {
        Self::by(None).await
    }

    /// One that reaches the cluster by this kubeconfig; who looks at the cluster goes straight to it.
    pub(crate) async fn by(kubeconfig: Option<&Path>) -> Result<Self> {
        Self::named(unique_name(), kubeconfig).await
    }

    pub(crate) async fn named(name: String, kubeconfig: Option<&Path>) -> Result<Self> {
        let platform = open_by(&name, kubeconfig).await?;
        Self::of(name, platform).await
    }

    async fn of(name: String, platform: Platform) -> Result<Self> {
        let tenant = platform.ensure_tenant(&Principal::operator("ops"), TenantName::new("acme")?).await?;
        Ok(Self { name, platform, user: Principal::user("ann", tenant.id), client: client().await? })
    }

    /// Deploys, and waits until it is over.
    pub(crate) async fn deploy(&self, app: &AppSpec) -> Result<Operation> {
        self.platform.deploy(&self.user, app).await?.finished_within(SOON).await
    }

    pub(crate) async fn shop(&self) -> Result<AppHandle> {
        self.platform.production(&self.user).await?.app(&AppName::new("shop")?).await
    }

    pub(crate) fn labels(&self) -> ListParams {
        ListParams::default().labels(&format!("paas-sdk.dev/platform={}", self.name))
    }

    /// The only object of a kind that the platform has, and its namespace.
    pub(crate) async fn only<K>(&self) -> Result<(K, Api<K>)>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let all: Api<K> = Api::all(self.client.clone());
        let mut found = all.list(&self.labels()).await.map_err(broken)?.items;
        assert_eq!(found.len(), 1, "{found:?}");
        let object = found.remove(0);
        let namespace = object.meta().namespace.clone().unwrap();
        Ok((object, Api::namespaced(self.client.clone(), &namespace)))
    }

    pub(crate) async fn address(&self) -> Result<(String, u16)> {
        address(&self.client, &self.labels()).await
    }

    pub(crate) async fn end(self) -> Result<()> {
        self.platform.shutdown().await;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for namespace in namespaces.list(&self.labels()).await.map_err(broken)? {
            let name = namespace.metadata.name.unwrap_or_default();
            drop(namespaces.delete(&name, &DeleteParams::background()).await);
        }
        Ok(())
    }
}

/// Where the only service with these labels is reached from within the cluster's network.
async fn address(client: &Client, labels: &ListParams) -> Result<(String, u16)> {
    let services: Api<Service> = Api::all(client.clone());
    let found = services.list(labels).await.map_err(broken)?;
    // The service's own has no slot in its name.
    let own = found.items.into_iter().find(|it| {
        let name = it.metadata.name.as_deref().unwrap_or_default();
        !name.ends_with("-blue") && !name.ends_with("-green")
    });
    let ip = own.and_then(|service| service.spec?.cluster_ip).unwrap();
    Ok((ip, 80))
}

/// Asks again and again until it is so; how long that took.
pub(crate) async fn until<T, F>(what: &str, mut ask: impl FnMut() -> F) -> Result<(T, Duration)>
where
    F: Future<Output = Result<Option<T>>>,
{
    let began = tokio::time::Instant::now();
    while began.elapsed() < SOON {
        if let Some(found) = ask().await? {
            return Ok((found, began.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(Error::new(ErrorKind::Timeout, "it never came to this").with("what", what))
}

/// Every request was answered; of those that were not, the first are told.
pub(crate) fn assert_none_failed(answered: &BTreeMap<String, u64>, failed: &[String]) {
    let first = &failed[..failed.len().min(5)];
    assert!(failed.is_empty(), "{} failed, {answered:?} answered: {first:?}", failed.len());
}
