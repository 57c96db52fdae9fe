//! From where lines are born to who stores and watches them.
//!
//! One *collector* reads the outputs of all services, and a *lane* for each app hands what the rules leave of its lines to the
//! store. They keep no place of their own: the store knows where each output ends, so after whatever end they go on after the last
//! line that is stored. A *tail* does not wait for the store. All on one replica who follow the same share one reading of the
//! source, a *feed*; whoever is slower than it reads for themselves what they have missed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use paas_core::Result;
use paas_core::model::{
    LogQuarantine, LogRuleCount, LogRules, LogTail, LogTrial, Resource, Scope, ServiceId, TailItem,
};
use paas_core::port::{Backend, LogPipeline, LogPorts};

#[cfg(feature = "intake")]
use crate::intake::Shared;
use crate::process::{self, ProcessConfig};
use collector::Collector;
use feed::Feeds;
pub(crate) use pushed::Pushed;
#[cfg(feature = "intake")]
use served::Served;
#[cfg(feature = "intake")]
pub(crate) use services::Service;
pub(crate) use services::Services;
pub(crate) use sink::Sinks;
use tail::Live;

mod collector;
mod feed;
mod follower;
mod inbox;
mod lane;
mod output;
mod pushed;
mod read;
#[cfg(feature = "intake")]
mod served;
mod services;
mod sink;
mod stage;
mod storing;
mod tail;
#[cfg(test)]
mod tests;

/// How a pipeline works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PipelineConfig {
    /// What is done to every line.
    pub process: ProcessConfig,
    /// Whether it reads the outputs of all instances by itself, from the platform's log source. Where it does not, they are
    /// stored only if a collector sends them in: so there is one way for each line, and none comes twice.
    pub reads_instances: bool,
    /// Where others may send lines; nowhere, where this is `None`.
    #[cfg(feature = "intake")]
    pub intake: Option<crate::IntakeConfig>,
}

impl Default for PipelineConfig {
    /// Reads the outputs of all instances, and takes nothing in from others.
    fn default() -> Self {
        Self {
            process: ProcessConfig::default(),
            reads_instances: true,
            #[cfg(feature = "intake")]
            intake: None,
        }
    }
}

/// Takes lines in, applies the rules of their services, stores them, and shows them to who watches.
#[derive(Debug)]
pub struct Pipeline {
    services: Arc<Services>,
    feeds: Feeds,
    pushed: Arc<Pushed>,
    reads_instances: bool,
    #[cfg(feature = "intake")]
    served: Served,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::new(PipelineConfig::default())
    }
}

impl Pipeline {
    /// A pipeline that does nothing until a platform runs it.
    #[must_use]
    pub fn new(config: PipelineConfig) -> Self {
        Self {
            services: Arc::new(Services::new(config.process)),
            feeds: Feeds::default(),
            pushed: Arc::default(),
            reads_instances: config.reads_instances,
            #[cfg(feature = "intake")]
            served: Served::new(config.intake),
        }
    }
}

#[async_trait]
impl Backend for Pipeline {
    fn name(&self) -> &'static str {
        "paas-logs"
    }

    /// # Errors
    /// `Invalid` where a bound of the intake lets nothing in.
    async fn check(&self) -> Result<()> {
        #[cfg(feature = "intake")]
        self.served.check()?;
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
        let Some(sinks) = Sinks::of(&ports) else { return std::future::pending().await };
        let sinks = Arc::new(sinks);
        let collect = async {
            if !self.reads_instances {
                return std::future::pending().await;
            }
            lasting("lines are not taken in for a moment", || {
                Collector::new(&self.services, &self.feeds, &ports, Arc::clone(&sinks)).run()
            })
            .await;
        };
        match (&ports.queue, &ports.store) {
            (Some(queue), Some(store)) => {
                let store = lasting("lines are not stored for a moment", || {
                    storing::store_on(&ports.scope, &**queue, Arc::clone(store))
                });
                tokio::join!(collect, store);
            }
            _ => collect.await,
        }
    }

    #[cfg(feature = "intake")]
    async fn serve(&self, ports: LogPorts) {
        let shared = Shared {
            services: Arc::clone(&self.services),
            pushed: Arc::clone(&self.pushed),
            quarantine: self.served.quarantine(),
            reads_instances: self.reads_instances,
        };
        self.served.serve(shared, ports).await;
    }

    #[cfg(not(feature = "intake"))]
    async fn serve(&self, _: LogPorts) {
        std::future::pending().await
    }

    async fn quarantine(&self, _: &Scope) -> Result<Vec<LogQuarantine>> {
        #[cfg(feature = "intake")]
        return Ok(self.served.quarantine().all());
        #[cfg(not(feature = "intake"))]
        Ok(Vec::new())
    }

    async fn tail(
        &self,
        scope: &Scope,
        ports: LogPorts,
        tail: LogTail,
    ) -> Result<BoxStream<'static, Result<TailItem>>> {
        let (feeds, pushed) = (self.feeds.clone(), self.pushed.watch());
        let live = Live { feeds, pushed, reads_instances: self.reads_instances };
        tail::open(Arc::clone(&self.services), live, scope.clone(), ports, tail).await
    }

    async fn counts(&self, _: &Scope, resource: &Resource) -> Result<Vec<(ServiceId, Vec<LogRuleCount>)>> {
        Ok(self.services.counts(resource))
    }

    fn dry_run(&self, rules: &[LogRules], lines: &[u8]) -> Result<Vec<LogTrial>> {
        process::dry_run(self.services.config(), rules, lines)
    }
}

/// Does what is to last again and again.
async fn lasting<F: Future<Output = Result<Infallible>>>(what: &str, mut work: impl FnMut() -> F) {
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = tokio::time::Instant::now();
        let Err(error) = work().await;
        if begun.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        tracing::warn!(?error, "{what}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
