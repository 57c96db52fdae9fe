//! A platform that may do what the generated rules say, and nothing else.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use paas_core::model::{
    AppSpec, Confirmation, Kind, LogTail, Principal, Resource, RevisionNumber, Scope, Secret, SecretName,
    ServiceSpec, Timestamp,
};
use paas_core::port::{SecretStore, Tenancy};
use paas_core::{ErrorKind, Result};
use paas_k8s::{Connection, ConnectionConfig, KubeSecretStore, KubeTenancy, Rbac};
use serde_json::json;

use super::{Case, SOON, World, cases, config, serving, unique_name, until};
use crate::fixture::account::{account, grant, revoke};
use crate::fixture::rooms::{broken, client};
use crate::proxy::{Call, Proxy};

pub(super) const CASES: &[(&str, Case)] = cases![the_generated_rules_allow_what_is_done_and_nothing_else];

/// Verb, group and resource, in the platform's namespace, in an environment's, or anywhere.
type Right = (&'static str, String, String, String);

const OWN: &str = "its own namespace";
const ENVIRONMENT: &str = "an environment's namespace";
const EVERYWHERE: &str = "everywhere";
/// Granted, and not used here: a node that is cordoned would hinder other cases, the proxy passes no WebSockets on, the
/// engine retires nobody on a cluster, and what is written is only looked at where somebody else was faster.
const APART: [(&str, &str); 13] = [
    ("create", "pods/eviction"),
    ("create", "pods/exec"),
    ("delete", "pods"),
    ("get", "deployments"),
    ("get", "httproutes"),
    ("get", "jobs"),
    ("get", "networkpolicies"),
    ("get", "poddisruptionbudgets"),
    ("get", "pods/exec"),
    ("get", "secrets"),
    ("get", "services"),
    ("get", "statefulsets"),
    ("patch", "nodes"),
];

async fn the_generated_rules_allow_what_is_done_and_nothing_else() -> Result<()> {
    let name = unique_name();
    let mut connection = ConnectionConfig::default().platform(&name);
    let access = Rbac::new(&connection, &config().await?)?;
    let admin = client().await?;
    grant(&admin, &access).await?;
    let proxy = Proxy::start(account(&admin, &access).await?).await;
    let file = proxy.kubeconfig();
    let world = World::named(name.clone(), Some(file.path())).await?;
    connection.kubeconfig = Some(file.path().to_owned());
    live(&world, &Connection::connect(connection).await?).await?;
    let calls = proxy.take_calls();
    let refused: Vec<&Call> = (0..calls.len()).filter_map(|at| refused(&calls[at..], &name)).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let granted: BTreeSet<Right> = [
        rights(access.role.rules.iter().flatten(), OWN),
        rights(access.environment_role.rules.iter().flatten(), ENVIRONMENT),
        rights(access.cluster_role.rules.iter().flatten(), EVERYWHERE),
    ]
    .concat()
    .into_iter()
    .collect();
    let made: BTreeSet<Right> = calls.iter().flat_map(|call| asked(call, &name, &granted)).collect();
    let idle: BTreeSet<(&str, &str)> =
        granted.difference(&made).map(|(verb, _, kind, _)| (*verb, kind.as_str())).collect();
    let idle: Vec<_> = idle.difference(&BTreeSet::from(APART)).copied().collect();
    assert!(idle.is_empty(), "granted and never used: {idle:?}");
    let missing: Vec<_> = made.difference(&granted).collect();
    assert!(missing.is_empty(), "done and not granted: {missing:#?}");
    world.end().await?;
    revoke(&admin, &access).await
}

/// The first of these calls, if it was refused for good. What lets the platform into a new environment is in force a moment
/// after it was made: a call in there may be refused until then, and is made again.
fn refused<'a>(calls: &'a [Call], own: &str) -> Option<&'a Call> {
    let (first, later) = calls.split_first()?;
    let what = |call: &Call| (call.verb, call.resource.clone(), call.namespace.clone(), call.name.clone());
    let is_allowed = |again: &Call| what(again) == what(first) && again.status < 300;
    let is_in_environment = !first.namespace.is_empty() && first.namespace != own;
    let is_refused = first.status == 401 || first.status == 403;
    (is_refused && !(is_in_environment && later.iter().any(is_allowed))).then_some(first)
}

/// What a rule gives, one by one.
fn rights<'a>(rules: impl Iterator<Item = &'a PolicyRule>, place: &str) -> Vec<Right> {
    const VERBS: [&str; 8] =
        ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
    // To bind is no call, but what one to make a binding is allowed by.
    rules
        .filter(|rule| rule.verbs != ["bind"])
        .flat_map(|rule| {
            let (group, kind) = (rule.api_groups.as_ref().unwrap(), rule.resources.as_ref().unwrap());
            assert_eq!((group.len(), kind.len(), &rule.resource_names), (1, 1, &None));
            rule.verbs.iter().map(|verb| {
                let verb = VERBS.into_iter().find(|known| known == verb).unwrap();
                (verb, group[0].clone(), kind[0].clone(), place.to_owned())
            })
        })
        .collect()
}

/// What a call needs: of two roles that give it, the one that gives it in fewer places.
fn asked(call: &Call, own: &str, granted: &BTreeSet<Right>) -> Vec<Right> {
    if call.resource.is_empty() {
        // The version and its like are for everybody.
        return Vec::new();
    }
    let kind = match &*call.subresource {
        "" => call.resource.clone(),
        sub => format!("{}/{sub}", call.resource),
    };
    // An apply of what is missing makes it.
    let verbs =
        if (call.verb, call.status) == ("patch", 201) { vec!["patch", "create"] } else { vec![call.verb] };
    let right = |verb, place: &str| (verb, call.group.clone(), kind.clone(), place.to_owned());
    verbs
        .into_iter()
        .map(|verb| {
            let within = right(verb, if call.namespace == own { OWN } else { ENVIRONMENT });
            let is_within = !call.namespace.is_empty() && granted.contains(&within);
            if is_within { within } else { right(verb, EVERYWHERE) }
        })
        .collect()
}

/// An app with one of everything.
fn everything(world: &str, version: &str) -> Result<AppSpec> {
    let mut web = serving(version, 2);
    web.secrets.push("TOKEN".parse()?);
    web.domain.push(format!("{world}.example.com").parse()?);
    web.release = Some(serde_json::from_str(r#"{ "canary": ["50%"] }"#).unwrap());
    let mut db = serving(version, 1);
    db.volumes.insert("own".parse().unwrap(), "1MiB".parse().unwrap());
    AppSpec::new("shop")?
        .with_service("web", &web)?
        .with_service("db", &db)?
        .with_service("migrate", &task(version))
}

fn task(version: &str) -> ServiceSpec {
    let mut migrate = serving(version, 1);
    (migrate.kind, migrate.port) = (Kind::Task, None);
    migrate.env.insert("MODE".into(), "exit".into());
    migrate.env.insert("CODE".into(), "0".into());
    migrate
}

/// All that is ever done with an app, from its first release until its tenant is gone.
async fn live(world: &World, connection: &Connection) -> Result<()> {
    let (user, tenant, scope) =
        (&world.user, world.user.tenant().cloned().unwrap(), Scope::testing(Resource::Platform));
    let token = SecretName::new("TOKEN")?;
    world.platform.put_secret(user, &tenant, &token, Secret::new("s3cret")?).await?;
    world.deploy(&everything(&world.name, "1")?).await?;
    // Somebody spoils what a claim says of itself.
    let (claim, claims) = world.only::<PersistentVolumeClaim>().await?;
    let spoilt =
        Patch::Merge(json!({ "metadata": { "annotations": { "paas-sdk.dev/volume-description": null } } }));
    claims.patch(&claim.name_any(), &PatchParams::default(), &spoilt).await.map_err(broken)?;
    world.deploy(&everything(&world.name, "2")?).await?;
    let shop = world.shop().await?;
    world.platform.nodes(&Principal::operator("ops")).await?;
    shop.tail(LogTail::since(shop.resource(), Timestamp(0))).await?.try_for_each(async |_| Ok(())).await?;
    shop.rollback(RevisionNumber(1)).await?.finished_within(SOON).await?;
    shop.stop().await?.finished_within(SOON).await?;
    for volume in shop.volumes().await? {
        let id = volume.volume.id;
        let removed = || async {
            match shop.remove_volume(&id, &Confirmation::of(id.to_string())).await {
                Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
                outcome => outcome.map(Some),
            }
        };
        until("no instance uses the volume", removed).await?;
    }
    shop.remove().await?.finished_within(SOON).await?;
    KubeSecretStore::new(connection.clone()).delete(&scope, &tenant, &token).await?;
    let tenancy = KubeTenancy::new(connection.clone());
    until("the tenant is gone", || async { Ok(tenancy.remove(&scope, &tenant).await.ok()) }).await?;
    Ok(())
}
