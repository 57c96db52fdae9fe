//! What the types of a service alone do not rule out.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::{Kind, ServiceSpec};
use crate::Error;
use crate::model::address::Protocol;
use crate::model::limit;
use crate::model::name::excerpt;
use crate::model::probe::Check;

impl ServiceSpec {
    /// Checks what one service can show by itself: each finding is the place within it and an error.
    pub(crate) fn findings(&self) -> Vec<(Vec<String>, Error)> {
        let mut found = Vec::new();
        let mut check = |wrong: bool, field: &str, message: &str| {
            if wrong {
                let path = field.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
                found.push((path, Error::invalid(message)));
            }
        };
        self.source_findings(&mut check);
        self.traffic_findings(&mut check);
        check(self.replicas > limit::REPLICAS, "replicas", "more replicas than a service may have (1000)");
        check(self.needs.len() > limit::NEEDS, "needs", "a service may need at most 50 others");
        check(self.volumes.len() > limit::VOLUMES, "volumes", "a service may have at most 10 volumes");
        check(self.limits.cpu.is_some_and(|cpu| cpu.millis == 0), "limits.cpu", "`cpu` is above 0");
        check(self.limits.memory.is_some_and(|memory| memory.0 == 0), "limits.memory", "`memory` is above 0");
        check(self.grace > Duration::from_secs(3_600), "grace", "`grace` is at most 1h");
        check(
            !self.volumes.is_empty() && self.release().overlaps(),
            "release",
            "a service with volumes is released by `recreate` or `ordered`, so that a volume never has two writers",
        );
        check(
            self.kind == Kind::Task && (self.port.is_some() || self.release.is_some()),
            "kind",
            "a task has neither `port` nor `release`",
        );
        for (name, volume) in &self.volumes {
            check(volume.size.0 == 0, &format!("volumes.{name}"), "the size of a volume is above 0");
        }
        let logs = self.logs.findings().into_iter();
        found.extend(logs.map(|(path, error)| ([vec!["logs".to_owned()], path].concat(), error)));
        found.extend(self.repeated());
        found.extend(self.env_findings());
        found
    }

    fn source_findings(&self, check: &mut impl FnMut(bool, &str, &str)) {
        check(self.sources().is_empty(), "", "a service needs one of `run`, `image` and `build`");
        let reference = |text: &String| {
            !text.is_empty() && text.len() <= 500 && text.bytes().all(|b| b.is_ascii_graphic())
        };
        check(
            self.image.as_ref().is_some_and(|image| !reference(image)),
            "image",
            "an image is a reference like registry.example.com/shop/api:1.4.0",
        );
        let folder =
            |text: &String| !text.is_empty() && text.len() <= 1_024 && !text.chars().any(char::is_control);
        check(
            self.build.as_ref().is_some_and(|build| !folder(build)),
            "build",
            "`build` is a folder like ./api",
        );
    }

    fn traffic_findings(&self, check: &mut impl FnMut(bool, &str, &str)) {
        check(self.port == Some(0), "port", "a port is between 1 and 65535");
        check(self.domain.len() > limit::DOMAINS, "domain", "a service may have at most 50 domains");
        check(
            self.port.is_none() && !self.domain.is_empty(),
            "domain",
            "a service with a domain needs a `port`",
        );
        check(
            self.protocol == Protocol::Tcp && !self.domain.is_empty(),
            "domain",
            "only `http` services can have a domain",
        );
        for (field, probe) in [("ready", &self.ready), ("live", &self.live)] {
            let asks_port = probe.as_ref().is_some_and(|probe| !matches!(probe.check, Check::Command(_)));
            check(self.port.is_none() && asks_port, field, "this probe needs a `port` to ask");
        }
    }

    /// Whatever is given twice in a list, at its second place.
    fn repeated(&self) -> Vec<(Vec<String>, Error)> {
        fn of<T: Ord + fmt::Display>(field: &str, items: &[T]) -> Vec<(Vec<String>, Error)> {
            let mut seen = BTreeSet::new();
            let again = items.iter().enumerate().filter(|(_, item)| !seen.insert(*item));
            again
                .map(|(at, item)| {
                    let error = Error::invalid("this is listed twice").with("item", item);
                    (vec![field.to_owned(), at.to_string()], error)
                })
                .collect()
        }
        let lists = [of("needs", &self.needs), of("secrets", &self.secrets), of("domain", &self.domain)];
        lists.into_iter().flatten().collect()
    }

    fn env_findings(&self) -> Vec<(Vec<String>, Error)> {
        let mut found = Vec::new();
        if self.env.len() > limit::ENV_VARS {
            let error = Error::invalid("too many variables").with("most", limit::ENV_VARS);
            found.push((vec!["env".to_owned()], error));
        }
        for (name, value) in &self.env {
            let mut add = |message| {
                let error = Error::invalid(message).with("name", excerpt(name));
                found.push((vec!["env".to_owned(), name.clone()], error));
            };
            if name.len() > limit::ENV_NAME || !is_variable(name) {
                add(
                    "a variable's name is letters, digits and underscores, no digit first, at most 200 bytes",
                );
            }
            if value.0.len() > limit::ENV_VALUE || value.0.contains('\0') {
                add("the value is longer than 32 KiB or has a NUL byte");
            }
            if self.secrets.iter().any(|secret| secret.as_str() == name) {
                add("this variable is both under `env` and under `secrets`");
            }
            if is_reserved(name) {
                add("the platform sets this variable; choose another name");
            }
        }
        for (at, secret) in self.secrets.iter().enumerate().filter(|(_, secret)| is_reserved(secret.as_str()))
        {
            let error =
                Error::invalid("the platform sets this variable; choose another name").with("name", secret);
            found.push((vec!["secrets".to_owned(), at.to_string()], error));
        }
        found
    }
}

/// Whether only the platform sets this variable.
fn is_reserved(name: &str) -> bool {
    name == "PORT" || name.starts_with("PAAS_")
}

fn is_variable(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.as_bytes().first().is_some_and(|first| !first.is_ascii_digit())
}
