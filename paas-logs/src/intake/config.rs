//! Where lines may be sent to, and how much is taken at once.

use std::net::SocketAddr;
use std::time::Duration;

use paas_core::model::quantity;
use paas_core::{Error, Result};
use serde::Deserialize;

/// More than this a store does not take as one batch.
const LARGEST: usize = 16 * 1024 * 1024;

/// How lines are taken in that others send. Everything is bounded; what is said here are the bounds.
///
/// It speaks HTTP/1.1 and no TLS: whatever stands before it, like the platform's own edge, sees to that.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct IntakeConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Longest body of a request, after it was unpacked; in bytes. Nothing more is unpacked. At most 16 MiB, which it is where
    /// nothing else is said.
    #[serde(default = "largest")]
    pub body: usize,
    /// Most records in a request. 100,000, where nothing else is said.
    #[serde(default = "records")]
    pub records: usize,
    /// Most connections at once; others wait until one ends. 1,024, where nothing else is said.
    #[serde(default = "connections")]
    pub connections: usize,
    /// Most requests in work at once; others are asked to come again. 64, where nothing else is said.
    #[serde(default = "requests")]
    pub requests: usize,
    /// Most of these of one tenant, or of one collector. 16, where nothing else is said.
    #[serde(default = "requests_per_sender")]
    pub requests_per_sender: usize,
    /// Most bytes of bodies in memory at once, in bytes; what is made of them takes about twice as much again. 128 MiB, where nothing
    /// else is said.
    #[serde(default = "memory")]
    pub memory: usize,
    /// How long the head of a request may take, and how long a connection may wait for the next one. Ten seconds, where
    /// nothing else is said.
    #[serde(default = "head_timeout", with = "quantity::duration")]
    pub head_timeout: Duration,
    /// How long a request may take from its head to its answer, with its body, the rules and the store. 30 seconds, where
    /// nothing else is said.
    #[serde(default = "request_timeout", with = "quantity::duration")]
    pub request_timeout: Duration,
    /// What a tenant or a collector may send for long, in bytes of unpacked bodies a second. 32 MiB, where nothing else is said.
    #[serde(default = "rate")]
    pub rate: u64,
    /// What it may send at once, in bytes; no less than a body may have. 64 MiB, where nothing else is said.
    #[serde(default = "burst")]
    pub burst: u64,
}

fn largest() -> usize {
    LARGEST
}

fn records() -> usize {
    100_000
}

fn connections() -> usize {
    1_024
}

fn requests() -> usize {
    64
}

fn requests_per_sender() -> usize {
    16
}

fn memory() -> usize {
    128 * 1024 * 1024
}

fn head_timeout() -> Duration {
    Duration::from_secs(10)
}

fn request_timeout() -> Duration {
    Duration::from_secs(30)
}

fn rate() -> u64 {
    32 * 1024 * 1024
}

fn burst() -> u64 {
    64 * 1024 * 1024
}

impl IntakeConfig {
    /// An intake that listens there, within the usual bounds. With port 0 the system chooses one.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            body: largest(),
            records: records(),
            connections: connections(),
            requests: requests(),
            requests_per_sender: requests_per_sender(),
            memory: memory(),
            head_timeout: head_timeout(),
            request_timeout: request_timeout(),
            rate: rate(),
            burst: burst(),
        }
    }

    /// # Errors
    /// `Invalid` where a bound lets nothing in, or is none.
    pub(crate) fn check(&self) -> Result<()> {
        let bounds = [
            ("body", self.body),
            ("records", self.records),
            ("connections", self.connections),
            ("requests", self.requests),
            ("requests_per_sender", self.requests_per_sender),
        ];
        let times = [("head_timeout", self.head_timeout), ("request_timeout", self.request_timeout)];
        let zero = bounds.iter().find(|(_, bound)| *bound == 0).map(|(name, _)| *name);
        let zero = zero.or_else(|| times.iter().find(|(_, time)| time.is_zero()).map(|(name, _)| *name));
        if let Some(name) = zero {
            return Err(Error::invalid("this bound of an intake lets nothing in").with("bound", name));
        }
        if self.body > LARGEST {
            let error = Error::invalid("the body of a request is longer than what a store takes at once");
            return Err(error.with("body", self.body).with("most", LARGEST));
        }
        if self.memory < self.body {
            let error = Error::invalid("the memory of an intake has no room for the longest body");
            return Err(error.with("memory", self.memory).with("body", self.body));
        }
        if self.rate == 0 || self.burst < self.body as u64 {
            let error = Error::invalid("the longest body would never be within the rate of an intake");
            return Err(error.with("rate", self.rate).with("burst", self.burst).with("body", self.body));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_let_nothing_in_are_refused() {
        let config = || IntakeConfig::new(([127, 0, 0, 1], 0).into());
        config().check().unwrap();
        let wrong: [fn(&mut IntakeConfig); 6] = [
            |config| config.body = 0,
            |config| config.body = LARGEST + 1,
            |config| config.memory = 1,
            |config| config.rate = 0,
            |config| config.burst = 1,
            |config| config.request_timeout = Duration::ZERO,
        ];
        for change in wrong {
            let mut config = config();
            change(&mut config);
            assert_eq!(config.check().unwrap_err().kind(), paas_core::ErrorKind::Invalid);
        }
        let read: IntakeConfig =
            serde_json::from_str(r#"{"listen":"127.0.0.1:9200","head_timeout":"5s"}"#).unwrap();
        assert_eq!((read.head_timeout, read.body), (Duration::from_secs(5), LARGEST));
    }
}
