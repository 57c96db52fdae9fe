//! Misbehaviour on request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a service does wrong, from its environment.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) fail: FailRate,
    pub(crate) never_ready: bool,
    pub(crate) migrate_fails: bool,
    pub(crate) exit: Exit,
}

impl Trouble {
    pub(crate) fn read(lookup: &impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let flag = |name| lookup(name).is_some_and(|value| matches!(value.as_str(), "1" | "true" | "yes"));
        let fail = lookup("FAIL_RATE").map_or(Ok(FailRate::default()), |text| FailRate::parse(&text))?;
        let after = lookup("EXIT_AFTER").map(|text| duration("EXIT_AFTER", &text)).transpose()?;
        let code = lookup("EXIT_CODE").map(|text| text.parse()).transpose();
        let code = code.map_err(|_| "EXIT_CODE is a number from 0 to 255".to_owned())?.unwrap_or(1);
        Ok(Self {
            fail,
            never_ready: flag("NEVER_READY"),
            migrate_fails: flag("MIGRATE_FAILS"),
            exit: Exit { after, code },
        })
    }
}

/// `1500ms`, `2s` or `5m`.
pub(crate) fn duration(name: &str, text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    let millis = number.parse::<u64>().ok().zip(millis).and_then(|(number, unit)| number.checked_mul(unit));
    millis.map(Duration::from_millis).ok_or_else(|| format!("{name} is a length of time like 500ms or 2s"))
}

/// When it ends by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exit {
    after: Option<Duration>,
    code: u8,
}

impl Exit {
    /// Waits for that moment, which may never come.
    pub(crate) async fn wait(&self) -> u8 {
        match self.after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
        self.code
    }
}

/// A share of calls that fail: of any `n` calls in a row, within one of that share.
#[derive(Debug, Default)]
pub(crate) struct FailRate {
    /// Hundredths of a per cent.
    points: u64,
    calls: AtomicU64,
}

impl FailRate {
    fn parse(text: &str) -> Result<Self, String> {
        let share = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
        let share =
            share.filter(|share| (0.0..=100.0).contains(share)).ok_or("FAIL_RATE is a share like 20%")?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 0 and 10000"
        )]
        let points = (share * 100.0).round() as u64;
        Ok(Self { points, calls: AtomicU64::new(0) })
    }

    /// Whether this call fails.
    pub(crate) fn strikes(&self) -> bool {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let failed = |calls: u64| (u128::from(calls) * u128::from(self.points)) / 10_000;
        self.points > 0 && failed(call + 1) > failed(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_spread_evenly_and_exactly() {
        for (text, of_ten_thousand) in
            [("20%", 2_000), ("0.5%", 50), ("0%", 0), ("100%", 10_000), ("33.33%", 3_333)]
        {
            let rate = FailRate::parse(text).unwrap();
            let struck: Vec<bool> = (0..10_000).map(|_| rate.strikes()).collect();
            assert_eq!(struck.iter().filter(|struck| **struck).count(), of_ten_thousand, "{text}");
            let share = of_ten_thousand / 100;
            for window in struck.chunks(100) {
                assert!(window.iter().filter(|struck| **struck).count().abs_diff(share) <= 1, "{text}");
            }
        }
        for wrong in ["20", "-1%", "101%", "NaN%", "%", "x%"] {
            assert!(FailRate::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_of_time_have_a_unit() {
        assert_eq!(duration("X", "1500ms"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("X", "2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "2", "s", "-1s", "1.5s", "99999999999999999999s"] {
            assert!(duration("X", wrong).is_err(), "{wrong}");
        }
    }
}
