//! The platform, with the bundled app deployed on it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use paas::engine::EngineEvent;
use paas::guard::Guard;
use paas::model::{
    App, AppName, AppSpec, EnvironmentName, LogEntry, LogTail, Principal, RevisionNumber, ServiceName,
    TailItem, TenantName, Timestamp,
};
use paas::platform::{AppHandle, EnvironmentHandle, OperationHandle};
use paas::{Error, ErrorKind, Platform, Result};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tracing_subscriber::filter::LevelFilter;

use crate::backends::Backends;
use crate::bundle::Bundle;
use crate::console::Console;
use crate::control::{self, Ask, Change};
use crate::oncall::OnCall;
use crate::options::Options;
use crate::routes::RouteChanges;

/// How long the apps may take to stop at the end.
const STOPPING: Duration = Duration::from_secs(60);

/// A platform that runs, and what the control socket needs of it.
#[derive(Debug)]
pub(crate) struct Served {
    backends: Backends,
    platform: Platform,
    environment: EnvironmentHandle,
    bundle: Bundle,
    routes: RouteChanges,
    oncall: OnCall,
    console: Console,
}

/// Serves until it is told to end. Told again, it ends at once.
pub(crate) async fn run(options: Options) -> Result<()> {
    // What goes wrong in the platform itself, for whoever operates it; the console is for who uses it.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(LevelFilter::WARN)
        .init();
    let console = Console::start();
    console.say(&format!("starting; data is in {}", options.data.display()));
    let outcome = serve(&options, &console, Told::listen()?).await;
    console.flush();
    outcome
}

async fn serve(options: &Options, console: &Console, mut told: Told) -> Result<()> {
    let mut tasks = JoinSet::new();
    let served = tokio::select! {
        served = start(options, console, &mut tasks) => served?,
        // Whatever was begun is known to the keeper and the next start goes on with it.
        () = told.again() => return Ok(()),
    };
    told.again().await;
    tokio::select! {
        ended = served.end(options.keep) => ended,
        () = told.again() => Ok(()),
    }
}

/// The signals that ask for the end. One listener for all stages, so that each signal counts once.
struct Told {
    term: Signal,
    int: Signal,
}

impl Told {
    fn listen() -> Result<Self> {
        let unlistened = |error| Error::unavailable("cannot listen to signals").with_source(error);
        let term = signal(SignalKind::terminate()).map_err(unlistened)?;
        Ok(Self { term, int: signal(SignalKind::interrupt()).map_err(unlistened)? })
    }

    async fn again(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

async fn start(options: &Options, console: &Console, tasks: &mut JoinSet<()>) -> Result<Arc<Served>> {
    let backends = Backends::open(options).await?;
    let bundle = Bundle::open(options)?;
    console.say(&backends.describe().await?);
    let routes = RouteChanges::default();
    let oncall = OnCall::new(console);
    let builder = backends.builder().notifier("oncall", Arc::new(oncall.clone()));
    let platform = builder.guard(Guard::default().interceptor(routes.clone())).build().await?;
    let operator = Principal::operator("console");
    let tenant = TenantName::new("local")?;
    platform.ensure_tenant(&operator, tenant.clone()).await?;
    let environment = platform.environment(&operator, &tenant, &EnvironmentName::production()).await?;
    let served = Arc::new(Served {
        backends,
        platform,
        environment,
        bundle,
        routes,
        oncall,
        console: console.clone(),
    });
    tasks.spawn(control::answer(control::listen(&options.data)?, Arc::clone(&served)));
    tasks.spawn(events(served.platform.clone(), console.clone()));
    for (service, domain) in served.domains() {
        console.say(&format!("{service} will be at {}", served.backends.url(&domain)));
    }
    served.go().await?;
    tasks.spawn(lines(Arc::clone(&served)));
    Ok(served)
}

/// Tells what the engine does.
async fn events(platform: Platform, console: Console) {
    let mut events = platform.events();
    loop {
        match events.recv().await {
            Ok(EngineEvent::Operation { name, event, .. }) => {
                let service =
                    event.service.as_ref().map(|service| format!("{service}: ")).unwrap_or_default();
                console.say(&format!("{name}: {service}{}", event.text));
            }
            Ok(EngineEvent::Drift(what)) => {
                console.say(&format!("{what}: somebody else has changed it; it is put back"));
            }
            Ok(_) => {}
            Err(RecvError::Lagged(missed)) => console.say(&format!("... {missed} events not shown")),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Shows what the instances write, as long as there is an app.
async fn lines(served: Arc<Served>) {
    loop {
        match follow(&served).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => return,
            Err(error) => served.console.say(&format!("cannot read lines: {error}")),
            Ok(()) => {}
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn follow(served: &Served) -> Result<()> {
    let app = served.app().await?;
    let names: Vec<_> = app
        .status()
        .await?
        .services
        .into_iter()
        .map(|service| (service.id, service.name.to_string()))
        .collect();
    let from = LogTail::since(app.resource(), Timestamp(0));
    let mut items = app.tail(from.and_on()).await?;
    while let Some(item) = items.next().await {
        match item? {
            TailItem::Lines(lines) => {
                for entry in &lines.entries {
                    let name = names.iter().find(|(id, _)| *id == entry.origin.service);
                    let name = name.map_or("?", |(_, name)| name);
                    served.console.line(name, entry.origin.stream, &entry.line);
                }
            }
            TailItem::Gap { bytes: 0, reason, .. } => {
                served.console.say(&format!("some output is lost: {reason}"));
            }
            TailItem::Gap { bytes, reason, .. } => {
                served.console.say(&format!("{bytes} bytes of output are lost: {reason}"));
            }
            TailItem::Notice { instance, text, .. } => served.console.say(&format!("{instance}: {text}")),
            _ => {}
        }
    }
    Ok(())
}

impl Served {
    fn domains(&self) -> Vec<(ServiceName, String)> {
        let services = self.bundle.app.services.iter();
        services
            .flat_map(|(name, spec)| spec.domain.iter().map(|at| (name.clone(), at.to_string())))
            .collect()
    }

    fn app_name(&self) -> &AppName {
        &self.bundle.app.app
    }

    async fn app(&self) -> Result<AppHandle> {
        self.environment.app(self.app_name()).await
    }

    /// Adopts what runs, starts what was stopped, deploys what is new.
    async fn go(&self) -> Result<()> {
        let status = match self.app().await {
            Ok(app) => Some((app.status().await?, app)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some((status, app)) = &status {
            if !status.running {
                self.console.say("starts what ran before");
                self.finish(&app.start().await?).await?;
            }
            if let (Some(revision), false) = (status.promoted, self.bundle.is_new) {
                self.console.say(&format!("goes on with {} revision {revision}", self.app_name()));
                return self.serves();
            }
        }
        self.console.say(&format!("deploys {}", self.app_name()));
        let operation = self.environment.deploy(&self.bundle.app).await?;
        self.finish(&operation).await?;
        self.serves()
    }

    /// Waits for an operation that must succeed, unless somebody asked for something newer meanwhile.
    async fn finish(&self, operation: &OperationHandle) -> Result<()> {
        match operation.finished().await {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            _ => Ok(()),
        }
    }

    fn serves(&self) -> Result<()> {
        for (service, domain) in self.domains() {
            self.console.say(&format!("{service} is served at {}", self.backends.url(&domain)));
        }
        self.console.say("Ctrl-C stops it");
        Ok(())
    }

    /// Stops in good order; or leaves what runs to the keeper.
    async fn end(&self, keep: bool) -> Result<()> {
        if keep {
            self.console.say("leaves the apps running; the next start adopts them");
            self.platform.shutdown().await;
            return self.backends.shutdown(false).await;
        }
        self.console.say("stopping; Ctrl-C again ends at once and leaves the rest running");
        let stopped = async {
            for status in self.environment.apps().await?.into_iter().filter(|app| app.running) {
                let app = self.environment.app(&status.name).await?;
                app.stop().await?.finished_within(STOPPING).await?;
            }
            Ok::<_, Error>(())
        };
        let stopped = stopped.await;
        self.platform.shutdown().await;
        self.backends.shutdown(true).await?;
        self.console.say("everything has stopped");
        if let Some(remains) = self.backends.remains() {
            self.console.say(&remains);
        }
        stopped
    }

    /// The bundled app with changes.
    fn changed(&self, changes: &std::collections::BTreeMap<String, Change>) -> Result<AppSpec> {
        let mut app = self.bundle.app.clone();
        for (name, change) in changes {
            let unknown = || Error::not_found("no such service in the bundled app").with("service", name);
            let service = app.services.get_mut(&ServiceName::new(name)?).ok_or_else(unknown)?;
            for (name, value) in &change.env {
                service.env.insert(name.clone(), value.as_str().into());
            }
            if let Some(release) = &change.release {
                service.release = Some(release.clone());
            }
        }
        Ok(app)
    }

    /// Does what the control socket asks.
    pub(crate) async fn answer(&self, ask: Ask) -> Result<Value> {
        let started = |operation: OperationHandle| json!({ "operation": operation.id() });
        match ask {
            Ask::Deploy { changes } => self.deploy(&self.changed(&changes)?).await,
            Ask::DeployApp { app } => {
                let wrong = |error: serde_json::Error| Error::invalid(error.to_string());
                self.deploy(&serde_json::from_value::<AppSpec>(app).map_err(wrong)?).await
            }
            Ask::Rollback { revision } => {
                self.app().await?.rollback(RevisionNumber(revision)).await.map(started)
            }
            Ask::Stop => self.app().await?.stop().await.map(started),
            Ask::Start => self.app().await?.start().await.map(started),
            Ask::Scale { service, replicas } => {
                self.app().await?.scale(&ServiceName::new(service)?, replicas).await.map(|()| Value::Null)
            }
            Ask::Restart { service } => {
                self.app().await?.restart(&ServiceName::new(service)?).await.map(|()| Value::Null)
            }
            Ask::Signal { operation, signal } => {
                self.app().await?.operation(operation).signal(signal).await.map(|()| Value::Null)
            }
            Ask::Wait { operation, seconds } => {
                let operation = self.app().await?.operation(operation);
                encoded(&operation.finished_within(Duration::from_secs(seconds.min(600))).await?)
            }
            Ask::Operation { operation } => encoded(&self.app().await?.operation(operation).state().await?),
            Ask::Status => self.status().await,
            Ask::Pids => self.backends.pids().await,
            Ask::Tail { query, seconds } => {
                let born = self.born(&query);
                let late = |_| Error::unavailable("no line came in time");
                tokio::time::timeout(Duration::from_secs(seconds), born).await.map_err(late)?
            }
            Ask::Search { query, stranger } => {
                let environment = if stranger { self.stranger().await? } else { self.environment.clone() };
                let found = environment.search(&environment.log_query().matching(query.parse()?)).await?;
                Ok(texts(&found.entries))
            }
            Ask::Alerts => encoded(&self.oncall.told()),
            Ask::RouteChanges => Ok(self.routes.to_json()),
        }
    }

    /// The first lines that match.
    async fn born(&self, query: &str) -> Result<Value> {
        let app = self.app().await?;
        let mut items = app.tail(app.log_tail(None).await?.matching(query.parse()?)).await?;
        while let Some(item) = items.next().await {
            match item? {
                TailItem::Lines(lines) if !lines.entries.is_empty() => return Ok(texts(&lines.entries)),
                _ => {}
            }
        }
        Err(Error::unavailable("the tail has ended"))
    }

    /// The environment of another tenant.
    async fn stranger(&self) -> Result<EnvironmentHandle> {
        let (operator, tenant) = (Principal::operator("console"), TenantName::new("stranger")?);
        let owner = self.platform.ensure_tenant(&operator, tenant).await?;
        self.platform.production(&Principal::user("stranger", owner.id)).await
    }

    async fn deploy(&self, app: &dyn App) -> Result<Value> {
        let operation = self.environment.deploy(app).await?;
        Ok(json!({ "operation": operation.id() }))
    }

    async fn status(&self) -> Result<Value> {
        let address = self.backends.address();
        let app = match self.app().await {
            Ok(app) => app.status().await?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(json!({ "address": address, "services": {} }));
            }
            Err(error) => return Err(error),
        };
        let services: serde_json::Map<String, Value> = app
            .services
            .iter()
            .map(|service| {
                let instances: Vec<_> = service.slots.iter().flat_map(|slot| &slot.instances).collect();
                let status = json!({
                    "id": service.id,
                    "revision": service.revision,
                    "replicas": service.replicas,
                    "ready": service.ready,
                    "releasing": service.releasing,
                    "instances": instances,
                });
                (service.name.to_string(), status)
            })
            .collect();
        Ok(json!({
            "address": address,
            "running": app.running,
            "promoted": app.promoted,
            "services": services,
            "operating": app.operation.is_some_and(|operation| !operation.state.is_final()),
        }))
    }
}

fn encoded(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|error| Error::internal("cannot be written as JSON").with_source(error))
}

fn texts(entries: &[LogEntry]) -> Value {
    entries.iter().map(|entry| Value::from(String::from_utf8_lossy(&entry.line))).collect()
}
