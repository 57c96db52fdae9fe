//! A platform that is measured, and what stands around it.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use paas_core::memory::{MemoryAuditLog, MemoryAuthorizer};
use paas_core::model::{
    AppSpec, ByteSize, Clock, CpuQuantity, IdSource, Limits, Principal, ServiceSpec, TenantName,
};
use paas_core::platform::{OperationHandle, Platform};
use paas_k8s::{BackendsConfig, Connection, ConnectionConfig, KubeBackends, TenancyConfig};

use crate::Outcome;
use crate::seen::{Calls, Verb};
use crate::wire::Wire;

/// How long anything may take.
pub(crate) const SOON: Duration = Duration::from_secs(600);
/// No write for so long: the platform has come to rest.
const REST: Duration = Duration::from_secs(3);

/// A platform of one figure alone, and somebody who may do everything on it.
pub(crate) struct Stage {
    pub(crate) name: String,
    /// Who looks at the cluster past the platform.
    pub(crate) client: Client,
    pub(crate) calls: Arc<Calls>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) platform: Platform,
    pub(crate) user: Principal,
}

/// A connection whose calls are seen.
pub(crate) async fn connect(client: &Client, name: &str) -> Outcome<(Connection, Arc<Calls>, Arc<Wire>)> {
    let (wired, wire) = Wire::around(client.clone());
    let (seen, calls) = Calls::of(wired);
    let connection = Connection::from_client(seen, ConnectionConfig::default().platform(name)).await?;
    Ok((connection, calls, wire))
}

pub(crate) fn unique(what: &str) -> String {
    format!("{what}-{}", IdSource::random(Clock::system()).next())
}

/// Room for all that is measured.
pub(crate) fn roomy() -> TenancyConfig {
    let mut config = TenancyConfig::default();
    config.cpu = CpuQuantity { millis: 10_000_000 };
    config.memory = ByteSize(100 << 40);
    config.pods = 100_000;
    config
}

/// Without the platform's own retries: a figure is of calls that are made once.
pub(crate) async fn client() -> Outcome<Client> {
    let mut config = kube::Config::infer().await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

impl Stage {
    pub(crate) async fn open(what: &str) -> Outcome<Self> {
        let (name, client) = (unique(what), client().await?);
        let (connection, calls, wire) = connect(&client, &name).await?;
        let mut config = BackendsConfig::default();
        config.router = config.router.gateway("default", "testbed");
        config.tenancy = roomy();
        let backends = KubeBackends::open(&connection, config).await?;
        let builder = backends.builder().audit(Arc::new(MemoryAuditLog::new()));
        let platform = builder.authorizer(Arc::new(MemoryAuthorizer::allow_all())).build().await?;
        let tenant = platform.ensure_tenant(&Principal::operator("ops"), TenantName::new("acme")?).await?;
        let user = Principal::user("ann", tenant.id);
        Ok(Self { name, client, calls, wire, platform, user })
    }

    pub(crate) async fn deploy(&self, app: &AppSpec) -> Outcome<OperationHandle> {
        Ok(self.platform.deploy(&self.user, app).await?)
    }

    /// Deploys, and waits until it is over.
    pub(crate) async fn release(&self, app: &AppSpec) -> Outcome {
        self.deploy(app).await?.finished_within(SOON).await?;
        Ok(())
    }

    /// Waits until nothing is written any more.
    pub(crate) async fn rest(&self) -> Outcome {
        until("the platform rests", || async {
            tokio::time::sleep(REST).await;
            let calls = self.calls.since(Instant::now() - REST);
            Ok(calls.iter().all(|call| call.verb == Verb::Watch).then_some(()))
        })
        .await
    }

    pub(crate) async fn end(self) -> Outcome {
        self.platform.shutdown().await;
        remove(&self.client, &self.name).await
    }
}

/// Deletes the namespaces of a platform.
pub(crate) async fn remove(client: &Client, platform: &str) -> Outcome {
    remove_labelled(client, &format!("paas-sdk.dev/platform={platform}")).await
}

/// Deletes namespaces, and waits until they are gone: what goes on must not be measured with what comes.
pub(crate) async fn remove_labelled(client: &Client, labels: &str) -> Outcome {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let own = ListParams::default().labels(labels);
    for namespace in namespaces.list_metadata(&own).await? {
        let name = namespace.metadata.name.unwrap_or_default();
        drop(namespaces.delete(&name, &DeleteParams::background()).await);
    }
    until("the namespaces are gone", || async {
        Ok(namespaces.list_metadata(&own).await?.items.is_empty().then_some(()))
    })
    .await
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

pub(crate) fn app(name: &str, service: &ServiceSpec) -> AppSpec {
    AppSpec::new(name).unwrap().with_service("web", service).unwrap()
}

/// The processor time that this process has used.
pub(crate) fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// Asks again and again until it is so.
pub(crate) async fn until<T, F>(what: &str, mut ask: impl FnMut() -> F) -> Outcome<T>
where
    F: Future<Output = Outcome<Option<T>>>,
{
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline {
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(format!("it never came to this: {what}").into())
}
