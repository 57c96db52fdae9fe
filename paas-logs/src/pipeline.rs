//! From where lines are born to who stores and watches them.
//!
//! One *collector* reads the outputs of all services and hands what the rules leave of them to the store. It keeps no place of its
//! own: the store knows where each output ends, so after whatever end it goes on after the last line that is stored. A *tail*
//! reads the source for itself, behind the same rules, and does not wait for the store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use paas_core::Result;
use paas_core::model::{LogRuleCount, LogRules, LogTail, LogTrial, Resource, Scope, ServiceId, TailItem};
use paas_core::port::{Backend, LogPipeline, LogPorts};

use crate::process::{self, ProcessConfig};
use collector::Collector;
use services::Services;

mod collector;
mod services;
mod stage;
mod tail;
#[cfg(test)]
mod tests;

/// How a pipeline works.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PipelineConfig {
    /// What is done to every line.
    pub process: ProcessConfig,
}

/// Takes lines in, applies the rules of their services, stores them, and shows them to who watches.
#[derive(Debug, Default)]
pub struct Pipeline {
    services: Arc<Services>,
}

impl Pipeline {
    /// A pipeline that does nothing until a platform runs it.
    #[must_use]
    pub fn new(config: PipelineConfig) -> Self {
        Self { services: Arc::new(Services::new(config.process)) }
    }
}

#[async_trait]
impl Backend for Pipeline {
    fn name(&self) -> &'static str {
        "paas-logs"
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// How often events are looked at that wait for more lines.
const TICK: Duration = Duration::from_millis(250);
/// Pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

#[async_trait]
impl LogPipeline for Pipeline {
    async fn run(&self, ports: LogPorts) {
        let Some(store) = ports.store.clone() else { return std::future::pending().await };
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = tokio::time::Instant::now();
            let ended = Collector::new(&self.services, &ports, &*store).run().await;
            if begun.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tracing::warn!(error = ?ended.err(), "lines are not taken in for a moment");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn tail(
        &self,
        scope: &Scope,
        ports: LogPorts,
        tail: LogTail,
    ) -> Result<BoxStream<'static, Result<TailItem>>> {
        tail::open(Arc::clone(&self.services), scope.clone(), ports, tail).await
    }

    async fn counts(&self, _: &Scope, resource: &Resource) -> Result<Vec<(ServiceId, Vec<LogRuleCount>)>> {
        Ok(self.services.counts(resource))
    }

    fn dry_run(&self, rules: &[LogRules], lines: &[u8]) -> Result<Vec<LogTrial>> {
        process::dry_run(self.services.config(), rules, lines)
    }
}
