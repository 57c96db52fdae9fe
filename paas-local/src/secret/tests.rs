use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use futures_util::future::join_all;
use paas_core::ErrorKind;
use paas_core::model::Epoch;
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use super::*;
use crate::testing::{data, play, role, scope, tenant};

fn name(text: &str) -> SecretName {
    SecretName::new(text).unwrap()
}

async fn put(store: &EncryptedSecretStore, key: &str, value: &str) -> u64 {
    store.put(&scope(), &tenant("a"), &name(key), Secret::new(value).unwrap()).await.unwrap().0
}

async fn get(store: &EncryptedSecretStore, key: &str, version: u64) -> Result<String> {
    let found = store.get(&scope(), &tenant("a"), &name(key), SecretVersion(version)).await?;
    Ok(String::from_utf8(found.expose().to_vec()).unwrap())
}

async fn open(data: &Arc<DataDir>) -> EncryptedSecretStore {
    EncryptedSecretStore::open(data).await.unwrap()
}

fn key_files(data: &DataDir) -> Vec<PathBuf> {
    let directory = data.secret_keys();
    file::names(&directory).unwrap().iter().map(|name| directory.join(name)).collect()
}

#[tokio::test]
async fn versions_are_kept_over_a_restart_and_never_repeated() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    assert_eq!((put(&store, "KEY", "one").await, put(&store, "KEY", "two").await), (1, 2));
    assert_eq!(put(&store, "KEY_2", "").await, 1);
    store.delete(&scope(), &tenant("a"), &name("KEY")).await.unwrap();
    store.delete(&scope(), &tenant("a"), &name("KEY")).await.unwrap();
    store.delete(&scope(), &tenant("a"), &name("OTHER")).await.unwrap();
    assert_eq!(get(&store, "KEY", 2).await.unwrap_err().kind(), ErrorKind::NotFound);
    drop(store);

    let store = open(&data).await;
    store.check().await.unwrap();
    assert_eq!(put(&store, "KEY", "three").await, 3);
    assert_eq!(get(&store, "KEY", 3).await.unwrap(), "three");
    assert_eq!(get(&store, "KEY_2", 1).await.unwrap(), "");
    for missing in [0, 1, 2, 4] {
        assert_eq!(get(&store, "KEY", missing).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let listed = store.list(&scope(), &tenant("a")).await.unwrap();
    assert_eq!(listed, [(name("KEY"), SecretVersion(3)), (name("KEY_2"), SecretVersion(1))]);
    assert_eq!(store.list(&scope(), &tenant("a-b")).await.unwrap(), []);
}

#[tokio::test]
async fn of_puts_at_once_each_gets_a_version_of_its_own() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    let values: Vec<_> = (0..32).map(|n| n.to_string()).collect();
    let versions = join_all(values.iter().map(|value| put(&store, "KEY", value))).await;
    for (version, value) in versions.iter().zip(&values) {
        assert_eq!(get(&store, "KEY", *version).await.unwrap(), *value);
    }
    assert_eq!(versions.iter().max(), Some(&32));
}

#[tokio::test]
async fn no_file_holds_a_plaintext_and_each_is_private() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    put(&store, "KEY", "correct horse battery staple").await;
    store.rotate_key().await.unwrap();
    drop(store);
    let files: Vec<_> = key_files(&data).into_iter().chain([data.secrets()]).collect();
    assert_eq!(files.len(), 2);
    for path in files {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
        let content = fs::read(&path).unwrap();
        assert!(!content.windows(13).any(|part| part == b"correct horse"), "{path:?}");
    }
    assert_eq!(data.secret_keys().metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

async fn refused(data: &Arc<DataDir>, kind: ErrorKind, text: &str) {
    let error = EncryptedSecretStore::open(data).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.to_string().contains(text), "{error}");
    assert!(error.context("path").is_some());
}

#[tokio::test]
async fn a_key_that_is_unsafe_wrong_or_missing_is_refused_and_never_replaced() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    put(&store, "KEY", "value").await;
    drop(store);
    let [path] = &key_files(&data)[..] else { panic!("one key") };
    let key = fs::read(path).unwrap();
    assert_eq!(key.len(), 32);

    for mode in [0o640, 0o604, 0o610] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        refused(&data, ErrorKind::Denied, "chmod 600").await;
    }
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    for length in [0, 31, 33] {
        fs::write(path, vec![7; length]).unwrap();
        refused(&data, ErrorKind::Internal, "wrong length").await;
    }
    fs::write(path, [7; 32]).unwrap();
    refused(&data, ErrorKind::Internal, "not the one these secrets were encrypted with").await;
    fs::remove_file(path).unwrap();
    refused(&data, ErrorKind::Internal, "missing").await;
    assert_eq!(key_files(&data), Vec::<PathBuf>::new());
    fs::write(path, key).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(get(&open(&data).await, "KEY", 1).await.unwrap(), "value");
}

#[tokio::test]
async fn a_key_of_another_user_or_behind_a_link_is_refused() {
    let (_root, data) = data().await;
    drop(open(&data).await);
    let [path] = &key_files(&data)[..] else { panic!("one key") };
    let aside = data.join("aside");
    fs::rename(path, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, path).unwrap();
    assert!(EncryptedSecretStore::open(&data).await.is_err());
    fs::rename(&aside, path).unwrap();
    // Only root can give a file away.
    if std::os::unix::fs::chown(path, Some(12_345), None).is_ok() {
        refused(&data, ErrorKind::Denied, "another user").await;
    }
}

#[tokio::test]
async fn a_crash_before_the_first_key_was_named_leaves_a_store_that_opens() {
    let (_root, data) = data().await;
    data.directory("secret-keys").unwrap();
    // One that was cut off, then one that was written but not yet named.
    file::create_new(&data.secret_keys().join("0000000000000001.key"), &[7; 9]).unwrap();
    let store = open(&data).await;
    put(&store, "KEY", "value").await;
    drop(store);
    fs::remove_file(data.secrets()).unwrap();
    let before = key_files(&data);
    put(&open(&data).await, "KEY", "value").await;
    assert_eq!(key_files(&data), before);
}

const VALUES: TableDefinition<&[u8], (u8, u64, &[u8])> = TableDefinition::new("values");

/// Changes every stored value.
fn alter(data: &DataDir, change: impl Fn(&mut BTreeMap<Vec<u8>, (u64, Vec<u8>)>)) {
    let database = redb::Database::open(data.secrets()).unwrap();
    let mut found = BTreeMap::new();
    let reading = database.begin_read().unwrap();
    for entry in reading.open_table(VALUES).unwrap().iter().unwrap() {
        let (place, value) = entry.unwrap();
        let (_, key, sealed) = value.value();
        found.insert(place.value().to_vec(), (key, sealed.to_vec()));
    }
    drop(reading);
    change(&mut found);
    let transaction = database.begin_write().unwrap();
    {
        let mut values = transaction.open_table(VALUES).unwrap();
        for (place, (key, sealed)) in &found {
            values.insert(place.as_slice(), (1, *key, sealed.as_slice())).unwrap();
        }
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_ciphertext_opens_only_where_it_was_put() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    put(&store, "A", "of a").await;
    put(&store, "A", "of a").await;
    put(&store, "B", "of b").await;
    let other = (tenant("b"), name("A"));
    store.put(&scope(), &other.0, &other.1, Secret::new("of b's tenant").unwrap()).await.unwrap();
    drop(store);
    // Everyone gets another's value.
    alter(&data, |values| {
        let mut rotated: Vec<_> = values.values().cloned().collect();
        rotated.rotate_left(1);
        values.values_mut().zip(rotated).for_each(|(value, other)| *value = other);
    });
    let store = open(&data).await;
    for (key, version) in [("A", 1), ("A", 2), ("B", 1)] {
        let error = get(&store, key, version).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains("does not open"), "{error}");
    }
    assert!(store.get(&scope(), &other.0, &other.1, SecretVersion(1)).await.is_err());
    drop(store);
    alter(&data, |values| values.values_mut().for_each(|(_, sealed)| sealed.truncate(20)));
    assert!(get(&open(&data).await, "A", 1).await.is_err());
}

#[tokio::test]
async fn a_rotation_keeps_every_secret_and_deletes_the_old_key() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    for n in 0..150 {
        put(&store, "KEY", &n.to_string()).await;
    }
    let before = key_files(&data);
    let (rotated, _) = tokio::join!(store.rotate_key(), async {
        for n in 150..170 {
            put(&store, "KEY", &n.to_string()).await;
            get(&store, "KEY", 1).await.unwrap();
        }
    });
    rotated.unwrap();
    let after = key_files(&data);
    assert!(after.len() == 1 && after != before);
    drop(store);
    let store = open(&data).await;
    for n in 0..170 {
        assert_eq!(get(&store, "KEY", n + 1).await.unwrap(), n.to_string());
    }
}

#[tokio::test]
async fn a_rotation_that_was_cut_off_is_finished_by_the_next_open() {
    for batches in 0..5 {
        let (_root, data) = data().await;
        let store = open(&data).await;
        for n in 0..150 {
            put(&store, "KEY", &n.to_string()).await;
        }
        {
            let shared = &store.shared;
            let mut keys = shared.keys.write().unwrap();
            keys.renew(&data.secret_keys(), &shared.database).unwrap();
            for _ in 0..batches {
                table::renew(&shared.database, &keys).unwrap();
            }
        }
        assert_eq!(key_files(&data).len(), 2);
        if batches == 4 {
            // Cut off between the deletion of the old key and the note of it.
            let old = table::retiring(&store.shared.database).unwrap().unwrap();
            fs::remove_file(data.secret_keys().join(format!("{old:016x}.key"))).unwrap();
        }
        drop(store);
        let store = open(&data).await;
        assert_eq!(key_files(&data).len(), 1);
        for n in 0..150 {
            assert_eq!(get(&store, "KEY", n + 1).await.unwrap(), n.to_string());
        }
    }
}

#[tokio::test]
async fn a_leader_whose_term_is_over_writes_nothing() {
    let (_root, data) = data().await;
    let store = open(&data).await;
    let term = |epoch| scope().in_epoch(Epoch(epoch));
    store.list(&term(2), &tenant("a")).await.unwrap();
    let late = store.put(&term(1), &tenant("a"), &name("KEY"), Secret::new("x").unwrap()).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
    let late = store.delete(&term(1), &tenant("a"), &name("KEY")).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
}

/// A role: puts secrets and rotates the key all the time, and says each version that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role_that_puts_and_rotates() {
    let Some(directory) = role() else { return };
    let data = DataDir::open(directory).await.unwrap();
    let store = open(&data).await;
    let rotating = store.clone();
    tokio::spawn(async move {
        loop {
            rotating.rotate_key().await.unwrap();
            println!("says rotated");
        }
    });
    for n in 0.. {
        let version = put(&store, "KEY", &format!("value {n} {}", std::process::id())).await;
        println!("says {version} value {n} {}", std::process::id());
    }
}

#[tokio::test]
async fn every_acknowledged_secret_survives_a_kill_during_rotations() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    let mut expected = BTreeMap::new();
    for round in 0..10u64 {
        let mut role = play("secret::tests::role_that_puts_and_rotates", &path);
        let until = 1 + (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58);
        let mut said: Vec<_> = (0..until).map_while(|_| role.next()).collect();
        said.extend(role.kill());
        for line in said {
            if let Some((version, value)) = line.split_once(' ') {
                assert_eq!(expected.insert(version.parse::<u64>().unwrap(), value.to_owned()), None);
            }
        }
        let data = DataDir::open(&path).await.unwrap();
        let store = open(&data).await;
        for (version, value) in &expected {
            assert_eq!(get(&store, "KEY", *version).await.unwrap(), *value);
        }
    }
}
