//! Tenants' environments as namespaces.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use paas_core::backend::Fence;
use paas_core::model::{
    ByteSize, CpuQuantity, Environment, EnvironmentId, Resource as Subject, Scope, Tenant, TenantId,
};
use paas_core::port::{Backend, Tenancy};
use paas_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::failed;
use crate::pause::Pauses;
use crate::{Connection, apply, export, label, list};
use room::{CLOSED, Room};
use table::Removed;

pub use destination::Destination;
pub use dns::Dns;

mod destination;
mod dns;
mod part;
mod removal;
mod room;
mod sync;
mod table;
#[cfg(test)]
mod tests;

/// How many environments are made at once.
const AT_ONCE: usize = 8;
/// How long the platform may be refused in a namespace that it was just let into.
const ADMITTED: Duration = Duration::from_secs(3);

/// What each environment may use.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TenancyConfig {
    /// Most processor time of all its instances together: 32 cores.
    pub cpu: CpuQuantity,
    /// Most memory of all its instances together: 64 GiB.
    pub memory: ByteSize,
    /// Most instances and tasks at once: 200.
    pub pods: u32,
    /// Most volumes: 50.
    pub volumes: u32,
    /// Most storage of all its volumes together: 500 GiB.
    pub storage: ByteSize,
    /// Most processor time of an instance that states no limit: one core.
    pub default_cpu: CpuQuantity,
    /// Most memory of an instance that states no limit: 512 MiB.
    pub default_memory: ByteSize,
    /// Processor time kept for an instance that states no limit: 100 thousandths of a core.
    pub reserved_cpu: CpuQuantity,
    /// Memory kept for an instance that states no limit: 128 MiB.
    pub reserved_memory: ByteSize,
    /// Which release's idea of the `restricted` pod security standard holds: `v1.34`, which was tested. A later one may
    /// refuse what runs today.
    pub pod_security: String,
    /// Where instances look up names: in the pods of `kube-system`, at port 53.
    pub dns: Dns,
    /// Where instances may connect to outside of their app: nowhere.
    pub outside: Vec<Destination>,
}

impl Default for TenancyConfig {
    fn default() -> Self {
        let gib = |number: u64| ByteSize(number << 30);
        let mib = |number: u64| ByteSize(number << 20);
        Self {
            cpu: CpuQuantity { millis: 32_000 },
            memory: gib(64),
            pods: 200,
            volumes: 50,
            storage: gib(500),
            default_cpu: CpuQuantity { millis: 1_000 },
            default_memory: mib(512),
            reserved_cpu: CpuQuantity { millis: 100 },
            reserved_memory: mib(128),
            pod_security: "v1.34".into(),
            dns: Dns::default(),
            outside: Vec::new(),
        }
    }
}

/// Gives each environment of a tenant a namespace, in which pods are held to the `restricted` standard, no traffic flows
/// unless a policy allows it (names can be looked up, and [`TenancyConfig::outside`] is reached), a quota and limits bound what is used, and no pod is given a token
/// of the API server. In each, a binding lets the platform's own account in ([`Rbac`](crate::Rbac)).
///
/// A tenant that is removed is closed first: by its quota, nothing comes in any more that would keep it. Then it is looked
/// through, and opened again where it stays.
///
/// What somebody changes in these objects is told by [`watch`](Tenancy::watch), which lists and watches them as long as it is
/// read, and is put back by the next `apply`: what the platform decides takes the values it had, and what was added to a
/// specification goes. A namespace of such a name that is not marked
/// as that environment's is never taken over. Network policies are kept by the cluster's network plugin: one that knows
/// none isolates nothing.
#[derive(Debug)]
pub struct KubeTenancy {
    connection: Connection,
    config: TenancyConfig,
    fence: Fence,
    removed: Removed,
}

impl KubeTenancy {
    /// Environments that may use what [`TenancyConfig::default`] says.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        let (fence, removed) = (Fence::default(), Removed::default());
        Self { connection, config: TenancyConfig::default(), fence, removed }
    }

    /// Environments that may use as much as this from their next `apply` on.
    #[must_use]
    pub fn with_config(self, config: TenancyConfig) -> Self {
        Self { config, ..self }
    }

    async fn make_for(&self, tenant: &Tenant, environment: &Environment) -> Result<()> {
        let room = Room::new(self.connection.platform(), tenant, environment, &self.config);
        self.make(&room).await.map_err(|error| error.with("namespace", room.name()))
    }

    /// The namespace first, with all its guards by the time this returns: `Ok` lets workloads follow. What the platform may do
    /// in there comes with the binding, of which the API server knows a moment after it has taken it.
    async fn make(&self, room: &Room) -> Result<()> {
        let namespaces: Api<Namespace> = self.connection.cluster();
        let uid = claim(&namespaces, &room.namespace).await?;
        let mut namespace = room.namespace.clone();
        // Should it have been deleted and made by somebody else just now, this is refused.
        namespace.metadata.uid = uid;
        let namespace = put(&namespaces, &namespace).await?;
        put(&self.within(room), &room.place.access(self.connection.namespace())).await?;
        let mut pauses = Pauses::within(ADMITTED);
        loop {
            match self.guard(room).await {
                Err(error) if error.kind() == ErrorKind::Denied && pauses.rest().await => {}
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        if namespace.annotations().contains_key(CLOSED) {
            // Its guards are open again, and a removal that goes on will find them so.
            removal::mark(&namespaces, room.name(), false).await?;
        }
        Ok(())
    }

    async fn guard(&self, room: &Room) -> Result<()> {
        for policy in &room.policies {
            put_alone(&self.within(room), policy).await?;
        }
        put_alone(&self.within(room), &room.quota).await?;
        put_alone(&self.within(room), &room.limits).await?;
        for account in &room.accounts {
            put(&self.within(room), account).await?;
        }
        Ok(())
    }

    fn within<K>(&self, room: &Room) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        self.connection.within(room.name())
    }
}

/// The objects of an environment, the namespace first.
pub(crate) fn objects(
    platform: &str,
    tenant: &Tenant,
    environment: &Environment,
    config: &TenancyConfig,
) -> Result<Vec<Value>> {
    let room = Room::new(platform, tenant, environment, config);
    let mut objects = vec![export::object(&room.namespace)?];
    for policy in &room.policies {
        objects.push(export::object(policy)?);
    }
    objects.push(export::object(&room.quota)?);
    objects.push(export::object(&room.limits)?);
    for account in &room.accounts {
        objects.push(export::object(account)?);
    }
    Ok(objects)
}

/// Makes a namespace, unless it is there and is ours; tells which one it is.
async fn claim(namespaces: &Api<Namespace>, wanted: &Namespace) -> Result<Option<String>> {
    let name = wanted.name_any();
    let found = || async {
        let found = namespaces.get_metadata_opt(&name).await.map_err(|cause| failed(cause, "read"))?;
        found.map(|found| owned(&found, wanted)).transpose()
    };
    if let Some(uid) = found().await? {
        return Ok(uid);
    }
    let params = PostParams { field_manager: Some(label::MANAGER.into()), ..PostParams::default() };
    match namespaces.create(&params, wanted).await.map_err(|cause| failed(cause, "make")) {
        Ok(made) => Ok(made.metadata.uid),
        // Somebody else was faster: another replica of this platform, or a stranger.
        Err(error) if error.kind() == ErrorKind::Conflict => found().await?.ok_or(error),
        Err(error) => Err(error),
    }
}

/// Which namespace it is, if it is that of the same environment and stays.
fn owned(found: &impl ResourceExt, wanted: &Namespace) -> Result<Option<String>> {
    let same = |key: &str| found.labels().get(key).is_some_and(|own| wanted.labels().get(key) == Some(own));
    if ![label::PLATFORM, label::TENANT, label::ENVIRONMENT].iter().all(|key| same(key)) {
        return Err(Error::conflict(
            "a namespace of this name is there and is not marked as this environment's; rename or remove it",
        ));
    }
    if found.meta().deletion_timestamp.is_some() {
        return Err(Error::unavailable("the environment's namespace is still being deleted"));
    }
    Ok(found.uid())
}

/// Makes an object what it should be, whoever changed it.
async fn put<K>(api: &Api<K>, object: &K) -> Result<K>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Debug,
{
    let params = PatchParams::apply(label::MANAGER).force();
    let name = object.name_any();
    let apply = || async {
        let applied = api.patch(&name, &params, &Patch::Apply(object)).await;
        let about = |cause| failed(cause, "apply").with("kind", K::kind(&())).with("name", &name);
        applied.map_err(about)
    };
    match apply().await {
        // The cluster makes an account of its own in each namespace, maybe at this moment.
        Err(error) if error.kind() == ErrorKind::Conflict => apply().await,
        outcome => outcome,
    }
}

/// As [`put`], and takes away what somebody else has added to what it specifies.
async fn put_alone<K>(api: &Api<K>, object: &K) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Debug,
{
    let applied = put(api, object).await?;
    let unreadable = |cause| Error::internal("an object cannot be written as JSON").with_source(cause);
    let value = serde_json::to_value(&applied).map_err(unreadable)?;
    let Some(patch) = apply::settlement(applied.meta(), &value["spec"])? else { return Ok(()) };
    let name = object.name_any();
    tracing::warn!(name, spec = %patch["spec"], "drift: somebody else has added to what keeps an environment apart; it is removed");
    let params = PatchParams { field_manager: Some(label::MANAGER.into()), ..PatchParams::default() };
    match api.patch_metadata(&name, &params, &Patch::Merge(patch)).await {
        // Who changed it meanwhile is told of.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        outcome => outcome.map(drop).map_err(|cause| failed(cause, "remove additions").with("name", name)),
    }
}

/// Which environment a namespace is that carries the labels of one; `None` where its name says that somebody else
/// put them there.
fn environment(platform: &str, namespace: &impl ResourceExt) -> Option<(TenantId, EnvironmentId)> {
    let tenant = TenantId::new(namespace.labels().get(label::TENANT)?).ok()?;
    let environment = EnvironmentId::new(namespace.labels().get(label::ENVIRONMENT)?).ok()?;
    let ours = namespace.name_any() == label::namespace(platform, &tenant, &environment);
    ours.then_some((tenant, environment))
}

#[async_trait]
impl Backend for KubeTenancy {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    async fn check(&self) -> Result<()> {
        self.connection.check().await
    }
}

#[async_trait]
impl Tenancy for KubeTenancy {
    async fn apply(&self, scope: &Scope, tenant: &Tenant, environments: &[Environment]) -> Result<()> {
        tenant.check_own(environments)?;
        self.fence.admit(scope)?;
        self.removed.forget(&tenant.id);
        for some in environments.chunks(AT_ONCE) {
            // Others were made in between: somebody else may lead by now.
            self.fence.admit(scope)?;
            try_join_all(some.iter().map(|environment| self.make_for(tenant, environment))).await?;
        }
        Ok(())
    }

    /// Those whose namespaces are still being deleted are among them.
    async fn list(&self, scope: &Scope) -> Result<Vec<TenantId>> {
        self.fence.see(scope);
        let platform = self.connection.platform();
        let labels = format!("{}={platform},{}", label::PLATFORM, label::TENANT);
        let namespaces = list::metadata::<Namespace>(&self.connection.cluster(), &labels).await?;
        let tenants: BTreeSet<TenantId> = namespaces
            .iter()
            .filter_map(|namespace| environment(platform, namespace).map(|(tenant, _)| tenant))
            .collect();
        Ok(tenants.into_iter().collect())
    }

    async fn watch(&self, scope: &Scope) -> Result<BoxStream<'static, Subject>> {
        self.fence.see(scope);
        let own = scope.resource().clone();
        let changed = sync::changed(&self.connection, &self.config, &self.removed).await?;
        Ok(changed.filter(move |about| std::future::ready(own.contains(about))).boxed())
    }

    async fn remove(&self, scope: &Scope, tenant: &TenantId) -> Result<()> {
        self.fence.admit(scope)?;
        self.removed.put(tenant);
        let removed = removal::remove(&self.connection, &self.config, tenant).await;
        if removed.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict) {
            self.removed.forget(tenant);
        }
        removed
    }
}
