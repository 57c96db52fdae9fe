//! A full disk: a small one of its own, in a mount namespace of its own, so that the machine stays as it is.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use paas::Error;
use paas::model::{Principal, Secret};

use crate::cases;
use crate::program::{Behaviour, program};
use crate::role::{DIRECTORY, ROLE};
use crate::world::{DEADLINE, Home, World, app, eventually, kill, web};

cases![a_full_disk_is_said_so_and_the_old_revision_serves_on];

/// Runs a command in a mount namespace of its own where `directory` is a disk of 24 MiB.
fn on_a_disk(directory: &Path, command: &[&str], role: Option<&str>) -> std::io::Result<Output> {
    let script = "mount -t tmpfs -o size=24m none \"$0\" && exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--map-root-user", "sh", "-c", script]).arg(directory).args(command);
    if let Some(role) = role {
        unshare.env(ROLE, role).env(DIRECTORY, directory);
    }
    unshare.stdin(Stdio::null()).output()
}

/// What keeps this case from running.
pub(crate) fn missing() -> Option<&'static str> {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    let permitted = PERMITTED.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        on_a_disk(directory.path(), &["true"], None).is_ok_and(|output| output.status.success())
    });
    (!permitted).then_some("needs a mount namespace: unshare --mount --map-root-user is not permitted here")
}

async fn a_full_disk_is_said_so_and_the_old_revision_serves_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let run = move || on_a_disk(&path, &[&program()], Some("full-disk")).unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Takes all space that is left, to the last byte.
fn fill(path: &Path) {
    let mut filler = File::create(path).unwrap();
    for block in [64 * 1024, 1] {
        while filler.write_all(&vec![0; block]).is_ok() {}
    }
}

/// What the kernel says.
const FULL: &str = "No space left on device";

fn is_full(error: &Error) -> bool {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.contains("disk full") || text.contains(FULL)
}

/// The case itself, in its namespace.
pub(crate) async fn on_a_small_disk(directory: PathBuf) {
    let home = Home::at(directory.join("data"));
    let world = World::open(&home).await.unwrap();
    let mut one = web(Behaviour::Serve, "one");
    one.replicas = 2;
    world.deploy(&app(&one)).await.unwrap();
    let load = world.load();
    load.more(20).await;
    let filler = directory.join("filler");
    fill(&filler);

    let (operator, tenant) =
        (Principal::operator("ops"), world.environment.resource().tenant().unwrap().clone());
    let secret = Secret::new(vec![b's'; 32 * 1024]).unwrap();
    let refused = world.platform.put_secret(&operator, &tenant, &"KEY".parse().unwrap(), secret).await;
    let refused = refused.expect_err("a secret cannot be stored");
    assert!(is_full(&refused), "{refused:?}");
    // A release is refused as well, or waits for space and says so; which one depends on the last free bytes.
    let waiting = world.environment.deploy(&app(&web(Behaviour::Serve, "two"))).await;
    match &waiting {
        Err(error) => assert!(is_full(error), "{error:?}"),
        Ok(_) => {
            let explained = async || world.app().await.explain().await.unwrap().to_string();
            eventually("it is explained", async || explained().await.contains(FULL).then_some(())).await;
        }
    }
    load.all_by(&["one"]).await;
    // What crashes meanwhile is started again.
    let victim = world.instances("web").await[0].id.clone();
    kill(home.pid(&victim).await.unwrap());
    eventually("it runs again", async || home.pid(&victim).await).await;
    load.all_by(&["one"]).await;

    std::fs::remove_file(&filler).unwrap();
    // Once there is space it goes on by itself.
    match waiting {
        Ok(operation) => drop(operation.finished_within(DEADLINE).await.unwrap()),
        Err(_) => world.deploy(&app(&web(Behaviour::Serve, "two"))).await.unwrap(),
    }
    load.all_by(&["one", "two"]).await;
    assert!(load.of("two") > 0);
    world.leave().await;
    // Nothing is corrupt.
    let world = World::open(&home).await.unwrap();
    assert_eq!(world.ready().await.get("web"), Some(&2));
    world.load().all_by(&["two"]).await;
    world.end().await;
}
