//! The cases of [`StateStore`].

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use paas_core::model::{Key, Record, RecordChange, RecordKind, TenantId, Version, limit};
use paas_core::port::{Expected, StateStore};
use paas_core::{ErrorKind, Result};

use super::Durability;
use crate::bench::refused;
use crate::case::{Case, cases, suites};
use crate::{Bench, Fixture};

/// A state store.
pub trait StateStoreFixture: Fixture<Port = dyn StateStore, Capabilities = Durability> {}
impl<F: Fixture<Port = dyn StateStore, Capabilities = Durability>> StateStoreFixture for F {}

suites!("state_store", StateStore, StateStoreFixture);

type Bed = Bench<dyn StateStoreFixture>;

fn cases() -> Vec<Case<dyn StateStoreFixture>> {
    cases![dyn StateStoreFixture:
        the_backend_says_that_it_can_work,
        a_missing_record_is_none,
        a_record_reads_back_with_the_version_it_was_given,
        every_write_gives_a_greater_version,
        creating_a_record_that_exists_conflicts_and_writes_nothing,
        writing_on_an_old_version_conflicts_and_writes_nothing,
        writing_on_a_version_of_a_missing_record_conflicts,
        a_version_of_one_record_is_worth_nothing_for_another,
        of_racing_writers_exactly_one_wins,
        a_value_of_the_greatest_length_is_kept,
        a_value_that_is_too_long_is_invalid_and_changes_nothing,
        an_empty_value_is_a_value,
        a_deleted_record_is_gone,
        deleting_a_missing_record_is_ok,
        deleting_on_an_old_version_conflicts_and_deletes_nothing,
        a_version_never_comes_twice_even_after_a_delete,
        a_list_is_in_the_order_of_its_keys,
        a_list_of_a_tenant_shows_nothing_of_others,
        a_list_of_everybody_shows_all_tenants_and_the_platform,
        kinds_are_apart,
        equal_ids_of_two_tenants_are_two_records,
        a_watch_tells_the_changes_of_a_key_in_order,
        a_watch_begins_with_the_moment_of_the_call,
        a_watch_tells_only_of_its_kind_and_tenant,
        a_watch_of_everybody_tells_of_all_tenants,
        a_refused_write_is_not_told,
        a_slow_reader_misses_nothing_without_being_told,
        acknowledged_writes_survive_a_restart needs durable,
        deletes_survive_a_restart needs durable,
        versions_do_not_begin_anew_after_a_restart needs durable,
    ]
}

const KIND: RecordKind = RecordKind::new("conformance");
const OTHER_KIND: RecordKind = RecordKind::new("conformancetwo");

fn key(bed: &Bed, id: &str) -> Result<Key> {
    Key::new(KIND, Some(bed.world.tenant.clone()), id)
}

async fn create(bed: &Bed, key: &Key, value: &'static str) -> Result<Version> {
    bed.port.put(&bed.world.platform(), key, Bytes::from_static(value.as_bytes()), Expected::Absent).await
}

async fn write(bed: &Bed, key: &Key, value: &'static str, version: Version) -> Result<Version> {
    let value = Bytes::from_static(value.as_bytes());
    bed.port.put(&bed.world.platform(), key, value, Expected::Version(version)).await
}

async fn read(bed: &Bed, key: &Key) -> Result<Option<Record>> {
    bed.port.get(&bed.world.platform(), key).await
}

async fn ids(bed: &Bed, tenant: Option<TenantId>) -> Result<Vec<String>> {
    let records = bed.port.list(&bed.world.platform(), KIND, tenant).await?;
    Ok(records.into_iter().map(|record| record.key.id.into()).collect())
}

async fn the_backend_says_that_it_can_work(bed: Bed) -> Result<()> {
    assert!(!bed.port.name().is_empty());
    bed.port.check().await
}

async fn a_missing_record_is_none(bed: Bed) -> Result<()> {
    assert_eq!(read(&bed, &key(&bed, "a")?).await?, None);
    Ok(())
}

async fn a_record_reads_back_with_the_version_it_was_given(bed: Bed) -> Result<()> {
    let key = key(&bed, "a.b-c_d/e*")?;
    let version = create(&bed, &key, "one").await?;
    let record = Record { key: key.clone(), value: Bytes::from_static(b"one"), version };
    assert_eq!(read(&bed, &key).await?, Some(record.clone()));
    let version = write(&bed, &key, "two", version).await?;
    assert_eq!(
        read(&bed, &key).await?,
        Some(Record { value: Bytes::from_static(b"two"), version, ..record })
    );
    Ok(())
}

async fn every_write_gives_a_greater_version(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let first = create(&bed, &key, "same").await?;
    let second = write(&bed, &key, "same", first).await?;
    assert!(second > first, "{second:?} after {first:?}");
    Ok(())
}

async fn creating_a_record_that_exists_conflicts_and_writes_nothing(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    create(&bed, &key, "one").await?;
    let before = read(&bed, &key).await?;
    refused(create(&bed, &key, "one").await, ErrorKind::Conflict);
    refused(create(&bed, &key, "two").await, ErrorKind::Conflict);
    assert_eq!(read(&bed, &key).await?, before);
    Ok(())
}

async fn writing_on_an_old_version_conflicts_and_writes_nothing(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let old = create(&bed, &key, "one").await?;
    write(&bed, &key, "two", old).await?;
    let before = read(&bed, &key).await?;
    refused(write(&bed, &key, "three", old).await, ErrorKind::Conflict);
    assert_eq!(read(&bed, &key).await?, before);
    Ok(())
}

async fn writing_on_a_version_of_a_missing_record_conflicts(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    refused(write(&bed, &key, "one", Version(1)).await, ErrorKind::Conflict);
    assert_eq!(read(&bed, &key).await?, None);
    Ok(())
}

async fn a_version_of_one_record_is_worth_nothing_for_another(bed: Bed) -> Result<()> {
    let (a, b) = (key(&bed, "a")?, key(&bed, "b")?);
    create(&bed, &a, "one").await?;
    let first = create(&bed, &b, "one").await?;
    let version = write(&bed, &b, "two", first).await?;
    if read(&bed, &a).await?.is_some_and(|record| record.version != version) {
        refused(write(&bed, &a, "two", version).await, ErrorKind::Conflict);
    }
    Ok(())
}

async fn of_racing_writers_exactly_one_wins(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let version = create(&bed, &key, "zero").await?;
    let writers = (0..16u8).map(|n| {
        let (port, scope, key) = (Arc::clone(&bed.port), bed.world.platform(), key.clone());
        tokio::spawn(async move {
            port.put(&scope, &key, Bytes::copy_from_slice(&[n]), Expected::Version(version))
                .await
                .map(|v| (n, v))
        })
    });
    let mut won = Vec::new();
    for outcome in futures_util::future::join_all(writers).await.into_iter().flatten() {
        match outcome {
            Ok(winner) => won.push(winner),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
        }
    }
    assert_eq!(won.len(), 1, "{won:?}");
    let (value, version) = won[0];
    let value = Bytes::copy_from_slice(&[value]);
    assert_eq!(read(&bed, &key).await?, Some(Record { key: key.clone(), value, version }));
    Ok(())
}

async fn a_value_of_the_greatest_length_is_kept(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let value = Bytes::from((0..=u8::MAX).cycle().take(limit::STATE_VALUE).collect::<Vec<u8>>());
    bed.port.put(&bed.world.platform(), &key, value.clone(), Expected::Absent).await?;
    assert!(read(&bed, &key).await?.is_some_and(|record| record.value == value));
    Ok(())
}

async fn a_value_that_is_too_long_is_invalid_and_changes_nothing(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let value = Bytes::from(vec![0; limit::STATE_VALUE + 1]);
    refused(bed.port.put(&bed.world.platform(), &key, value, Expected::Absent).await, ErrorKind::Invalid);
    assert_eq!(read(&bed, &key).await?, None);
    Ok(())
}

async fn an_empty_value_is_a_value(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    create(&bed, &key, "").await?;
    assert!(read(&bed, &key).await?.is_some_and(|record| record.value.is_empty()));
    refused(create(&bed, &key, "").await, ErrorKind::Conflict);
    Ok(())
}

async fn a_deleted_record_is_gone(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let version = create(&bed, &key, "one").await?;
    bed.port.delete(&bed.world.platform(), &key, version).await?;
    assert_eq!(read(&bed, &key).await?, None);
    assert_eq!(ids(&bed, Some(bed.world.tenant.clone())).await?, Vec::<String>::new());
    Ok(())
}

async fn deleting_a_missing_record_is_ok(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let scope = bed.world.platform();
    bed.port.delete(&scope, &key, Version(1)).await?;
    let version = create(&bed, &key, "one").await?;
    bed.port.delete(&scope, &key, version).await?;
    bed.port.delete(&scope, &key, version).await
}

async fn deleting_on_an_old_version_conflicts_and_deletes_nothing(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let old = create(&bed, &key, "one").await?;
    write(&bed, &key, "two", old).await?;
    refused(bed.port.delete(&bed.world.platform(), &key, old).await, ErrorKind::Conflict);
    assert!(read(&bed, &key).await?.is_some_and(|record| record.value == "two"));
    Ok(())
}

async fn a_version_never_comes_twice_even_after_a_delete(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let first = create(&bed, &key, "one").await?;
        let second = write(&bed, &key, "two", first).await?;
        assert!(seen.insert(first) && seen.insert(second), "{first:?} {second:?} {seen:?}");
        bed.port.delete(&bed.world.platform(), &key, second).await?;
    }
    Ok(())
}

async fn a_list_is_in_the_order_of_its_keys(bed: Bed) -> Result<()> {
    for id in ["b", "a.2", "a", "c/1", "B", "a-1", "10", "9"] {
        create(&bed, &key(&bed, id)?, "x").await?;
    }
    let listed = ids(&bed, Some(bed.world.tenant.clone())).await?;
    assert_eq!(listed, ["10", "9", "B", "a", "a-1", "a.2", "b", "c/1"]);
    Ok(())
}

async fn a_list_of_a_tenant_shows_nothing_of_others(bed: Bed) -> Result<()> {
    create(&bed, &key(&bed, "own")?, "x").await?;
    create(&bed, &Key::new(KIND, Some(bed.world.other.clone()), "others")?, "x").await?;
    create(&bed, &Key::new(KIND, None, bed.world.app.as_str())?, "x").await?;
    assert_eq!(ids(&bed, Some(bed.world.tenant.clone())).await?, ["own"]);
    Ok(())
}

async fn a_list_of_everybody_shows_all_tenants_and_the_platform(bed: Bed) -> Result<()> {
    let id = bed.world.app.as_str();
    let owners = [None, Some(bed.world.tenant.clone()), Some(bed.world.other.clone())];
    for owner in owners.clone() {
        create(&bed, &Key::new(KIND, owner, id)?, "x").await?;
    }
    let records = bed.port.list(&bed.world.platform(), KIND, None).await?;
    let own: Vec<_> =
        records.into_iter().filter(|record| &*record.key.id == id).map(|record| record.key.tenant).collect();
    let mut expected = owners.to_vec();
    expected.sort();
    assert_eq!(own, expected);
    Ok(())
}

async fn kinds_are_apart(bed: Bed) -> Result<()> {
    let other = Key::new(OTHER_KIND, Some(bed.world.tenant.clone()), "a")?;
    create(&bed, &other, "other").await?;
    assert_eq!(read(&bed, &key(&bed, "a")?).await?, None);
    create(&bed, &key(&bed, "a")?, "own").await?;
    assert!(read(&bed, &other).await?.is_some_and(|record| record.value == "other"));
    assert_eq!(ids(&bed, Some(bed.world.tenant.clone())).await?, ["a"]);
    Ok(())
}

async fn equal_ids_of_two_tenants_are_two_records(bed: Bed) -> Result<()> {
    let own = key(&bed, "a")?;
    let others = Key::new(KIND, Some(bed.world.other.clone()), "a")?;
    create(&bed, &own, "own").await?;
    let version = create(&bed, &others, "others").await?;
    bed.port.delete(&bed.world.platform(), &others, version).await?;
    assert!(read(&bed, &own).await?.is_some_and(|record| record.value == "own"));
    Ok(())
}

/// The next change of this case's tenants; what other users of the store do is passed over.
async fn next(
    bed: &Bed,
    changes: &mut futures_util::stream::BoxStream<'static, RecordChange>,
) -> Result<Option<RecordChange>> {
    let own = [Some(&bed.world.tenant), Some(&bed.world.other)];
    loop {
        let change = bed.soon("a change is told", changes.next()).await?;
        let key = match &change {
            Some(RecordChange::Put(record)) => &record.key,
            Some(RecordChange::Deleted(key)) => key,
            _ => return Ok(change),
        };
        if own.contains(&key.tenant.as_ref()) {
            return Ok(change);
        }
    }
}

async fn a_watch_tells_the_changes_of_a_key_in_order(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let scope = bed.world.platform();
    let mut changes = bed.port.watch(&scope, KIND, Some(bed.world.tenant.clone())).await?;
    let first = create(&bed, &key, "one").await?;
    let second = write(&bed, &key, "two", first).await?;
    bed.port.delete(&scope, &key, second).await?;
    let record = |value, version| Record { key: key.clone(), value: Bytes::from_static(value), version };
    assert_eq!(next(&bed, &mut changes).await?, Some(RecordChange::Put(record(b"one", first))));
    assert_eq!(next(&bed, &mut changes).await?, Some(RecordChange::Put(record(b"two", second))));
    assert_eq!(next(&bed, &mut changes).await?, Some(RecordChange::Deleted(key.clone())));
    Ok(())
}

async fn a_watch_begins_with_the_moment_of_the_call(bed: Bed) -> Result<()> {
    create(&bed, &key(&bed, "before")?, "x").await?;
    let mut changes = bed.port.watch(&bed.world.platform(), KIND, Some(bed.world.tenant.clone())).await?;
    create(&bed, &key(&bed, "after")?, "x").await?;
    match next(&bed, &mut changes).await? {
        Some(RecordChange::Put(record)) => assert_eq!(&*record.key.id, "after"),
        other => panic!("{other:?}"),
    }
    Ok(())
}

async fn a_watch_tells_only_of_its_kind_and_tenant(bed: Bed) -> Result<()> {
    let mut changes = bed.port.watch(&bed.world.platform(), KIND, Some(bed.world.tenant.clone())).await?;
    create(&bed, &Key::new(OTHER_KIND, Some(bed.world.tenant.clone()), "kind")?, "x").await?;
    create(&bed, &Key::new(KIND, Some(bed.world.other.clone()), "tenant")?, "x").await?;
    create(&bed, &Key::new(KIND, None, bed.world.app.as_str())?, "x").await?;
    create(&bed, &key(&bed, "own")?, "x").await?;
    match bed.soon("the own change is told", changes.next()).await? {
        Some(RecordChange::Put(record)) => assert_eq!(&*record.key.id, "own"),
        other => panic!("{other:?}"),
    }
    Ok(())
}

async fn a_watch_of_everybody_tells_of_all_tenants(bed: Bed) -> Result<()> {
    let mut changes = bed.port.watch(&bed.world.platform(), KIND, None).await?;
    create(&bed, &key(&bed, "own")?, "x").await?;
    create(&bed, &Key::new(KIND, Some(bed.world.other.clone()), "others")?, "x").await?;
    let mut told = Vec::new();
    while told.len() < 2 {
        match next(&bed, &mut changes).await? {
            Some(RecordChange::Put(record)) => told.push(record.key.id),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told.iter().map(|id| &**id).collect::<Vec<_>>(), ["own", "others"]);
    Ok(())
}

async fn a_refused_write_is_not_told(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let version = create(&bed, &key, "one").await?;
    let mut changes = bed.port.watch(&bed.world.platform(), KIND, Some(bed.world.tenant.clone())).await?;
    refused(create(&bed, &key, "refused").await, ErrorKind::Conflict);
    write(&bed, &key, "two", version).await?;
    match next(&bed, &mut changes).await? {
        Some(RecordChange::Put(record)) => assert_eq!(record.value, "two"),
        other => panic!("{other:?}"),
    }
    Ok(())
}

async fn a_slow_reader_misses_nothing_without_being_told(bed: Bed) -> Result<()> {
    const WRITES: usize = 3_000;
    let key = key(&bed, "a")?;
    let mut changes = bed.port.watch(&bed.world.platform(), KIND, Some(bed.world.tenant.clone())).await?;
    let mut versions = vec![create(&bed, &key, "x").await?];
    while versions.len() < WRITES {
        let last = versions[versions.len() - 1];
        versions.push(write(&bed, &key, "x", last).await?);
    }
    let mut expected = versions.iter();
    loop {
        match next(&bed, &mut changes).await? {
            Some(RecordChange::Put(record)) => {
                assert_eq!(Some(&record.version), expected.next(), "a change is missing without `Reset`");
                if record.version == versions[WRITES - 1] {
                    return Ok(());
                }
            }
            Some(RecordChange::Reset) => break,
            other => panic!("{other:?}"),
        }
    }
    // After `Reset`, whatever still comes is in order.
    let mut last = None;
    while let Some(Some(change)) = changes.next().now_or_never() {
        if let RecordChange::Put(record) = change {
            let at = versions.iter().position(|version| *version == record.version);
            assert!(last < at, "out of order");
            last = at;
        }
    }
    Ok(())
}

async fn acknowledged_writes_survive_a_restart(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let first = create(&bed, &key, "one").await?;
    let version = write(&bed, &key, "two", first).await?;
    let bed = bed.reopened().await?;
    let record = Record { key: key.clone(), value: Bytes::from_static(b"two"), version };
    assert_eq!(read(&bed, &key).await?, Some(record));
    Ok(())
}

async fn deletes_survive_a_restart(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let version = create(&bed, &key, "one").await?;
    bed.port.delete(&bed.world.platform(), &key, version).await?;
    let bed = bed.reopened().await?;
    assert_eq!(read(&bed, &key).await?, None);
    Ok(())
}

async fn versions_do_not_begin_anew_after_a_restart(bed: Bed) -> Result<()> {
    let key = key(&bed, "a")?;
    let first = create(&bed, &key, "one").await?;
    bed.port.delete(&bed.world.platform(), &key, first).await?;
    let bed = bed.reopened().await?;
    assert_ne!(create(&bed, &key, "one").await?, first);
    Ok(())
}
