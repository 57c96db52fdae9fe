//! What a platform would apply to a cluster, as plain objects.

use std::sync::Arc;

use paas_core::memory::{MemorySecretStore, MemoryStateStore};
use paas_core::model::Clock;
use paas_core::platform::{Platform, PlatformBuilder};
use paas_core::{Error, Result};
use serde_json::Value;

use crate::{BackendsConfig, label};
use router::ExportRouter;
use scheduler::ExportScheduler;
use shelf::Shelf;
use tenancy::ExportTenancy;
use volume::ExportVolumes;

mod router;
mod scheduler;
mod shelf;
mod tenancy;
#[cfg(test)]
mod tests;
mod volume;

/// Backends that write down what [`KubeBackends`](crate::KubeBackends) would apply, and need no cluster.
///
/// A platform that is composed of them is used like any other: make tenants, deploy apps, wait until the operation has
/// finished. Instances are pretended to be healthy and tasks to succeed. What would stand on the cluster then is given as
/// objects or as YAML: namespaces with their guards, volumes, workloads, services and routes, and the tasks that ran, as
/// Jobs. A platform's own records are not part of it. Of the slots of a service, one that was left is
/// exported for as long as its release keeps it warm.
///
/// **Secrets are not exported**, neither their values nor anything in their place: a placeholder would be taken for the
/// value by whoever applies it. The YAML begins with a comment that names each Secret that pods refer to, and its keys;
/// until somebody makes it, its pods wait.
///
/// Names come from ids, which are new in each platform: give the builder `ids` with a seed of its own to get the same names
/// every time. The term of a leader is not part of an object, so a platform on the cluster takes over what was applied
/// by hand under the same names.
#[derive(Debug)]
pub struct KubeExport {
    shelf: Arc<Shelf>,
    platform: String,
    config: BackendsConfig,
}

impl KubeExport {
    /// Nothing yet, of the platform of this name.
    ///
    /// # Errors
    /// `Invalid` where the name is no DNS label, or what is configured of the router contradicts itself.
    pub fn new(platform: &str, config: BackendsConfig) -> Result<Self> {
        label::check_dns_label("platform", platform)?;
        config.router.check()?;
        Ok(Self { shelf: Arc::default(), platform: platform.to_owned(), config })
    }

    /// Starts to compose a platform of them, with records and secrets in memory: `audit` and `authorizer` are still to be
    /// set. A secret that an app needs has to be set here too, to any value, as none is looked at; or give the builder the
    /// store that has them, so that their versions are the right ones.
    #[must_use]
    pub fn builder(&self) -> PlatformBuilder {
        let (shelf, platform) = (&self.shelf, &self.platform);
        let scheduler = ExportScheduler::new(shelf, platform, self.config.scheduler.clone(), Clock::system());
        let router = ExportRouter::new(shelf, platform, self.config.router.clone());
        let tenancy = ExportTenancy::new(shelf, platform, self.config.tenancy.clone());
        let volumes = ExportVolumes::new(shelf, platform, self.config.volumes.clone());
        Platform::builder()
            .scheduler(Arc::new(scheduler))
            .router(Arc::new(router))
            .tenancy(Arc::new(tenancy))
            .volumes(Arc::new(volumes))
            .state(Arc::new(MemoryStateStore::new()))
            .secrets(Arc::new(MemorySecretStore::new()))
    }

    /// The objects, in an order in which they can be applied one after the other.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        self.shelf.objects()
    }

    /// The objects as documents of one YAML text, for `kubectl apply -f -`.
    #[must_use]
    pub fn yaml(&self) -> String {
        let mut text = String::new();
        for secret in self.shelf.secrets() {
            text += &format!(
                "# not exported: Secret {} in namespace {}, with the keys {}\n",
                secret.name,
                secret.namespace,
                secret.keys.join(", ")
            );
        }
        for object in self.objects() {
            text += "---\n";
            crate::yaml::write(&object, &mut text);
        }
        text
    }
}

/// An object as it is written, of a type that has one form only.
pub(crate) fn object(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|cause| Error::internal("an object cannot be written").with_source(cause))
}
