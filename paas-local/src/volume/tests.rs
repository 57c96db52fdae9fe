use std::os::unix::fs::{PermissionsExt, symlink};

use futures_util::future::join_all;
use paas_core::ErrorKind;
use paas_core::model::{EnvironmentId, Epoch, ServiceId, VolumeName};

use super::*;
use crate::testing::{data, play, role, scope, tenant};

fn volume(name: &str, ordinal: u32, size: u64) -> Volume {
    let service = ServiceId::new("s-db").unwrap();
    let (environment, name) = (EnvironmentId::new("e").unwrap(), VolumeName::new(name).unwrap());
    Volume::new(tenant("a"), environment, service, name, ordinal, ByteSize(size)).unwrap()
}

async fn open(data: &Arc<DataDir>) -> DirectoryVolumeStore {
    DirectoryVolumeStore::open(data).await.unwrap()
}

async fn apply(store: &DirectoryVolumeStore, volume: &Volume) -> (VolumeStatus, PathBuf) {
    let status = store.apply(&scope(), volume).await.unwrap();
    let path = status.path.clone().unwrap().into();
    (status, path)
}

async fn list(store: &DirectoryVolumeStore) -> Vec<VolumeStatus> {
    store.list(&scope(), &tenant("a")).await.unwrap()
}

async fn remove(store: &DirectoryVolumeStore, volume: &Volume) -> Result<()> {
    let confirmation = Confirmation::of(volume.id.as_str());
    store.remove(&scope(), &volume.tenant, &volume.id, &confirmation).await
}

#[tokio::test]
async fn a_volume_is_made_once_only_grows_and_keeps_its_data() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    store.check().await.unwrap();
    assert!(store.capabilities().paths && !store.capabilities().sized);
    assert_eq!(list(&store).await, []);
    let (made, path) = apply(&store, &volume("db", 0, 100)).await;
    assert_eq!((&made.volume, made.used), (&volume("db", 0, 100), Some(ByteSize(0))));
    assert_eq!(path, data.volumes().join("a").join(made.volume.id.as_str()).join("data"));
    for directory in [&path, path.parent().unwrap(), &data.volumes()] {
        assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
    fs::write(path.join("file"), "x".repeat(10_000)).unwrap();
    for (size, expected) in [(100, 100), (300, 300), (200, 300)] {
        let (status, same) = apply(&store, &volume("db", 0, size)).await;
        assert_eq!((status.volume.size, &same), (ByteSize(expected), &path));
        assert_eq!(status.used, Some(ByteSize(12_288)));
    }
    apply(&store, &volume("db", 1, 1)).await;
    drop(store);
    let found = list(&open(&data).await).await;
    let mut expected = [volume("db", 0, 300), volume("db", 1, 1)];
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(found.into_iter().map(|status| status.volume).collect::<Vec<_>>(), expected);
    assert_eq!(fs::read(path.join("file")).unwrap().len(), 10_000);
}

#[tokio::test]
async fn only_a_confirmed_removal_deletes_and_what_links_point_to_stays() {
    let (root, data) = data().await;
    let store = open(&data).await;
    let own = volume("db", 0, 1);
    let (_, path) = apply(&store, &own).await;
    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "x").unwrap();
    symlink(&outside, path.join("link")).unwrap();
    fs::create_dir_all(path.join("a/b")).unwrap();

    for wrong in ["", "db", volume("db", 1, 1).id.as_str()] {
        let confirmation = Confirmation::of(wrong);
        let error = store.remove(&scope(), &own.tenant, &own.id, &confirmation).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    let other = store.remove(&scope(), &tenant("b"), &own.id, &Confirmation::of(own.id.as_str())).await;
    other.unwrap();
    assert_eq!(list(&store).await.len(), 1);
    for _ in 0..2 {
        remove(&store, &own).await.unwrap();
        assert_eq!(list(&store).await, []);
    }
    assert!(outside.join("file").exists());
    assert_eq!(entries(&data.volumes().join(TRASH)).unwrap(), Vec::<PathBuf>::new());
    let (again, path) = apply(&store, &own).await;
    assert_eq!((again.used, entries(&path).unwrap().len()), (Some(ByteSize(0)), 0));
}

#[tokio::test]
async fn what_a_crash_left_is_swept_and_volumes_stay() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    let (_, path) = apply(&store, &volume("db", 0, 1)).await;
    fs::write(path.join("file"), "x").unwrap();
    drop(store);
    let left = [data.volumes().join(DRAFTS).join("1"), data.volumes().join(TRASH).join("a.v-1.2")];
    for path in &left {
        fs::create_dir_all(path.join("data/a")).unwrap();
    }
    // A draft of the description, as a crash during a growth leaves it.
    fs::write(path.with_file_name("volume.json.new"), "{").unwrap();
    let store = open(&data).await;
    while left.iter().any(|path| path.exists()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(apply(&store, &volume("db", 0, 2)).await.0.volume.size, ByteSize(2));
    assert_eq!(fs::read(path.join("file")).unwrap(), b"x");
}

#[tokio::test]
async fn a_volume_of_an_older_release_is_read_and_learns_its_environment() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    let own = volume("db", 0, 1);
    let (_, path) = apply(&store, &own).await;
    fs::write(path.join("file"), "x").unwrap();
    let mut older = serde_json::json!({ "schema": 1, "volume": own });
    older["volume"].as_object_mut().unwrap().remove("environment");
    fs::write(path.with_file_name(DESCRIPTION), older.to_string()).unwrap();
    let listed = list(&store).await.remove(0).volume;
    assert_eq!((listed.id, listed.environment.as_str()), (own.id.clone(), UNKNOWN));
    assert_eq!(apply(&store, &own).await.0.volume, own);
    assert_eq!(list(&store).await.remove(0).volume, own);
    assert_eq!(fs::read(path.join("file")).unwrap(), b"x");
}

#[tokio::test]
async fn a_damaged_description_is_never_taken_for_a_missing_volume() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    let own = volume("db", 0, 1);
    let (_, path) = apply(&store, &own).await;
    fs::write(path.join("file"), "x").unwrap();
    let description = path.with_file_name(DESCRIPTION);
    let newer = format!("{{\"schema\": 3, \"volume\": {}}}", serde_json::to_string(&own).unwrap());
    for (content, kind) in
        [("", ErrorKind::Internal), ("{}", ErrorKind::Internal), (&newer, ErrorKind::Invalid)]
    {
        fs::write(&description, content).unwrap();
        for error in [
            store.list(&scope(), &own.tenant).await.unwrap_err(),
            store.apply(&scope(), &own).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), kind, "{content}: {error:?}");
            assert!(error.context("path").is_some());
        }
    }
    fs::remove_file(&description).unwrap();
    assert!(store.apply(&scope(), &own).await.is_err());
    assert!(store.list(&scope(), &own.tenant).await.is_err());
    assert_eq!(fs::read(path.join("file")).unwrap(), b"x");
}

#[tokio::test]
async fn a_volume_of_very_many_files_does_not_say_how_much_it_holds() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    let (_, path) = apply(&store, &volume("db", 0, 1)).await;
    for n in 0..=COUNTED {
        fs::hard_link(path.with_file_name(DESCRIPTION), path.join(n.to_string())).unwrap();
    }
    assert_eq!(list(&store).await[0].used, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_apply_and_remove_at_once_none_meets_half_a_volume() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    let tasks = (0..16).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            for size in 0..20 {
                let own = volume("db", size % 3, u64::from(size) + 1);
                if n % 4 == 0 {
                    remove(&store, &own).await.unwrap();
                } else {
                    assert!(apply(&store, &own).await.0.volume.size >= own.size);
                }
                list(&store).await;
            }
        })
    });
    for outcome in join_all(tasks).await {
        outcome.unwrap();
    }
    assert_eq!(entries(&data.volumes().join(DRAFTS)).unwrap().len(), 0);
}

#[tokio::test]
async fn a_leader_whose_term_is_over_changes_nothing() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    let own = volume("db", 0, 1);
    apply(&store, &own).await;
    let term = |epoch| scope().in_epoch(Epoch(epoch));
    store.list(&term(2), &own.tenant).await.unwrap();
    assert_eq!(store.apply(&term(1), &own).await.unwrap_err().kind(), ErrorKind::Conflict);
    let confirmation = Confirmation::of(own.id.as_str());
    let late = store.remove(&term(1), &own.tenant, &own.id, &confirmation).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(list(&store).await.len(), 1);
}

/// A role: makes volumes, writes into some and removes others, and says what was acknowledged.
#[tokio::test]
async fn role_that_makes_and_removes() {
    let Some(directory) = role() else { return };
    let data = DataDir::open(directory).await.unwrap();
    let store = open(&data).await;
    let first = list(&store).await.iter().map(|status| status.volume.ordinal + 1).max().unwrap_or(0);
    for n in (first..).step_by(2) {
        let (_, path) = apply(&store, &volume("kept", n, 1)).await;
        fs::write(path.join("file"), "x").unwrap();
        println!("says kept {n}");
        let (_, path) = apply(&store, &volume("removed", n, 1)).await;
        fs::create_dir_all(path.join("a/b/c")).unwrap();
        remove(&store, &volume("removed", n, 1)).await.unwrap();
        println!("says removed {n}");
    }
}

#[tokio::test]
async fn a_kill_leaves_whole_volumes_and_no_removed_one() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    let mut kept = Vec::new();
    for round in 0..8u64 {
        let mut role = play("volume::tests::role_that_makes_and_removes", &path);
        let until = 1 + (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59);
        let mut said: Vec<_> = (0..until).map_while(|_| role.next()).collect();
        said.extend(role.kill());
        let data = DataDir::open(&path).await.unwrap();
        let found = list(&open(&data).await).await;
        let known = |name: &str, n: u32| {
            found.iter().find(|status| status.volume.ordinal == n && status.volume.name.as_str() == name)
        };
        for line in said {
            let (what, n) = line.split_once(' ').unwrap();
            let n = n.parse().unwrap();
            match what {
                "kept" => kept.push(n),
                _ => assert_eq!(known("removed", n), None),
            }
        }
        for n in &kept {
            let path = PathBuf::from(known("kept", *n).unwrap().path.clone().unwrap());
            assert_eq!(fs::read(path.join("file")).unwrap(), b"x");
        }
    }
}
