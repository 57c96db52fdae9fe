//! Releases and their way back.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Outcome, STEP_TIME, Tour, Trouble, at_most, millis};
use crate::control::Ask;
use crate::load::{Load, Service};
use crate::report::Apart;

/// The share of the requests that a canary gets, in per cent.
const SHARE: u64 = 25;
/// The first share of the canary in the app file, in per cent.
const FIRST_SHARE: u64 = 5;
/// The revision that fails half of its requests, and how many of them a person looks at.
const BAD: &str = "4.0.0-bad";
const ERRORS: u64 = 20;

impl Tour<'_> {
    /// One release of `api` and `web` from old to new revisions, which both answer until it is over.
    async fn released(&mut self, name: &str, version: &str, notes: &str) -> Outcome {
        let began = Instant::now();
        self.load.set_rules(|rules| {
            rules.api.insert(version.to_owned());
            rules.web.insert(version.to_owned());
        });
        let operation = self.operate(&self.deploy()).await?;
        self.finished(&operation).await?;
        let over = Instant::now();
        self.only(Service::Web, version, over).await?;
        self.only(Service::Api, version, over).await?;
        self.enough(began, self.bounds.step).await?;
        self.settled().await?;
        self.note(name, began, notes);
        Ok(())
    }

    pub(super) async fn rolling(&mut self) -> Outcome {
        self.change("api", "2.0.0", Some(json!("rolling")))?;
        self.change("web", "2.0.0", None)?;
        self.released("rolling upgrade", "2.0.0", "api and web, one after the other").await
    }

    pub(super) async fn blue_green(&mut self) -> Outcome {
        self.change("api", "3.0.0", Some(json!("blue-green")))?;
        self.change("web", "3.0.0", Some(json!("blue-green")))?;
        self.released("blue-green", "3.0.0", "api and web, at once").await
    }

    /// A bad revision: the release must be given up, and the old revision go on.
    pub(super) async fn canary_aborted(&mut self) -> Outcome {
        let (began, service) = (Instant::now(), self.bounds.canary);
        let before = self.changes.clone();
        // Where errors are counted, as the app file says: 5 % first, given up above 5 % of errors.
        let held = json!({ "canary": [format!("{SHARE}%")], "approve": true });
        self.change(service.name(), BAD, (!self.bounds.counts_errors).then_some(held))?;
        if let Some(change) = self.changes.get_mut(service.name()) {
            change.env.insert("FAIL_RATE".to_owned(), "50%".to_owned());
        }
        self.load.set_rules(|rules| rules.bad = Some(BAD.to_owned()));
        let operation = self.operate(&self.deploy()).await?;
        if !self.bounds.counts_errors {
            self.give_up(&operation).await?;
        }
        let Err(why) = self.finished(&operation).await else {
            return Err("the bad revision was promoted".to_owned());
        };
        let expected = if self.bounds.counts_errors { "requests failed" } else { "abort" };
        if !why.contains(expected) {
            return Err(format!("the release failed for another reason: {why}"));
        }
        let over = Instant::now();
        let bad =
            self.load.quiet(over, self.bounds.quiet, over + STEP_TIME, |load| load.last_of(service, BAD));
        bad.await.ok_or("the bad revision answered on and on")?;
        self.load.set_rules(|rules| rules.bad = None);
        self.changes = before;
        self.enough(began, self.bounds.step).await?;
        self.settled().await?;
        let tally = self.load.take();
        let (bad, all) = (tally.answers_of(BAD), tally.answers_of_all());
        let first = if self.bounds.counts_errors { FIRST_SHARE } else { SHARE };
        let most = all * first / 100 + 2;
        let notes =
            format!("{bad} answers of the bad revision (at most {most}), {} errors", tally.bad_failed);
        if bad > most || bad == 0 {
            self.report.wrong(format!("canary: {notes}"));
        }
        let name = if self.bounds.counts_errors { "canary, aborted by errors" } else { "canary, aborted" };
        self.finish_step(name, began, tally, &notes);
        Ok(())
    }

    /// What a person does who sees the errors of a canary.
    async fn give_up(&mut self, operation: &str) -> Outcome {
        self.happens(operation, &format!("gets {SHARE}% of the requests")).await?;
        if !self.load.until(Instant::now() + STEP_TIME, |tally| tally.bad_failed >= ERRORS).await {
            return Err(format!("the bad revision made no {ERRORS} errors in {STEP_TIME:?}"));
        }
        let operation = operation.parse().map_err(|error| format!("{error}"))?;
        self.load.transition();
        self.client.ask(&Ask::Signal { operation, signal: paas::model::Signal::Abort }).await.map(drop)
    }

    /// A good canary, held until its share is measured, then approved.
    pub(super) async fn canary_promoted(&mut self) -> Outcome {
        let began = Instant::now();
        self.before_canary = self.status().await?["promoted"].as_u64().ok_or("nothing is promoted")?;
        let service = self.bounds.canary;
        let held = json!({ "canary": [format!("{SHARE}%")], "approve": true });
        self.change(service.name(), "5.0.0", Some(held))?;
        self.load.set_rules(|rules| {
            rules.of(service).insert("5.0.0".to_owned());
        });
        let operation = self.operate(&self.deploy()).await?;
        self.happens(&operation, &format!("gets {SHARE}% of the requests")).await?;
        // The first answer shows that the share is in force everywhere.
        if !self.load.until(Instant::now() + STEP_TIME, |tally| tally.answers_of("5.0.0") > 0).await {
            return Err("the canary was asked nothing".to_owned());
        }
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
        self.only(service, "5.0.0", Instant::now()).await?;
        self.settled().await?;
        self.note("canary, approved", began, &format!("{share:.2} % of {} requests at {SHARE} %", old + new));
        Ok(())
    }

    /// Counts answers of the old and the new revision, from a moment when the shares are in force.
    async fn shares(&mut self, new: &str) -> Outcome<(u64, u64)> {
        let counts = |load: &Load| {
            load.peek(|tally| (tally.answers_of_all() - tally.answers_of(new), tally.answers_of(new)))
        };
        let (old_before, new_before) = counts(&self.load);
        let enough = old_before + new_before + self.bounds.measured;
        if !self.load.until(Instant::now() + STEP_TIME, |tally| tally.answers_of_all() >= enough).await {
            return Err(format!("fewer than {} answers in {STEP_TIME:?}", self.bounds.measured));
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
        let service = self.bounds.canary;
        let known = self.known(service.name()).await?;
        let before = self.ground.instances(&known).await?;
        let revision = self.before_canary;
        self.load.set_rules(|rules| {
            rules.of(service).insert("3.0.0".to_owned());
        });
        let asked = micros_now();
        let start = Instant::now();
        let operation = self.operate(&Ask::Rollback { revision }).await?;
        self.finished(&operation).await?;
        let took = start.elapsed();
        let over = micros_now();
        let late = self.only(service, "3.0.0", Instant::now()).await?;
        let changes = self.client.ask(&Ask::RouteChanges).await?;
        let moved: Vec<u64> = changes
            .as_array()
            .into_iter()
            .flatten()
            .filter(|change| change["service"].as_str().is_some_and(|path| path.ends_with(&known.id)))
            .filter(|change| change["at_micros"].as_u64().is_some_and(|at| (asked..=over).contains(&at)))
            .filter_map(|change| change["took_micros"].as_u64())
            .collect();
        if self.ground.instances(&known).await? != before {
            self.report.wrong("the rollback started or stopped instances".to_owned());
        }
        let one = moved.len() == 1;
        self.report.figure("route changes of a rollback", moved.len().to_string(), "1", one);
        let longest = Duration::from_micros(moved.iter().copied().max().unwrap_or_default());
        let goal = self.bounds.route;
        let met = longest <= goal && !moved.is_empty();
        self.report.figure("route change, asked to moved and stored", millis(longest), at_most(goal), met);
        self.report.figure("rollback, asked to finished", millis(took), "-", true);
        self.changes.remove(service.name());
        self.change(service.name(), "3.0.0", Some(json!("blue-green")))?;
        self.enough(began, self.bounds.step).await?;
        self.settled().await?;
        let notes = format!("finished after {}, seen {} later, nothing started", millis(took), millis(late));
        self.note("instant rollback", began, &notes);
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
        self.enough(began, self.bounds.step).await?;
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
