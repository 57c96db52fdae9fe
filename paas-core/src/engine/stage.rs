//! The stages of a release: how many instances each side has, and which share of the requests the new one gets.

use std::time::Duration;

use crate::model::{Release, Strategy};

/// All requests, in the unit of weights.
pub(crate) const ALL: u32 = 10_000;

/// What ends a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    None,
    For(Duration),
    Approval,
}

/// One stage: the candidate is filled up, then requests shift, then the old side shrinks, then it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    /// Instances of the candidate.
    pub(crate) candidate: u32,
    /// Instances of the old side once requests have shifted.
    pub(crate) old: u32,
    /// The candidate's share of the requests, of [`ALL`].
    pub(crate) weight: u32,
    pub(crate) hold: Hold,
}

/// The stages that lead a service of `count` replicas to its new build. The last one always sends everything to the
/// candidate. Without an old side, or when it must be quick, there is one stage.
pub(crate) fn stages(release: &Release, count: u32, has_old: bool, quick: bool) -> Vec<Stage> {
    let last = Stage { candidate: count, old: count, weight: ALL, hold: Hold::None };
    if !has_old {
        return vec![Stage { old: 0, ..last }];
    }
    if quick && release.strategy != Strategy::Rolling {
        return vec![last];
    }
    let hold = match (release.approve, release.every) {
        _ if quick => Hold::None,
        (true, _) => Hold::Approval,
        (false, Duration::ZERO) => Hold::None,
        (false, every) => Hold::For(every),
    };
    match &release.strategy {
        Strategy::BlueGreen if hold == Hold::None => vec![last],
        Strategy::BlueGreen => vec![Stage { weight: 0, hold, ..last }, last],
        Strategy::Canary { steps } => {
            let step = |share: &crate::model::Percent| Stage {
                candidate: share.of(count).max(1).min(count),
                old: count,
                weight: share.basis_points(),
                hold,
            };
            steps.iter().filter(|share| share.basis_points() < ALL).map(step).chain([last]).collect()
        }
        Strategy::Rolling | Strategy::Recreate | Strategy::Ordered => rolling(release, count, hold),
    }
}

fn rolling(release: &Release, count: u32, hold: Hold) -> Vec<Stage> {
    let surge = release.surge.of(count).max(1);
    let mut stages = Vec::new();
    let mut candidate = 0;
    while candidate < count {
        candidate = (candidate + surge).min(count);
        let last = candidate == count;
        let weight = if last { ALL } else { ALL * candidate / count };
        stages.push(Stage {
            candidate,
            old: count - candidate,
            weight,
            hold: if last { Hold::None } else { hold },
        });
    }
    if stages.is_empty() {
        stages.push(Stage { candidate: 0, old: 0, weight: ALL, hold: Hold::None });
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Percent;

    fn release(strategy: Strategy) -> Release {
        Release::new(strategy).unwrap()
    }

    #[test]
    fn a_rolling_release_never_has_fewer_than_the_count() {
        for count in 0..20 {
            for surge in [1, 25, 50, 100] {
                let release = Release { surge: Percent::whole(surge), ..release(Strategy::Rolling) };
                let stages = stages(&release, count, true, false);
                let mut old = count;
                for stage in &stages {
                    assert!(stage.candidate + old >= count, "{count} {surge}: {stages:?}");
                    assert!(stage.candidate + stage.old >= count, "{count} {surge}: {stages:?}");
                    old = stage.old;
                }
                let last = stages.last().unwrap();
                assert_eq!((last.candidate, last.old, last.weight, last.hold), (count, 0, ALL, Hold::None));
            }
        }
    }

    #[test]
    fn a_canary_holds_at_each_step_and_ends_with_everything() {
        let steps = vec![Percent::whole(5), Percent::whole(50)];
        let release = Release { every: Duration::from_secs(60), ..release(Strategy::Canary { steps }) };
        let stages = stages(&release, 4, true, false);
        let shape: Vec<_> = stages.iter().map(|stage| (stage.candidate, stage.old, stage.weight)).collect();
        assert_eq!(shape, [(1, 4, 500), (2, 4, 5_000), (4, 4, ALL)]);
        assert_eq!(stages[0].hold, Hold::For(Duration::from_secs(60)));
    }

    #[test]
    fn going_back_is_one_stage_where_both_sides_fit() {
        let steps = vec![Percent::whole(5)];
        for strategy in [Strategy::BlueGreen, Strategy::Canary { steps }] {
            assert_eq!(stages(&release(strategy), 3, true, true).len(), 1);
        }
    }
}
