//! Secret values on their way into a workload's pods.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta};
use paas_core::model::{Scope, Workload, WorkloadKey};
use paas_core::{ErrorKind, Result};

use super::KubeScheduler;
use crate::error::failed;
use crate::label;
use crate::secret::value;

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
    /// Makes the object that holds the values of a workload's secrets, and gives its name. It is named by the versions it
    /// holds and never changed, so pods of another template keep theirs.
    pub(super) async fn write_secret(&self, scope: &Scope, workload: &Workload) -> Result<Option<String>> {
        let Some(name) = name(workload) else { return Ok(None) };
        let platform = self.connection.platform();
        let namespace = self.namespace(&workload.key);
        let api: Api<Secret> = self.connection.within(&namespace);
        let found = api.get_metadata_opt(&name).await.map_err(|cause| failed(cause, "look for secrets"))?;
        if found.is_some() {
            return Ok(Some(name));
        }
        let mut values = Vec::new();
        for secret in &workload.template.secrets {
            let value = self.secrets.get(scope, &workload.key.tenant, &secret.name, secret.version).await?;
            values.push((secret.name.to_string(), value));
        }
        let meta = ObjectMeta {
            name: Some(name.clone()),
            labels: Some(label::of_workload(platform, &workload.key)),
            ..ObjectMeta::default()
        };
        let held = values.iter().map(|(name, value)| (name.clone(), value));
        match value::create_in(&self.connection, &namespace, meta, held).await {
            // Another replica was faster; it holds the same.
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            _ => Ok(Some(name)),
        }
    }

    pub(super) async fn delete_secrets(&self, key: &WorkloadKey, namespace: &str) -> Result<()> {
        let role = match &key.role {
            paas_core::model::Role::Task(operation) => format!("{}={operation}", label::TASK),
            role => format!("{}={role}", label::SLOT),
        };
        let selector = format!("{},{}={},{role}", self.connection.selector(), label::SERVICE, key.service);
        let api: Api<Secret> = self.connection.within(namespace);
        let own = ListParams::default().labels(&selector);
        let deleted = api.delete_collection(&DeleteParams::background(), &own).await;
        deleted.map(drop).map_err(|cause| failed(cause, "delete secrets").with("namespace", namespace))
    }
}
