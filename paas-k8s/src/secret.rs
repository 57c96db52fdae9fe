//! The secrets of tenants, as objects of the platform's namespace.

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret as Object;
use kube::api::{DeleteParams, ObjectMeta, PartialObjectMeta, Preconditions};
use kube::{Api, ResourceExt};
use paas_core::backend::Fence;
use paas_core::model::{Scope, Secret, SecretName, SecretVersion, TenantId};
use paas_core::port::{Backend, SecretStore};
use paas_core::{Error, ErrorKind, Result};

use crate::apply::gone;
use crate::{Connection, label, list};

mod counter;
#[cfg(test)]
mod tests;
pub(crate) mod value;

/// The kind of a version, as its label says.
const KIND: &str = "secret";
/// Which secret a version is of: a digest, as names may have what labels must not.
const SECRET: &str = "paas-sdk.dev/secret";
/// The name of the secret, as it is.
const NAME: &str = "paas-sdk.dev/secret-name";
/// The number of the version.
const VERSION: &str = "paas-sdk.dev/secret-version";
/// How many versions are begun before a busy secret is given up on.
const ATTEMPTS: u32 = 16;

/// Keeps each version of a secret as an immutable Secret in the platform's namespace, and beside them a counter that
/// outlives them, so that no version comes twice.
///
/// Whoever may read Secrets in that namespace reads all of them, and so does whoever reads the cluster's database unless
/// it encrypts them; apps run in other namespaces. What passes through here is cleared from memory but for the buffers of
/// the connection.
#[derive(Debug)]
pub struct KubeSecretStore {
    connection: Connection,
    fence: Fence,
}

/// One secret, and where its objects are.
struct Place {
    platform: String,
    tenant: TenantId,
    name: SecretName,
    digest: String,
}

impl Place {
    fn new(platform: &str, tenant: &TenantId, name: &SecretName) -> Self {
        let digest = label::digest(&format!("{platform}/{tenant}/{name}"), 40);
        Self { platform: platform.to_owned(), tenant: tenant.clone(), name: name.clone(), digest }
    }

    /// The name of its counter, with which the names of its versions begin.
    fn title(&self) -> String {
        format!("{KIND}-{}", self.digest)
    }

    fn version(&self, version: u64) -> String {
        format!("{}-{version}", self.title())
    }

    fn meta(&self, name: String, kind: &str) -> ObjectMeta {
        let mut labels = label::ours(&self.platform);
        labels.insert(label::KIND.into(), kind.into());
        labels.insert(label::TENANT.into(), self.tenant.to_string());
        labels.insert(SECRET.into(), self.digest.clone());
        let annotations = BTreeMap::from([(NAME.to_owned(), self.name.to_string())]);
        ObjectMeta {
            name: Some(name),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }
    }

    fn version_meta(&self, version: u64) -> ObjectMeta {
        let mut meta = self.meta(self.version(version), KIND);
        meta.annotations.get_or_insert_default().insert(VERSION.to_owned(), version.to_string());
        meta
    }

    /// Selects its versions.
    fn versions(&self) -> String {
        format!("{}={},{}={KIND},{SECRET}={}", label::PLATFORM, self.platform, label::KIND, self.digest)
    }
}

impl KubeSecretStore {
    /// A store in the platform's namespace.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection, fence: Fence::default() }
    }

    fn place(&self, tenant: &TenantId, name: &SecretName) -> Place {
        Place::new(self.connection.platform(), tenant, name)
    }

    /// The number is taken before the value is written: a crash in between skips it, and none comes twice.
    async fn append(&self, place: &Place, value: &Secret) -> Result<SecretVersion> {
        for _ in 0..ATTEMPTS {
            let version = counter::next(&self.connection.own(), place).await?;
            match value::create(&self.connection, place.version_meta(version), value).await {
                Ok(()) => return Ok(SecretVersion(version)),
                // The counter was lost and began anew: it catches up.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::internal("the counter of a secret is behind its versions; put again"))
    }

    /// The oldest first: should it be cut off, the newest is still the newest.
    async fn clear(&self, place: &Place) -> Result<()> {
        let objects: Api<Object> = self.connection.own();
        let mut found = list::metadata(&objects, &place.versions()).await?;
        found.sort_by_key(|object| version(object).map_or(0, |(_, SecretVersion(version))| version));
        for object in found {
            let preconditions = Preconditions { uid: object.uid(), resource_version: None };
            let params = DeleteParams::background().preconditions(preconditions);
            let deleted = objects.delete(&object.name_any(), &params).await;
            gone(deleted, "delete a secret")?;
        }
        Ok(())
    }
}

/// Which version of which secret an object holds; `None` where somebody else made it.
fn version(object: &PartialObjectMeta<Object>) -> Option<(SecretName, SecretVersion)> {
    let annotations = object.annotations();
    let name = SecretName::new(annotations.get(NAME)?).ok()?;
    Some((name, SecretVersion(annotations.get(VERSION)?.parse().ok()?)))
}

/// The newest version of each secret, by name.
fn newest(objects: &[PartialObjectMeta<Object>]) -> Vec<(SecretName, SecretVersion)> {
    let mut newest = BTreeMap::new();
    for (name, version) in objects.iter().filter_map(version) {
        let known = newest.entry(name).or_insert(version);
        *known = version.max(*known);
    }
    newest.into_iter().collect()
}

#[async_trait]
impl Backend for KubeSecretStore {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    async fn check(&self) -> Result<()> {
        self.connection.check().await
    }
}

#[async_trait]
impl SecretStore for KubeSecretStore {
    async fn put(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        name: &SecretName,
        value: Secret,
    ) -> Result<SecretVersion> {
        self.fence.admit(scope)?;
        let put = self.append(&self.place(tenant, name), &value).await;
        put.map_err(|error| error.with("secret", name))
    }

    async fn get(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        name: &SecretName,
        version: SecretVersion,
    ) -> Result<Secret> {
        self.fence.see(scope);
        let object = self.place(tenant, name).version(version.0);
        let about = |error: Error| error.with("secret", name).with("version", version);
        match value::read(&self.connection, &object).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(about(Error::not_found("no such secret or version")))
            }
            outcome => outcome.map_err(about),
        }
    }

    async fn list(&self, scope: &Scope, tenant: &TenantId) -> Result<Vec<(SecretName, SecretVersion)>> {
        self.fence.see(scope);
        let own = label::of_tenant(self.connection.platform(), tenant);
        let labels = format!("{own},{}={KIND}", label::KIND);
        Ok(newest(&list::metadata(&self.connection.own(), &labels).await?))
    }

    async fn delete(&self, scope: &Scope, tenant: &TenantId, name: &SecretName) -> Result<()> {
        self.fence.admit(scope)?;
        let cleared = self.clear(&self.place(tenant, name)).await;
        cleared.map_err(|error| error.with("secret", name))
    }
}
