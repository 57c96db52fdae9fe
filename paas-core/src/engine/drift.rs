//! What somebody else has changed of an app at rest. Only the leader applies, so whatever is applied to an app is as it was
//! when the app came to rest, or somebody else was there.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::desire::Action;
use super::observed::Observed;
use crate::model::{AppId, Digest, Resource, Role, ServiceId, Version};

/// What was applied to each app when it came to rest, in one term.
#[derive(Debug, Default)]
pub(crate) struct Rests(Mutex<BTreeMap<AppId, Rest>>);

#[derive(Debug)]
struct Rest {
    /// Of the record. Another one asks for something else, which is no drift.
    record: Version,
    workloads: BTreeMap<(ServiceId, Role), Option<Digest>>,
    routes: BTreeMap<ServiceId, Digest>,
}

impl Rest {
    fn of(record: Version, observed: &Observed) -> Self {
        let workloads = observed.workloads.iter().map(|(key, status)| (key.clone(), status.applied.clone()));
        let routes =
            observed.routes.iter().map(|(service, status)| (service.clone(), status.applied.clone()));
        Self { record, workloads: workloads.collect(), routes: routes.collect() }
    }

    fn goes_on(&self, record: Version, observed: &Observed) -> bool {
        let workloads = observed.workloads.iter().map(|(key, status)| (key, &status.applied));
        let routes = observed.routes.iter().map(|(service, status)| (service, &status.applied));
        self.record == record && self.workloads.iter().eq(workloads) && self.routes.iter().eq(routes)
    }
}

impl Rests {
    fn rests(&self) -> MutexGuard<'_, BTreeMap<AppId, Rest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is to be done about the app.
    pub(crate) fn put(&self, app: &AppId, record: Version, observed: &Observed) {
        let mut rests = self.rests();
        // Most looks find it as the last one did.
        if !rests.get(app).is_some_and(|rest| rest.goes_on(record, observed)) {
            rests.insert(app.clone(), Rest::of(record, observed));
        }
    }

    /// Its rest is over, as these calls are due: gives the services that somebody else has changed, if that is why.
    pub(crate) fn end(
        &self,
        app: &AppId,
        record: Version,
        observed: &Observed,
        due: &[Action],
    ) -> Vec<Resource> {
        let Some(rest) = self.rests().remove(app).filter(|rest| rest.record == record) else {
            return Vec::new();
        };
        let mut changed: Vec<Resource> = due
            .iter()
            .filter_map(|action| match action {
                Action::ApplyWorkload(workload) => {
                    let key = (workload.key.service.clone(), workload.key.role.clone());
                    let now = observed.workloads.get(&key).map(|status| &status.applied);
                    (rest.workloads.get(&key) != now).then(|| workload.key.resource())
                }
                Action::ApplyRoute(route) => {
                    let now = observed.routes.get(&route.service).map(|status| &status.applied);
                    (rest.routes.get(&route.service) != now).then(|| route.resource())
                }
                Action::ApplyVolume(_) | Action::RemoveRoute(_) | Action::RemoveWorkload(_) => None,
            })
            .collect();
        // The calls for one service follow each other.
        changed.dedup();
        changed
    }

    pub(crate) fn forget(&self, app: &AppId) {
        self.rests().remove(app);
    }
}
