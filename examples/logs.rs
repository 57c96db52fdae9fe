//! What a platform does with the lines that its apps write: two tenants run the sample app `shop`, and four promises are kept in
//! front of your eyes. A line is seen the moment it is born; what nobody should read is gone before anybody does; people are
//! told when enough lines match; and nobody sees the lines of others.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use paas::local::{LocalConfig, LocalMachine};
use paas::logs::{EmbeddedLogStore, LogStoreConfig, Pipeline};
use paas::memory::MemoryNotifier;
use paas::model::{AppFile, AppName, AppSpec, LogEntry, Principal, TailItem, TenantName};
use paas::platform::AppHandle;
use paas::{Error, Platform, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the tenants' app files say about lines, beside the shop's own.
const RULES: &str = r#"{
    "redact": ["email"],
    "drop": ["\"GET /version\""],
    "alerts": [{ "match": "GET 500", "count": 3, "within": "1m", "notify": "oncall" }]
}"#;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let name = arguments.next().unwrap_or_default();
    if Path::new(&name).file_name().is_some_and(|name| name == "shop") {
        return shop::main(arguments);
    }
    paas::local::main(|| async {
        let folder = std::env::temp_dir().join(format!("paas-logs-{}", std::process::id()));
        let outcome = tokio::time::timeout(PATIENCE, show(&folder)).await;
        let _ = std::fs::remove_dir_all(&folder);
        outcome.unwrap_or_else(|_| Err(Error::unavailable("it took too long")))
    })
}

async fn show(folder: &Path) -> Result<()> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let machine = LocalMachine::open(LocalConfig::new(folder).with_public(listen)).await?;
    let store = EmbeddedLogStore::open(LogStoreConfig::new(folder.join("logs"))).await?;
    let oncall = MemoryNotifier::new();
    let platform = machine
        .builder()
        .log_store(Arc::new(store))
        .log_pipeline(Arc::new(Pipeline::default()))
        .notifier("oncall", Arc::new(oncall.clone()))
        .build()
        .await?;
    say("two tenants run the shop");
    let (acme, globex) =
        tokio::try_join!(deploy(&platform, folder, "acme"), deploy(&platform, folder, "globex"))?;
    let outcome = promises(&machine, &acme, &globex, &oncall).await;
    tokio::try_join!(stop(&acme), stop(&globex))?;
    platform.shutdown().await;
    machine.shutdown(true).await?;
    outcome
}

async fn promises(
    machine: &LocalMachine,
    acme: &AppHandle,
    globex: &AppHandle,
    oncall: &MemoryNotifier,
) -> Result<()> {
    let web = "web".parse()?;
    say("\n1. a line is seen the moment it is born: a tail of acme's web, of what is about customers");
    let tail = acme.log_tail(Some(&web)).await?.matching("customers".parse()?);
    let mut tail = acme.tail(tail).await?;
    for path in ["/api/customers/ann@example.com", "/version", "/api/customers/7"] {
        ask(machine, "acme.localhost", path).await?;
    }
    let mut seen = Vec::new();
    while seen.len() < 2
        && let Some(item) = tail.next().await
    {
        if let TailItem::Lines(lines) = item? {
            seen.extend(lines.entries);
        }
    }
    seen.iter().for_each(show_line);

    say(
        "\n2. what nobody should read is gone before anybody does: the address above was sent, and is nowhere",
    );
    check(seen.iter().any(|line| text(line).contains("[redacted:email]")), "the address is taken out")?;
    let query = acme.log_query(None).await?.matching("example.com OR \"GET /version\"".parse()?);
    stored(acme, "customers", 2).await?;
    check(acme.search(&query).await?.entries.is_empty(), "it is not stored either, nor is what is dropped")?;

    say("\n3. people are told when enough lines match: three answers of status 500 within a minute");
    for _ in 0..8 {
        ask(machine, "acme.localhost", "/").await?;
    }
    let told = loop {
        match oncall.told().pop() {
            Some(told) => break told,
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let alert = &told.alert;
    say(&format!("   {}, {}: {} lines match {} within 1m", told.tenant, told.app, alert.count, alert.query));
    alert.lines.iter().for_each(|line| say(&format!("   > {}", line.line)));

    say("\n4. nobody sees the lines of others: both tenants ask for all that was answered with 500");
    for (tenant, app) in [("acme", acme), ("globex", globex)] {
        let found = app.search(&app.log_query(None).await?.matching("500".parse()?)).await?.entries;
        say(&format!("   {tenant} finds {} lines", found.len()));
        check((tenant == "acme") != found.is_empty(), "each finds its own, and nothing else")?;
    }
    let foreign = globex.search(&acme.log_query(None).await?).await;
    check(foreign.is_err(), "who asks for another's app is refused")
}

/// Deploys the shop for a tenant. Its `web` answers every second request with 500, for one of them.
async fn deploy(platform: &Platform, folder: &Path, tenant: &str) -> Result<AppHandle> {
    let owner = platform.ensure_tenant(&Principal::operator("ops"), TenantName::new(tenant)?).await?;
    let user = Principal::user("ann", owner.id);
    let mut app = shop_in(&folder.join(tenant))?;
    app.logs = serde_json::from_str(RULES).map_err(|cause| Error::invalid("no rules").with_source(cause))?;
    for (name, service) in &mut app.services {
        service.replicas = 1;
        if name.as_str() == "web" {
            service.domain = vec![format!("{tenant}.localhost").parse()?];
            if tenant == "acme" {
                service.env.insert("FAIL_RATE".into(), "50%".into());
            }
        }
    }
    platform.deploy(&user, &app).await?.finished().await?;
    platform.production(&user).await?.app(&AppName::new("shop")?).await
}

/// The shop's app file in a folder, and its program beside it: this one under another name.
fn shop_in(folder: &Path) -> Result<AppSpec> {
    let broken = |cause| Error::unavailable("cannot write the sample app").with_source(cause);
    std::fs::create_dir_all(folder).map_err(broken)?;
    let own: PathBuf = std::env::current_exe().map_err(broken)?;
    symlink(own, folder.join("shop")).map_err(broken)?;
    std::fs::write(folder.join("paas.yaml"), include_str!("shop/paas.yaml")).map_err(broken)?;
    AppFile::read(folder.join("paas.yaml"))
}

/// Waits until so many lines that match are stored.
async fn stored(app: &AppHandle, query: &str, count: usize) -> Result<()> {
    let query = app.log_query(None).await?.matching(query.parse()?);
    while app.search(&query).await?.entries.len() < count {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn stop(app: &AppHandle) -> Result<()> {
    app.stop().await?.finished().await.map(drop)
}

/// One request.
async fn ask(machine: &LocalMachine, host: &str, path: &str) -> Result<()> {
    let broken = |cause| Error::unavailable("the shop does not answer").with_source(cause);
    let mut stream = TcpStream::connect(machine.public_address()).await.map_err(broken)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    stream.read_to_end(&mut Vec::new()).await.map_err(broken).map(drop)
}

fn text(line: &LogEntry) -> String {
    String::from_utf8_lossy(&line.line).escape_debug().to_string()
}

fn show_line(line: &LogEntry) {
    say(&format!("   {} {} | {}", line.time, line.origin.instance, text(line)));
}

fn check(holds: bool, what: &str) -> Result<()> {
    if !holds {
        return Err(Error::internal("a promise is broken").with("promise", what));
    }
    say(&format!("   ok: {what}"));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example talks")]
fn say(text: &str) {
    println!("{text}");
}
