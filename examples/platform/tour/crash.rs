//! Crashes, and the end.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{GAP, Outcome, STEP, TOTAL, Tour, Trouble, in_time, looked, millis, so};
use crate::child::kill;
use crate::control::Ask;
use crate::load::CONNECTIONS;
use crate::report::Apart;

impl Tour<'_> {
    /// Waits for the first success after a kill, then for enough requests.
    async fn healed(&mut self, began: Instant) -> Outcome {
        let first = self.load.until(Instant::now() + Duration::from_secs(20), |tally| {
            tally.watched.is_some_and(|watched| watched.first.is_some())
        });
        if !first.await {
            return Err("nothing succeeds any more".to_owned());
        }
        self.settled().await?;
        self.enough(began, STEP).await
    }

    pub(super) async fn kill_instance(&mut self) -> Outcome {
        let began = Instant::now();
        let before = self.platform.shop("api");
        let victim = *before.first().ok_or("there is no instance of api")?;
        self.load.transition();
        let since = self.watch();
        self.amid(Trouble::Instance, async |tour| {
            kill(victim);
            so("a new process", Duration::from_secs(10), || {
                let now = tour.platform.shop("api");
                now.len() == before.len() && !now.contains(&victim)
            })
            .await?;
            tour.healed(began).await
        })
        .await?;
        let tally = self.load.take();
        let lost = tally.apart_of(Apart::LostPost);
        if lost > CONNECTIONS as u64 {
            self.report.wrong(format!("{lost} POSTs were lost with an instance"));
        }
        let notes = format!(
            "{lost} POSTs in flight lost (at most {CONNECTIONS}), next success {}",
            millis(tally.gap(since))
        );
        self.finish_step("kill -9 of an instance", began, tally, &notes);
        Ok(())
    }

    pub(super) async fn kill_platform(&mut self) -> Outcome {
        let began = Instant::now();
        let shop = self.shop();
        let before = self.status().await?;
        self.load.transition();
        self.platform.kill().await?;
        self.enough(began, STEP / 2).await?;
        let (client, ready) = self.platform.start().await?;
        self.client = client;
        self.load.transition();
        let after = self.settled().await?;
        if self.shop() != shop {
            self.report.wrong("a new platform exchanged instances instead of adopting them".to_owned());
        }
        if (&after["promoted"], &after["address"]) != (&before["promoted"], &before["address"]) {
            self.report.wrong(format!("a new platform found something else: {after}"));
        }
        let goal = Duration::from_secs(1);
        self.report.figure("platform ready again, apps adopted", millis(ready), "<= 1000 ms", ready <= goal);
        self.enough(began, STEP).await?;
        let notes = format!("{} processes adopted, ready again after {}", shop.len(), millis(ready));
        self.note("kill -9 of the platform", began, &notes);
        Ok(())
    }

    /// The processes of all services.
    fn shop(&self) -> std::collections::BTreeSet<i32> {
        ["db", "api", "web"].into_iter().flat_map(|role| self.platform.shop(role)).collect()
    }

    pub(super) async fn kill_edge(&mut self) -> Outcome {
        self.kill_role("edge", "kill -9 of the edge", "gap when the edge is killed").await
    }

    pub(super) async fn kill_keeper(&mut self) -> Outcome {
        self.kill_role("keeper", "kill -9 of the keeper", "gap when the keeper is killed").await
    }

    async fn kill_role(&mut self, role: &str, step: &str, figure: &'static str) -> Outcome {
        let began = Instant::now();
        let shop = self.shop();
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
        if self.shop() != shop {
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
        so("the end of all processes", Duration::from_secs(10), || self.shop().is_empty()).await?;
        self.enough(began, STEP).await?;
        let tally = self.load.take();
        let refused = tally.apart_of(Apart::Stopped);
        self.finish_step("stop", began, tally, &format!("web, api, db; {refused} refused apart"));

        let began = Instant::now();
        let operation = self.operate(&Ask::Start).await?;
        self.finished(&operation).await?;
        looked(&mut self.client, Instant::now() + super::STEP_TIME, |status| {
            ["web", "api", "db"].iter().all(|name| {
                let (now, then) = (&status["services"][name], &before["services"][name]);
                // The number may be another: what the last revision left as it was counts as its own from now on.
                now["ready"] == then["replicas"] && templates(now) == templates(then)
            })
        })
        .await?;
        self.load.set_rules(|rules| rules.trouble = Trouble::None);
        let up = began.elapsed();
        let refused = self.load.peek(|tally| tally.apart_of(Apart::Stopped));
        self.load.read_all_back();
        let missing = TOTAL.saturating_sub(self.report.requests).max(STEP);
        in_time(
            "reading all orders back",
            self.load.until(began + super::STEP_TIME, |tally| {
                tally.requests >= missing && self.load.unread() == 0
            }),
        )
        .await?;
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
