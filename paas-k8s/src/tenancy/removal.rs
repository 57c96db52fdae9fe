//! How a tenant's namespaces go.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{DeleteParams, PartialObjectMeta, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use paas_core::model::TenantId;
use paas_core::{Error, Result};
use serde_json::json;
use tokio::time::Instant;

use super::room::{AMOUNTS, CLOSED, KEEPERS, Place};
use super::{TenancyConfig, environment, put};
use crate::error::failed;
use crate::pause::Pauses;
use crate::{Connection, apply, label, list};

/// How long one call waits until the namespaces are gone. An empty one takes some five seconds.
const PATIENCE: Duration = Duration::from_secs(8);

/// Removes all namespaces of a tenant, or none while there is something in one.
///
/// They are closed before they are looked through: what is not found then does not come any more. A create that was admitted
/// before, and is stored only after the look, is the one thing that could; the cluster says that it is closed only once its
/// quotas were counted anew, which takes longer.
pub(super) async fn remove(connection: &Connection, config: &TenancyConfig, tenant: &TenantId) -> Result<()> {
    let platform = connection.platform();
    let until = Instant::now() + PATIENCE;
    let namespaces: Api<Namespace> = connection.cluster();
    let found = list::metadata(&namespaces, &label::of_tenant(platform, tenant)).await?;
    let own: Vec<_> = found.iter().filter_map(|namespace| Own::of(connection, config, namespace)).collect();
    let staying: Vec<_> = own.iter().filter(|own| own.stays()).collect();
    for own in &staying {
        own.close().await?;
    }
    for own in &staying {
        own.closed(until).await?;
    }
    for namespace in &staying {
        let Some(kind) = held(connection, &namespace.place.namespace, platform).await? else { continue };
        for own in &staying {
            own.open().await?;
        }
        return Err(Error::conflict(
            "the tenant still has something here: remove its apps and volumes first",
        )
        .with("tenant", tenant)
        .with("namespace", &namespace.place.namespace)
        .with("kind", kind));
    }
    for own in &staying {
        // Whoever has made room for the tenant meanwhile has opened it again.
        own.closed(Instant::now()).await?;
        delete(&namespaces, own.namespace).await?;
    }
    for own in &own {
        gone(&namespaces, own.namespace, until).await?;
    }
    Ok(())
}

/// A namespace of the tenant.
struct Own<'a> {
    connection: &'a Connection,
    config: &'a TenancyConfig,
    place: Place,
    namespace: &'a PartialObjectMeta<Namespace>,
}

impl<'a> Own<'a> {
    fn of(
        connection: &'a Connection,
        config: &'a TenancyConfig,
        namespace: &'a PartialObjectMeta<Namespace>,
    ) -> Option<Self> {
        let (tenant, environment) = environment(connection.platform(), namespace)?;
        let place = Place::new(connection.platform(), &tenant, &environment);
        Some(Self { connection, config, place, namespace })
    }

    fn stays(&self) -> bool {
        self.namespace.metadata.deletion_timestamp.is_none()
    }

    fn quotas(&self) -> Api<ResourceQuota> {
        self.connection.within(&self.place.namespace)
    }

    async fn close(&self) -> Result<()> {
        mark(&self.connection.cluster(), &self.place.namespace, true).await?;
        // Somebody may have taken away what lets the platform in.
        let access = self.place.access(self.connection.namespace());
        put(&self.connection.within(&self.place.namespace), &access).await?;
        put(&self.quotas(), &self.place.closed(self.config)).await.map(drop)
    }

    async fn open(&self) -> Result<()> {
        put(&self.quotas(), &self.place.quota(self.config)).await?;
        mark(&self.connection.cluster(), &self.place.namespace, false).await
    }

    /// Waits until the cluster lets nothing in any more.
    async fn closed(&self, until: Instant) -> Result<()> {
        let mut pauses = Pauses::until(until);
        loop {
            let found =
                self.quotas().get_opt(AMOUNTS).await.map_err(|cause| failed(cause, "read a quota"))?;
            if found.as_ref().is_some_and(is_closed) {
                return Ok(());
            }
            if !pauses.rest().await {
                return Err(Error::unavailable("the namespace is not closed to new things yet; call again")
                    .with("namespace", &self.place.namespace));
            }
        }
    }
}

/// Says of a namespace that it is closed, or takes that back. One that is gone says nothing.
pub(super) async fn mark(namespaces: &Api<Namespace>, name: &str, is_closed: bool) -> Result<()> {
    let change = json!({ "metadata": { "annotations": { CLOSED: is_closed.then_some("yes") } } });
    let params = PatchParams { field_manager: Some(label::MANAGER.into()), ..PatchParams::default() };
    let marked = namespaces.patch_metadata(name, &params, &Patch::Merge(change)).await;
    apply::gone(marked, "mark").map_err(|error| error.with("namespace", name))
}

/// Whether a quota leaves no room, and is in force: what it says of itself is what new things are held to.
fn is_closed(quota: &ResourceQuota) -> bool {
    let wanted = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let heeded = quota.status.as_ref().and_then(|status| status.hard.as_ref());
    let has_none = |hard: Option<&BTreeMap<String, Quantity>>| {
        hard.is_some_and(|hard| KEEPERS.iter().all(|what| hard.get(*what).is_some_and(|most| most.0 == "0")))
    };
    has_none(wanted) && has_none(heeded)
}

/// A kind of which there is something in a namespace that keeps it from being removed: whatever runs or holds data, and
/// whatever the platform has put there for an app.
async fn held(connection: &Connection, name: &str, platform: &str) -> Result<Option<&'static str>> {
    let ours = format!("{}={platform}", label::PLATFORM);
    macro_rules! any {
        ($($kind:ident $labels:expr),+ $(,)?) => {$(
            if list::any::<$kind>(&connection.within(name), $labels).await? {
                return Ok(Some(stringify!($kind)));
            }
        )+};
    }
    any!(
        Pod "", PersistentVolumeClaim "", Secret &ours, Service &ours, Deployment &ours, StatefulSet &ours,
        DaemonSet &ours, Job &ours, CronJob &ours,
    );
    Ok(None)
}

async fn delete(namespaces: &Api<Namespace>, namespace: &PartialObjectMeta<Namespace>) -> Result<()> {
    let name = namespace.name_any();
    // This one, not one of the same name that was made since.
    let preconditions = Preconditions { uid: namespace.uid(), resource_version: None };
    let params = DeleteParams::background().preconditions(preconditions);
    let deleted = namespaces.delete(&name, &params).await;
    apply::gone(deleted, "delete").map_err(|error| error.with("namespace", name))
}

/// Waits until a namespace is gone, but not for ever: a finalizer that nobody serves holds one as long as it stays.
async fn gone(
    namespaces: &Api<Namespace>,
    namespace: &PartialObjectMeta<Namespace>,
    until: Instant,
) -> Result<()> {
    let name = namespace.name_any();
    let mut pauses = Pauses::until(until);
    loop {
        let found = namespaces.get_opt(&name).await;
        let found = found.map_err(|cause| failed(cause, "read").with("namespace", &name))?;
        let Some(left) = found.filter(|found| found.uid() == namespace.uid()) else { return Ok(()) };
        if !pauses.rest().await {
            return Err(Error::unavailable("the namespace is still being deleted; call again")
                .with("namespace", name)
                .with("because", reasons(&left)));
        }
    }
}

/// What the cluster says keeps a namespace.
pub(super) fn reasons(namespace: &Namespace) -> String {
    let conditions = namespace.status.as_ref().and_then(|status| status.conditions.as_ref());
    let said: Vec<&str> = conditions
        .into_iter()
        .flatten()
        .filter(|condition| condition.status == "True")
        .filter_map(|condition| condition.message.as_deref())
        .collect();
    if said.is_empty() { "the cluster gives no reason".into() } else { said.join("; ") }
}
