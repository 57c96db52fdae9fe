//! How a tenant's namespaces go.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod, Secret, Service};
use kube::api::{DeleteParams, PartialObjectMeta, Preconditions};
use kube::{Api, ResourceExt};
use paas_core::model::TenantId;
use paas_core::{Error, Result};
use tokio::time::Instant;

use super::environment;
use crate::error::failed;
use crate::{Connection, apply, label, list};

/// How long one call waits until the namespaces are gone. An empty one takes some five seconds.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(200);

/// Removes all namespaces of a tenant, or none while there is something in one.
pub(super) async fn remove(connection: &Connection, tenant: &TenantId) -> Result<()> {
    let platform = connection.platform();
    let namespaces: Api<Namespace> = connection.cluster();
    let mut own = list::metadata(&namespaces, &label::of_tenant(platform, tenant)).await?;
    own.retain(|namespace| environment(platform, namespace).is_some());
    for namespace in own.iter().filter(|namespace| namespace.metadata.deletion_timestamp.is_none()) {
        let name = namespace.name_any();
        if let Some(kind) = held(connection, &name, platform).await? {
            return Err(Error::conflict(
                "the tenant still has something here: remove its apps and volumes first",
            )
            .with("tenant", tenant)
            .with("namespace", name)
            .with("kind", kind));
        }
    }
    for namespace in &own {
        delete(&namespaces, namespace).await?;
    }
    let until = Instant::now() + PATIENCE;
    for namespace in &own {
        gone(&namespaces, namespace, until).await?;
    }
    Ok(())
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
    if namespace.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
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
    loop {
        let found = namespaces.get_opt(&name).await;
        let found = found.map_err(|cause| failed(cause, "read").with("namespace", &name))?;
        let Some(left) = found.filter(|found| found.uid() == namespace.uid()) else { return Ok(()) };
        if Instant::now() >= until {
            return Err(Error::unavailable("the namespace is still being deleted; call again")
                .with("namespace", name)
                .with("because", reasons(&left)));
        }
        tokio::time::sleep(LOOK).await;
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
