//! The tour: drives a platform of its own through releases and crashes, under load, and checks every answer.

mod cluster;
mod crash;
mod ground;
mod lines;
mod machine;
mod release;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::child::{Platform, resident};
use crate::control::{Ask, Change, Client};
use crate::http::Connection;
use crate::load::{Load, Rules, Service, Target, Trouble};
use crate::options::ClusterOptions;
use crate::report::{Report, Tally, Watched, header, say};
use cluster::Cluster;
use ground::{Bounds, Ground, Known};
use machine::Machine;

/// How long a step may take.
const STEP_TIME: Duration = Duration::from_secs(60);

type Outcome<T = ()> = Result<T, String>;

/// Takes the tour, on this machine or on a cluster; 0 where nothing failed.
pub(crate) fn main(cluster: Option<ClusterOptions>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let local = tokio::task::LocalSet::new();
    match local.block_on(&runtime, whole(cluster)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn whole(options: Option<ClusterOptions>) -> Outcome<bool> {
    let folder = tempfile::Builder::new().prefix("paas-tour-").tempdir();
    let folder = folder.map_err(|error| format!("cannot make a directory: {error}"))?;
    let place = match options {
        None => Place::Machine(Machine::new(folder.path())),
        Some(options) => Place::Cluster(Cluster::new(options).await?),
    };
    let ground = place.ground();
    say(&format!("{}; requests run throughout", ground.describe()));
    let mut report = Report::new();
    let mut platform = Platform::new(folder.path(), ground.arguments());
    let limit = ground.bounds().tour;
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(limit, run(&mut platform, &place, &mut report)) => {
            outcome.unwrap_or_else(|_| Err(format!("the tour was not over after {limit:?}")))
        }
        () = told_to_end() => Err("told to end".to_owned()),
    };
    if let Err(error) = outcome {
        report.wrong(error);
    }
    if !report.is_good() {
        say("\nthe platform's last lines:");
        platform
            .last_lines(40)
            .iter()
            .chain(&ground.picture().await)
            .for_each(|line| say(&format!("  {line}")));
    }
    drop(platform);
    if let Err(error) = ground.clear().await {
        report.wrong(error);
    }
    report.finish();
    Ok(report.is_good())
}

/// Where the tour is taken.
enum Place {
    Machine(Machine),
    Cluster(Cluster),
}

impl Place {
    fn ground(&self) -> &dyn Ground {
        match self {
            Self::Machine(machine) => machine,
            Self::Cluster(cluster) => cluster,
        }
    }
}

async fn told_to_end() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

async fn run(platform: &mut Platform, place: &Place, report: &mut Report) -> Outcome {
    let bounds = place.ground().bounds();
    let (client, ready) = platform.start().await?;
    report.figure(
        "platform ready after its start",
        millis(ready),
        at_most(bounds.ready),
        ready <= bounds.ready,
    );
    let mut tour = Tour::begin(platform, place.ground(), report, client).await?;
    let outcome = tour.steps(place).await;
    // What was counted in a step that broke off belongs to the total.
    let rest = tour.load.take();
    if rest.requests > 0 {
        tour.report.step("(between steps)", Duration::ZERO, rest, "");
    }
    tour.load.stop();
    outcome?;
    tour.quit().await
}

/// `3.42 ms`.
fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
}

fn at_most(time: Duration) -> String {
    format!("<= {} ms", time.as_millis())
}

/// The tour on its way.
struct Tour<'a> {
    platform: &'a mut Platform,
    ground: &'a dyn Ground,
    bounds: Bounds,
    report: &'a mut Report,
    client: Client,
    target: Target,
    load: Rc<Load>,
    /// How the app differs from its file by now.
    changes: BTreeMap<String, Change>,
    /// The revision that was promoted before the canary was.
    before_canary: u64,
    /// The longest time that a revision still answered after it should not have.
    late: Duration,
}

impl<'a> Tour<'a> {
    /// Waits for the first release, measures the platform at rest, then starts the load.
    async fn begin(
        platform: &'a mut Platform,
        ground: &'a dyn Ground,
        report: &'a mut Report,
        mut client: Client,
    ) -> Outcome<Self> {
        header();
        let (began, bounds) = (Instant::now(), ground.bounds());
        let status = settled(&mut client, began + STEP_TIME).await?;
        let target = ground.target(status["address"].as_str())?;
        answers(&target, began + STEP_TIME).await?;
        at_rest(report, &client.ask(&Ask::Pids).await?);
        let first = || ["1.0.0".to_owned()].into();
        let load = Load::start(target.clone(), Rules { api: first(), web: first(), ..Rules::default() });
        let mut tour = Self {
            platform,
            ground,
            bounds,
            report,
            client,
            target,
            load,
            changes: BTreeMap::new(),
            before_canary: 0,
            late: Duration::ZERO,
        };
        tour.enough(began, bounds.step).await?;
        tour.note("deploy", began, "three services in the order of their needs");
        Ok(tour)
    }

    async fn steps(&mut self, place: &Place) -> Outcome {
        self.rolling().await?;
        self.blue_green().await?;
        self.canary_aborted().await?;
        self.lines().await?;
        self.canary_promoted().await?;
        self.instant_rollback().await?;
        self.upgrade_of_data().await?;
        self.kill_instance().await?;
        match place {
            Place::Machine(_) => {
                self.kill_platform().await?;
                self.kill_edge().await?;
                self.kill_keeper().await?;
            }
            Place::Cluster(cluster) => {
                self.kill_platform_amid_release().await?;
                self.deleted_by_somebody(cluster).await?;
                say("(there is no edge and no keeper on a cluster whose end could be shown)");
            }
        }
        self.stop_and_start().await
    }

    /// Ends the step: what was counted, with a note.
    fn note(&mut self, name: &str, began: Instant, notes: &str) {
        let tally = self.load.take();
        self.finish_step(name, began, tally, notes);
    }

    fn finish_step(&mut self, name: &str, began: Instant, tally: Tally, notes: &str) {
        self.report.step(name, began.elapsed(), tally, notes);
    }

    /// Waits until the step has had that many requests.
    async fn enough(&self, began: Instant, requests: u64) -> Outcome {
        if self.load.until(began + STEP_TIME, |tally| tally.requests >= requests).await {
            return Ok(());
        }
        Err(format!("{} of {requests} requests were answered in {STEP_TIME:?}", self.load.count()))
    }

    /// Asks for an operation, with requests in flight.
    async fn operate(&mut self, ask: &Ask) -> Outcome<String> {
        self.load.transition();
        let reply = self.client.ask(ask).await?;
        Ok(reply["operation"].as_str().ok_or("no operation was begun")?.to_owned())
    }

    /// Waits for an operation to succeed.
    async fn finished(&mut self, operation: &str) -> Outcome<Value> {
        let operation = operation.parse().map_err(|error| format!("{error}"))?;
        let seconds = STEP_TIME.as_secs();
        let wait = Ask::Wait { operation, seconds };
        let ended = self.client.ask_within(&wait, STEP_TIME + Duration::from_secs(5)).await;
        self.load.transition();
        ended
    }

    fn deploy(&self) -> Ask {
        Ask::Deploy { changes: self.changes.clone() }
    }

    /// Changes how a service of the app is to be from now on.
    fn change(&mut self, service: &str, version: &str, release: Option<Value>) -> Outcome {
        let change = self.changes.entry(service.to_owned()).or_default();
        change.env = [("VERSION".to_owned(), version.to_owned())].into();
        change.release = match release {
            Some(release) => Some(serde_json::from_value(release).map_err(|error| error.to_string())?),
            None => None,
        };
        Ok(())
    }

    async fn status(&mut self) -> Outcome<Value> {
        self.client.ask(&Ask::Status).await
    }

    /// Waits until all services have all their replicas.
    async fn settled(&mut self) -> Outcome<Value> {
        settled(&mut self.client, Instant::now() + STEP_TIME).await
    }

    /// A service as the status names it.
    async fn known(&mut self, name: &str) -> Outcome<Known> {
        let status = self.status().await?;
        let id =
            status["services"][name]["id"].as_str().ok_or_else(|| format!("there is no service {name}"))?;
        Ok(Known { name: name.to_owned(), id: id.to_owned() })
    }

    /// What runs of a service.
    async fn instances(&mut self, name: &str) -> Outcome<BTreeSet<String>> {
        let service = self.known(name).await?;
        self.ground.instances(&service).await
    }

    /// What runs of all services.
    async fn shop(&mut self) -> Outcome<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for name in ["db", "api", "web"] {
            all.append(&mut self.instances(name).await?);
        }
        Ok(all)
    }

    /// Starts the platform that was killed; gives how long it took to be ready.
    async fn start_again(&mut self) -> Outcome<Duration> {
        let (client, ready) = self.platform.start().await?;
        self.client = client;
        self.load.transition();
        let goal = self.bounds.ready;
        self.report.figure("platform ready again, apps adopted", millis(ready), at_most(goal), ready <= goal);
        Ok(ready)
    }

    /// Looks for the first success from now on.
    fn watch(&self) -> Instant {
        let since = Instant::now();
        self.load.watch(Watched { since, first: None });
        since
    }

    /// Lets something go wrong while the step goes on.
    async fn amid<T>(
        &mut self,
        trouble: Trouble,
        step: impl AsyncFnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<T> {
        self.load.set_rules(|rules| rules.trouble = trouble);
        let outcome = step(self).await?;
        self.calm().await?;
        Ok(outcome)
    }

    /// From now on nothing may go wrong, once everybody knows that nothing has to.
    async fn calm(&mut self) -> Outcome {
        let (now, quiet) = (Instant::now(), self.bounds.quiet);
        let calm = self.load.quiet(now, quiet, now + STEP_TIME, Load::last_apart).await;
        self.load.set_rules(|rules| rules.trouble = Trouble::None);
        calm.map(drop).ok_or_else(|| format!("requests still failed after {STEP_TIME:?}"))
    }

    /// From now on only this revision of a service may answer, once everybody who routes has learned of it.
    ///
    /// Gives how long after that moment another one still answered.
    async fn only(&mut self, service: Service, version: &str, since: Instant) -> Outcome<Duration> {
        let last = |load: &Load| load.last_other(service, version);
        let late = self.load.quiet(since, self.bounds.quiet, Instant::now() + STEP_TIME, last).await;
        let late = late.ok_or_else(|| format!("other revisions of {} answered on and on", service.name()))?;
        self.late = self.late.max(late);
        self.load.set_rules(|rules| *rules.of(service) = [version.to_owned()].into());
        Ok(late)
    }

    async fn quit(&mut self) -> Outcome {
        if !self.bounds.quiet.is_zero() {
            self.report.figure("old revision, release over to last answer", millis(self.late), "-", true);
        }
        self.platform.interrupt().await?;
        self.ground.clear().await?;
        match self.ground.leftovers().await? {
            left if left.is_empty() => Ok(()),
            left => Err(format!("the platform ended and left something behind: {left:?}")),
        }
    }
}

/// Notes what the platform takes while nobody asks for anything.
fn at_rest(report: &mut Report, pids: &Value) {
    let memory = |name: &str| pids[name].as_u64().and_then(resident);
    let all: Vec<(&str, f64)> =
        ["platform", "keeper", "edge"].into_iter().filter_map(|name| Some((name, memory(name)?))).collect();
    let own = all.iter().filter(|(name, _)| *name != "edge").map(|(_, memory)| memory).sum::<f64>();
    let name = if all.len() > 1 { "platform and keeper idle, resident" } else { "platform idle, resident" };
    report.figure(name, format!("{own:.1} MiB"), "<= 100 MiB", own > 0.0 && own <= 100.0);
    let each = all.iter().map(|(name, memory)| format!("{name} {memory:.1} MiB"));
    say(&format!("at rest: {}", each.collect::<Vec<_>>().join(", ")));
}

/// Waits for the first good answer: whoever brings requests may learn of a route later than the platform.
async fn answers(target: &Target, deadline: Instant) -> Outcome {
    let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", target.host);
    let ask = async || Connection::open(target.address).await?.exchange(request.as_bytes()).await;
    loop {
        let last = match ask().await {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(answer) => format!("status {}", answer.status),
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            return Err(format!("{} does not answer for {}: {last}", target.address, target.host));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until nothing is going on and every service has all its replicas ready.
async fn settled(client: &mut Client, deadline: Instant) -> Outcome<Value> {
    looked(client, deadline, |status| {
        let ready = |service: &Value| {
            service["ready"] == service["replicas"]
                && service["releasing"] == false
                && service["ready"].as_u64() > Some(0)
        };
        status["operating"] == false
            && status["services"].as_object().is_some_and(|all| all.len() == 3 && all.values().all(ready))
    })
    .await
}

/// Looks at the status until it is as it should be.
async fn looked(client: &mut Client, deadline: Instant, good: impl Fn(&Value) -> bool) -> Outcome<Value> {
    loop {
        let status = client.ask(&Ask::Status).await?;
        if good(&status) {
            return Ok(status);
        }
        if Instant::now() > deadline {
            return Err(format!("not as it should be in time: {status}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Looks again and again until something is so.
async fn so(what: &str, within: Duration, mut is_so: impl AsyncFnMut() -> Outcome<bool>) -> Outcome {
    let until = Instant::now() + within;
    while !is_so().await? {
        if Instant::now() > until {
            return Err(format!("{what} did not happen within {within:?}"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
