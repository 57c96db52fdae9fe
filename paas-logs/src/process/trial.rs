//! What rules would do.

use std::time::SystemTime;

use bytes::Bytes;
use paas_core::model::{
    InstanceId, LogBatch, LogLine, LogOrigin, LogPosition, LogRules, LogStream, LogTrial, Resource,
    RevisionNumber, pairs,
};
use paas_core::{Error, Result};

use super::{JoinRule, Joiner, ProcessConfig, Processor, Routes};
use crate::counter::Counters;

/// At most so many bytes of lines are looked at.
const MOST: usize = 1 << 20;

/// What becomes of lines by the rules of an app and of its service.
///
/// # Errors
/// `Invalid` where there are too many, or a rule cannot be compiled.
pub(crate) fn dry_run(config: &ProcessConfig, rules: &[LogRules], lines: &[u8]) -> Result<Vec<LogTrial>> {
    if lines.len() > MOST {
        let error = Error::invalid("there are too many lines for a trial");
        return Err(error.with("bytes", lines.len()).with("most", MOST));
    }
    let (origin, start) = (nobody()?, LogPosition::offset(0, 0));
    let processor = Processor::new(config, rules, &[], &Counters::default())?;
    let routes = Routes::new(rules, &Counters::default())?;
    let mut joiner = Joiner::new(origin.clone(), JoinRule::of(rules)?);
    let batch = LogBatch::new(origin, Bytes::copy_from_slice(lines), SystemTime::now().into(), start);
    let whole = joiner.push(batch);
    Ok(whole.iter().chain(&joiner.finish()).flat_map(|events| trials(&processor, &routes, events)).collect())
}

fn trials(processor: &Processor, routes: &Routes, events: &LogBatch) -> Vec<LogTrial> {
    let done = processor.process(events.clone(), false);
    let to = routes.of_lines(&done);
    let mut left = done.lines().enumerate().peekable();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let trial = |event: LogLine<'_>| {
        let (at, after) = left.next_if(|(_, line)| line.position == event.position).unzip();
        let mut trial = LogTrial::new(
            text(event.bytes),
            after.map(|line| text(line.bytes)),
            after.and_then(|line| line.level),
        );
        if let Some(after) = after {
            let route = at.and_then(|at| *to.get(at)?);
            trial.to = route.map(|route| routes.to(route).to_owned());
            trial.time = (after.time != event.time).then_some(after.time);
            trial.fields = pairs(after.fields).map(|(name, value)| (text(name), text(&value))).collect();
        }
        trial
    };
    events.lines().map(trial).collect()
}

/// Whose lines those of a trial are.
fn nobody() -> Result<LogOrigin> {
    let ids = ("trial".parse()?, "trial".parse()?, "trial".parse()?, "trial".parse()?);
    let service = Resource::Service(ids.0, ids.1, ids.2, ids.3);
    let origin = LogOrigin::new(&service, RevisionNumber(0), InstanceId::new("trial")?, LogStream::Combined);
    origin.ok_or_else(|| Error::internal("a service is none"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rules;

    #[test]
    fn a_trial_tells_what_becomes_of_each_event() {
        let rules = rules(r#"{"drop":["health"],"join":"stack-traces","redact":["email"]}"#);
        let trials =
            dry_run(&ProcessConfig::default(), &[rules], b"health\nERROR a@b.io\n  at x\nend").unwrap();
        let told: Vec<_> =
            trials.iter().map(|trial| (trial.before.as_str(), trial.after.as_deref())).collect();
        let error = ("ERROR a@b.io\n  at x", Some("ERROR [redacted:email]\n  at x"));
        assert_eq!(told, [("health", None), error, ("end", Some("end"))]);
        assert_eq!(trials[1].level, Some(paas_core::model::Level::Error));
    }

    #[test]
    fn a_trial_tells_where_lines_go() {
        let rules = rules(r#"{"drop":["health"],"route":[{"match":"audit","to":"archive"}]}"#);
        let trials = dry_run(&ProcessConfig::default(), &[rules], b"a\nhealth audit\naudit\n").unwrap();
        let told: Vec<_> = trials.iter().map(|trial| trial.to.as_deref()).collect();
        assert_eq!(told, [None, None, Some("archive")]);
    }

    #[test]
    fn too_many_lines_are_refused() {
        assert!(dry_run(&ProcessConfig::default(), &[], &vec![b'x'; MOST + 1]).is_err());
    }
}
