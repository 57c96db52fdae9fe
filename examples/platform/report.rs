//! What the tour counts, and the table at its end.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use tokio::time::Instant;

/// How many failures of a step are shown in full.
const SHOWN: usize = 5;

/// Failures that the tour causes on purpose, each within a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Apart {
    /// A POST that was in flight on a killed instance.
    LostPost,
    /// Broken while the edge or the keeper was killed, or the route was deleted.
    Gap,
    /// Refused while a service was stopped.
    Stopped,
}

/// A request that must not have failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) at: Instant,
    pub(crate) request: String,
    pub(crate) answer: String,
}

/// What was counted in one step.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) posts: u64,
    pub(crate) failed: u64,
    pub(crate) failures: Vec<Failure>,
    /// Answers of the service that is released by canaries, by revision.
    pub(crate) answers: BTreeMap<String, u64>,
    /// Errors of the deliberately bad revision.
    pub(crate) bad_failed: u64,
    pub(crate) apart: BTreeMap<Apart, u64>,
    /// When the first request was sent that failed and is counted apart, and when the last one ended.
    pub(crate) broken: Option<(Instant, Instant)>,
    /// When each request that succeeded was sent and ended, as long as somebody wants to know.
    pub(crate) watched: Option<Watched>,
    /// The fewest requests in flight at a transition.
    pub(crate) least_in_flight: Option<usize>,
    latencies: Vec<u32>,
}

/// Looks for the first success after a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    pub(crate) since: Instant,
    /// The end of the first request that was sent after that moment and succeeded.
    pub(crate) first: Option<Instant>,
}

impl Tally {
    pub(crate) fn count_version(&mut self, version: &str) {
        match self.answers.get_mut(version) {
            Some(count) => *count += 1,
            None => drop(self.answers.insert(version.to_owned(), 1)),
        }
    }

    pub(crate) fn answers_of(&self, version: &str) -> u64 {
        self.answers.get(version).copied().unwrap_or_default()
    }

    pub(crate) fn answers_of_all(&self) -> u64 {
        self.answers.values().sum()
    }

    pub(crate) fn succeeded(&mut self, sent: Instant, ended: Instant) {
        self.latencies.push(u32::try_from((ended - sent).as_micros()).unwrap_or(u32::MAX));
        if let Some(watched) = &mut self.watched
            && watched.first.is_none()
            && sent >= watched.since
        {
            watched.first = Some(ended);
        }
    }

    pub(crate) fn apart(&mut self, kind: Apart, sent: Instant, ended: Instant) {
        *self.apart.entry(kind).or_default() += 1;
        let (first, last) = self.broken.get_or_insert((sent, ended));
        *first = (*first).min(sent);
        *last = (*last).max(ended);
    }

    pub(crate) fn failed(&mut self, failure: Failure) {
        self.failed += 1;
        if self.failures.len() < SHOWN {
            self.failures.push(failure);
        }
    }

    pub(crate) fn apart_of(&self, kind: Apart) -> u64 {
        self.apart.get(&kind).copied().unwrap_or_default()
    }

    /// From a moment until requests succeed again for good.
    pub(crate) fn gap(&self, since: Instant) -> Duration {
        let first = self.watched.and_then(|watched| watched.first);
        let last = self.broken.map(|(_, last)| last);
        first.max(last).map_or(Duration::ZERO, |end| end.saturating_duration_since(since))
    }

    fn percentile(&mut self, percent: usize) -> f64 {
        if self.latencies.is_empty() {
            return 0.0;
        }
        self.latencies.sort_unstable();
        f64::from(self.latencies[(self.latencies.len() - 1) * percent / 100]) / 1_000.0
    }
}

/// A measured value and what it should be.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    ours: String,
    goal: String,
    met: bool,
}

/// All steps, figures and failures.
#[derive(Debug)]
pub(crate) struct Report {
    began: Instant,
    steps: Vec<String>,
    figures: Vec<Figure>,
    failures: Vec<String>,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            steps: Vec::new(),
            figures: Vec::new(),
            failures: Vec::new(),
            requests: 0,
            failed: 0,
        }
    }

    /// Adds a step and prints it.
    pub(crate) fn step(&mut self, name: &str, took: Duration, mut tally: Tally, notes: &str) {
        self.requests += tally.requests;
        self.failed += tally.failed;
        for failure in &tally.failures {
            let at = failure.at.saturating_duration_since(self.began).as_secs_f64();
            self.failures.push(format!("{name}, at {at:.3} s: {} -> {}", failure.request, failure.answer));
        }
        let (half, most) = (tally.percentile(50), tally.percentile(99));
        let line = format!(
            "{name:<28} {:>6.2} {:>8} {:>7} {:>7} {:>7.1} {:>7.1} {:>7}  {notes}",
            took.as_secs_f64(),
            tally.requests,
            tally.posts,
            tally.failed,
            half,
            most,
            tally.least_in_flight.map_or_else(|| "-".to_owned(), |least| least.to_string()),
        );
        say(&line);
        self.steps.push(line);
    }

    /// Adds a figure. One that is short of its goal is shown as that; it is not a failed request.
    pub(crate) fn figure(
        &mut self,
        name: &'static str,
        ours: impl Into<String>,
        goal: impl Into<String>,
        met: bool,
    ) {
        self.figures.push(Figure { name, ours: ours.into(), goal: goal.into(), met });
    }

    /// Notes something wrong that is no request.
    pub(crate) fn wrong(&mut self, what: String) {
        say(&format!("  WRONG: {what}"));
        self.failed += 1;
        self.failures.push(what);
    }

    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0
    }

    /// Prints everything; the last line is the verdict.
    pub(crate) fn finish(&self) {
        say("");
        header();
        self.steps.iter().for_each(|step| say(step));
        say("");
        for Figure { name, ours, goal, met } in &self.figures {
            say(&format!("{name:<44} {ours:>14}  {goal:>14}  {}", if *met { "met" } else { "short" }));
        }
        if !self.failures.is_empty() {
            say("\nwhat failed:");
            self.failures.iter().for_each(|failure| say(&format!("  {failure}")));
        }
        say(&format!("\ntook {:.1} s", self.began.elapsed().as_secs_f64()));
        say(&format!("tour: {} requests, {} failed", self.requests, self.failed));
    }
}

/// The heading of the table of steps.
pub(crate) fn header() {
    say(&format!(
        "{:<28} {:>6} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7}  notes",
        "step", "s", "requests", "posts", "failed", "p50 ms", "p99 ms", "flying"
    ));
}

/// Prints a line; nobody reading it is no reason to fail.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
