//! What no other backend has: objects that others can see and change.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use paas_core::model::{
    Clock, Environment, EnvironmentId, EnvironmentName, IdSource, Resource, Scope, Tenant, TenantId,
    TenantName, Timestamp,
};
use paas_core::port::Tenancy;
use paas_core::{Error, ErrorKind, Result};
use paas_k8s::{ConnectionConfig, KubeTenancy};
use paas_testkit::Proof;
use serde_json::{Value, json};

use crate::fixture::rooms::{client, namespace};
use crate::fixture::{PLATFORM, connect};

mod log;
mod reach;
mod record;
mod room;
mod route;
mod tls;
mod volume;

/// Longest time a case may take.
const DEADLINE: Duration = Duration::from_secs(120);

type Case = (&'static str, fn() -> Pin<Box<dyn Future<Output = Result<()>>>>);

/// Names the cases of a module once.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[super::Case] = &[$((stringify!($name), || Box::pin($name()))),*];
    };
}
pub(crate) use cases;

pub(crate) fn trials() -> impl Iterator<Item = (String, Proof)> {
    [log::CASES, reach::CASES, record::CASES, room::CASES, route::CASES, tls::CASES, volume::CASES]
        .concat()
        .into_iter()
        .map(|(name, case)| {
            let proof: Proof = Box::new(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .unwrap();
                runtime
                    .block_on(async { tokio::time::timeout(DEADLINE, case()).await })
                    .map_err(|_| Error::new(ErrorKind::Timeout, "the case exceeds its deadline"))?
            });
            (format!("cluster::{name}"), proof)
        })
}

/// A tenant with one environment that was applied, and the cluster behind it.
struct Stage {
    client: Client,
    tenancy: KubeTenancy,
    tenant: Tenant,
    environments: Vec<Environment>,
    /// The environment's namespace.
    name: String,
}

fn scope() -> Scope {
    Scope::testing(Resource::Platform)
}

impl Stage {
    async fn new() -> Result<Self> {
        let ids = IdSource::random(Clock::system());
        let tenant = Tenant::new(TenantId::generate(&ids), TenantName::new("acme")?, Timestamp(1));
        let environment = EnvironmentId::generate(&ids);
        let environments =
            vec![Environment::new(environment.clone(), tenant.id.clone(), EnvironmentName::production())];
        let (client, tenancy) = (client().await?, KubeTenancy::new(connect().await?));
        tenancy.apply(&scope(), &tenant, &environments).await?;
        let name = namespace(&client, &tenant.id, &environment).await?.expect("a namespace").name_any();
        Ok(Self { client, tenancy, tenant, environments, name })
    }

    async fn apply(&self) -> Result<()> {
        self.tenancy.apply(&scope(), &self.tenant, &self.environments).await
    }

    async fn is_listed(&self) -> Result<bool> {
        Ok(self.tenancy.list(&scope()).await?.contains(&self.tenant.id))
    }

    async fn remove(&self) -> Result<()> {
        self.tenancy.remove(&scope(), &self.tenant.id).await
    }

    /// Removes the tenant, however long it takes until it is gone.
    async fn end(self) -> Result<()> {
        loop {
            match self.remove().await {
                Err(error) if error.kind() == ErrorKind::Unavailable => {}
                outcome => return outcome,
            }
        }
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Changes the namespace as somebody else would.
    async fn change(&self, change: Value) -> Namespace {
        let params = PatchParams::default();
        self.namespaces().patch(&self.name, &params, &Patch::Merge(&change)).await.unwrap()
    }

    async fn pod(&self, spec: Value) -> kube::Result<Pod> {
        let pod = json!({ "metadata": { "name": "it" }, "spec": spec });
        self.pods().create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await
    }

    async fn delete_pod(&self) {
        self.pods().delete("it", &DeleteParams::default().grace_period(0)).await.unwrap();
        while self.pods().get_metadata_opt("it").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A pod that may run in a tenant's namespace, on a node that there is not.
fn restricted() -> Value {
    json!({
        "serviceAccountName": "paas-app",
        "nodeSelector": { "paas-sdk.dev/nowhere": "true" },
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65534, "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": [{
            "name": "app",
            "image": "paas/none",
            "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
            },
        }],
    })
}
