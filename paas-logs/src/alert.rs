//! Counts lines as they pass, and raises alerts.
//!
//! What is counted is exact over restarts: an alert is stored before the lines that made it one, and where counting begins anew,
//! the lines that count still are asked of the store once.

mod window;

use std::collections::{HashMap, VecDeque};

use paas_core::model::{
    Alert, AlertKey, AlertLine, AlertScope, Digest, LogAlert, LogBatch, LogOrigin, LogPosition, LogQuery,
    LogRules, Timestamp,
};
use paas_core::port::LogPorts;
use paas_core::{ErrorKind, Result};

use crate::keyword::Keywords;
use window::Window;

/// Lines of an alert that are told, and lines before each.
const LINES: usize = 3;
const BEFORE: usize = 3;
/// A longer line is cut; in bytes.
const LONGEST: usize = 500;
/// Before there are more groups, those go of which nothing counts any more.
const GROUPS: usize = 10_000;
/// How many stored lines are asked for at once.
const PAGE: usize = 1_000;

/// The alerts of a service, ready for its lines.
#[derive(Debug)]
pub(crate) struct AlertRules {
    keywords: Keywords,
    rules: Vec<(LogAlert, String)>,
}

impl AlertRules {
    /// Compiles the alerts of an app and of its service.
    ///
    /// # Errors
    /// Where an expression takes too much memory.
    pub(crate) fn new(rules: &[LogRules]) -> Result<Self> {
        let rules: Vec<LogAlert> = rules.iter().flat_map(|rules| rules.alerts.iter().cloned()).collect();
        let keywords = Keywords::new(rules.iter().map(|rule| &rule.filter))?;
        let digest = |rule: LogAlert| {
            let digest = Digest::of(&rule).to_string();
            (rule, digest)
        };
        Ok(Self { keywords, rules: rules.into_iter().map(digest).collect() })
    }
}

/// What is counted of all services, by one who sees all of their lines once.
#[derive(Debug, Default)]
pub(crate) struct AlertCounts {
    groups: HashMap<AlertKey, Group>,
}

/// Lines that are counted together.
#[derive(Debug)]
struct Group {
    window: Window,
    /// The last lines that counted.
    lines: VecDeque<AlertLine>,
}

impl AlertCounts {
    /// Counts the lines of a batch, and raises the alerts that they make.
    ///
    /// # Errors
    /// Where an alert could not be stored: nothing after it may be.
    pub(crate) async fn take(
        &mut self,
        ports: &LogPorts,
        rules: &AlertRules,
        batch: &LogBatch,
    ) -> Result<()> {
        let mut found = Vec::new();
        rules.keywords.find(batch, |rule, line| found.push((rule, line)));
        if found.is_empty() {
            return Ok(());
        }
        let places: Vec<(Timestamp, LogPosition)> =
            batch.lines().map(|line| (line.time, line.position)).collect();
        for (rule, at) in found {
            let (rule, digest) = &rules.rules[rule];
            let key = key(&batch.origin, rule.per, digest);
            let (time, position) = places[at];
            if !self.groups.contains_key(&key) {
                self.forget(time);
                let group = Group::recall(ports, &key, rule, time).await?;
                self.groups.insert(key.clone(), group);
            }
            let Some(group) = self.groups.get_mut(&key) else { continue };
            if let Some(alert) = group.count(rule, &key, batch, (at, time, position)) {
                match ports.directory.raise(&key, alert).await {
                    // It will never be taken, and others wait.
                    Err(error) if error.kind() == ErrorKind::Invalid => {
                        tracing::error!(?error, app = %key.app, "an alert cannot be stored, and is lost");
                    }
                    outcome => outcome?,
                }
            }
        }
        Ok(())
    }

    /// Makes room for more groups.
    fn forget(&mut self, now: Timestamp) {
        if self.groups.len() < GROUPS {
            return;
        }
        self.groups.retain(|_, group| !group.window.is_over(now));
        while self.groups.len() >= GROUPS
            && let Some(oldest) = self.groups.iter().min_by_key(|(_, group)| group.window.newest())
        {
            // What it had is asked of the store when it comes back.
            let oldest = oldest.0.clone();
            self.groups.remove(&oldest);
        }
    }
}

/// Which lines are counted together with those of an output.
fn key(origin: &LogOrigin, per: AlertScope, rule: &str) -> AlertKey {
    let (tenant, environment) = (origin.tenant.clone(), origin.environment.clone());
    let mut key = AlertKey::new(tenant, environment, origin.app.clone(), rule.to_owned());
    if per >= AlertScope::Service {
        key.service = Some(origin.service.clone());
    }
    if per == AlertScope::Instance {
        key.instance = Some(origin.instance.clone());
    }
    key
}

impl Group {
    /// What was counted before this process, or before this group was forgotten.
    async fn recall(ports: &LogPorts, key: &AlertKey, rule: &LogAlert, now: Timestamp) -> Result<Self> {
        let mut window = Window::new(rule.count, rule.within);
        if let Some(last) = ports.directory.last_alert(key).await? {
            window.raised(last.at, rule.cool_down);
        }
        if rule.count > 1
            && let Some(store) = &ports.store
        {
            let mut query = LogQuery::of(key.resource()).matching(rule.filter.clone());
            query.instance = key.instance.clone();
            query.from = window.start(now);
            query.limit = PAGE;
            let most = usize::try_from(rule.count).unwrap_or(usize::MAX);
            let mut found = 0;
            while found < most {
                let page = match store.search(&ports.scope, &query).await {
                    Ok(page) => page,
                    Err(error) => {
                        // Others wait for this one.
                        tracing::warn!(?error, app = %key.app, "lines before the start do not count for an alert");
                        break;
                    }
                };
                found += page.entries.len();
                // It made no alert, or that was the last.
                for entry in &page.entries {
                    window.add(entry.time);
                }
                let Some(next) = page.next else { break };
                query.after = Some(next);
            }
            window.recalled();
        }
        Ok(Self { window, lines: VecDeque::new() })
    }

    fn count(
        &mut self,
        rule: &LogAlert,
        key: &AlertKey,
        batch: &LogBatch,
        (at, time, position): (usize, Timestamp, LogPosition),
    ) -> Option<Alert> {
        let is_alert = self.window.add(time);
        let mut line = AlertLine::new(time, batch.origin.instance.clone(), text(batch, at));
        line.before = (at.saturating_sub(BEFORE)..at).map(|before| text(batch, before)).collect();
        self.lines.push_back(line);
        if self.lines.len() > LINES {
            self.lines.pop_front();
        }
        if !is_alert {
            return None;
        }
        let place = (&batch.origin.instance, batch.origin.stream, position);
        let id = Digest::of(&(key, place)).to_string();
        let mut alert = Alert::new(id, time, rule.notify.clone(), rule.filter.to_string());
        (alert.count, alert.within) = (rule.count, rule.within);
        alert.held_back = self.window.raised(time, rule.cool_down);
        alert.lines = std::mem::take(&mut self.lines).into();
        Some(alert)
    }
}

/// A line as people are told it.
fn text(batch: &LogBatch, at: usize) -> String {
    let line = batch.line(at);
    let text = String::from_utf8_lossy(&line[..line.len().min(LONGEST)]);
    if line.len() > LONGEST { format!("{text}\u{2026}") } else { text.into_owned() }
}
