//! One who follows a part of a source: every line once, in the order of its output, and nobody waits for them.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use paas_core::Result;
use paas_core::model::{LogItem, LogSelector, Resource};
use paas_core::port::LogPorts;

use super::FIRST_PAUSE;
use super::feed::{Feed, Feeds};
use super::inbox::{Inbox, Next};
use super::output::{Outputs, after, stored};
use super::read::Read;

/// A part of a source, read with others.
///
/// Whoever comes new or is behind reads for themselves what there is (a *round*), while what comes is kept in the inbox. Both
/// overlap; where each output is read up to tells what came twice.
pub(super) struct Follower {
    feeds: Feeds,
    ports: LogPorts,
    /// What a round reads.
    selector: LogSelector,
    feed: Arc<Feed>,
    inbox: Arc<Inbox>,
    /// Up to where each output was given.
    ends: Outputs,
    round: Option<BoxStream<'static, Result<LogItem>>>,
    /// Whether it goes on with another feed where this one ends.
    lasts: bool,
}

impl Follower {
    /// One that begins with what its feed is given next. Where nobody reads this part yet, that is what comes after the ends.
    pub(super) fn new(feeds: Feeds, ports: LogPorts, selector: &LogSelector, ends: Outputs) -> Self {
        let feed = feeds.of(&ports, &selector.resource, &ends);
        let inbox = feed.join(&selector.resource, selector.instance.clone());
        let mut selector = selector.clone();
        selector.follow = false;
        Self { feeds, ports, selector, feed, inbox, ends, round: None, lasts: true }
    }

    /// One that begins with what the feed is given next, and ends with the feed.
    pub(super) fn of_all_that_comes(
        feeds: Feeds,
        ports: LogPorts,
        feed: Arc<Feed>,
        inbox: Arc<Inbox>,
    ) -> Self {
        let selector = LogSelector::existing(inbox.part().clone());
        Self { feeds, ports, selector, feed, inbox, ends: Outputs::new(), round: None, lasts: false }
    }

    pub(super) fn part(&self) -> &Resource {
        &self.selector.resource
    }

    /// There is nothing to do, unless something has come.
    pub(super) fn rest(&self) {
        if self.round.is_none() {
            self.inbox.rest();
        }
    }

    /// Begins anew after these ends.
    pub(super) fn restart(&mut self, ends: Outputs) {
        self.ends = ends;
        self.begin_round();
    }

    /// Reads what there is after the ends, before what comes.
    pub(super) fn begin_round(&mut self) {
        let (ports, mut selector) = (self.ports.clone(), self.selector.clone());
        let given = self.ends.clone();
        // Whoever is given all that is not stored was given nothing yet of outputs that only the store knows.
        let store = ports.store.clone().filter(|_| !self.lasts);
        let items = async move {
            let mut ends = match store {
                Some(store) => stored(store.ends(&ports.scope, &selector.resource).await?),
                None => Outputs::new(),
            };
            ends.extend(given);
            selector.after = after(ends);
            ports.source.lines(&ports.scope, selector).await
        };
        self.round = Some(stream::once(items).try_flatten().boxed());
    }

    /// What comes next; `None` where nothing does any more. Safe to give up and ask again.
    pub(super) async fn next(&mut self) -> Option<Result<Arc<Read>>> {
        loop {
            let read = if let Some(round) = &mut self.round {
                match round.next().await {
                    Some(Ok(item)) => Arc::new(Read::new(item)),
                    Some(Err(error)) => return Some(Err(error)),
                    None => {
                        self.round = None;
                        continue;
                    }
                }
            } else {
                match self.inbox.next().await {
                    Next::Read(read) => read,
                    Next::Behind => {
                        self.begin_round();
                        continue;
                    }
                    Next::End if self.lasts => {
                        self.join_another();
                        continue;
                    }
                    Next::End => return None,
                }
            };
            if let Some(read) = self.news(read) {
                return Some(Ok(read));
            }
        }
    }

    /// Goes on with another feed. Where that cannot be read either, the round tells.
    fn join_another(&mut self) {
        self.feed = self.feeds.of(&self.ports, &self.selector.resource, &self.ends);
        self.inbox = self.feed.join(&self.selector.resource, self.selector.instance.clone());
        self.begin_round();
        if let Some(round) = self.round.take() {
            // Not at once: this may be the next of many.
            let pause = stream::once(tokio::time::sleep(FIRST_PAUSE)).filter_map(async |()| None);
            self.round = Some(pause.chain(round).boxed());
        }
    }

    /// What of an item was not given before.
    fn news(&mut self, read: Arc<Read>) -> Option<Arc<Read>> {
        let LogItem::Batch(batch) = &read.item else { return Some(read) };
        let end = batch.end();
        let own = self.ends.entry((batch.origin.instance.clone(), batch.origin.stream));
        let before = match own {
            Entry::Vacant(own) => {
                own.insert(end);
                return Some(read);
            }
            Entry::Occupied(mut own) if *own.get() < end => own.insert(end),
            Entry::Occupied(_) => return None,
        };
        let known = batch.lines().take_while(|line| line.position < before).count();
        if known == 0 {
            return Some(read);
        }
        batch.without_first(known).map(|rest| Arc::new(Read::new(LogItem::Batch(rest))))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.feed.leave(&self.inbox);
    }
}
