use std::collections::VecDeque;
use std::sync::Mutex;

use k8s_openapi::api::core::v1::ConfigMap;
use tokio::time::Instant;

use super::*;

type Events = Vec<kube::Result<WatchEvent<ConfigMap>>>;

/// Answers each watch with the next of these; one that is not `over` hangs at its end.
#[derive(Default)]
struct Script {
    watches: Mutex<VecDeque<(Events, bool)>>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Source for Script {
    type Object = ConfigMap;

    async fn list(&self, _: &ListParams) -> kube::Result<ObjectList<ConfigMap>> {
        let list = serde_json::json!({ "metadata": { "resourceVersion": "90" }, "items": [] });
        serde_json::from_value(list).map_err(kube::Error::SerdeError)
    }

    async fn watch(
        &self,
        _: &WatchParams,
        version: &str,
    ) -> kube::Result<BoxStream<'static, kube::Result<WatchEvent<ConfigMap>>>> {
        self.asked.lock().unwrap().push(version.to_owned());
        let (events, over) = self.watches.lock().unwrap().pop_front().unwrap_or_default();
        let events = stream::iter(events);
        Ok(if over { events.boxed() } else { events.chain(stream::pending()).boxed() })
    }

    fn meta(object: &ConfigMap) -> &ObjectMeta {
        &object.metadata
    }
}

fn put(version: &str) -> kube::Result<WatchEvent<ConfigMap>> {
    let meta = ObjectMeta { resource_version: Some(version.into()), ..ObjectMeta::default() };
    Ok(WatchEvent::Added(ConfigMap { metadata: meta, ..ConfigMap::default() }))
}

fn watch(watches: impl IntoIterator<Item = (Events, bool)>) -> Watch<Script> {
    let script = Script { watches: Mutex::new(watches.into_iter().collect()), ..Script::default() };
    Watch::after(script, String::new(), "7".into())
}

async fn next_version(watch: &mut Watch<Script>) -> Option<String> {
    match watch.next().await {
        Change::Put(object) => object.metadata.resource_version,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_hangs_is_noticed_and_goes_on_where_it_was() {
    let mut watch = watch([(vec![put("8")], false), (vec![put("9")], false)]);
    assert_eq!(next_version(&mut watch).await.as_deref(), Some("8"));
    let began = Instant::now();
    assert_eq!(next_version(&mut watch).await.as_deref(), Some("9"));
    assert!(began.elapsed() <= Duration::from_secs(101), "{:?}", began.elapsed());
    assert_eq!(*watch.source.asked.lock().unwrap(), ["7", "8"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_resumed_is_a_reset() {
    let gone = serde_json::json!({ "code": 410, "message": "too old resource version", "status": "Failure" });
    let gone = WatchEvent::Error(serde_json::from_value(gone).unwrap());
    let mut watch = watch([(vec![Ok(gone)], true), (vec![put("91")], false)]);
    assert!(matches!(watch.next().await, Change::Reset));
    assert_eq!(next_version(&mut watch).await.as_deref(), Some("91"));
    assert_eq!(*watch.source.asked.lock().unwrap(), ["7", "90"]);
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_opened_ever_more_rarely() {
    let mut watch = watch((0..40).map(|_| (Vec::new(), true)));
    let began = Instant::now();
    assert!(tokio::time::timeout(Duration::from_secs(60), watch.next()).await.is_err());
    assert!(began.elapsed() >= Duration::from_secs(60));
    let asked = watch.source.asked.lock().unwrap().len();
    assert!((10..25).contains(&asked), "{asked}");
}
