//! The cases of [`VolumeStore`].

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use paas_core::model::{ByteSize, Confirmation, TenantId, Volume, VolumeName, VolumeStatus};
use paas_core::port::{VolumeStore, VolumeStoreCapabilities};
use paas_core::{ErrorKind, Result};

use crate::bench::refused;
use crate::case::{Case, cases, suites};
use crate::{Bench, Fixture};

/// A volume store, and a way to what its volumes hold, as the service that mounts them has.
pub trait VolumeStoreFixture:
    Fixture<Port = dyn VolumeStore, Capabilities = VolumeStoreCapabilities>
{
    /// Makes room for the tenant and environment of a volume that is about to be made.
    fn prepare<'a>(&'a self, volume: &'a Volume) -> BoxFuture<'a, Result<()>> {
        let _ = volume;
        Box::pin(async { Ok(()) })
    }

    /// Makes this all that a volume holds.
    fn write<'a>(&'a self, status: &'a VolumeStatus, content: Bytes) -> BoxFuture<'a, Result<()>>;

    /// What a volume holds; empty where nothing was written.
    fn read<'a>(&'a self, status: &'a VolumeStatus) -> BoxFuture<'a, Result<Bytes>>;
}

suites!("volume_store", VolumeStore, VolumeStoreFixture);

type Bed = Bench<dyn VolumeStoreFixture>;

fn cases() -> Vec<Case<dyn VolumeStoreFixture>> {
    cases![dyn VolumeStoreFixture:
        it_declares_what_the_backend_reports,
        a_new_volume_is_listed_and_empty,
        applying_the_same_volume_twice_changes_nothing,
        a_larger_size_grows_it_and_keeps_data,
        a_volume_that_was_never_used_grows_too,
        a_smaller_size_changes_nothing,
        each_ordinal_has_a_volume_of_its_own,
        a_list_shows_nothing_of_other_tenants,
        removing_needs_a_confirmation_that_names_the_volume,
        removing_deletes_this_volume_and_no_other,
        a_removed_volume_that_is_made_again_is_empty,
        removing_a_missing_volume_is_ok,
        removing_under_another_tenant_removes_nothing,
        a_volume_holds_no_more_than_its_size needs sized,
        a_path_is_told_exactly_where_declared,
    ]
}

const MIB: u64 = 1024 * 1024;

fn volume(bed: &Bed, tenant: &TenantId, ordinal: u32, size: u64) -> Result<Volume> {
    let name = VolumeName::new("data")?;
    // One service for all volumes of the case: its id follows from the app's.
    let service = paas_core::model::ServiceId::new(bed.world.app.as_str())?;
    Volume::new(tenant.clone(), bed.world.environment.clone(), service, name, ordinal, ByteSize(size))
}

async fn apply(bed: &Bed, volume: &Volume) -> Result<VolumeStatus> {
    bed.fixture.prepare(volume).await?;
    bed.port.apply(&bed.world.platform(), volume).await
}

async fn made(bed: &Bed, ordinal: u32) -> Result<VolumeStatus> {
    apply(bed, &volume(bed, &bed.world.tenant, ordinal, MIB)?).await
}

async fn listed(bed: &Bed) -> Result<Vec<VolumeStatus>> {
    bed.port.list(&bed.world.platform(), &bed.world.tenant).await
}

fn confirmed(status: &VolumeStatus) -> Confirmation {
    Confirmation::of(status.volume.id.as_str())
}

async fn it_declares_what_the_backend_reports(bed: Bed) -> Result<()> {
    bed.port.check().await?;
    assert_eq!(bed.fixture.capabilities(), bed.port.capabilities());
    Ok(())
}

async fn a_new_volume_is_listed_and_empty(bed: Bed) -> Result<()> {
    assert_eq!(listed(&bed).await?, []);
    let status = made(&bed, 0).await?;
    assert_eq!(status.volume, volume(&bed, &bed.world.tenant, 0, MIB)?);
    assert_eq!(listed(&bed).await?.iter().map(|own| &own.volume).collect::<Vec<_>>(), [&status.volume]);
    assert_eq!(bed.fixture.read(&status).await?, Bytes::new());
    Ok(())
}

async fn applying_the_same_volume_twice_changes_nothing(bed: Bed) -> Result<()> {
    let status = made(&bed, 0).await?;
    bed.fixture.write(&status, Bytes::from_static(b"data")).await?;
    let again = made(&bed, 0).await?;
    assert_eq!((again.volume, again.path), (status.volume.clone(), status.path.clone()));
    assert_eq!(listed(&bed).await?.len(), 1);
    assert_eq!(bed.fixture.read(&status).await?, "data");
    Ok(())
}

async fn a_larger_size_grows_it_and_keeps_data(bed: Bed) -> Result<()> {
    let status = made(&bed, 0).await?;
    bed.fixture.write(&status, Bytes::from_static(b"data")).await?;
    let larger = volume(&bed, &bed.world.tenant, 0, 2 * MIB)?;
    let grown = apply(&bed, &larger).await?;
    assert_eq!(grown.volume.size, ByteSize(2 * MIB));
    assert_eq!(listed(&bed).await?[0].volume.size, ByteSize(2 * MIB));
    assert_eq!(bed.fixture.read(&grown).await?, "data");
    Ok(())
}

async fn a_volume_that_was_never_used_grows_too(bed: Bed) -> Result<()> {
    made(&bed, 0).await?;
    let larger = volume(&bed, &bed.world.tenant, 0, 2 * MIB)?;
    assert_eq!(apply(&bed, &larger).await?.volume, larger);
    assert_eq!(listed(&bed).await?.iter().map(|own| &own.volume).collect::<Vec<_>>(), [&larger]);
    Ok(())
}

async fn a_smaller_size_changes_nothing(bed: Bed) -> Result<()> {
    let status = made(&bed, 0).await?;
    bed.fixture.write(&status, Bytes::from_static(b"data")).await?;
    let smaller = volume(&bed, &bed.world.tenant, 0, 1)?;
    let same = apply(&bed, &smaller).await?;
    assert_eq!(same.volume.size, ByteSize(MIB));
    assert_eq!(listed(&bed).await?[0].volume.size, ByteSize(MIB));
    assert_eq!(bed.fixture.read(&same).await?, "data");
    Ok(())
}

async fn each_ordinal_has_a_volume_of_its_own(bed: Bed) -> Result<()> {
    let (first, second) = (made(&bed, 0).await?, made(&bed, 1).await?);
    bed.fixture.write(&first, Bytes::from_static(b"first")).await?;
    bed.fixture.write(&second, Bytes::from_static(b"second")).await?;
    assert_eq!(bed.fixture.read(&first).await?, "first");
    assert_eq!(bed.fixture.read(&second).await?, "second");
    assert_eq!(listed(&bed).await?.len(), 2);
    Ok(())
}

async fn a_list_shows_nothing_of_other_tenants(bed: Bed) -> Result<()> {
    let others = volume(&bed, &bed.world.other, 0, MIB)?;
    apply(&bed, &others).await?;
    assert_eq!(listed(&bed).await?, []);
    Ok(())
}

async fn removing_needs_a_confirmation_that_names_the_volume(bed: Bed) -> Result<()> {
    let (status, other) = (made(&bed, 0).await?, made(&bed, 1).await?);
    bed.fixture.write(&status, Bytes::from_static(b"data")).await?;
    for wrong in [Confirmation::of(""), Confirmation::of("yes"), confirmed(&other)] {
        let id = &status.volume.id;
        let outcome = bed.port.remove(&bed.world.platform(), &bed.world.tenant, id, &wrong).await;
        refused(outcome, ErrorKind::Invalid);
    }
    assert_eq!(listed(&bed).await?.len(), 2);
    assert_eq!(bed.fixture.read(&status).await?, "data");
    Ok(())
}

async fn removing_deletes_this_volume_and_no_other(bed: Bed) -> Result<()> {
    let (status, other) = (made(&bed, 0).await?, made(&bed, 1).await?);
    bed.fixture.write(&other, Bytes::from_static(b"data")).await?;
    let id = &status.volume.id;
    bed.port.remove(&bed.world.platform(), &bed.world.tenant, id, &confirmed(&status)).await?;
    assert_eq!(listed(&bed).await?.iter().map(|own| &own.volume).collect::<Vec<_>>(), [&other.volume]);
    assert_eq!(bed.fixture.read(&other).await?, "data");
    Ok(())
}

async fn a_removed_volume_that_is_made_again_is_empty(bed: Bed) -> Result<()> {
    let status = made(&bed, 0).await?;
    bed.fixture.write(&status, Bytes::from_static(b"data")).await?;
    let id = &status.volume.id;
    bed.port.remove(&bed.world.platform(), &bed.world.tenant, id, &confirmed(&status)).await?;
    let again = made(&bed, 0).await?;
    assert_eq!(bed.fixture.read(&again).await?, Bytes::new());
    Ok(())
}

async fn removing_a_missing_volume_is_ok(bed: Bed) -> Result<()> {
    let status = made(&bed, 0).await?;
    for _ in 0..2 {
        let id = &status.volume.id;
        bed.port.remove(&bed.world.platform(), &bed.world.tenant, id, &confirmed(&status)).await?;
    }
    Ok(())
}

async fn removing_under_another_tenant_removes_nothing(bed: Bed) -> Result<()> {
    let status = made(&bed, 0).await?;
    bed.fixture.write(&status, Bytes::from_static(b"data")).await?;
    let id = &status.volume.id;
    bed.port.remove(&bed.world.platform(), &bed.world.other, id, &confirmed(&status)).await?;
    assert_eq!(listed(&bed).await?.len(), 1);
    assert_eq!(bed.fixture.read(&status).await?, "data");
    Ok(())
}

async fn a_volume_holds_no_more_than_its_size(bed: Bed) -> Result<()> {
    let status = made(&bed, 0).await?;
    let mib = usize::try_from(MIB).unwrap_or(usize::MAX);
    assert!(bed.fixture.write(&status, Bytes::from(vec![1; 8 * mib])).await.is_err());
    Ok(())
}

async fn a_path_is_told_exactly_where_declared(bed: Bed) -> Result<()> {
    let status = made(&bed, 0).await?;
    assert_eq!(status.path.is_some(), bed.port.capabilities().paths);
    assert_eq!(listed(&bed).await?[0].path, status.path);
    Ok(())
}
