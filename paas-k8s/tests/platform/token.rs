//! A token that is replaced while a platform runs, as the kubelet does with those of pods.

use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::config::{AuthInfo, Kubeconfig};
use kube::{Config, ResourceExt};
use paas_k8s::Rbac;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::fixture::account::{grant, revoke};

pub(super) const CASES: &[(&str, Case)] = cases![a_token_that_was_replaced_is_read_again];

/// A token of the platform's account that is good for as long as the Secret of this name is there.
async fn token(client: &Client, access: &Rbac, secret: &str) -> Result<String> {
    let namespace = access.namespace.name_any();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let metadata = ObjectMeta { name: Some(secret.into()), ..ObjectMeta::default() };
    let object = Secret { metadata, ..Secret::default() };
    secrets.create(&PostParams::default(), &object).await.map_err(broken)?;
    let bound = BoundObjectReference {
        kind: Some("Secret".into()),
        name: Some(secret.into()),
        ..BoundObjectReference::default()
    };
    let spec = TokenRequestSpec { bound_object_ref: Some(bound), ..TokenRequestSpec::default() };
    let asked = TokenRequest { spec, ..TokenRequest::default() };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    let account = access.account.name_any();
    let given = accounts.create_token_request(&account, &PostParams::default(), &asked).await;
    Ok(given.map_err(broken)?.status.unwrap().token)
}

/// A file with a token, and a kubeconfig that names it.
struct TokenFile {
    folder: TempDir,
}

impl TokenFile {
    fn new(token: &str) -> Self {
        let own = Self { folder: tempfile::tempdir().unwrap() };
        own.replace(token);
        let mut config = Kubeconfig::read().unwrap();
        for user in &mut config.auth_infos {
            let token_file = Some(own.path("token").display().to_string());
            user.auth_info = Some(AuthInfo { token_file, ..AuthInfo::default() });
        }
        std::fs::write(own.path("kubeconfig"), json!(config).to_string()).unwrap();
        own
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// At once, as the kubelet does.
    fn replace(&self, token: &str) {
        std::fs::write(self.path("next"), token).unwrap();
        std::fs::rename(self.path("next"), self.path("token")).unwrap();
    }
}

/// Waits until the API server does not take this token any more: it remembers for some seconds that one was good.
async fn refused(token: &str) -> Result<()> {
    let mut config = Config::infer().await.unwrap();
    config.auth_info = serde_json::from_value(json!({ "token": token })).unwrap();
    let client = Client::try_from(config).map_err(broken)?;
    let refused = async || match client.apiserver_version().await {
        Err(kube::Error::Api(status)) if status.code == 401 => Ok(Some(())),
        answer => answer.map(|_| None).map_err(broken),
    };
    until("the token is refused", refused).await.map(drop)
}

async fn a_token_that_was_replaced_is_read_again() -> Result<()> {
    let (admin, name) = (client().await?, unique_name());
    let access = Rbac::new(&ConnectionConfig::default().platform(&name), &config().await?)?;
    grant(&admin, &access).await?;
    let (first, second) = (token(&admin, &access, "first").await?, token(&admin, &access, "second").await?);
    let file = TokenFile::new(&first);
    let world = World::named(name.clone(), Some(&file.path("kubeconfig"))).await?;
    world.deploy(&app(&serving("1", 1))).await?;
    file.replace(&second);
    let secrets: Api<Secret> = Api::namespaced(admin.clone(), &name);
    secrets.delete("first", &DeleteParams::default()).await.map_err(broken)?;
    refused(&first).await?;
    // A file is read again within a minute; what failed before is tried again.
    let next = app(&serving("2", 1));
    until("a release is taken", async || Ok(world.platform.deploy(&world.user, &next).await.ok())).await?;
    world.deploy(&next).await?;
    world.end().await?;
    revoke(&admin, &access).await
}
