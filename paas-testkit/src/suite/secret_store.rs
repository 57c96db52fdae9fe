//! The cases of [`SecretStore`].

use std::collections::BTreeSet;
use std::sync::Arc;

use paas_core::model::{Secret, SecretName, SecretVersion, TenantId, limit};
use paas_core::port::SecretStore;
use paas_core::{ErrorKind, Result};

use super::Durability;
use crate::bench::refused;
use crate::case::{Case, cases, suites};
use crate::{Bench, Fixture};

/// A secret store.
pub trait SecretStoreFixture: Fixture<Port = dyn SecretStore, Capabilities = Durability> {}
impl<F: Fixture<Port = dyn SecretStore, Capabilities = Durability>> SecretStoreFixture for F {}

suites!("secret_store", SecretStore, SecretStoreFixture);

type Bed = Bench<dyn SecretStoreFixture>;

fn cases() -> Vec<Case<dyn SecretStoreFixture>> {
    cases![dyn SecretStoreFixture:
        a_secret_reads_back_under_its_version,
        the_first_version_is_one_and_each_put_makes_the_next,
        putting_an_equal_value_makes_another_version,
        puts_at_once_get_versions_of_their_own,
        older_versions_stay_readable,
        a_missing_secret_is_not_found,
        a_missing_version_is_not_found,
        a_list_gives_the_newest_versions_by_name,
        a_tenant_without_secrets_has_an_empty_list,
        a_secret_of_one_tenant_is_not_found_for_another,
        deleting_a_secret_deletes_all_its_versions,
        deleting_a_missing_secret_is_ok,
        deleting_leaves_other_names_and_other_tenants,
        a_version_never_comes_twice_even_after_a_delete,
        any_bytes_up_to_the_greatest_length_are_kept,
        no_value_shows_in_debug_output_or_errors,
        acknowledged_secrets_survive_a_restart needs durable,
        versions_do_not_begin_anew_after_a_restart needs durable,
    ]
}

fn name(text: &str) -> Result<SecretName> {
    SecretName::new(text)
}

async fn put(bed: &Bed, tenant: &TenantId, text: &str, value: &str) -> Result<SecretVersion> {
    bed.port.put(&bed.world.platform(), tenant, &name(text)?, Secret::new(value)?).await
}

async fn get(bed: &Bed, tenant: &TenantId, text: &str, version: SecretVersion) -> Result<Vec<u8>> {
    let secret = bed.port.get(&bed.world.platform(), tenant, &name(text)?, version).await?;
    Ok(secret.expose().to_vec())
}

async fn a_secret_reads_back_under_its_version(bed: Bed) -> Result<()> {
    let version = put(&bed, &bed.world.tenant, "KEY", "one").await?;
    assert_eq!(get(&bed, &bed.world.tenant, "KEY", version).await?, b"one");
    Ok(())
}

async fn the_first_version_is_one_and_each_put_makes_the_next(bed: Bed) -> Result<()> {
    for version in 1..=3 {
        assert_eq!(put(&bed, &bed.world.tenant, "KEY", "x").await?, SecretVersion(version));
    }
    assert_eq!(put(&bed, &bed.world.tenant, "OTHER", "x").await?, SecretVersion(1));
    Ok(())
}

async fn putting_an_equal_value_makes_another_version(bed: Bed) -> Result<()> {
    let first = put(&bed, &bed.world.tenant, "KEY", "same").await?;
    let second = put(&bed, &bed.world.tenant, "KEY", "same").await?;
    assert!(first < second);
    Ok(())
}

async fn puts_at_once_get_versions_of_their_own(bed: Bed) -> Result<()> {
    let values: Vec<String> = (0..6).map(|number| format!("value {number}")).collect();
    let puts = values.iter().map(|value| put(&bed, &bed.world.tenant, "KEY", value));
    let versions = futures_util::future::try_join_all(puts).await?;
    for (value, version) in values.iter().zip(&versions) {
        assert_eq!(get(&bed, &bed.world.tenant, "KEY", *version).await?, value.as_bytes());
    }
    assert_eq!(versions.iter().collect::<BTreeSet<_>>().len(), values.len(), "{versions:?}");
    Ok(())
}

async fn older_versions_stay_readable(bed: Bed) -> Result<()> {
    let first = put(&bed, &bed.world.tenant, "KEY", "one").await?;
    let second = put(&bed, &bed.world.tenant, "KEY", "two").await?;
    assert_eq!(get(&bed, &bed.world.tenant, "KEY", first).await?, b"one");
    assert_eq!(get(&bed, &bed.world.tenant, "KEY", second).await?, b"two");
    Ok(())
}

async fn a_missing_secret_is_not_found(bed: Bed) -> Result<()> {
    refused(get(&bed, &bed.world.tenant, "KEY", SecretVersion(1)).await, ErrorKind::NotFound);
    Ok(())
}

async fn a_missing_version_is_not_found(bed: Bed) -> Result<()> {
    let SecretVersion(version) = put(&bed, &bed.world.tenant, "KEY", "one").await?;
    for missing in [0, version + 1, u64::MAX] {
        refused(get(&bed, &bed.world.tenant, "KEY", SecretVersion(missing)).await, ErrorKind::NotFound);
    }
    Ok(())
}

async fn a_list_gives_the_newest_versions_by_name(bed: Bed) -> Result<()> {
    for text in ["B", "A", "B", "C_1"] {
        put(&bed, &bed.world.tenant, text, "x").await?;
    }
    let listed = bed.port.list(&bed.world.platform(), &bed.world.tenant).await?;
    let expected = [("A", 1), ("B", 2), ("C_1", 1)];
    let listed: Vec<_> = listed.iter().map(|(name, version)| (name.as_str(), version.0)).collect();
    assert_eq!(listed, expected);
    Ok(())
}

async fn a_tenant_without_secrets_has_an_empty_list(bed: Bed) -> Result<()> {
    put(&bed, &bed.world.other, "KEY", "x").await?;
    assert_eq!(bed.port.list(&bed.world.platform(), &bed.world.tenant).await?, []);
    Ok(())
}

async fn a_secret_of_one_tenant_is_not_found_for_another(bed: Bed) -> Result<()> {
    let version = put(&bed, &bed.world.tenant, "KEY", "x").await?;
    refused(get(&bed, &bed.world.other, "KEY", version).await, ErrorKind::NotFound);
    Ok(())
}

async fn deleting_a_secret_deletes_all_its_versions(bed: Bed) -> Result<()> {
    let first = put(&bed, &bed.world.tenant, "KEY", "one").await?;
    let second = put(&bed, &bed.world.tenant, "KEY", "two").await?;
    bed.port.delete(&bed.world.platform(), &bed.world.tenant, &name("KEY")?).await?;
    for version in [first, second] {
        refused(get(&bed, &bed.world.tenant, "KEY", version).await, ErrorKind::NotFound);
    }
    assert_eq!(bed.port.list(&bed.world.platform(), &bed.world.tenant).await?, []);
    Ok(())
}

async fn deleting_a_missing_secret_is_ok(bed: Bed) -> Result<()> {
    bed.port.delete(&bed.world.platform(), &bed.world.tenant, &name("KEY")?).await?;
    assert_eq!(bed.port.list(&bed.world.platform(), &bed.world.tenant).await?, []);
    put(&bed, &bed.world.tenant, "KEY", "x").await?;
    bed.port.delete(&bed.world.platform(), &bed.world.tenant, &name("KEY")?).await?;
    bed.port.delete(&bed.world.platform(), &bed.world.tenant, &name("KEY")?).await
}

async fn deleting_leaves_other_names_and_other_tenants(bed: Bed) -> Result<()> {
    put(&bed, &bed.world.tenant, "KEY", "x").await?;
    let own = put(&bed, &bed.world.tenant, "KEY_2", "own").await?;
    let others = put(&bed, &bed.world.other, "KEY", "others").await?;
    bed.port.delete(&bed.world.platform(), &bed.world.tenant, &name("KEY")?).await?;
    assert_eq!(get(&bed, &bed.world.tenant, "KEY_2", own).await?, b"own");
    assert_eq!(get(&bed, &bed.world.other, "KEY", others).await?, b"others");
    Ok(())
}

async fn a_version_never_comes_twice_even_after_a_delete(bed: Bed) -> Result<()> {
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        assert!(seen.insert(put(&bed, &bed.world.tenant, "KEY", "x").await?), "{seen:?}");
        bed.port.delete(&bed.world.platform(), &bed.world.tenant, &name("KEY")?).await?;
    }
    Ok(())
}

async fn any_bytes_up_to_the_greatest_length_are_kept(bed: Bed) -> Result<()> {
    let values = [Vec::new(), vec![0, b'\n', 0xff], (0..=u8::MAX).cycle().take(limit::SECRET).collect()];
    for value in values {
        let secret = Secret::new(value.clone())?;
        let (scope, name) = (bed.world.platform(), name("KEY")?);
        let version = bed.port.put(&scope, &bed.world.tenant, &name, secret).await?;
        assert!(get(&bed, &bed.world.tenant, "KEY", version).await? == value, "{} bytes", value.len());
    }
    Ok(())
}

async fn no_value_shows_in_debug_output_or_errors(bed: Bed) -> Result<()> {
    put(&bed, &bed.world.tenant, "KEY", "correct-horse").await?;
    let missing = get(&bed, &bed.world.tenant, "KEY", SecretVersion(99)).await;
    assert!(!format!("{:?} {missing:?}", bed.port).contains("correct-horse"));
    Ok(())
}

async fn acknowledged_secrets_survive_a_restart(bed: Bed) -> Result<()> {
    let first = put(&bed, &bed.world.tenant, "KEY", "one").await?;
    let second = put(&bed, &bed.world.tenant, "KEY", "two").await?;
    let bed = bed.reopened().await?;
    assert_eq!(get(&bed, &bed.world.tenant, "KEY", first).await?, b"one");
    assert_eq!(get(&bed, &bed.world.tenant, "KEY", second).await?, b"two");
    Ok(())
}

async fn versions_do_not_begin_anew_after_a_restart(bed: Bed) -> Result<()> {
    let first = put(&bed, &bed.world.tenant, "KEY", "one").await?;
    bed.port.delete(&bed.world.platform(), &bed.world.tenant, &name("KEY")?).await?;
    let bed = bed.reopened().await?;
    assert!(put(&bed, &bed.world.tenant, "KEY", "two").await? > first);
    Ok(())
}
