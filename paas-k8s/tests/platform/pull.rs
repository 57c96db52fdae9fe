//! Images that a registry gives only to those it knows.

use std::sync::{Arc, Mutex};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use paas_core::Result;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{Case, World, app, cases, config, open_with, serving, unique_name, until};
use crate::fixture::rooms::broken;

pub(super) const CASES: &[(&str, Case)] =
    cases![images_are_pulled_with_the_secret_of_the_environment, a_pull_secret_that_is_missing_is_told];

const NAME: &str = "registry";
/// `ann:s3cret`, as HTTP has it.
const CREDENTIALS: &str = "YW5uOnMzY3JldA==";

/// A registry that has no image, and asks everybody who they are. Nodes speak plain HTTP to one of their own address.
struct Registry {
    address: String,
    /// The credentials that it was given.
    given: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, given) = (listener.local_addr().unwrap().to_string(), Arc::default());
        let heard = Arc::clone(&given);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let heard = Arc::clone(&heard);
                // Who goes away needs no answer.
                tokio::spawn(async move { drop(answer(stream, &heard).await) });
            }
        });
        Self { address, given }
    }

    fn knows(&self, credentials: &str) -> bool {
        self.given.lock().unwrap().iter().any(|given| given == credentials)
    }
}

async fn answer(stream: TcpStream, heard: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let (mut lines, mut is_known) = (BufReader::new(reader).lines(), false);
    while let Some(line) = lines.next_line().await?.filter(|line| !line.is_empty()) {
        if let Some(credentials) = line.strip_prefix("Authorization: Basic ") {
            heard.lock().unwrap().push(credentials.to_owned());
            is_known = true;
        }
    }
    let status = if is_known { "404 Not Found" } else { "401 Unauthorized" };
    let head = format!(
        "HTTP/1.1 {status}\r\nWWW-Authenticate: Basic realm=\"it\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    writer.write_all(head.as_bytes()).await
}

/// A world that pulls by a secret.
async fn pulling() -> Result<World> {
    let (name, mut config) = (unique_name(), config().await?);
    config.scheduler.pull_secrets = vec![NAME.into()];
    let platform = open_with(&name, None, config).await?;
    World::of(name, platform).await
}

/// Puts the secret where an operator does.
async fn put_secret(world: &World, registry: &str) -> Result<()> {
    let production = world.platform.production(&world.user).await?.resource();
    let paas_core::model::Resource::Environment(tenant, environment) = production else { unreachable!() };
    let namespace = paas_k8s::namespace(&world.name, &tenant, &environment);
    let logins = json!({ "auths": { registry: { "auth": CREDENTIALS } } });
    let secret = Secret {
        metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
        type_: Some("kubernetes.io/dockerconfigjson".into()),
        data: Some([(".dockerconfigjson".into(), ByteString(logins.to_string().into_bytes()))].into()),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &namespace);
    secrets.create(&PostParams::default(), &secret).await.map(drop).map_err(broken)
}

async fn images_are_pulled_with_the_secret_of_the_environment() -> Result<()> {
    let (world, registry) = (pulling().await?, Registry::start().await);
    put_secret(&world, &registry.address).await?;
    let mut service = serving("1", 1);
    service.image = Some(format!("{}/shop:1", registry.address));
    world.platform.deploy(&world.user, &app(&service)).await?;
    until("the registry is told who asks", || async { Ok(registry.knows(CREDENTIALS).then_some(())) })
        .await?;
    let pods: Api<Pod> = Api::all(world.client.clone());
    let pod = pods.list(&world.labels()).await.map_err(broken)?.items.remove(0);
    let named = pod.spec.and_then(|spec| spec.image_pull_secrets).unwrap_or_default();
    assert_eq!(named.into_iter().map(|own| own.name).collect::<Vec<_>>(), [NAME]);
    world.end().await
}

async fn a_pull_secret_that_is_missing_is_told() -> Result<()> {
    let (world, registry) = (pulling().await?, Registry::start().await);
    let mut service = serving("1", 1);
    service.image = Some(format!("{}/shop:1", registry.address));
    world.platform.deploy(&world.user, &app(&service)).await?;
    let told = world.explained("401 Unauthorized").await?;
    assert!(told.contains("image pull secrets (registry)"), "{told}");
    // An image that is there already needs none, and nothing is said of it.
    world.deploy(&app(&serving("2", 1))).await?;
    let well = world.explained("all is well").await?;
    assert!(!well.contains("pull secrets"), "{well}");
    world.end().await
}
