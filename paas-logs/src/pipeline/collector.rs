//! Reads the lines of all services, and gives those of each app to a lane of its own.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt};
use paas_core::model::{LogItem, LogOrigin, LogSelector, Resource};
use paas_core::port::LogPorts;
use paas_core::{Error, Result};
use tokio::task::JoinSet;
use tokio::time::{Duration, MissedTickBehavior};

use super::feed::{Feed, Feeds};
use super::follower::Follower;
use super::inbox::Inbox;
use super::lane::{Lane, Work};
use super::output::after;
use super::services::Services;
use super::sink::Sinks;

/// Between two looks at which lanes rest.
const LOOK: Duration = Duration::from_secs(60);

/// Reads everything, once.
pub(super) struct Collector {
    work: Arc<Work>,
    feeds: Feeds,
    feed: Arc<Feed>,
    open: HashMap<Resource, Arc<Inbox>>,
    lanes: JoinSet<()>,
}

impl Drop for Collector {
    /// Who watches what was read here goes on with a feed of their own.
    fn drop(&mut self) {
        self.feed.end();
    }
}

impl Collector {
    pub(super) fn new(services: &Arc<Services>, feeds: &Feeds, ports: &LogPorts, sinks: Arc<Sinks>) -> Self {
        let work = Arc::new(Work { services: Arc::clone(services), ports: ports.clone(), sinks });
        let (feed, feeds) = (feeds.everything(), feeds.clone());
        Self { work, feeds, feed, open: HashMap::new(), lanes: JoinSet::new() }
    }

    /// Goes on where the store ends, for as long as the source can be read.
    pub(super) async fn run(mut self) -> Result<Infallible> {
        let mut items = self.items().await?;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.lanes.join_next() => {
                    // What it had is read anew, with everything else.
                    ended.map_err(|cause| Error::internal("a lane of log lines has ended").with_source(cause))?;
                }
                item = items.next() => {
                    let item = item.ok_or_else(|| Error::unavailable("the log source has ended"))??;
                    if let LogItem::Batch(batch) = &item {
                        self.open_lane(&batch.origin);
                    }
                    self.feed.give(item);
                }
                _ = look.tick() => self.open.retain(|_, inbox| !inbox.end_at_rest()),
            }
        }
    }

    async fn items(&self) -> Result<BoxStream<'static, Result<LogItem>>> {
        let ports = &self.work.ports;
        let mut selector = LogSelector::follow(Resource::Platform);
        selector.after = after(self.work.ends(&Resource::Platform).await?);
        ports.source.lines(&ports.scope, selector).await
    }

    /// Whatever of an app is not stored comes here from now on.
    fn open_lane(&mut self, of: &LogOrigin) {
        let app = Resource::App(of.tenant.clone(), of.environment.clone(), of.app.clone());
        if self.open.contains_key(&app) {
            return;
        }
        let inbox = self.feed.join(&app, None);
        let (feeds, ports) = (self.feeds.clone(), self.work.ports.clone());
        let lines = Follower::of_all_that_comes(feeds, ports, Arc::clone(&self.feed), Arc::clone(&inbox));
        self.lanes.spawn(Lane::new(Arc::clone(&self.work), lines).run());
        self.open.insert(app, inbox);
    }
}
