//! The platform killed between any two writes: the next one makes the same of what it finds.

use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret as Object, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use paas_core::model::{AppSpec, Principal, Secret, SecretName, TenantName};
use paas_core::platform::Platform;
use paas_core::{Error, ErrorKind, Result};
use serde_json::Value;

use super::{finish, patiently};
use crate::fixture::rooms::{broken, client};
use crate::platform::{Case, World, cases, config, open_with, serving, unique_name, until};
use crate::proxy::Proxy;

pub(super) const CASES: &[(&str, Case)] =
    cases![a_platform_that_is_killed_after_some_write_leaves_nothing_undone];

/// Each write, which takes long.
pub(super) const LONG_CASES: &[(&str, Case)] = &[
    ("a_platform_that_is_killed_after_any_write_leaves_nothing_undone_1_of_8", || Box::pin(each::<0>())),
    ("a_platform_that_is_killed_after_any_write_leaves_nothing_undone_2_of_8", || Box::pin(each::<1>())),
    ("a_platform_that_is_killed_after_any_write_leaves_nothing_undone_3_of_8", || Box::pin(each::<2>())),
    ("a_platform_that_is_killed_after_any_write_leaves_nothing_undone_4_of_8", || Box::pin(each::<3>())),
    ("a_platform_that_is_killed_after_any_write_leaves_nothing_undone_5_of_8", || Box::pin(each::<4>())),
    ("a_platform_that_is_killed_after_any_write_leaves_nothing_undone_6_of_8", || Box::pin(each::<5>())),
    ("a_platform_that_is_killed_after_any_write_leaves_nothing_undone_7_of_8", || Box::pin(each::<6>())),
    ("a_platform_that_is_killed_after_any_write_leaves_nothing_undone_8_of_8", || Box::pin(each::<7>())),
];

/// Over how many cases all writes are spread: each has its deadline.
const PARTS: usize = 8;
/// How many writes a platform is killed after where not each is tried.
const SOME: usize = 4;
/// How many platforms live, die and come back at once.
const AT_ONCE: usize = 4;

/// What is done with an app, one after the other.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Deploy,
    Release,
    Remove,
}

const PHASES: [Phase; 3] = [Phase::Deploy, Phase::Release, Phase::Remove];

/// An app with one of everything.
fn everything(world: &str, version: &str) -> Result<AppSpec> {
    let mut web = serving(version, 1);
    web.secrets.push("TOKEN".parse()?);
    web.domain.push(format!("{world}.example.com").parse()?);
    let mut db = serving(version, 1);
    db.volumes.insert("own".parse().unwrap(), "1MiB".parse().unwrap());
    let mut migrate = serving(version, 1);
    migrate.kind = paas_core::model::Kind::Task;
    migrate.port = None;
    migrate.env.insert("MODE".into(), "exit".into());
    migrate.env.insert("CODE".into(), "0".into());
    AppSpec::new("shop")?
        .with_service("web", &web)?
        .with_service("db", &db)?
        .with_service("migrate", &migrate)
}

async fn prepare(platform: &Platform) -> Result<Principal> {
    let tenant = platform.ensure_tenant(&Principal::operator("ops"), TenantName::new("acme")?).await?;
    Ok(Principal::user("ann", tenant.id))
}

/// What a person asks for, and asks for again where they were not told that it was taken.
async fn ask(platform: &Platform, world: &str, phase: Phase) -> Result<()> {
    let user = prepare(platform).await?;
    let environment = platform.production(&user).await?;
    let version = if matches!(phase, Phase::Deploy) { "1" } else { "2" };
    let name = "shop".parse()?;
    let operation = match (environment.app(&name).await, phase) {
        // It is removed already.
        (Err(error), Phase::Remove) if error.kind() == ErrorKind::NotFound => return Ok(()),
        (Ok(app), Phase::Remove) => match app.remove().await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            removal => removal?,
        },
        (Ok(app), _) if already(&app, phase).await? => {
            // It was taken: nobody asks twice.
            let taken = app.operations().await?.into_iter().max_by_key(|operation| operation.created);
            app.operation(taken.unwrap().id)
        }
        _ => {
            let (tenant, token) = (user.tenant().cloned().unwrap(), SecretName::new("TOKEN")?);
            platform.put_secret(&user, &tenant, &token, Secret::new("s3cret")?).await?;
            environment.deploy(&everything(world, version)?).await?
        }
    };
    finish(&operation).await.map(drop)
}

/// Whether the release of this phase was taken.
async fn already(app: &paas_core::platform::AppHandle, phase: Phase) -> Result<bool> {
    let revisions = app.revisions().await?.len();
    Ok(revisions >= if matches!(phase, Phase::Deploy) { 1 } else { 2 })
}

/// Every object of an app, without what differs from one world to another: names, numbers and times.
async fn objects(client: &Client, world: &str) -> Result<Vec<String>> {
    let route = ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"));
    let kinds = [
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<StatefulSet>(&()),
        ApiResource::erase::<Job>(&()),
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<Object>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<PodDisruptionBudget>(&()),
        route,
    ];
    let labels = kube::api::ListParams::default().labels(&format!("paas-sdk.dev/platform={world}"));
    let mut found = Vec::new();
    for kind in kinds {
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        for object in all.list(&labels).await.map_err(broken)? {
            // What is the platform's own, or the tenant's whatever becomes of its apps, has no such label.
            let labels = object.metadata.labels.clone().unwrap_or_default();
            if labels.keys().any(|key| matches!(&**key, "paas-sdk.dev/app" | "paas-sdk.dev/service")) {
                found.push(described(&kind, &object));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn described(kind: &ApiResource, object: &DynamicObject) -> String {
    let named = object.metadata.annotations.as_ref();
    let service = named.and_then(|named| named.get("paas-sdk.dev/service-name")).map_or("", String::as_str);
    let spec = &object.data["spec"];
    let at = |pointer: &str| spec.pointer(pointer).map_or(Value::Null, Clone::clone);
    let version = at("/template/spec/containers/0/env")
        .as_array()
        .and_then(|all| all.iter().find(|own| own["name"] == "VERSION").map(|own| own["value"].clone()));
    let slot = object.metadata.labels.as_ref().and_then(|labels| labels.get("paas-sdk.dev/slot"));
    format!(
        "{} {service} {} replicas {} version {version:?} holds {} rules {}",
        kind.kind,
        slot.map_or("", String::as_str),
        at("/replicas"),
        object.data["data"].as_object().map_or(0, serde_json::Map::len),
        at("/rules").as_array().map_or(0, Vec::len),
    )
}

/// A platform that reaches the cluster through a proxy, or without one. No requests come, so none has to be waited for.
async fn open(proxy: Option<&Proxy>, world: &str) -> Result<Platform> {
    let (file, mut config) = (proxy.map(Proxy::kubeconfig), config().await?);
    config.scheduler.drain = Duration::ZERO;
    open_with(world, file.as_ref().map(tempfile::NamedTempFile::path), config).await
}

/// How many writes each phase takes, and what there is after it.
struct Expected {
    writes: Vec<usize>,
    objects: Vec<Vec<String>>,
}

async fn record(client: &Client) -> Result<Expected> {
    let (world, proxy) = (unique_name(), Proxy::start(client.clone()).await);
    let platform = open(Some(&proxy), &world).await?;
    let mut expected = Expected { writes: Vec::new(), objects: Vec::new() };
    proxy.take_calls();
    for phase in PHASES {
        ask(&platform, &world, phase).await?;
        // What ran a task goes last, after the release.
        let settled = || async {
            let is_left = |object: &String| object.starts_with("Job ");
            Ok((!objects(client, &world).await?.iter().any(is_left)).then_some(()))
        };
        until("the task is removed", settled).await?;
        let calls = proxy.take_calls();
        expected.writes.push(calls.iter().filter(|call| call.is_write() && !call.is_beat()).count());
        expected.objects.push(objects(client, &world).await?);
    }
    end(platform, client, world).await?;
    Ok(expected)
}

/// Waits until the objects are these.
async fn settle(client: &Client, world: &str, wanted: &Vec<String>) -> Result<()> {
    let settled = until("its objects are what they should be", || async {
        Ok((objects(client, world).await? == *wanted).then_some(()))
    })
    .await;
    if settled.is_ok() {
        return Ok(());
    }
    let left = objects(client, world).await?;
    Err(Error::new(ErrorKind::Failed, "it does not converge")
        .with("wanted", format!("{wanted:#?}"))
        .with("there is", format!("{left:#?}")))
}

/// Lives through all phases, and is killed in each after so many of its writes.
async fn live_and_die(client: &Client, expected: &Expected, share: (usize, usize)) -> Result<()> {
    let world = unique_name();
    for (index, phase) in PHASES.into_iter().enumerate() {
        let after = killed_after(expected.writes[index], share);
        let proxy = Proxy::start(client.clone()).await;
        let platform = open(Some(&proxy), &world).await?;
        proxy.end_after(after);
        // Told or not, it goes on until nothing gets out any more, or nothing is left to do: how many writes it takes
        // differs a little from one time to the next.
        let goes_on = async {
            drop(ask(&platform, &world, phase).await);
            settle(client, &world, &expected.objects[index]).await
        };
        tokio::select! {
            settled = goes_on => drop(settled),
            () = proxy.over() => {}
        }
        drop(platform);
        drop(proxy);
        let next = open(None, &world).await?;
        let told = |error: Error| error.with("phase", format!("{phase:?}")).with("killed after", after);
        patiently(async || ask(&next, &world, phase).await).await.map_err(told)?;
        settle(client, &world, &expected.objects[index]).await.map_err(told)?;
        drop(next);
    }
    end(open(None, &world).await?, client, world).await
}

/// The numbers of writes are spread over all there are.
fn killed_after(writes: usize, (number, of): (usize, usize)) -> usize {
    (number * writes / of).clamp(1, writes - 1)
}

async fn end(platform: Platform, client: &Client, name: String) -> Result<()> {
    let user = prepare(&platform).await?;
    World { name, platform, user, client: client.clone() }.end().await
}

async fn a_platform_that_is_killed_after_some_write_leaves_nothing_undone() -> Result<()> {
    let client = client().await?;
    let expected = record(&client).await?;
    let deaths =
        futures_util::stream::iter(1..=SOME).map(|number| live_and_die(&client, &expected, (number, SOME)));
    let outcomes: Vec<Result<()>> = deaths.buffer_unordered(AT_ONCE).collect().await;
    outcomes.into_iter().collect()
}

/// Its part of all writes, one after the other: other parts run meanwhile.
async fn each<const PART: usize>() -> Result<()> {
    let client = client().await?;
    let expected = record(&client).await?;
    let most = expected.writes.iter().copied().max().unwrap_or_default();
    for number in (1..=most).filter(|number| number % PARTS == PART) {
        live_and_die(&client, &expected, (number, most)).await?;
    }
    Ok(())
}
