//! Lines that are stored elsewhere.

use std::sync::Arc;

use paas_core::Result;
use paas_core::model::{LogBatch, LogRoute, LogRuleKind, LogRules};

use super::only;
use crate::counter::{Counter, Counters};
use crate::keyword::Keywords;

/// The routes of a service, and then of its app: the first that matches counts.
#[derive(Debug)]
pub(crate) struct Routes {
    queries: Keywords,
    routes: Vec<(String, Arc<Counter>)>,
}

/// Lines, and where each part of them goes.
#[derive(Debug)]
pub(crate) struct Parted {
    /// What stays; it ends where all of them do.
    pub(crate) rest: Arc<LogBatch>,
    /// What goes elsewhere, by the name of the place.
    pub(crate) routed: Vec<(String, LogBatch)>,
}

impl Routes {
    /// Compiles the routes of an app and of its service.
    ///
    /// # Errors
    /// Where an expression takes too much memory.
    pub(crate) fn new(rules: &[LogRules], counters: &Counters) -> Result<Self> {
        let routes: Vec<&LogRoute> = rules.iter().rev().flat_map(|rules| &rules.route).collect();
        let queries = Keywords::new(routes.iter().map(|route| &route.filter))?;
        let counted = |route: &&LogRoute| {
            let rule = format!("{} to {}", route.filter, route.to);
            (route.to.clone(), counters.of(LogRuleKind::Route, rule))
        };
        Ok(Self { queries, routes: routes.iter().map(counted).collect() })
    }

    /// Parts the lines of a batch. What would go to a place that is not there stays.
    pub(crate) fn part(&self, batch: Arc<LogBatch>, is_there: impl Fn(&str) -> bool) -> Parted {
        let mut routes = self.of_lines(&batch);
        routes.iter_mut().for_each(|route| *route = route.filter(|route| is_there(self.to(*route))));
        if routes.iter().all(Option::is_none) {
            return Parted { rest: batch, routed: Vec::new() };
        }
        let mut routed: Vec<(String, LogBatch)> = Vec::new();
        for (number, (to, count)) in self.routes.iter().enumerate() {
            let lines = routes.iter().filter(|route| **route == Some(number)).count();
            count.add(lines as u64);
            let is_first = self.routes[..number].iter().all(|(other, _)| other != to);
            let goes_there = |at: usize| routes[at].is_some_and(|route| self.routes[route].0 == *to);
            if is_first && (0..routes.len()).any(goes_there) {
                routed.push((to.clone(), only(&batch, goes_there)));
            }
        }
        Parted { rest: Arc::new(only(&batch, |at| routes[at].is_none())), routed }
    }

    /// Of each line the route that counts. Empty where there is none at all.
    pub(crate) fn of_lines(&self, batch: &LogBatch) -> Vec<Option<usize>> {
        if self.routes.is_empty() {
            return Vec::new();
        }
        let mut routes: Vec<Option<usize>> = vec![None; batch.starts.len()];
        self.queries.find(batch, |route, line| {
            routes[line] = Some(routes[line].map_or(route, |own| own.min(route)));
        });
        routes
    }

    /// Where a route leads.
    pub(crate) fn to(&self, route: usize) -> &str {
        &self.routes[route].0
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use paas_core::model::{LogPosition, Timestamp};

    use super::*;
    use crate::testing::{origin, rules};

    fn texts(batch: &LogBatch) -> Vec<&str> {
        batch.lines().map(|line| std::str::from_utf8(line.bytes).unwrap()).collect()
    }

    #[test]
    fn each_line_goes_where_the_first_rule_says() {
        let app = rules(r#"{"route":[{"match":"audit","to":"archive"},{"match":"metric","to":"numbers"}]}"#);
        let own = rules(r#"{"route":[{"match":"audit secret","to":"vault"}]}"#);
        let counters = Counters::default();
        let routes = Routes::new(&[app, own], &counters).unwrap();
        let text = "a\naudit 1\nmetric\naudit secret\nb\naudit 2\n";
        let at = LogPosition::offset(1, 7);
        let batch = Arc::new(LogBatch::new(origin(), Bytes::from(text), Timestamp(1), at));
        let parted = routes.part(Arc::clone(&batch), |_| true);
        assert_eq!(texts(&parted.rest), ["a", "b"]);
        let routed: Vec<_> = parted.routed.iter().map(|(to, batch)| (to.as_str(), texts(batch))).collect();
        let expected = [
            ("vault", vec!["audit secret"]),
            ("archive", vec!["audit 1", "audit 2"]),
            ("numbers", vec!["metric"]),
        ];
        assert_eq!(routed, expected);
        // Whatever is left of it, each part tells up to where it was read, and where its lines stood.
        assert!(parted.routed.iter().all(|(_, own)| own.end() == batch.end()));
        assert_eq!(parted.rest.end(), batch.end());
        assert_eq!(parted.routed[1].1.lines().nth(1).unwrap().position.sequence, 7 + 32);
        let counted: Vec<u64> = counters.all().iter().map(|count| count.count).collect();
        assert_eq!(counted.iter().sum::<u64>(), 4);
    }

    #[test]
    fn lines_that_go_nowhere_else_are_left_as_they_are() {
        let rules = [rules(r#"{"route":[{"match":"x","to":"y"}]}"#)];
        let routes = Routes::new(&rules, &Counters::default()).unwrap();
        let batch = |text| {
            let (text, at) = (Bytes::from_static(text), LogPosition::offset(1, 0));
            Arc::new(LogBatch::new(origin(), text, Timestamp(1), at))
        };
        let without = batch(b"a\n");
        assert!(Arc::ptr_eq(&routes.part(Arc::clone(&without), |_| true).rest, &without));
        let nowhere = batch(b"x\n");
        assert!(Arc::ptr_eq(&routes.part(Arc::clone(&nowhere), |_| false).rest, &nowhere));
    }
}
