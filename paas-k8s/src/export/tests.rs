use std::time::Duration;

use paas_core::memory::{MemoryAuditLog, MemoryAuthorizer};
use paas_core::model::{AppFile, AppName, IdSource, Principal, Secret, TenantName, Timestamp};
use paas_core::platform::OperationHandle;
use serde_json::json;

use super::*;
use crate::golden;

const SHOP: &str = r#"
app: shop
services:
  db:
    image: registry.example.com/db:1
    port: 7000
    volumes: { data: 64MiB }
    release: recreate
    limits: { cpu: 250m, memory: 64MiB }
    env: { MOTTO: "yes: \u2028 'no' # $HOME" }
  api:
    image: registry.example.com/api:1
    port: 7001
    replicas: 2
    needs: [db]
    secrets: [TOKEN]
    before_release: /api migrate
    ready: /ready
    live: /live
    limits: { cpu: 500m, memory: 64MiB }
    release: { canary: [5%, 50%], warm: 0s }
  web:
    image: registry.example.com/web:1
    port: 7002
    needs: [api]
    limits: { cpu: 250m, memory: 64MiB }
    domain: shop.example.com
"#;

const VALUE: &str = "hunter2";

struct Stage {
    export: KubeExport,
    platform: Platform,
    user: Principal,
}

fn ops() -> Principal {
    Principal::operator("ops")
}

async fn done(operation: OperationHandle) {
    operation.finished_within(Duration::from_secs(60)).await.unwrap();
}

/// A platform that exports, to which the shop was deployed.
async fn stage() -> Stage {
    let mut config = BackendsConfig::default();
    config.router = config.router.gateway("edge", "public");
    let export = KubeExport::new("paas", config).unwrap();
    let platform = export
        .builder()
        .audit(Arc::new(MemoryAuditLog::new()))
        .authorizer(Arc::new(MemoryAuthorizer::allow_all()))
        .ids(IdSource::seeded(Clock::fixed(Timestamp(7)), 1))
        .build()
        .await
        .unwrap();
    let tenant = platform.ensure_tenant(&ops(), TenantName::new("acme").unwrap()).await.unwrap();
    let (user, token) = (Principal::user("ann", tenant.id.clone()), "TOKEN".parse().unwrap());
    platform.put_secret(&user, &tenant.id, &token, Secret::new(VALUE).unwrap()).await.unwrap();
    let shop = AppFile::parse("paas.yaml", SHOP).unwrap();
    done(platform.deploy(&user, &shop).await.unwrap()).await;
    Stage { export, platform, user }
}

#[tokio::test]
async fn a_deployed_app_is_exported_as_it_was_agreed_on() {
    let stage = stage().await;
    let text = stage.export.yaml();
    golden::check_text("export/golden.yaml", &text);
    assert_eq!(crate::policy::check(&stage.export.objects()).unwrap(), []);
}

#[tokio::test]
async fn no_value_of_a_secret_is_exported_but_its_name_is() {
    let stage = stage().await;
    let text = stage.export.yaml();
    assert!(!text.contains(VALUE) && !text.contains("kind: Secret\n"), "{text}");
    let referred = stage.export.objects().into_iter().find_map(|object| {
        let own = &object["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"];
        own.as_str().map(str::to_owned)
    });
    let begin = format!("# not exported: Secret {} in namespace ", referred.unwrap());
    let told = text.lines().find(|line| line.starts_with(&begin)).expect("a comment");
    assert!(told.ends_with(", with the keys TOKEN"), "{told}");
}

fn images(export: &KubeExport) -> Vec<String> {
    let image = |object: &Value| {
        object.pointer("/spec/template/spec/containers/0/image")?.as_str().map(str::to_owned)
    };
    let mut images: Vec<String> = export.objects().iter().filter_map(image).collect();
    images.sort();
    images
}

#[tokio::test]
async fn of_two_releases_the_second_is_exported() {
    let stage = stage().await;
    let shop = AppFile::parse("paas.yaml", SHOP.replace("/api:1", "/api:2")).unwrap();
    done(stage.platform.deploy(&stage.user, &shop).await.unwrap()).await;
    // A task, and one slot of each service; the other goes once it is empty.
    let expected = ["api:2", "api:2", "db:1", "web:1"].map(|name| format!("registry.example.com/{name}"));
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while images(&stage.export) != expected {
        assert!(tokio::time::Instant::now() < until, "{:?}", images(&stage.export));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_removed_is_exported_no_more_but_its_data_is() {
    let stage = stage().await;
    let shop = stage.platform.production(&stage.user).await.unwrap();
    let shop = shop.app(&AppName::new("shop").unwrap()).await.unwrap();
    done(shop.remove().await.unwrap()).await;
    let objects = stage.export.objects();
    let kinds: Vec<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
    for gone in ["Deployment", "StatefulSet", "Job", "PodDisruptionBudget", "Service", "HTTPRoute"] {
        assert!(!kinds.contains(&gone), "{gone}: {kinds:?}");
    }
    for kept in ["Namespace", "PersistentVolumeClaim"] {
        assert!(kinds.contains(&kept), "{kept}: {kinds:?}");
    }
    assert!(!stage.export.yaml().contains("# not exported"));
}

/// By a reader of YAML that is not ours.
fn read(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

#[tokio::test]
async fn a_reader_of_yaml_finds_the_objects_again() {
    let stage = stage().await;
    assert_eq!(read(&stage.export.yaml()), stage.export.objects());
}

#[test]
fn no_value_is_taken_for_another() {
    let hostile = [
        "",
        " ",
        "yes",
        "No",
        "ON",
        "n",
        "null",
        "~",
        "1",
        "1e3",
        "0x1F",
        "0o7",
        "1_000",
        ".inf",
        "-",
        "- a",
        "a: b",
        "a #b",
        "#",
        "&a",
        "*a",
        "!a",
        "%a",
        "@a",
        "`a",
        "{}",
        "[]",
        "|",
        ">",
        "'",
        "\"",
        "\\",
        "a\nb",
        "a\r\nb",
        "\t",
        "---",
        "...",
        "2001-01-01",
        "12:30:45",
        "=",
        "<<",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{1f600}",
        "$(HOME)",
        "end ",
    ];
    let mut map = serde_json::Map::new();
    for text in hostile {
        map.insert(text.to_owned(), json!(text));
    }
    let value = json!({
        "map": map, "list": hostile.to_vec(), "lists": [[], [[1, -2.5, true]], [{ "a": { "b": [] }, "c": null }]], "nothing": {},
    });
    let mut text = String::new();
    crate::yaml::write(&value, &mut text);
    assert_eq!(read(&text), [value], "{text}");
    for leaf in [json!({}), json!("text"), json!(7)] {
        let mut text = String::new();
        crate::yaml::write(&leaf, &mut text);
        assert_eq!(read(&text), [leaf]);
    }
}
