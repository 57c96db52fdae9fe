//! How a change of somebody else's is heard.

use std::sync::Arc;

use futures_util::future::try_join_all;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use paas_core::Result;
use paas_core::model::Resource;

use super::TenancyConfig;
use super::part::Wanted;
use super::table::{Removed, Shelf, Table};
use crate::Connection;
use crate::follow::Follower;
use crate::watch::{Metadata, Objects};

/// The environments whose room is not as it should be, as long as somebody reads.
pub(super) async fn changed(
    connection: &Connection,
    config: &TenancyConfig,
    removed: &Removed,
) -> Result<BoxStream<'static, Resource>> {
    let wanted = Wanted { config: config.clone(), own: connection.namespace().to_owned() };
    let table = Arc::new(Table::new(connection.platform(), wanted, removed.clone()));
    let told = table.drift.watch();
    let followers = follow(connection, &table).await?;
    table.complete();
    // They end with their reader.
    Ok(told.inspect(move |_| _ = &followers).boxed())
}

async fn follow(connection: &Connection, table: &Arc<Table>) -> Result<Vec<Follower>> {
    let selector = &connection.selector();
    let shelf = || Shelf(Arc::clone(table));
    try_join_all([
        Follower::start(Metadata(connection.cluster::<Namespace>()), shelf(), selector).boxed(),
        Follower::start(Objects(connection.cluster::<RoleBinding>()), shelf(), selector).boxed(),
        Follower::start(Objects(connection.cluster::<NetworkPolicy>()), shelf(), selector).boxed(),
        Follower::start(Objects(connection.cluster::<ResourceQuota>()), shelf(), selector).boxed(),
        Follower::start(Objects(connection.cluster::<LimitRange>()), shelf(), selector).boxed(),
        Follower::start(Objects(connection.cluster::<ServiceAccount>()), shelf(), selector).boxed(),
    ])
    .await
}
