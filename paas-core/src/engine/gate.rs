//! Judges a candidate by its requests, and by what it writes.

use crate::model::{AbortRule, Release, SlotTraffic};

/// Why the candidate must go back, if a rule says so. Of lines it is given how many match, rule by rule.
pub(crate) fn judge(
    release: &Release,
    baseline: Option<&SlotTraffic>,
    now: Option<&SlotTraffic>,
    lines: &[u64],
) -> Option<String> {
    by_requests(release, baseline, now).or_else(|| by_lines(release, lines))
}

fn by_lines(release: &Release, lines: &[u64]) -> Option<String> {
    release.abort_if.iter().zip(lines).find_map(|(rule, found)| match rule {
        AbortRule::Log { filter, count, within } if *found >= u64::from(*count) => {
            let within = humantime::format_duration(*within);
            Some(format!("{found} lines match `{filter}` within {within}, {count} are too many"))
        }
        _ => None,
    })
}

fn by_requests(
    release: &Release,
    baseline: Option<&SlotTraffic>,
    now: Option<&SlotTraffic>,
) -> Option<String> {
    let traffic = now?.after(baseline);
    if traffic.requests < AbortRule::LEAST_REQUESTS {
        return None;
    }
    release.abort_if.iter().find_map(|rule| match rule {
        AbortRule::Errors(share) => {
            let over = u128::from(traffic.errors) * 10_000
                > u128::from(traffic.requests) * u128::from(share.basis_points());
            over.then(|| {
                format!("{} of {} requests failed, more than {share}", traffic.errors, traffic.requests)
            })
        }
        AbortRule::Latency(limit) => {
            let median = traffic.latency.quantile(0.5)?;
            let text = || {
                let (median, limit) =
                    (humantime::format_duration(median), humantime::format_duration(*limit));
                format!("the median latency is about {median}, longer than {limit}")
            };
            (median > *limit).then(text)
        }
        AbortRule::Log { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Percent, RevisionNumber, Slot, Strategy, Timestamp};

    fn traffic(requests: u64, errors: u64) -> SlotTraffic {
        let mut traffic = SlotTraffic::new(Slot::Green, RevisionNumber(2), Timestamp(0));
        (traffic.requests, traffic.errors) = (requests, errors);
        traffic
    }

    #[test]
    fn errors_are_judged_since_the_stage_began_and_not_too_early() {
        let mut release = Release::new(Strategy::BlueGreen).unwrap();
        release.abort_if.push(AbortRule::Errors(Percent::whole(1)));
        assert_eq!(judge(&release, None, Some(&traffic(19, 19)), &[]), None);
        assert!(judge(&release, None, Some(&traffic(100, 2)), &[]).is_some());
        assert_eq!(judge(&release, None, Some(&traffic(100, 1)), &[]), None);
        assert_eq!(judge(&release, Some(&traffic(100, 50)), Some(&traffic(200, 51)), &[]), None);
    }

    #[test]
    fn lines_are_judged_without_any_requests() {
        let mut release = Release::new(Strategy::BlueGreen).unwrap();
        release.abort_if.push(AbortRule::Errors(Percent::whole(1)));
        let rule = AbortRule::log("ERROR".parse().unwrap(), 5, std::time::Duration::from_secs(60)).unwrap();
        release.abort_if.push(rule);
        assert_eq!(judge(&release, None, None, &[0, 4]), None);
        let verdict = judge(&release, None, None, &[0, 5]).unwrap();
        assert_eq!(verdict, "5 lines match `\"error\"` within 1m, 5 are too many");
    }
}
