//! Releases and their way back.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Outcome, STEP, STEP_TIME, Tour, Trouble, millis};
use crate::control::Ask;
use crate::report::Apart;

/// The share of the requests that a canary gets, and over how many it is measured.
const SHARE: u64 = 25;
const MEASURED: u64 = 10_000;
/// The first share of the canary in the app file.
const FIRST_SHARE: f64 = 0.05;

impl Tour<'_> {
    /// One release from old to new revisions, which both answer until it is over.
    async fn released(&mut self, name: &str, api: &str, web: Option<&str>, notes: &str) -> Outcome {
        let began = Instant::now();
        self.load.set_rules(|rules| {
            rules.api.insert(api.to_owned());
            rules.web.extend(web.map(str::to_owned));
        });
        let operation = self.operate(&self.deploy()).await?;
        self.finished(&operation).await?;
        self.only(api, web);
        self.enough(began, STEP).await?;
        self.settled().await?;
        self.note(name, began, notes);
        Ok(())
    }

    /// From now on only these revisions may answer.
    fn only(&self, api: &str, web: Option<&str>) {
        self.load.set_rules(|rules| {
            rules.api = [api.to_owned()].into();
            if let Some(web) = web {
                rules.web = [web.to_owned()].into();
            }
        });
    }

    pub(super) async fn rolling(&mut self) -> Outcome {
        self.change("api", "2.0.0", Some(json!("rolling")))?;
        self.change("web", "2.0.0", None)?;
        self.released("rolling upgrade", "2.0.0", Some("2.0.0"), "api and web, one after the other").await
    }

    pub(super) async fn blue_green(&mut self) -> Outcome {
        self.change("api", "3.0.0", Some(json!("blue-green")))?;
        self.change("web", "3.0.0", Some(json!("blue-green")))?;
        self.released("blue-green", "3.0.0", Some("3.0.0"), "api and web, at once").await
    }

    /// A bad revision: the release must fail by itself, and the old revision go on.
    pub(super) async fn canary_aborted(&mut self) -> Outcome {
        let began = Instant::now();
        let before = self.changes.clone();
        // As the app file says: 5 % first, given up above 5 % of errors.
        self.change("api", "4.0.0-bad", None)?;
        if let Some(api) = self.changes.get_mut("api") {
            api.env.insert("FAIL_RATE".to_owned(), "50%".to_owned());
        }
        self.load.set_rules(|rules| rules.bad = Some("4.0.0-bad".to_owned()));
        let operation = self.operate(&self.deploy()).await?;
        let Err(why) = self.finished(&operation).await else {
            return Err("the bad revision was promoted".to_owned());
        };
        if !why.contains("requests failed") {
            return Err(format!("the release failed for another reason: {why}"));
        }
        self.load.set_rules(|rules| rules.bad = None);
        self.changes = before;
        self.enough(began, STEP).await?;
        self.settled().await?;
        let tally = self.load.take();
        let bad = tally.api.get("4.0.0-bad").copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let most = (tally.api_total() as f64 * FIRST_SHARE).ceil() + 1.0;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let within = bad as f64 <= most;
        let notes =
            format!("{bad} answers of the bad revision (at most {most}), {} errors", tally.bad_failed);
        if !within || bad == 0 {
            self.report.wrong(format!("canary: {notes}"));
        }
        self.finish_step("canary, aborted by errors", began, tally, &notes);
        Ok(())
    }

    /// A good canary, held until its share is measured, then approved.
    pub(super) async fn canary_promoted(&mut self) -> Outcome {
        let began = Instant::now();
        self.before_canary = self.status().await?["promoted"].as_u64().ok_or("nothing is promoted")?;
        self.change("api", "5.0.0", Some(json!({ "canary": [format!("{SHARE}%")], "approve": true })))?;
        self.load.set_rules(|rules| {
            rules.api.insert("5.0.0".to_owned());
        });
        let operation = self.operate(&self.deploy()).await?;
        self.happens(&operation, &format!("gets {SHARE}% of the requests")).await?;
        let (old, new) = self.shares("5.0.0").await?;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let share = new as f64 * 100.0 / (old + new) as f64;
        #[expect(clippy::cast_precision_loss, reason = "a small constant")]
        let off = (share - SHARE as f64).abs();
        self.report.figure(
            "canary of 25 %: measured share",
            format!("{share:.2} %"),
            "within 1 %",
            off <= 1.0,
        );
        if off > 1.0 {
            self.report.wrong(format!("canary: {share:.2} % instead of {SHARE} %"));
        }
        let id = operation.parse().map_err(|error| format!("{error}"))?;
        self.load.transition();
        self.client.ask(&Ask::Signal { operation: id, signal: paas::model::Signal::Approve }).await?;
        self.finished(&operation).await?;
        self.only("5.0.0", None);
        self.settled().await?;
        self.note("canary, approved", began, &format!("{share:.2} % of {} requests at {SHARE} %", old + new));
        Ok(())
    }

    /// Counts answers of the old and the new revision of `api`, from a moment when the shares are in force.
    async fn shares(&mut self, new: &str) -> Outcome<(u64, u64)> {
        let counts = |load: &crate::load::Load| {
            load.peek(|tally| {
                let new = tally.api.get(new).copied().unwrap_or_default();
                (tally.api_total() - new, new)
            })
        };
        let (old_before, new_before) = counts(&self.load);
        let enough = old_before + new_before + MEASURED;
        if !self.load.until(Instant::now() + STEP_TIME, |tally| tally.api_total() >= enough).await {
            return Err(format!("fewer than {MEASURED} answers in {STEP_TIME:?}"));
        }
        let (old_after, new_after) = counts(&self.load);
        Ok((old_after - old_before, new_after - new_before))
    }

    /// Waits until an operation tells of something.
    async fn happens(&mut self, operation: &str, text: &str) -> Outcome {
        let until = Instant::now() + STEP_TIME;
        let id: paas::model::OperationId = operation.parse().map_err(|error| format!("{error}"))?;
        loop {
            let now = self.client.ask(&Ask::Operation { operation: id.clone() }).await?;
            if now["events"].as_array().is_some_and(|events| events.iter().any(|event| event["text"] == text))
            {
                return Ok(());
            }
            if now["ended"] != Value::Null || Instant::now() > until {
                return Err(format!("{text:?} did not happen: {now}"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Back to the revision in the warm slot: one route change.
    pub(super) async fn instant_rollback(&mut self) -> Outcome {
        let began = Instant::now();
        let status = self.status().await?;
        let api = status["services"]["api"]["id"].clone();
        let before = self.platform.shop("api");
        let revision = self.before_canary;
        self.load.set_rules(|rules| {
            rules.api.insert("3.0.0".to_owned());
        });
        let asked = micros_now();
        let start = Instant::now();
        let operation = self.operate(&Ask::Rollback { revision }).await?;
        self.finished(&operation).await?;
        let took = start.elapsed();
        self.only("3.0.0", None);
        let over = micros_now();
        let changes = self.client.ask(&Ask::RouteChanges).await?;
        let moved: Vec<u64> = changes
            .as_array()
            .into_iter()
            .flatten()
            .filter(|change| {
                change["service"].as_str().zip(api.as_str()).is_some_and(|(path, id)| path.ends_with(id))
            })
            .filter(|change| change["at_micros"].as_u64().is_some_and(|at| (asked..=over).contains(&at)))
            .filter_map(|change| change["took_micros"].as_u64())
            .collect();
        if self.platform.shop("api") != before {
            self.report.wrong("the rollback started or stopped instances".to_owned());
        }
        let one = moved.len() == 1;
        self.report.figure("route changes of a rollback", moved.len().to_string(), "1", one);
        let longest = Duration::from_micros(moved.iter().copied().max().unwrap_or_default());
        let goal = longest <= Duration::from_millis(1) && !moved.is_empty();
        self.report.figure("route change, asked to moved and on disk", millis(longest), "<= 1 ms", goal);
        self.report.figure("rollback, asked to finished", millis(took), "-", true);
        self.changes.remove("api");
        self.change("api", "3.0.0", Some(json!("blue-green")))?;
        self.enough(began, STEP).await?;
        self.settled().await?;
        self.note("instant rollback", began, &format!("finished after {}, nothing started", millis(took)));
        Ok(())
    }

    /// The service that keeps data: one writer, so it stops before it starts.
    pub(super) async fn upgrade_of_data(&mut self) -> Outcome {
        let began = Instant::now();
        self.change("db", "2.0.0", None)?;
        let acknowledged = self.load.acknowledged();
        self.amid(Trouble::Stopped, async |tour| {
            let operation = tour.operate(&tour.deploy()).await?;
            tour.finished(&operation).await?;
            tour.settled().await
        })
        .await?;
        self.enough(began, STEP).await?;
        let tally = self.load.take();
        let stopped = tally.broken.map_or(Duration::ZERO, |(first, last)| last - first);
        let refused = tally.apart_of(Apart::Stopped);
        self.report.figure("stop while db is upgraded", millis(stopped), "-", true);
        let notes =
            format!("stop {}, {refused} refused apart; {acknowledged} orders before", millis(stopped));
        self.finish_step("upgrade of db (data)", began, tally, &notes);
        Ok(())
    }
}

fn micros_now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
