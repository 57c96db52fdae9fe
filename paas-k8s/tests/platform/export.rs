//! What would be applied, as YAML: a cluster takes it, runs it, and is left as it is where a platform was before.

use std::process::Stdio;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use paas_core::model::{Secret, Timestamp, VolumeSpec};
use paas_k8s::KubeExport;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::client::{Target, request};
use super::*;

pub(super) const CASES: &[(&str, Case)] = cases![
    a_cluster_takes_what_is_exported,
    what_is_exported_runs_without_a_platform,
    a_platform_applies_what_is_exported,
    what_was_applied_by_hand_comes_to_rest_with_a_platform,
    what_was_applied_on_the_server_comes_to_rest_with_a_platform,
];

/// What every reader has to leave as it is.
const HOSTILE: &str = "yes: 'no' \u{2028}\n\t\"$HOME\" # 1e3 \\";

/// A task, a secret, a volume, a domain.
fn shop(host: &str) -> Result<AppSpec> {
    let mut web = serving("1", 2);
    web.domain.push(host.parse()?);
    web.needs.push("db".parse()?);
    web.env.insert("HOSTILE".into(), HOSTILE.into());
    let mut db = serving("1", 1);
    db.volumes.insert("data".parse()?, VolumeSpec::new(ByteSize(1 << 20)));
    db.before_release = Some("/instance exit 0".parse()?);
    AppSpec::new("shop")?.with_service("web", &web)?.with_service("db", &db)
}

fn config() -> BackendsConfig {
    let mut config = BackendsConfig::default();
    config.router = config.router.gateway("default", "testbed");
    config
}

/// A platform of `builder`, whose ids are the same each time, with the app deployed.
async fn deployed(name: &str, builder: paas_core::PlatformBuilder, app: &AppSpec) -> Result<World> {
    let builder = builder.audit(Arc::new(MemoryAuditLog::new()));
    let builder = builder.authorizer(Arc::new(MemoryAuthorizer::allow_all()));
    let platform = builder.ids(IdSource::seeded(Clock::fixed(Timestamp(7)), 1)).build().await?;
    let tenant = platform.ensure_tenant(&Principal::operator("ops"), TenantName::new("acme")?).await?;
    let user = Principal::user("ann", tenant.id.clone());
    platform.put_secret(&user, &tenant.id, &"TOKEN".parse()?, Secret::new("hunter2")?).await?;
    let world = World { name: name.to_owned(), platform, user, client: client().await? };
    world.deploy(app).await?;
    Ok(world)
}

async fn exported(name: &str, app: &AppSpec) -> Result<(KubeExport, World)> {
    let export = KubeExport::new(name, config())?;
    let world = deployed(name, export.builder(), app).await?;
    Ok((export, world))
}

fn name() -> String {
    format!("e2e-{}", IdSource::random(Clock::system()).next())
}

/// What `kubectl` answers, given this as its input.
pub(super) async fn kubectl(arguments: &[&str], input: &str) -> String {
    let mut kubectl = tokio::process::Command::new("kubectl");
    kubectl.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = kubectl.kill_on_drop(true).spawn().expect("kubectl on the path");
    let mut stdin = child.stdin.take().unwrap();
    let writing = async move { stdin.write_all(input.as_bytes()).await };
    let (written, output) = tokio::join!(writing, child.wait_with_output());
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !errors.contains("violate"), "{errors}");
    written.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

async fn a_cluster_takes_what_is_exported() -> Result<()> {
    let name = name();
    let mut app = shop(&format!("{name}.example.com"))?;
    app.services.get_mut("web").unwrap().secrets.push("TOKEN".parse()?);
    let (export, world) = exported(&name, &app).await?;
    let objects = export.objects();
    // Only what is there can hold the rest, be it for show.
    assert_eq!(objects[0]["kind"], "Namespace");
    kubectl(&["apply", "-f", "-"], &objects[0].to_string()).await;
    let taken = kubectl(&["apply", "--dry-run=server", "-o", "json", "-f", "-"], &export.yaml()).await;
    let taken: Value = serde_json::from_str(&taken).unwrap();
    let taken = taken["items"].as_array().unwrap();
    assert_eq!(taken.len(), objects.len());
    let variables = taken.iter().filter(|object| object["kind"] == "Deployment").flat_map(|object| {
        object["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone()
    });
    let hostile = variables.into_iter().find(|variable| variable["name"] == "HOSTILE").unwrap();
    assert_eq!(hostile["value"], HOSTILE.replace('$', "$$"));
    world.end().await
}

async fn what_is_exported_runs_without_a_platform() -> Result<()> {
    let name = name();
    let host = format!("{name}.example.com");
    let (export, world) = exported(&name, &shop(&host)?).await?;
    world.platform.shutdown().await;
    kubectl(&["apply", "-f", "-"], &export.yaml()).await;
    let target = Target { ip: "172.30.0.1".into(), port: 80, host, keeps: false };
    until("an answer", || async { Ok(request(&target).await.ok()) }).await?;
    world.end().await
}

/// Applied in the platform's own name, the objects change nothing of what it has applied.
async fn a_platform_applies_what_is_exported() -> Result<()> {
    let name = name();
    let app = shop(&format!("{name}.example.com"))?;
    let (export, pretended) = exported(&name, &app).await?;
    pretended.platform.shutdown().await;
    let connection = Connection::connect(ConnectionConfig::default().platform(&name)).await?;
    let backends = KubeBackends::open(&connection, config()).await?;
    let world = deployed(&name, backends.builder(), &app).await?;
    // What ran a task is gone once it has run, and with it what stood beside it.
    let stays = |object: &&Value| object["metadata"]["labels"].get("paas-sdk.dev/task").is_none();
    for object in export.objects().iter().filter(stays) {
        let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let metadata = &object["metadata"];
        let api: Api<DynamicObject> = match metadata["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(world.client.clone(), namespace, &resource),
            None => Api::all_with(world.client.clone(), &resource),
        };
        let own = metadata["name"].as_str().unwrap();
        let there = api.get(own).await.map_err(broken)?;
        let mut params = PatchParams::apply("paas").force();
        params.dry_run = true;
        let after = api.patch(own, &params, &Patch::Apply(object)).await.map_err(broken)?;
        assert_eq!(there.data["spec"], after.data["spec"], "{kind} {own}");
        assert_eq!(there.metadata.labels, after.metadata.labels, "{kind} {own}");
        let annotations = there.metadata.annotations.unwrap_or_default();
        for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
            assert_eq!(annotations.get(key).map(String::as_str), value.as_str(), "{kind} {own} {key}");
        }
    }
    world.end().await
}

/// Somebody applies an export, and deploys the app of it later: what they hold is the platform's then, with a few writes.
async fn comes_to_rest(arguments: &[&str]) -> Result<()> {
    let name = name();
    let mut web = serving("1", 1);
    web.domain.push(format!("{name}.example.com").parse()?);
    let mut db = serving("1", 1);
    db.volumes.insert("data".parse()?, VolumeSpec::new(ByteSize(1 << 20)));
    let app = AppSpec::new("shop")?.with_service("web", &web)?.with_service("db", &db)?;
    let (export, pretended) = exported(&name, &app).await?;
    pretended.platform.shutdown().await;
    kubectl(&[&["apply", "-f", "-"], arguments].concat(), &export.yaml()).await;
    let (connection, calls) = super::calls::connection(&name).await?;
    let backends = KubeBackends::open(&connection, config()).await?;
    let world = deployed(&name, backends.builder().engine(super::calls::engine()), &app).await?;
    super::calls::rests(&calls).await?;
    world.end().await
}

/// Of what this makes, the cluster notes the defaults as set by whoever has made it, too.
async fn what_was_applied_by_hand_comes_to_rest_with_a_platform() -> Result<()> {
    comes_to_rest(&[]).await
}

async fn what_was_applied_on_the_server_comes_to_rest_with_a_platform() -> Result<()> {
    comes_to_rest(&["--server-side", "--field-manager=somebody"]).await
}
