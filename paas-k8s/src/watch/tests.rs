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
    /// What lists and watches are refused with, before any is answered.
    refusals: Mutex<VecDeque<Status>>,
}

impl Script {
    fn refuse(&self) -> kube::Result<()> {
        let refusal = self.refusals.lock().unwrap().pop_front();
        refusal.map_or(Ok(()), |status| Err(kube::Error::Api(status.boxed())))
    }
}

#[async_trait]
impl Source for Script {
    type Object = ConfigMap;

    async fn list(&self, _: &ListParams) -> kube::Result<ObjectList<ConfigMap>> {
        self.refuse()?;
        let list = serde_json::json!({ "metadata": { "resourceVersion": "90" }, "items": [] });
        serde_json::from_value(list).map_err(kube::Error::SerdeError)
    }

    async fn watch(
        &self,
        _: &WatchParams,
        version: &str,
    ) -> kube::Result<BoxStream<'static, kube::Result<WatchEvent<ConfigMap>>>> {
        self.refuse()?;
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

/// A refusal that asks to come again after so long.
fn refusal(code: u16, seconds: u32) -> Status {
    let details = serde_json::json!({ "retryAfterSeconds": seconds });
    let refusal =
        serde_json::json!({ "code": code, "message": "no", "status": "Failure", "details": details });
    serde_json::from_value(refusal).unwrap()
}

fn ended(code: u16, seconds: u32) -> (Events, bool) {
    (vec![Ok(WatchEvent::Error(refusal(code, seconds).boxed()))], true)
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_resumed_is_a_reset() {
    let mut watch = watch([ended(410, 0), (vec![put("91")], false)]);
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

/// How long it takes until there is something to tell, where these were refused first.
async fn waited(refusals: &[(u16, u32)], watches: impl IntoIterator<Item = (Events, bool)>) -> f64 {
    let mut watch = watch(watches);
    let refusals = refusals.iter().map(|(code, seconds)| refusal(*code, *seconds));
    watch.source.refusals.lock().unwrap().extend(refusals);
    let began = Instant::now();
    watch.next().await;
    began.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_it_is_left_alone() {
    let next = || (vec![put("8")], false);
    for (refusals, watches, least) in [
        (&[(429, 7)][..], vec![next()], 7.0),
        (&[(503, 30), (503, 0), (429, 1)], vec![next()], 31.0),
        // That it asks for too much is not taken at its word.
        (&[(503, 3_600)], vec![next()], 120.0),
        // It ends what was open already.
        (&[], vec![ended(429, 9), next()], 9.0),
        // Its list is what is refused.
        (&[(429, 11)], vec![ended(410, 0)], 11.0),
        (&[(429, 0)], vec![next()], 0.05),
    ] {
        let waited = waited(refusals, watches).await;
        assert!((least..least + 0.5).contains(&waited), "{refusals:?}: {waited} s");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_to_wait_says_so_meanwhile() {
    let mut watch = watch([ended(429, 60), (vec![], false)]);
    let behind = watch.behind().clone();
    assert!(tokio::time::timeout(Duration::from_secs(31), watch.next()).await.is_err());
    let error = behind.check().unwrap_err();
    assert!(error.to_string().contains("may be old"), "{error}");
}
