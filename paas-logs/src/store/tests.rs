//! The store against what it is to be: on a disk that forgets, and beside one that keeps all lines in a map.

use std::path::Path;
use std::sync::Arc;

use paas_core::Result;
use paas_core::model::{InstanceId, LogOrigin, LogStream, Resource, RevisionNumber, TenantId};

use super::Sizes;
use super::inner::Inner;
use crate::disk::Disk;
use crate::disk::forgetful::Forgetful;

mod crash;
mod damage;
mod oracle;
mod reader;

/// So small that a few lines make a block, and a few blocks a segment.
const SMALL: Sizes = Sizes { block: 120, segment: 400, journal: 1_500 };
const FOLDER: &str = "/store";

fn tenant(number: u64) -> TenantId {
    TenantId::new(format!("t-{number}")).unwrap()
}

fn origin(number_of_tenant: u64, number: u64) -> LogOrigin {
    let service = Resource::Service(
        tenant(number_of_tenant),
        "e-1".parse().unwrap(),
        "a-1".parse().unwrap(),
        "s-1".parse().unwrap(),
    );
    let instance = InstanceId::new(format!("i-{number}")).unwrap();
    LogOrigin::new(&service, RevisionNumber(1), instance, LogStream::Stdout).unwrap()
}

fn new_disk() -> Forgetful {
    let disk = Forgetful::default();
    disk.ensure_folder(Path::new(FOLDER)).unwrap();
    disk.sync_folder(Path::new("/")).unwrap();
    disk
}

fn open(disk: &Forgetful) -> Result<Inner> {
    Inner::open(Arc::new(disk.clone()), Path::new(FOLDER), SMALL, None)
}

/// How many histories to look at: the rest where there is time for it.
fn seeds() -> u64 {
    std::env::var("PAAS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(500)
}
