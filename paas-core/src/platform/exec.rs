//! Commands in instances.

use super::AppHandle;
use super::app::known;
use crate::model::{Action, ExecRequest, InstanceId, ServiceName, WorkloadStatus};
use crate::port::{ExecSession, Selector};
use crate::{Error, Result};

/// How much of a command the audit log remembers, in characters.
const REMEMBERED: usize = 300;

impl AppHandle {
    /// Runs a command in an instance of a service, beside what it runs. The audit log tells who began which command; put no
    /// secrets into its arguments.
    ///
    /// # Errors
    /// `NotFound` where there is no such service or instance; `Conflict` where the instance does not run; `Invalid` where the
    /// request is wrong; `Unsupported` without an [`Exec`](crate::port::Exec) backend, or where it has no terminals;
    /// `Denied` unless the principal may [`Action::Exec`] in the service.
    pub async fn exec(
        &self,
        service: &ServiceName,
        instance: &InstanceId,
        request: &ExecRequest,
    ) -> Result<ExecSession> {
        request.check()?;
        let inner = self.inner();
        let mut record = self.record().await?;
        let resource = {
            let id = known(&mut record, service)?.id.clone();
            record.service_resource(&id)
        };
        let words = request.command.arguments().join(" ");
        let words: String = words.chars().flat_map(char::escape_debug).take(REMEMBERED).collect();
        let summary = format!("run in instance {instance} of service {service}: {words}");
        let principal = &self.environment.principal;
        let permit = inner.permit(principal, Action::Exec, resource.clone(), summary).await?;
        let session = async {
            let exec = inner.exec.as_ref().ok_or_else(|| Error::unsupported("exec"))?;
            let selector =
                Selector::App(record.tenant.clone(), record.environment.clone(), record.id.clone());
            let workloads = inner.scheduler.list(&inner.own(record.resource()), &selector).await?;
            let has = |status: &&WorkloadStatus| {
                status.key.resource() == resource && status.instances.iter().any(|own| own.id == *instance)
            };
            let missing = || Error::not_found("the service has no such instance").with("instance", instance);
            let workload = workloads.iter().find(has).ok_or_else(missing)?;
            exec.exec(permit.scope(), &workload.key, instance, request).await
        };
        let outcome = session.await;
        permit.finish(outcome).await
    }
}
