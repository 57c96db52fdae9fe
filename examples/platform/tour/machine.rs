//! This machine: instances are processes, and so are the edge and the keeper.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::ground::{Bounds, Ground, Known};
use super::{Outcome, Tour, Trouble, millis};
use crate::control::Ask;
use crate::load::{Service, Target};
use crate::report::Apart;

/// The longest gap when the edge or the keeper is killed.
const GAP: Duration = Duration::from_secs(1);

/// A platform on this machine, in a directory of its own.
#[derive(Debug)]
pub(super) struct Machine {
    folder: PathBuf,
}

impl Machine {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// All processes that have our directory in their command line or environment.
    fn processes(&self) -> BTreeSet<i32> {
        let own = self.folder.to_string_lossy().into_owned();
        let names = |bytes: &[u8]| bytes.windows(own.len()).any(|part| part == own.as_bytes());
        let mut found = processes("cmdline", names);
        found.extend(processes("environ", names));
        found
    }
}

#[async_trait(?Send)]
impl Ground for Machine {
    fn bounds(&self) -> Bounds {
        Bounds {
            canary: Service::Api,
            counts_errors: true,
            victims: &["api"],
            lost: Trouble::Instance,
            step: 8_000,
            total: 100_000,
            measured: 10_000,
            tour: Duration::from_secs(170),
            quiet: Duration::ZERO,
            ready: Duration::from_secs(1),
            route: Duration::from_millis(1),
        }
    }

    fn describe(&self) -> String {
        "a platform of our own starts on this machine".to_owned()
    }

    fn arguments(&self) -> Vec<String> {
        ["--listen", "127.0.0.1:0"].map(str::to_owned).into()
    }

    fn target(&self, address: Option<&str>) -> Outcome<Target> {
        let address = address.and_then(|address| address.parse().ok());
        let address = address.ok_or("the platform does not say where it serves")?;
        let pause = Duration::from_millis(5);
        Ok(Target { address, host: "shop.localhost".to_owned(), canary: Service::Api, pause })
    }

    /// Processes of the shop: their command lines name our directory.
    async fn instances(&self, service: &Known) -> Outcome<BTreeSet<String>> {
        let program = self.folder.join("data/bundle/shop/shop");
        let start = [program.to_string_lossy().as_bytes(), b"\0", service.name.as_bytes(), b"\0"].concat();
        Ok(names(&processes("cmdline", |line| line == start)))
    }

    async fn kill(&self, instance: &str) -> Outcome {
        instance.parse().map(kill).map_err(|_| format!("{instance} is no process"))
    }

    async fn leftovers(&self) -> Outcome<BTreeSet<String>> {
        Ok(names(&self.processes()))
    }

    async fn clear(&self) -> Outcome {
        Ok(())
    }

    async fn picture(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Drop for Machine {
    /// The platform has been killed before: the keeper first, so that nobody starts anything again, until nothing is left.
    fn drop(&mut self) {
        let until = std::time::Instant::now() + Duration::from_secs(5);
        loop {
            let left = self.processes();
            if left.is_empty() || std::time::Instant::now() > until {
                return;
            }
            let keepers = processes("environ", |environ| {
                environ.split(|byte| *byte == 0).any(|variable| variable == b"PAAS_LOCAL_ROLE=keeper")
            });
            let order = keepers.intersection(&left).chain(left.difference(&keepers));
            order.for_each(|pid| kill(*pid));
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

fn names(pids: &BTreeSet<i32>) -> BTreeSet<String> {
    pids.iter().map(ToString::to_string).collect()
}

/// Kills a process.
fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // One that is gone needs no killing.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Other processes whose file in `/proc` is like this. Dead ones have empty files.
fn processes(file: &str, like: impl Fn(&[u8]) -> bool) -> BTreeSet<i32> {
    let own = std::process::id().cast_signed();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        *pid != own && std::fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|bytes| like(&bytes))
    })
    .collect()
}

/// The steps that only a machine has.
impl Tour<'_> {
    /// Kills the platform while nothing goes on: what runs must not notice.
    pub(super) async fn kill_platform(&mut self) -> Outcome {
        let began = Instant::now();
        let shop = self.shop().await?;
        let before = self.status().await?;
        self.load.transition();
        self.platform.kill().await?;
        self.enough(began, self.bounds.step / 2).await?;
        let ready = self.start_again().await?;
        let after = self.settled().await?;
        if self.shop().await? != shop {
            self.report.wrong("a new platform exchanged instances instead of adopting them".to_owned());
        }
        if (&after["promoted"], &after["address"]) != (&before["promoted"], &before["address"]) {
            self.report.wrong(format!("a new platform found something else: {after}"));
        }
        self.enough(began, self.bounds.step).await?;
        let notes = format!("{} processes adopted, ready again after {}", shop.len(), millis(ready));
        self.note("kill -9 of the platform", began, &notes);
        Ok(())
    }

    pub(super) async fn kill_edge(&mut self) -> Outcome {
        self.kill_role("edge", "kill -9 of the edge", "gap when the edge is killed").await
    }

    pub(super) async fn kill_keeper(&mut self) -> Outcome {
        self.kill_role("keeper", "kill -9 of the keeper", "gap when the keeper is killed").await
    }

    async fn kill_role(&mut self, role: &str, step: &str, figure: &'static str) -> Outcome {
        let began = Instant::now();
        let shop = self.shop().await?;
        let victim = self.client.ask(&Ask::Pids).await?[role].as_i64().ok_or("no process id")?;
        self.load.transition();
        let since = self.watch();
        self.amid(Trouble::Gap, async |tour| {
            kill(i32::try_from(victim).map_err(|error| error.to_string())?);
            let until = Instant::now() + Duration::from_secs(10);
            loop {
                match tour.client.ask(&Ask::Pids).await {
                    Ok(pids) if pids[role].as_i64().is_some_and(|now| now != victim) => break,
                    _ if Instant::now() > until => return Err(format!("the {role} did not come back")),
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
            tour.healed(began).await
        })
        .await?;
        if self.shop().await? != shop {
            self.report.wrong(format!("killing the {role} ended instances"));
        }
        let tally = self.load.take();
        let (gap, broken) = (tally.gap(since), tally.apart_of(Apart::Gap));
        self.report.figure(figure, millis(gap), "<= 1000 ms", gap <= GAP);
        if gap > GAP {
            self.report.wrong(format!("{step}: {} until requests succeeded again", millis(gap)));
        }
        self.finish_step(step, began, tally, &format!("gap {}, {broken} broken apart", millis(gap)));
        Ok(())
    }
}
