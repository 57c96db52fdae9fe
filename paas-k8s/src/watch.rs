//! Watches that go on: a cut stream is opened again where it broke off, and what cannot be resumed is told.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use kube::api::{ListParams, ObjectList, ObjectMeta, PartialObjectMeta, WatchEvent, WatchParams};
use kube::core::Status;
use kube::{Api, Resource};
use paas_core::Result;
use serde::de::DeserializeOwned;

use crate::error::failed;
pub(crate) use behind::Behind;

mod behind;

/// The server ends a watch after so long, which costs one request and nothing else.
const LENGTH: Duration = Duration::from_secs(240);
/// A watch that says nothing for so long, not even a bookmark, hangs: the server sends one at least every 75 seconds.
const SILENCE: Duration = Duration::from_secs(100);
/// How long an answer may take to begin.
const ANSWER: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest that a server is left alone because it asks for that: it may mean well, and be well again sooner.
const LONGEST_ASKED: Duration = Duration::from_secs(120);

/// Objects as they are listed and watched.
#[async_trait]
pub(crate) trait Source: Send + Sync + 'static {
    type Object: Clone + Send + 'static;

    /// How many objects one answer of a list brings. A page of pods takes some 20 KiB of memory for each while it is read, and
    /// all kinds may be listed at once.
    const PAGE: u32 = 50;

    async fn list(&self, params: &ListParams) -> kube::Result<ObjectList<Self::Object>>;

    async fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> kube::Result<BoxStream<'static, kube::Result<WatchEvent<Self::Object>>>>;

    fn meta(object: &Self::Object) -> &ObjectMeta;
}

/// Whole objects.
pub(crate) struct Objects<K>(pub(crate) Api<K>);

/// Nothing but their metadata.
pub(crate) struct Metadata<K>(pub(crate) Api<K>);

#[async_trait]
impl<K> Source for Objects<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    type Object = K;

    async fn list(&self, params: &ListParams) -> kube::Result<ObjectList<K>> {
        self.0.list(params).await
    }

    async fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> kube::Result<BoxStream<'static, kube::Result<WatchEvent<K>>>> {
        self.0.watch(params, version).await.map(StreamExt::boxed)
    }

    fn meta(object: &K) -> &ObjectMeta {
        object.meta()
    }
}

#[async_trait]
impl<K> Source for Metadata<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    type Object = PartialObjectMeta<K>;

    async fn list(&self, params: &ListParams) -> kube::Result<ObjectList<PartialObjectMeta<K>>> {
        self.0.list_metadata(params).await
    }

    async fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> kube::Result<BoxStream<'static, kube::Result<WatchEvent<PartialObjectMeta<K>>>>> {
        self.0.watch_metadata(params, version).await.map(StreamExt::boxed)
    }

    fn meta(object: &PartialObjectMeta<K>) -> &ObjectMeta {
        &object.metadata
    }
}

/// What a watch tells.
#[derive(Debug)]
pub(crate) enum Change<K> {
    /// It was made or changed.
    Put(K),
    /// It was deleted; this is how it was.
    Deleted(K),
    /// Something may have been missed.
    Reset,
}

/// Where a watch is.
pub(crate) struct Watch<S: Source> {
    source: S,
    labels: String,
    /// Everything up to here was told; `None` where that is not known any more.
    version: Option<String>,
    open: Option<BoxStream<'static, kube::Result<WatchEvent<S::Object>>>>,
    pause: Duration,
    behind: Behind,
}

/// The changes of these objects, from the moment of the call on. It ends only with its reader.
pub(crate) async fn changes<S: Source>(
    source: S,
    labels: String,
) -> Result<BoxStream<'static, Change<S::Object>>> {
    let version = now(&source, &labels).await.map_err(|cause| failed(cause, "watch"))?;
    let watch = Watch::after(source, labels, version);
    Ok(stream::unfold(watch, |mut watch| async move { Some((watch.next().await, watch)) }).boxed())
}

/// The connection may live on while no answer comes.
pub(crate) async fn in_time<T>(answer: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let late = |_| kube::Error::Service("no answer in time".into());
    tokio::time::timeout(ANSWER, answer).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}

/// The version of the list as it is now.
async fn now<S: Source>(source: &S, labels: &str) -> kube::Result<String> {
    let list = in_time(source.list(&ListParams::default().labels(labels).limit(1))).await?;
    Ok(list.metadata.resource_version.unwrap_or_default())
}

/// Calls `each` with every object, and gives the version of the list. Page by page: whoever keeps less than the objects
/// never holds them all.
pub(crate) async fn list<S: Source>(
    source: &S,
    labels: &str,
    mut each: impl FnMut(S::Object) + Send,
) -> kube::Result<String> {
    let mut params = ListParams::default().labels(labels).limit(S::PAGE);
    loop {
        let page = in_time(source.list(&params)).await?;
        page.items.into_iter().for_each(&mut each);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(page.metadata.resource_version.unwrap_or_default()),
        }
    }
}

impl<S: Source> Watch<S> {
    /// A watch that tells what comes after this version.
    pub(crate) fn after(source: S, labels: String, version: String) -> Self {
        let behind = Behind::default();
        Self { source, labels, version: Some(version), open: None, pause: FIRST_PAUSE, behind }
    }

    /// Whether it is behind.
    pub(crate) fn behind(&self) -> &Behind {
        &self.behind
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    /// Goes on after this version.
    pub(crate) fn resume(&mut self, version: String) {
        (self.version, self.open) = (Some(version), None);
    }

    /// What came meanwhile could not be read: the next change is a reset again.
    pub(crate) async fn forget(&mut self, cause: kube::Error) {
        (self.version, self.open) = (None, None);
        self.fall_behind(cause).await;
    }

    pub(crate) async fn next(&mut self) -> Change<S::Object> {
        loop {
            let Some(events) = &mut self.open else {
                if self.open().await {
                    return Change::Reset;
                }
                continue;
            };
            match tokio::time::timeout(SILENCE, events.next()).await {
                Ok(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                    self.seen(S::meta(&object).resource_version.clone());
                    return Change::Put(object);
                }
                Ok(Some(Ok(WatchEvent::Deleted(object)))) => {
                    self.seen(S::meta(&object).resource_version.clone());
                    return Change::Deleted(object);
                }
                Ok(Some(Ok(WatchEvent::Bookmark(mark)))) => self.seen(Some(mark.metadata.resource_version)),
                Ok(Some(Ok(WatchEvent::Error(status)))) => {
                    self.open = None;
                    tracing::debug!(%status, "a watch was ended");
                    if status.code == 410 {
                        self.version = None;
                    }
                    self.stand_aside(status).await;
                }
                Ok(Some(Err(error))) => {
                    tracing::debug!(%error, "a watch was cut");
                    self.open = None;
                    match error {
                        kube::Error::Api(status) => self.stand_aside(status).await,
                        _ => self.rest(Duration::ZERO).await,
                    }
                }
                // Where the stream lasts for a moment only, the pauses grow.
                Ok(None) | Err(_) => {
                    self.open = None;
                    self.rest(Duration::ZERO).await;
                }
            }
        }
    }

    fn seen(&mut self, version: Option<String>) {
        if version.is_some() {
            self.version = version;
            self.pause = FIRST_PAUSE;
        }
    }

    /// Opens the stream where it broke off; tells whether it had to begin anew.
    async fn open(&mut self) -> bool {
        let Some(version) = &self.version else {
            match now(&self.source, &self.labels).await {
                Ok(version) => {
                    self.version = Some(version);
                    return true;
                }
                Err(error) => {
                    tracing::debug!(%error, "a watch cannot begin anew yet");
                    self.fall_behind(error).await;
                    return false;
                }
            }
        };
        let params = WatchParams::default()
            .labels(&self.labels)
            .timeout(u32::try_from(LENGTH.as_secs()).unwrap_or(u32::MAX));
        match in_time(self.source.watch(&params, version)).await {
            Ok(events) => {
                self.behind.end();
                self.open = Some(events);
            }
            Err(kube::Error::Api(status)) if status.code == 410 => {
                self.version = None;
                self.stand_aside(status).await;
            }
            Err(error) => {
                tracing::debug!(%error, "a watch cannot be opened yet");
                self.fall_behind(error).await;
            }
        }
        false
    }

    /// What ends a watch in its time is no trouble, unless the server asks to be left alone: nothing is told meanwhile.
    async fn stand_aside(&mut self, status: Box<Status>) {
        if asked(&status).is_zero() {
            self.rest(Duration::ZERO).await;
        } else {
            self.fall_behind(kube::Error::Api(status)).await;
        }
    }

    async fn fall_behind(&mut self, cause: kube::Error) {
        let asked = asked_by(&cause);
        self.behind.fall(cause);
        self.rest(asked).await;
    }

    /// A pause of our own, or as long as the server asks to be left alone.
    async fn rest(&mut self, asked: Duration) {
        tokio::time::sleep(self.pause.max(asked.min(LONGEST_ASKED))).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// How long a refusal asks to leave the server alone.
fn asked(status: &Status) -> Duration {
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    Duration::from_secs(seconds.into())
}

fn asked_by(cause: &kube::Error) -> Duration {
    match cause {
        kube::Error::Api(status) => asked(status),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests;
