//! Commands in pods, as callers run them.

use paas_core::ErrorKind;
use paas_core::Result;
use paas_core::model::{Command, ExecRequest, InstanceId};

use super::{Case, World, app, cases, serving, until, web};

pub(super) const CASES: &[(&str, Case)] =
    cases![a_command_runs_in_an_instance, an_instance_that_never_started_runs_no_command];

impl World {
    /// The first instance that the service has.
    pub(super) async fn instance(&self) -> Result<InstanceId> {
        let (instance, _) = until("an instance", || async {
            let status = self.shop().await?.status().await?;
            let mut slots = status.services.into_iter().flat_map(|service| service.slots);
            Ok(slots.find_map(|slot| slot.instances.into_iter().next()).map(|instance| instance.id))
        })
        .await?;
        Ok(instance)
    }
}

pub(super) fn request(arguments: &[&str]) -> Result<ExecRequest> {
    Ok(ExecRequest::new(Command::new(["/instance"].iter().chain(arguments).copied())?))
}

async fn a_command_runs_in_an_instance() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    let (shop, instance) = (world.shop().await?, world.instance().await?);
    let result = shop.exec(&web(), &instance, &request(&["env", "VERSION"])?).await?.collect(100).await?;
    assert_eq!((&*result.stdout, result.exit.code), (&b"1"[..], Some(0)));
    world.end().await
}

async fn an_instance_that_never_started_runs_no_command() -> Result<()> {
    let world = World::new().await?;
    let mut service = serving("1", 1);
    service.image = Some("testbed.local/missing:1".into());
    let operation = world.platform.deploy(&world.user, &app(&service)).await?;
    let (shop, instance) = (world.shop().await?, world.instance().await?);
    let error = shop.exec(&web(), &instance, &request(&["both"])?).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    operation.signal(paas_core::model::Signal::Abort).await?;
    world.end().await
}
