//! Watches that go on: a cut stream is opened again where it broke off, and what cannot be resumed is told.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt};
use paas_core::Result;
use serde::de::DeserializeOwned;

use crate::error::failed;

/// The server ends a watch after so long, which costs one request and nothing else.
const LENGTH: Duration = Duration::from_secs(240);
/// A watch that says nothing for so long, not even a bookmark, hangs.
const SILENCE: Duration = Duration::from_secs(260);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
struct Watch<K: Resource> {
    api: Api<K>,
    labels: String,
    /// Everything up to here was told; `None` where that is not known any more.
    version: Option<String>,
    open: Option<BoxStream<'static, kube::Result<WatchEvent<K>>>>,
    pause: Duration,
}

/// The changes of these objects, from the moment of the call on. It ends only with its reader.
pub(crate) async fn changes<K>(api: Api<K>, labels: String) -> Result<BoxStream<'static, Change<K>>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let version = Some(now(&api, &labels).await.map_err(|cause| failed(cause, "watch"))?);
    let watch = Watch { api, labels, version, open: None, pause: FIRST_PAUSE };
    Ok(stream::unfold(watch, |mut watch| async move { Some((watch.next().await, watch)) }).boxed())
}

/// The version of the list as it is now.
async fn now<K>(api: &Api<K>, labels: &str) -> kube::Result<String>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let list = api.list_metadata(&ListParams::default().labels(labels).limit(1)).await?;
    Ok(list.metadata.resource_version.unwrap_or_default())
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    async fn next(&mut self) -> Change<K> {
        loop {
            let Some(events) = &mut self.open else {
                if self.open().await {
                    return Change::Reset;
                }
                continue;
            };
            match tokio::time::timeout(SILENCE, events.next()).await {
                Ok(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                    self.seen(object.resource_version());
                    return Change::Put(object);
                }
                Ok(Some(Ok(WatchEvent::Deleted(object)))) => {
                    self.seen(object.resource_version());
                    return Change::Deleted(object);
                }
                Ok(Some(Ok(WatchEvent::Bookmark(mark)))) => self.seen(Some(mark.metadata.resource_version)),
                Ok(Some(Ok(WatchEvent::Error(status)))) => {
                    self.open = None;
                    if status.code == 410 {
                        self.version = None;
                    } else {
                        tracing::debug!(%status, "a watch was ended");
                        self.rest().await;
                    }
                }
                Ok(Some(Err(error))) => {
                    tracing::debug!(%error, "a watch was cut");
                    self.open = None;
                    self.rest().await;
                }
                Ok(None) | Err(_) => self.open = None,
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
            match now(&self.api, &self.labels).await {
                Ok(version) => {
                    self.version = Some(version);
                    return true;
                }
                Err(error) => {
                    tracing::debug!(%error, "a watch cannot begin anew yet");
                    self.rest().await;
                    return false;
                }
            }
        };
        let params = WatchParams::default()
            .labels(&self.labels)
            .timeout(u32::try_from(LENGTH.as_secs()).unwrap_or(u32::MAX));
        match self.api.watch(&params, version).await {
            Ok(events) => self.open = Some(events.boxed()),
            Err(kube::Error::Api(status)) if status.code == 410 => self.version = None,
            Err(error) => {
                tracing::debug!(%error, "a watch cannot be opened yet");
                self.rest().await;
            }
        }
        false
    }

    async fn rest(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
