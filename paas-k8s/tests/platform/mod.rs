//! A whole platform on a cluster.

mod client;
mod drain;
mod drift;
mod exec;
mod export;
mod log;
mod release;
mod status;
mod term;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
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

type Case = fn() -> Pin<Box<dyn Future<Output = Result<()>>>>;

/// The list of a module's cases.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), || Box::pin($name()))),*]
    };
}
use cases;

/// The longest time of one case.
const LONGEST: Duration = Duration::from_secs(240);

pub(crate) fn trials() -> impl Iterator<Item = (String, Proof)> {
    proofs(
        [release::CASES, drift::CASES, exec::CASES, export::CASES, log::CASES, status::CASES, term::CASES]
            .concat(),
    )
}

/// The cases that need a cluster of two nodes to themselves.
pub(crate) fn on_two_nodes() -> impl Iterator<Item = (String, Proof)> {
    proofs(drain::CASES.to_vec())
}

fn proofs(cases: Vec<(&'static str, Case)>) -> impl Iterator<Item = (String, Proof)> {
    cases.into_iter().map(|(name, case)| {
        let proof: Proof = Box::new(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime
                .block_on(async { tokio::time::timeout(LONGEST, case()).await })
                .map_err(|_| Error::new(ErrorKind::Timeout, "the case exceeds its deadline"))?
        });
        (format!("platform::{name}"), proof)
    })
}

/// A platform of one case alone, and somebody who may do everything on it.
struct World {
    name: String,
    platform: Platform,
    user: Principal,
    client: Client,
}

/// How long anything may take.
const SOON: Duration = Duration::from_secs(90);

fn web() -> ServiceName {
    ServiceName::new("web").unwrap()
}

/// A service that serves, and says of which version it is.
fn serving(version: &str, replicas: u32) -> ServiceSpec {
    let mut service = ServiceSpec::image("testbed.local/instance:1");
    service.env.insert("VERSION".into(), version.into());
    service.port = Some(8080);
    service.replicas = replicas;
    service.grace = Duration::from_secs(5);
    service.limits = Limits { cpu: Some(CpuQuantity { millis: 50 }), memory: Some(ByteSize(32 << 20)) };
    service
}

fn app(service: &ServiceSpec) -> AppSpec {
    AppSpec::new("shop").unwrap().with_service("web", service).unwrap()
}

async fn open(name: &str) -> Result<Platform> {
    let connection = Connection::connect(ConnectionConfig::default().platform(name)).await?;
    let mut config = BackendsConfig::default();
    config.router = config.router.gateway("default", "testbed").metrics(metrics().await?);
    let backends = KubeBackends::open(&connection, config).await?;
    let builder = backends.builder().audit(Arc::new(MemoryAuditLog::new()));
    builder.authorizer(Arc::new(MemoryAuthorizer::allow_all())).build().await
}

impl World {
    async fn new() -> Result<Self> {
        let name = format!("e2e-{}", IdSource::random(Clock::system()).next());
        let platform = open(&name).await?;
        let tenant = platform.ensure_tenant(&Principal::operator("ops"), TenantName::new("acme")?).await?;
        Ok(Self { name, platform, user: Principal::user("ann", tenant.id), client: client().await? })
    }

    /// Deploys, and waits until it is over.
    async fn deploy(&self, app: &AppSpec) -> Result<Operation> {
        self.platform.deploy(&self.user, app).await?.finished_within(SOON).await
    }

    async fn shop(&self) -> Result<AppHandle> {
        self.platform.production(&self.user).await?.app(&AppName::new("shop")?).await
    }

    fn labels(&self) -> ListParams {
        ListParams::default().labels(&format!("paas-sdk.dev/platform={}", self.name))
    }

    /// The only object of a kind that the platform has, and its namespace.
    async fn only<K>(&self) -> Result<(K, Api<K>)>
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

    /// Where a service is reached from within the cluster's network.
    async fn address(&self) -> Result<(String, u16)> {
        let services: Api<Service> = Api::all(self.client.clone());
        let found = services.list(&self.labels()).await.map_err(broken)?;
        // The service's own has no slot in its name.
        let own = found.items.into_iter().find(|it| {
            let name = it.metadata.name.as_deref().unwrap_or_default();
            !name.ends_with("-blue") && !name.ends_with("-green")
        });
        let ip = own.and_then(|service| service.spec?.cluster_ip).unwrap();
        Ok((ip, 80))
    }

    async fn end(self) -> Result<()> {
        self.platform.shutdown().await;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for namespace in namespaces.list(&self.labels()).await.map_err(broken)? {
            let name = namespace.metadata.name.unwrap_or_default();
            drop(namespaces.delete(&name, &DeleteParams::background()).await);
        }
        Ok(())
    }
}

/// Asks again and again until it is so; how long that took.
async fn until<T, F>(what: &str, mut ask: impl FnMut() -> F) -> Result<(T, Duration)>
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
