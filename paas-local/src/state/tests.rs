use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use paas_core::ErrorKind;
use proptest::prelude::*;

use super::*;
use crate::testing::{data, play, role, scope, tenant};

const APP: RecordKind = RecordKind::new("app");
const TASK: RecordKind = RecordKind::new("task");

fn key(id: &str) -> Key {
    Key::new(APP, Some(tenant("a")), id).unwrap()
}

async fn put(store: &RedbStateStore, key: &Key, value: &str, expected: Expected) -> Result<Version> {
    store.put(&scope(), key, Bytes::copy_from_slice(value.as_bytes()), expected).await
}

async fn store() -> (tempfile::TempDir, Arc<DataDir>, RedbStateStore) {
    let (root, data) = data().await;
    let store = RedbStateStore::open(&data).await.unwrap();
    (root, data, store)
}

#[tokio::test]
async fn a_record_is_written_on_condition_and_found_again_after_a_restart() {
    let (_root, data, store) = store().await;
    let first = put(&store, &key("x"), "1", Expected::Absent).await.unwrap();
    let again = put(&store, &key("x"), "2", Expected::Absent).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    assert_eq!(again.context("found"), Some("1"));
    let second = put(&store, &key("x"), "2", Expected::Version(first)).await.unwrap();
    assert!(put(&store, &key("x"), "3", Expected::Version(first)).await.is_err());
    assert!(put(&store, &key("y"), "3", Expected::Version(first)).await.is_err());
    drop(store);

    let store = RedbStateStore::open(&data).await.unwrap();
    store.check().await.unwrap();
    let found = store.get(&scope(), &key("x")).await.unwrap().unwrap();
    assert_eq!((&*found.value, found.version, found.key), (&b"2"[..], second, key("x")));
    assert_eq!(data.state().metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_version_never_comes_twice_after_a_delete_or_a_restart() {
    let (_root, data, mut store) = store().await;
    let mut seen = Version(0);
    for round in 0..6 {
        let version = put(&store, &key("x"), "v", Expected::Absent).await.unwrap();
        assert!(version > seen);
        seen = version;
        let wrong = store.delete(&scope(), &key("x"), Version(version.0 + 1)).await.unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::Conflict);
        store.delete(&scope(), &key("x"), version).await.unwrap();
        store.delete(&scope(), &key("x"), version).await.unwrap();
        assert_eq!(store.get(&scope(), &key("x")).await.unwrap(), None);
        if round % 2 == 0 {
            drop(store);
            store = RedbStateStore::open(&data).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_list_has_one_kind_and_tenant_in_the_order_of_keys() {
    let (_root, _data, store) = store().await;
    let mut keys = Vec::new();
    for kind in [APP, TASK] {
        for tenant in [None, Some(tenant("a")), Some(tenant("a-b")), Some(tenant("b"))] {
            for id in ["x", "a/b", "x.y", "x-y"] {
                keys.push(Key::new(kind, tenant.clone(), id).unwrap());
            }
        }
    }
    join_all(keys.iter().rev().map(|key| put(&store, key, "v", Expected::Absent))).await;
    keys.sort();
    let list = async |kind, tenant| {
        let found = store.list(&scope(), kind, tenant).await.unwrap();
        found.into_iter().map(|record| record.key).collect::<Vec<_>>()
    };
    let own = |kind, tenant: Option<TenantId>| {
        let own = |key: &&Key| key.kind == kind && (tenant.is_none() || key.tenant == tenant);
        keys.iter().filter(own).cloned().collect::<Vec<_>>()
    };
    for kind in [APP, TASK] {
        for tenant in [None, Some(tenant("a")), Some(tenant("a-b")), Some(tenant("c"))] {
            assert_eq!(list(kind, tenant.clone()).await, own(kind, tenant));
        }
    }
    assert_eq!(list(RecordKind::new("ap"), None).await, []);
}

#[tokio::test]
async fn a_value_has_a_bound() {
    let (_root, _data, store) = store().await;
    let longest = "x".repeat(limit::STATE_VALUE);
    let error = put(&store, &key("x"), &format!("{longest}x"), Expected::Absent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    put(&store, &key("x"), &longest, Expected::Absent).await.unwrap();
    put(&store, &key("y"), "", Expected::Absent).await.unwrap();
    assert_eq!(store.get(&scope(), &key("x")).await.unwrap().unwrap().value, longest);
    assert_eq!(store.get(&scope(), &key("y")).await.unwrap().unwrap().value, "");
}

#[tokio::test]
async fn a_watcher_sees_each_change_of_its_own_in_order() {
    let (_root, _data, store) = store().await;
    put(&store, &key("x"), "before", Expected::Absent).await.unwrap();
    let mut own = store.watch(&scope(), APP, Some(tenant("a"))).await.unwrap();
    let mut all = store.watch(&scope(), APP, None).await.unwrap();
    let other = Key::new(TASK, Some(tenant("a")), "x").unwrap();
    put(&store, &other, "v", Expected::Absent).await.unwrap();
    let platform = Key::new(APP, None, "p").unwrap();
    put(&store, &platform, "v", Expected::Absent).await.unwrap();
    let mut version = put(&store, &key("y"), "0", Expected::Absent).await.unwrap();
    for value in 1..20 {
        version = put(&store, &key("y"), &value.to_string(), Expected::Version(version)).await.unwrap();
    }
    store.delete(&scope(), &key("y"), version).await.unwrap();
    assert!(matches!(all.next().await, Some(RecordChange::Put(record)) if record.key == platform));
    for stream in [&mut own, &mut all] {
        for value in 0..20 {
            let Some(RecordChange::Put(record)) = stream.next().await else { panic!("no put") };
            assert_eq!((record.key, record.value), (key("y"), Bytes::from(value.to_string())));
        }
        assert_eq!(stream.next().await, Some(RecordChange::Deleted(key("y"))));
        assert!(stream.next().now_or_never().is_none());
    }
    drop(store);
    assert_eq!(own.next().await, None);
}

#[tokio::test]
async fn a_slow_watcher_is_told_so_and_goes_on() {
    let (_root, _data, store) = store().await;
    let mut slow = store.watch(&scope(), APP, None).await.unwrap();
    let mut quiet = store.watch(&scope(), TASK, None).await.unwrap();
    let keys: Vec<_> = (0..watch::CHANGES + 10).map(|n| key(&n.to_string())).collect();
    for outcome in join_all(keys.iter().map(|key| put(&store, key, "v", Expected::Absent))).await {
        outcome.unwrap();
    }
    assert_eq!(slow.next().await, Some(RecordChange::Reset));
    // Which ten came last follows from the order of arrival.
    for _ in 0..9 {
        assert!(matches!(slow.next().await, Some(RecordChange::Put(_))));
    }
    assert!(slow.next().now_or_never().is_none());
    let large = "x".repeat(limit::STATE_VALUE);
    for n in 0..watch::BYTES / large.len() + 1 {
        put(&store, &key(&format!("large-{n}")), &large, Expected::Absent).await.unwrap();
    }
    assert_eq!(slow.next().await, Some(RecordChange::Reset));
    assert!(quiet.next().now_or_never().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_swap_at_once_exactly_one_wins() {
    let (_root, _data, store) = store().await;
    let store = Arc::new(store);
    let mut version = put(&store, &key("x"), "0", Expected::Absent).await.unwrap();
    for _ in 0..20 {
        let tasks = (0..64).map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(
                async move { put(&store, &key("x"), &n.to_string(), Expected::Version(version)).await },
            )
        });
        let outcomes: Vec<_> = join_all(tasks).await.into_iter().map(|outcome| outcome.unwrap()).collect();
        let won: Vec<_> = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_ok()).collect();
        assert_eq!(won.len(), 1);
        assert!(outcomes.iter().flat_map(|o| o.as_ref().err()).all(|e| e.kind() == ErrorKind::Conflict));
        let record = store.get(&scope(), &key("x")).await.unwrap().unwrap();
        assert_eq!(record.value, won[0].0.to_string());
        assert!(record.version > version);
        version = record.version;
    }
}

#[tokio::test]
async fn a_leader_whose_term_is_over_writes_nothing() {
    let (_root, _data, store) = store().await;
    let term = |epoch| scope().in_epoch(Epoch(epoch));
    let old = store.put(&term(1), &key("x"), "1".into(), Expected::Absent).await.unwrap();
    store.get(&term(2), &key("x")).await.unwrap();
    let error = store.put(&term(1), &key("x"), "2".into(), Expected::Version(old)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(store.delete(&term(1), &key("x"), old).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(store.get(&term(1), &key("x")).await.unwrap().unwrap().value, "1");
    put(&store, &key("x"), "3", Expected::Version(old)).await.unwrap();
}

#[tokio::test]
async fn an_open_or_damaged_database_is_refused_clearly() {
    let (_root, data, store) = store().await;
    let error = RedbStateStore::open(&data).await.unwrap_err();
    assert!(
        error.to_string().contains("open already") && error.to_string().contains("state.redb"),
        "{error}"
    );
    for n in 0..200 {
        put(&store, &key(&n.to_string()), &"v".repeat(400), Expected::Absent).await.unwrap();
    }
    drop(store);
    let whole = std::fs::read(data.state()).unwrap();
    let no_database = vec![b'x'; 5_000];
    let mut damaged = whole.clone();
    for page in damaged.chunks_mut(4096).skip(1).filter(|page| page.contains(&b'v')) {
        page[page.len() / 2] ^= 0xff;
    }
    for content in [no_database, damaged, whole[..whole.len() / 2].to_vec()] {
        std::fs::write(data.state(), content).unwrap();
        let error = RedbStateStore::open(&data).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
        assert!(error.to_string().contains("put it back from a backup"), "{error}");
    }
    std::fs::write(data.state(), whole).unwrap();
    assert_eq!(
        RedbStateStore::open(&data).await.unwrap().list(&scope(), APP, None).await.unwrap().len(),
        200
    );
}

/// A role: puts records from eight tasks, and says each that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role_that_puts() {
    let Some(directory) = role() else { return };
    let data = DataDir::open(directory).await.unwrap();
    let store = Arc::new(RedbStateStore::open(&data).await.unwrap());
    let run = std::process::id();
    let tasks = (0..8).map(|task| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in 0.. {
                let id = format!("{run}-{task}-{n}");
                let version = put(&store, &key(&id), &id, Expected::Absent).await.unwrap();
                println!("says {id} {}", version.0);
                if n >= 3 {
                    // Kept small: the last three of each task stay.
                    let gone = key(&format!("{run}-{task}-{}", n - 3));
                    let record = store.get(&scope(), &gone).await.unwrap().unwrap();
                    println!("says -{} 0", gone.id);
                    store.delete(&scope(), &gone, record.version).await.unwrap();
                }
            }
        })
    });
    join_all(tasks).await;
}

#[tokio::test]
async fn every_acknowledged_write_survives_a_kill() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    let mut versions = std::collections::BTreeSet::new();
    for round in 0..15u64 {
        let mut role = play("state::tests::role_that_puts", &path);
        // Killed after a number of acknowledgements that looks random and repeats.
        let until = 1 + (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54);
        let mut said: Vec<_> = (0..until).map_while(|_| role.next()).collect();
        assert_eq!(said.len() as u64, until);
        said.extend(role.kill());
        let mut expected = BTreeMap::new();
        for line in &said {
            let (id, version) = line.split_once(' ').unwrap();
            match id.strip_prefix('-') {
                Some(id) => drop(expected.remove(id)),
                None => {
                    assert!(versions.insert(version.to_owned()), "version {version} came twice");
                    expected.insert(id, version.parse().map(Version).unwrap());
                }
            }
        }
        let data = DataDir::open(&path).await.unwrap();
        let store = RedbStateStore::open(&data).await.unwrap();
        for (id, version) in expected {
            let found = store.get(&scope(), &key(id)).await.unwrap();
            let found = found.unwrap_or_else(|| panic!("round {round}: {id} is lost"));
            assert_eq!((&*found.value, found.version), (id.as_bytes(), version));
        }
    }
}

/// A role: a file may grow no further, as on a full disk; then it may.
#[tokio::test]
async fn role_that_fills_the_disk() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Some(directory) = role() else { return };
    // The kernel also sends a signal; without a handler it would end the process.
    let seen = Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(rustix::process::Signal::XFSZ.as_raw(), seen).unwrap();
    let data = DataDir::open(directory).await.unwrap();
    let store = RedbStateStore::open(&data).await.unwrap();
    let mut watching = store.watch(&scope(), TASK, None).await.unwrap();
    let large = "x".repeat(100_000);
    let mut kept = BTreeMap::new();
    let maximum = getrlimit(Resource::Fsize).maximum;
    for round in 0..3 {
        let size = data.state().metadata().unwrap().len();
        setrlimit(Resource::Fsize, Rlimit { current: Some(size), maximum }).unwrap();
        let mut failures = 0;
        for n in 0..200 {
            let id = format!("{round}-{n}");
            match put(&store, &key(&id), &large, Expected::Absent).await {
                Ok(version) => drop(kept.insert(id, version)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                    assert!(error.to_string().contains("disk full"), "{error:?}");
                    failures += 1;
                }
            }
            if failures > 3 {
                break;
            }
        }
        assert!(failures > 3, "the limit was never met");
        let found = store.list(&scope(), APP, None).await.unwrap();
        let found: BTreeMap<_, _> = found.into_iter().map(|r| (r.key.id.to_string(), r.version)).collect();
        assert_eq!(found, kept);
        setrlimit(Resource::Fsize, Rlimit { current: None, maximum }).unwrap();
        let id = format!("{round}-again");
        let version = put(&store, &key(&id), &large, Expected::Absent).await.unwrap();
        kept.insert(id, version);
    }
    drop(store);
    let store = RedbStateStore::open(&data).await.unwrap();
    assert_eq!(store.list(&scope(), APP, None).await.unwrap().len(), kept.len());
    while watching.next().await.is_some() {}
    println!("says done");
}

#[test]
fn a_full_disk_costs_the_writes_that_meet_it_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let role = play("state::tests::role_that_fills_the_disk", &root.path().join("data"));
    assert_eq!(role.end(), (true, vec!["done".to_owned()]));
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Option<u8>, u8),
    Delete(u8, u8),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..4u8, prop::option::of(0..6u8), any::<u8>()).prop_map(|(k, v, b)| Step::Put(k, v, b)),
        4 => (0..4u8, 0..6u8).prop_map(|(k, v)| Step::Delete(k, v)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

/// Whatever is done, the store holds what a sorted map would. A small number stands for one of the versions seen so far,
/// counted from the newest.
async fn follows_a_map(path: &Path, steps: Vec<Step>) {
    let data = DataDir::open(path).await.unwrap();
    let mut store = RedbStateStore::open(&data).await.unwrap();
    let mut model = BTreeMap::new();
    let mut seen = Vec::new();
    for step in steps {
        let version = |back: u8| seen.iter().rev().nth(back.into()).copied().unwrap_or(Version(1_000));
        match step {
            Step::Put(id, expected, value) => {
                let id = key(&id.to_string());
                let expected = expected.map_or(Expected::Absent, |back| Expected::Version(version(back)));
                let holds = match (expected, model.get(&id)) {
                    (Expected::Absent, None) => true,
                    (Expected::Version(expected), Some((version, _))) => expected == *version,
                    _ => false,
                };
                let outcome = store.put(&scope(), &id, Bytes::copy_from_slice(&[value]), expected).await;
                assert_eq!(outcome.is_ok(), holds);
                if let Ok(version) = outcome {
                    assert!(seen.last().is_none_or(|last| version > *last));
                    seen.push(version);
                    model.insert(id, (version, value));
                }
            }
            Step::Delete(id, back) => {
                let id = key(&id.to_string());
                let version = version(back);
                let holds = model.get(&id).is_none_or(|(own, _)| *own == version);
                assert_eq!(store.delete(&scope(), &id, version).await.is_ok(), holds);
                if holds {
                    model.remove(&id);
                }
            }
            Step::Reopen => {
                drop(store);
                store = RedbStateStore::open(&data).await.unwrap();
            }
        }
        let found = store.list(&scope(), APP, None).await.unwrap();
        let found: BTreeMap<_, _> =
            found.into_iter().map(|record| (record.key, (record.version, record.value[0]))).collect();
        assert_eq!(found, model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn it_holds_what_a_sorted_map_would(steps in steps()) {
        let root = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follows_a_map(&root.path().join("data"), steps));
    }
}
