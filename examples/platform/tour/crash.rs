//! Crashes, and the end.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{Outcome, STEP_TIME, Tour, Trouble, looked, millis, so};
use crate::control::Ask;
use crate::load::CONNECTIONS;
use crate::report::Apart;

/// An order is read back at least so fast, on a machine that has other things to do.
const READ: Duration = Duration::from_millis(5);

impl Tour<'_> {
    /// Waits for the first success after a kill, then for enough requests.
    pub(super) async fn healed(&mut self, began: Instant) -> Outcome {
        let first = self.load.until(Instant::now() + Duration::from_secs(20), |tally| {
            tally.watched.is_some_and(|watched| watched.first.is_some())
        });
        if !first.await {
            return Err("nothing succeeds any more".to_owned());
        }
        self.settled().await?;
        self.enough(began, self.bounds.step).await
    }

    /// Ends instances without asking the platform. Where the place drains them, nothing may be lost.
    pub(super) async fn kill_instance(&mut self) -> Outcome {
        let began = Instant::now();
        let mut victims = Vec::new();
        for name in self.bounds.victims {
            let (service, before) = (self.known(name).await?, self.instances(name).await?);
            let victim = before.first().ok_or_else(|| format!("there is no instance of {name}"))?.clone();
            victims.push((service, victim, before.len()));
        }
        self.load.transition();
        let since = self.watch();
        self.amid(self.bounds.lost, async |tour| {
            for (_, victim, _) in &victims {
                tour.ground.kill(victim).await?;
            }
            for (service, victim, count) in &victims {
                so("a new instance", Duration::from_secs(20), async || {
                    let now = tour.ground.instances(service).await?;
                    Ok(now.len() == *count && !now.contains(victim))
                })
                .await?;
            }
            tour.healed(began).await
        })
        .await?;
        let tally = self.load.take();
        let lost = tally.apart_of(Apart::LostPost);
        if lost > CONNECTIONS as u64 {
            self.report.wrong(format!("{lost} POSTs were lost with an instance"));
        }
        let next = millis(tally.gap(since));
        match self.bounds.lost {
            Trouble::Instance => {
                let notes =
                    format!("{lost} POSTs in flight lost (at most {CONNECTIONS}), next success {next}");
                self.finish_step("kill -9 of an instance", began, tally, &notes);
            }
            _ => {
                let notes = format!("of {}; replaced while they drain", self.bounds.victims.join(" and "));
                self.finish_step("deletion of instances", began, tally, &notes);
            }
        }
        Ok(())
    }

    /// Stops everything and starts it again; then every order that was ever acknowledged is read back.
    pub(super) async fn stop_and_start(&mut self) -> Outcome {
        let began = Instant::now();
        let before = self.status().await?;
        self.load.set_rules(|rules| rules.trouble = Trouble::Stopped);
        let operation = self.operate(&Ask::Stop).await?;
        let ended = self.finished(&operation).await?;
        let order: Vec<&str> = ended["events"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|event| event["text"] == "stops")
            .filter_map(|event| event["service"].as_str())
            .collect();
        if order != ["web", "api", "db"] {
            self.report.wrong(format!("stopped in the order {order:?}"));
        }
        let mut left = self.shop().await?;
        let until = Instant::now() + STEP_TIME;
        while !left.is_empty() {
            if Instant::now() > until {
                return Err(format!("stopped, and yet these run: {left:?}"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            left = self.shop().await?;
        }
        self.enough(began, self.bounds.step).await?;
        let tally = self.load.take();
        let refused = tally.apart_of(Apart::Stopped);
        self.finish_step("stop", began, tally, &format!("web, api, db; {refused} refused apart"));

        let began = Instant::now();
        let operation = self.operate(&Ask::Start).await?;
        self.finished(&operation).await?;
        looked(&mut self.client, Instant::now() + STEP_TIME, |status| {
            ["web", "api", "db"].iter().all(|name| {
                let (now, then) = (&status["services"][name], &before["services"][name]);
                // The number may be another: what the last revision left as it was counts as its own from now on.
                now["ready"] == then["replicas"] && templates(now) == templates(then)
            })
        })
        .await?;
        let up = began.elapsed();
        self.calm().await?;
        let refused = self.load.peek(|tally| tally.apart_of(Apart::Stopped));
        self.load.read_all_back();
        let orders = u32::try_from(self.load.acknowledged()).unwrap_or(u32::MAX);
        let until = Instant::now() + STEP_TIME + READ.saturating_mul(orders);
        let missing = self.bounds.total.saturating_sub(self.report.requests).max(self.bounds.step);
        self.load.until(until, |tally| tally.requests >= missing && self.load.unread() == 0).await;
        let unread = self.load.unread();
        if unread > 0 {
            self.report.wrong(format!("{unread} orders were not read back in time"));
        }
        let orders = self.load.acknowledged();
        let notes =
            format!("ready after {}, {refused} refused apart; all {orders} orders read back", millis(up));
        self.note("start", began, &notes);
        Ok(())
    }
}

/// What the instances of a service's revision were started from; a warm old slot is left out.
fn templates(service: &Value) -> Vec<&Value> {
    let instances = service["instances"].as_array().into_iter().flatten();
    let own = instances.filter(|instance| instance["revision"] == service["revision"]);
    own.map(|instance| &instance["template"]).collect()
}
