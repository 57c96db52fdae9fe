//! The tour: drives a platform of its own through releases and crashes, under load, and checks every answer.

mod crash;
mod release;

use std::collections::BTreeMap;
use std::future::Future;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::child::{Platform, resident};
use crate::control::{Ask, Change, Client};
use crate::load::{Load, Rules, Trouble};
use crate::report::{Report, Tally, Watched, header, say};

/// The least requests of a step, and of the tour.
const STEP: u64 = 8_000;
const TOTAL: u64 = 100_000;
/// How long a step and the tour may take.
const STEP_TIME: Duration = Duration::from_secs(60);
const TOUR_TIME: Duration = Duration::from_secs(170);
/// The longest gap when the edge or the keeper is killed.
const GAP: Duration = Duration::from_secs(1);

type Outcome<T = ()> = Result<T, String>;

/// Takes the tour; 0 where nothing failed.
pub(crate) fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let local = tokio::task::LocalSet::new();
    let good = local.block_on(&runtime, whole());
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn whole() -> bool {
    say("a platform of our own starts; requests run throughout");
    let mut report = Report::new();
    let mut platform = match Platform::new() {
        Ok(platform) => platform,
        Err(error) => {
            say(&format!("error: {error}"));
            return false;
        }
    };
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(TOUR_TIME, run(&mut platform, &mut report)) => {
            outcome.unwrap_or_else(|_| Err(format!("the tour was not over after {TOUR_TIME:?}")))
        }
        () = told_to_end() => Err("told to end".to_owned()),
    };
    if let Err(error) = outcome {
        report.wrong(error);
    }
    if !report.is_good() {
        say("\nthe platform's last lines:");
        platform.last_lines(40).iter().for_each(|line| say(&format!("  {line}")));
    }
    drop(platform);
    report.finish();
    report.is_good()
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

async fn run(platform: &mut Platform, report: &mut Report) -> Outcome {
    let (client, ready) = platform.start().await?;
    let goal = Duration::from_secs(1);
    report.figure("platform ready after its start", millis(ready), "<= 1000 ms", ready <= goal);
    let mut tour = Tour::begin(platform, report, client).await?;
    let outcome = tour.steps().await;
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

/// The tour on its way.
struct Tour<'a> {
    platform: &'a mut Platform,
    report: &'a mut Report,
    client: Client,
    load: Rc<Load>,
    /// How the app differs from its file by now.
    changes: BTreeMap<String, Change>,
    /// The revision that was promoted before the canary was.
    before_canary: u64,
}

impl<'a> Tour<'a> {
    /// Waits for the first release, measures the platform at rest, then starts the load.
    async fn begin(platform: &'a mut Platform, report: &'a mut Report, mut client: Client) -> Outcome<Self> {
        header();
        let began = Instant::now();
        let status = settled(&mut client, began + STEP_TIME).await?;
        let address = status["address"].as_str().and_then(|address| address.parse().ok());
        let address = address.ok_or("the platform does not say where it serves")?;
        let pids = client.ask(&Ask::Pids).await?;
        let memory = |name: &str| pids[name].as_u64().and_then(resident).unwrap_or(f64::NAN);
        let both = memory("platform") + memory("keeper");
        report.figure(
            "platform and keeper idle, resident",
            format!("{both:.1} MiB"),
            "<= 100 MiB",
            both <= 100.0,
        );
        say(&format!(
            "at rest: platform {:.1} MiB, keeper {:.1} MiB, edge {:.1} MiB",
            memory("platform"),
            memory("keeper"),
            memory("edge")
        ));
        let first = || ["1.0.0".to_owned()].into();
        let load = Load::start(address, Rules { api: first(), web: first(), ..Rules::default() });
        let mut tour = Self { platform, report, client, load, changes: BTreeMap::new(), before_canary: 0 };
        tour.enough(began, STEP).await?;
        tour.note("deploy", began, "three services in the order of their needs");
        Ok(tour)
    }

    async fn steps(&mut self) -> Outcome {
        self.rolling().await?;
        self.blue_green().await?;
        self.canary_aborted().await?;
        self.canary_promoted().await?;
        self.instant_rollback().await?;
        self.upgrade_of_data().await?;
        self.kill_instance().await?;
        self.kill_platform().await?;
        self.kill_edge().await?;
        self.kill_keeper().await?;
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
        let outcome = step(self).await;
        self.load.set_rules(|rules| rules.trouble = Trouble::None);
        outcome
    }

    async fn quit(&mut self) -> Outcome {
        self.platform.interrupt().await?;
        match self.platform.leftovers() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("the platform ended and left processes behind: {left:?}")),
        }
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
async fn so(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) -> Outcome {
    let until = Instant::now() + within;
    while !is_so() {
        if Instant::now() > until {
            return Err(format!("{what} did not happen within {within:?}"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Waits for something without end, but not for ever.
async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> Outcome<T> {
    tokio::time::timeout(STEP_TIME, future)
        .await
        .map_err(|_| format!("{what} took longer than {STEP_TIME:?}"))
}
