//! One reading of the source, for all on this replica who follow a part of what it reads.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use futures_util::StreamExt;
use paas_core::model::{AppId, InstanceId, LogItem, LogSelector, Resource};
use paas_core::port::LogPorts;
use paas_core::{Error, Result};
use tokio::task::AbortHandle;

use super::follower::Follower;
use super::inbox::{Budget, Inbox};
use super::output::{Outputs, after};
use super::read::Read;

/// The feeds of a replica. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Feeds(Arc<Mutex<HashMap<Resource, Weak<Feed>>>>);

impl Feeds {
    fn open(&self) -> MutexGuard<'_, HashMap<Resource, Weak<Feed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a part of a source: from the ends that are given, or else from the oldest line that is there, and on.
    pub(super) fn follow(&self, ports: &LogPorts, selector: &LogSelector, ends: Outputs) -> Follower {
        let mut follower = self.follow_on(ports, selector, ends);
        follower.begin_round();
        follower
    }

    /// Follows a part of a source from now on: nothing is missed that is born later. What is not stored yet may be given, too.
    pub(super) fn follow_on(&self, ports: &LogPorts, selector: &LogSelector, ends: Outputs) -> Follower {
        Follower::new(self.clone(), ports.clone(), selector, ends)
    }

    /// Who reads a part, be it among others. Where nobody does somebody begins to, after these ends.
    pub(super) fn of(&self, ports: &LogPorts, part: &Resource, ends: &Outputs) -> Arc<Feed> {
        let mut open = self.open();
        open.retain(|_, feed| feed.strong_count() > 0);
        let around = open.iter().filter(|(whole, _)| whole.contains(part));
        if let Some(feed) = around.filter_map(|(_, feed)| feed.upgrade()).find(|feed| feed.is_open()) {
            return feed;
        }
        let feed = Feed::of(part.clone());
        open.insert(part.clone(), Arc::downgrade(&feed));
        let mut selector = LogSelector::follow(part.clone());
        selector.after = after(ends.clone());
        let reading = tokio::spawn(read(Arc::downgrade(&feed), ports.clone(), selector));
        let _first = feed.reading.set(reading.abort_handle());
        feed
    }

    /// A feed of everything that somebody else reads, and gives to it.
    pub(super) fn everything(&self) -> Arc<Feed> {
        let feed = Feed::of(Resource::Platform);
        self.open().insert(Resource::Platform, Arc::downgrade(&feed));
        feed
    }
}

/// Reads for a feed until it ends, or nobody follows it.
async fn read(feed: Weak<Feed>, ports: LogPorts, selector: LogSelector) {
    let resource = selector.resource.clone();
    let Err(error) = read_on(&feed, &ports, selector).await;
    tracing::warn!(?error, %resource, "lines are not read for a moment");
    if let Some(feed) = feed.upgrade() {
        feed.end();
    }
}

async fn read_on(feed: &Weak<Feed>, ports: &LogPorts, selector: LogSelector) -> Result<Infallible> {
    let mut items = ports.source.lines(&ports.scope, selector).await?;
    let ended = || Error::unavailable("the log source has ended");
    loop {
        let item = items.next().await.ok_or_else(ended)??;
        // The last of those who follow has gone.
        let feed = feed.upgrade().ok_or_else(ended)?;
        feed.give(item);
    }
}

/// A part of the source that is read once.
#[derive(Debug)]
pub(super) struct Feed {
    whole: Resource,
    followers: Mutex<Followers>,
    budget: Arc<Budget>,
    /// Who reads for it, unless somebody else gives to it.
    reading: OnceLock<AbortHandle>,
}

#[derive(Debug, Default)]
struct Followers {
    /// Those of an app or less.
    apps: HashMap<AppId, Vec<Arc<Inbox>>>,
    wide: Vec<Arc<Inbox>>,
    has_ended: bool,
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(reading) = self.reading.get() {
            reading.abort();
        }
        self.end();
    }
}

/// The app of a part that is no more than one.
fn app(part: &Resource) -> Option<&AppId> {
    match part {
        Resource::App(_, _, app) | Resource::Service(_, _, app, _) => Some(app),
        _ => None,
    }
}

impl Feed {
    fn of(whole: Resource) -> Arc<Self> {
        Arc::new(Self {
            whole,
            followers: Mutex::default(),
            budget: Arc::default(),
            reading: OnceLock::new(),
        })
    }

    fn followers(&self) -> MutexGuard<'_, Followers> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_open(&self) -> bool {
        !self.followers().has_ended
    }

    /// From now on an inbox gets what is read of a part.
    pub(super) fn join(&self, part: &Resource, instance: Option<InstanceId>) -> Arc<Inbox> {
        debug_assert!(self.whole.contains(part));
        let inbox = Arc::new(Inbox::new(part.clone(), instance, Arc::clone(&self.budget)));
        let mut followers = self.followers();
        if followers.has_ended {
            inbox.end();
            return inbox;
        }
        let own = match app(part) {
            Some(app) => followers.apps.entry(app.clone()).or_default(),
            None => &mut followers.wide,
        };
        own.push(Arc::clone(&inbox));
        inbox
    }

    /// An inbox gets nothing any more.
    pub(super) fn leave(&self, inbox: &Arc<Inbox>) {
        inbox.end();
        let mut followers = self.followers();
        let Some(app) = app(inbox.part()) else {
            followers.wide.retain(|own| !Arc::ptr_eq(own, inbox));
            return;
        };
        let Some(own) = followers.apps.get_mut(app) else { return };
        own.retain(|own| !Arc::ptr_eq(own, inbox));
        if own.is_empty() {
            followers.apps.remove(app);
        }
    }

    /// Gives an item to all who follow a part that it is of.
    pub(super) fn give(&self, item: LogItem) {
        let read = Arc::new(Read::new(item));
        let followers = self.followers();
        let Some(part) = read.part() else {
            let all = followers.apps.values().flatten().chain(&followers.wide);
            all.for_each(|inbox| inbox.push(&read));
            return;
        };
        let own = app(&part).and_then(|app| followers.apps.get(app)).into_iter().flatten();
        for inbox in own.chain(&followers.wide).filter(|inbox| inbox.wants(&part, &read)) {
            inbox.push(&read);
        }
    }

    /// Nothing is read any more.
    pub(super) fn end(&self) {
        let mut followers = self.followers();
        followers.has_ended = true;
        let all = followers.apps.drain().flat_map(|(_, own)| own).collect::<Vec<_>>();
        all.iter().chain(&followers.wide).for_each(|inbox| inbox.end());
        followers.wide.clear();
    }
}
