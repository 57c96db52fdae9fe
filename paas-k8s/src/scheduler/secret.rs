//! Secret values on their way into a workload's pods.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ObjectMeta;
use paas_core::model::{Scope, Workload};
use paas_core::{Error, ErrorKind, Result};

use super::KubeScheduler;
use super::part::{Kind, Part};
use crate::error::failed;
use crate::secret::value;
use crate::{apply, label};

/// The name of the object that holds the values of a workload's secrets: another for other versions. `None` where no pod
/// will ask for it.
pub(super) fn name(workload: &Workload) -> Option<String> {
    let wanted = &workload.template.secrets;
    if wanted.is_empty() || workload.replicas == Some(0) {
        return None;
    }
    let versions: Vec<String> =
        wanted.iter().map(|secret| format!("{}={}", secret.name, secret.version)).collect();
    Some(format!("{}-{}", label::owner(&workload.key), label::digest(&versions.join("\n"), 10)))
}

impl KubeScheduler {
    /// Sees to it that there is an object that holds the values of a workload's secrets, and gives its name. It is named by
    /// the versions it holds and never changed, so pods of another template keep theirs. One that somebody else has made in
    /// its place is made anew.
    pub(super) async fn write_secret(&self, scope: &Scope, workload: &Workload) -> Result<Option<String>> {
        let Some(name) = name(workload) else { return Ok(None) };
        self.hold_secret(scope, workload, &name).await?;
        self.follow_secrets(&self.namespace(&workload.key)).await?;
        Ok(Some(name))
    }

    async fn hold_secret(&self, scope: &Scope, workload: &Workload, name: &str) -> Result<()> {
        let mut parts = self.cache.parts(&workload.key).into_iter();
        match parts.find(|part| part.kind == Kind::Secret && part.name == name) {
            Some(part) if part.holds_secrets() => return Ok(()),
            Some(part) => {
                let by = part.changed_by.as_deref();
                tracing::warn!(
                    name,
                    by,
                    "drift: somebody else has made what holds the values of secrets; it is made anew"
                );
                self.delete_part(part, scope.epoch()).await?;
            }
            None => {}
        }
        let made = match self.create_secret(scope, workload, name).await {
            Err(error) if error.kind() == ErrorKind::Conflict => self.find_secret(workload, name).await?,
            outcome => outcome?,
        };
        let is_whole = made.holds_secrets();
        self.cache.put_part(made);
        if is_whole {
            Ok(())
        } else {
            Err(Error::conflict("somebody else holds the values of secrets").with("name", name))
        }
    }

    async fn create_secret(&self, scope: &Scope, workload: &Workload, name: &str) -> Result<Part> {
        let mut values = Vec::new();
        for secret in &workload.template.secrets {
            let value = self.secrets.get(scope, &workload.key.tenant, &secret.name, secret.version).await?;
            values.push((secret.name.to_string(), value));
        }
        // Another was asked in between: somebody else may lead by now.
        self.fence.admit(scope)?;
        let meta = ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(label::of_workload(self.connection.platform(), &workload.key)),
            ..ObjectMeta::default()
        };
        let held = values.iter().map(|(name, value)| (name.clone(), value));
        let namespace = self.namespace(&workload.key);
        let made = value::create_in(&self.connection, &namespace, meta, held).await?;
        Part::of(Kind::Secret, &made).ok_or_else(|| apply::foreign(name))
    }

    /// Another replica was faster, and it holds the same; or it is somebody else's.
    async fn find_secret(&self, workload: &Workload, name: &str) -> Result<Part> {
        let api: Api<Secret> = self.connection.within(&self.namespace(&workload.key));
        let found = api.get_metadata_opt(name).await.map_err(|cause| failed(cause, "look for secrets"))?;
        let found = found.ok_or_else(|| apply::vanished(name))?;
        Part::of(Kind::Secret, &found.metadata).ok_or_else(|| apply::foreign(name))
    }
}
