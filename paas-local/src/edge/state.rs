//! All that one running edge shares, and how a change of routes happens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use paas_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::clock;
use super::config::EdgeConfig;
use super::connection::Clients;
use super::ledger::{Ledger, RoutesFile, Stamp, Verdict};
use super::listener::{ListenerSource, Listeners};
use super::route::Route;
use super::table::{Runtime, Service, Table, Tables};
use super::traffic::Traffic;
use super::usage::{EndpointUsage, Event, Events};

/// How many events a slow reader may lag behind before it is told to observe again.
const EVENTS: usize = 4_096;

/// What the edge does for one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceUsage {
    /// The service's id.
    pub service: String,
    /// The stamp of the route in force; `None` when the route was removed and work is still open.
    pub stamp: Option<Stamp>,
    /// What the route in force asked to remember.
    #[serde(default)]
    pub note: String,
    /// All endpoints of the route, and those removed that have open work.
    pub endpoints: Vec<EndpointUsage>,
}

/// One running edge.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: EdgeConfig,
    pub(crate) tables: Tables,
    pub(crate) clients: Arc<Clients>,
    pub(crate) events: Events,
    /// Names this run.
    pub(crate) start: u64,
    pub(crate) listeners: Listeners,
    file: RoutesFile,
    /// Held while a change is made; changes are made one at a time.
    change: tokio::sync::Mutex<()>,
    ledger: Mutex<Arc<Ledger>>,
    runtimes: Mutex<BTreeMap<Arc<str>, Arc<Runtime>>>,
}

impl State {
    /// Reads the routes file and compiles it.
    pub(crate) fn load(config: EdgeConfig, source: Arc<dyn ListenerSource>) -> Result<Arc<Self>> {
        let file = RoutesFile::in_dir(&config.dir.join("edge"));
        let ledger = file.load()?;
        let (events, _) = broadcast::channel(EVENTS);
        let start = clock::stamp();
        let listeners = Listeners::new(source, config.max_connections);
        let state = Self {
            tables: Tables::default(),
            clients: Arc::default(),
            events,
            start,
            listeners,
            file,
            change: tokio::sync::Mutex::default(),
            ledger: Mutex::default(),
            runtimes: Mutex::default(),
            config,
        };
        let mut services = Vec::new();
        for record in ledger.records() {
            services.push(Service::compile(&record.route, &state.runtime(&record.route.service))?);
        }
        let runtimes: Vec<_> = services.iter().map(|service| service.runtime.clone()).collect();
        state.tables.publish(&Arc::new(Table::of(services)?), &runtimes);
        *state.ledger.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(ledger);
        Ok(Arc::new(state))
    }

    /// Whether a listener is shared by services, so that its clients come from outside.
    pub(crate) fn is_shared(&self, listener: &str) -> bool {
        self.config.public.iter().any(|public| public == listener)
            || self.tables.with(|table| table.by_listener(listener).is_none())
    }

    fn runtime(&self, service: &str) -> Arc<Runtime> {
        let mut runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = runtimes.get(service) {
            return known.clone();
        }
        let id: Arc<str> = service.into();
        let new = Arc::new(Runtime::new(id.clone(), self.events.clone()));
        runtimes.insert(id, new.clone());
        new
    }

    fn ledger(&self) -> Arc<Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets one service's route. `Ok` says: it is stored, no new work goes to an endpoint that it does not admit, and
    /// all its listeners are served. Applying the same again changes nothing.
    pub(crate) async fn apply(self: &Arc<Self>, stamp: Stamp, route: Route) -> Result<()> {
        route.validate()?;
        let id = route.service.clone();
        self.change(stamp, &id, Some(route)).await
    }

    /// Removes one service's route; open work goes on. A route that does not exist is removed already.
    pub(crate) async fn remove(self: &Arc<Self>, stamp: Stamp, service: &str) -> Result<()> {
        self.change(stamp, service, None).await
    }

    async fn change(self: &Arc<Self>, stamp: Stamp, service: &str, route: Option<Route>) -> Result<()> {
        let _one_at_a_time = self.change.lock().await;
        let ledger = self.ledger();
        if ledger.judge(stamp, service, route.as_ref())? == Verdict::Same {
            return Ok(());
        }
        let runtime = self.runtime(service);
        let compiled = route.as_ref().map(|route| Service::compile(route, &runtime)).transpose()?;
        let old = self.tables.with(Arc::clone);
        let outcome = async {
            let table = Arc::new(old.with(&runtime.service, compiled)?);
            let next = Arc::new(ledger.with(stamp, &runtime.service, route)?);
            let new = self.listeners.take_missing(self.names(&table)).await?;
            self.put_in_force(next, &table, &old, &runtime).await?;
            self.listeners.serve(self, new)
        }
        .await;
        if outcome.is_err() {
            runtime.settle(old.services.get(&runtime.service).map(AsRef::as_ref));
        }
        let table = self.tables.with(Arc::clone);
        // Whoever was told that a route is gone is refused, not left waiting.
        futures_util::future::join_all(self.listeners.retain(&self.names(&table))).await;
        self.forget(&table);
        outcome
    }

    /// Writes the file, moves the traffic, and makes the file durable. Moving comes before the slow part: until this
    /// returns, nobody may rely on either the old or the new route.
    async fn put_in_force(
        &self,
        next: Arc<Ledger>,
        table: &Arc<Table>,
        old: &Arc<Table>,
        runtime: &Arc<Runtime>,
    ) -> Result<()> {
        // Into the page cache: too short to be worth another thread, and a full disk shows before traffic moves.
        let draft = self.file.draft(&next)?;
        let touched = [runtime.clone()];
        self.tables.publish(table, &touched);
        let durable = tokio::task::spawn_blocking(move || draft.commit()).await;
        let durable =
            durable.unwrap_or_else(|e| Err(Error::internal("the change was not finished").with_source(e)));
        match &durable {
            Ok(()) => *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = next,
            Err(_) => self.tables.publish(old, &touched),
        }
        durable
    }

    /// The listeners that a table needs, and the configured ones.
    pub(crate) fn names(&self, table: &Table) -> Vec<String> {
        let mut names: Vec<String> = table.listeners().map(str::to_owned).collect();
        names.extend(self.config.public.iter().cloned());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Forgets services that have neither a route nor open work.
    fn forget(&self, table: &Table) {
        let mut runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        runtimes.retain(|id, runtime| table.services.contains_key(id) || !runtime.is_drained());
    }

    fn runtimes(&self, service: Option<&str>) -> Result<Vec<Arc<Runtime>>> {
        let runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        match service {
            None => Ok(runtimes.values().cloned().collect()),
            Some(id) => match runtimes.get(id) {
                Some(runtime) => Ok(vec![runtime.clone()]),
                None => Err(Error::not_found("no such service").with("service", id)),
            },
        }
    }

    /// What is open, of one service or of all.
    pub(crate) fn observe(&self, service: Option<&str>) -> Result<Vec<ServiceUsage>> {
        let ledger = self.ledger();
        let table = self.tables.with(Arc::clone);
        let usage = |runtime: Arc<Runtime>| {
            let id = &*runtime.service;
            let named = table.services.get(&runtime.service);
            let mut endpoints = runtime.endpoints();
            let in_route = |endpoint: &EndpointUsage| {
                named.is_some_and(|service| {
                    let mut all = service.slots.iter().flat_map(|slot| &slot.endpoints);
                    all.any(|known| *known.id == *endpoint.id && known.addr == endpoint.addr)
                })
            };
            endpoints.iter_mut().for_each(|endpoint| endpoint.named = in_route(endpoint));
            endpoints.retain(|endpoint| !endpoint.is_drained() || endpoint.named);
            ServiceUsage { service: id.to_owned(), stamp: ledger.stamp(id), note: ledger.note(id), endpoints }
        };
        Ok(self.runtimes(service)?.into_iter().map(usage).collect())
    }

    /// The counters, of one service or of all.
    pub(crate) fn traffic(&self, service: Option<&str>) -> Result<Traffic> {
        let services = self.runtimes(service)?.iter().map(|runtime| runtime.traffic()).collect();
        Ok(Traffic { start: self.start, services })
    }

    /// Waits until no closed endpoint of a service has open work; `false` when that took longer than `wait`. A
    /// service that is not known has none.
    pub(crate) async fn drained(&self, service: &str, wait: Duration) -> bool {
        let mut events = self.events.subscribe();
        let Ok(runtimes) = self.runtimes(Some(service)) else { return true };
        let all = || runtimes.iter().all(|runtime| runtime.is_drained());
        let waiting = async {
            // An endpoint that is opened again ends the wait too, and without an event.
            while !all() {
                let _ = tokio::time::timeout(Duration::from_millis(100), events.recv()).await;
            }
        };
        tokio::time::timeout(wait, waiting).await.is_ok()
    }

    /// The highest epoch seen.
    pub(crate) fn epoch(&self) -> u64 {
        self.ledger().epoch()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Drops idle connections that are too old or were closed by their instance.
    pub(crate) fn sweep(&self) {
        for runtime in self.runtimes(None).into_iter().flatten() {
            for endpoint in runtime.all_endpoints() {
                endpoint.pool.sweep();
            }
        }
    }
}
