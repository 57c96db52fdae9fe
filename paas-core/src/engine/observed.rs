//! What one pass has seen of the world.

use std::collections::BTreeMap;

use crate::model::{
    Digest, InstanceState, InstanceStatus, Role, RouteStatus, ServiceId, Slot, SlotTraffic, WorkloadStatus,
};

/// Statuses of one app's workloads and routes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(crate) workloads: BTreeMap<(ServiceId, Role), WorkloadStatus>,
    pub(crate) routes: BTreeMap<ServiceId, RouteStatus>,
    /// Only of services whose release has rules to judge by.
    pub(crate) traffic: BTreeMap<ServiceId, Vec<SlotTraffic>>,
    /// Of those with rules about lines, how many lines of the candidate match, rule by rule; `None` where nobody can tell
    /// just now.
    pub(crate) lines: BTreeMap<ServiceId, Option<Vec<u64>>>,
    /// Whether the scheduler rolls, chooses what stops and drains it by itself.
    pub(crate) native: bool,
}

impl Observed {
    pub(crate) fn new(workloads: Vec<WorkloadStatus>, routes: Vec<RouteStatus>, native: bool) -> Self {
        let workloads =
            workloads.into_iter().map(|w| ((w.key.service.clone(), w.key.role.clone()), w)).collect();
        let routes = routes.into_iter().map(|route| (route.service.clone(), route)).collect();
        Self { workloads, routes, traffic: BTreeMap::new(), lines: BTreeMap::new(), native }
    }

    pub(crate) fn workload(&self, service: &ServiceId, role: Role) -> Option<&WorkloadStatus> {
        self.workloads.get(&(service.clone(), role))
    }

    /// The digests of what the workloads are now.
    pub(crate) fn applied(&self) -> Vec<Option<&Digest>> {
        self.workloads.values().map(|status| status.applied.as_ref()).collect()
    }

    /// The instances of a slot, those that are stopping included.
    pub(crate) fn instances(&self, service: &ServiceId, slot: Slot) -> &[InstanceStatus] {
        self.workload(service, Role::Slot(slot)).map_or(&[], |status| &status.instances)
    }

    /// Why instances of a slot cannot be made.
    pub(crate) fn missing(&self, service: &ServiceId, slot: Slot) -> Option<&str> {
        self.workload(service, Role::Slot(slot))?.message.as_deref()
    }

    /// Why requests to a service's domains do not arrive.
    pub(crate) fn unpublished(&self, service: &ServiceId) -> Option<&str> {
        self.routes.get(service)?.message.as_deref()
    }

    pub(crate) fn is_empty(&self, service: &ServiceId, slot: Slot) -> bool {
        self.instances(service, slot).is_empty()
    }

    /// Whether nothing of a service runs in any slot.
    pub(crate) fn is_down(&self, service: &ServiceId) -> bool {
        Slot::BOTH.iter().all(|slot| self.is_empty(service, *slot))
    }

    /// Whether, beside that, no task of it runs.
    pub(crate) fn is_idle(&self, service: &ServiceId) -> bool {
        let runs = |status: &WorkloadStatus| {
            status.instances.iter().any(|instance| instance.state != InstanceState::Exited)
        };
        let mut tasks =
            self.workloads.iter().filter(|((id, role), _)| id == service && matches!(role, Role::Task(_)));
        self.is_down(service) && !tasks.any(|(_, status)| runs(status))
    }

    pub(crate) fn ready(&self, service: &ServiceId, slot: Slot) -> u32 {
        let ready = self.instances(service, slot).iter().filter(|instance| instance.is_ready()).count();
        u32::try_from(ready).unwrap_or(u32::MAX)
    }
}
