//! What keeps a backend from doing what was decided, told where people look: in the operation.

use super::desire::Action;
use super::reconcile::{Reconciler, is_race};
use super::record::{AppRecord, ServiceState};
use super::store::Versioned;
use crate::model::{Operation, Resource, ServiceId, ServiceName, limit};
use crate::{Error, Result};

/// With this an event begins that tells why an operation does not get further.
const REFUSED: &str = "cannot go on yet: ";

/// What a service's operation was last told that keeps it, without which its failure would say only that it took too long.
pub(super) fn refusal<'a>(operation: &'a Operation, service: Option<&ServiceName>) -> Option<&'a str> {
    let own = operation.events.iter().rev().filter(|event| event.service.as_ref() == service);
    own.filter_map(|event| event.text.strip_prefix(REFUSED)).next()
}

impl Action {
    /// The service that it is about.
    fn service(&self) -> Option<&ServiceId> {
        match self {
            Self::ApplyVolume(volume) => Some(&volume.service),
            Self::ApplyRoute(route) => Some(&route.service),
            Self::ApplyWorkload(workload) => Some(&workload.key.service),
            Self::RemoveWorkload(key) => Some(&key.service),
            Self::RemoveRoute(Resource::Service(.., service)) => Some(service),
            Self::RemoveRoute(_) => None,
        }
    }
}

impl Reconciler {
    /// Notes in the operation of an app, as it was when it was acted on, that a call was refused, once for each refusal.
    ///
    /// # Errors
    /// Those of the store; a conflict, where somebody has changed the app meanwhile.
    pub(super) async fn report(
        &self,
        stored: &Versioned<AppRecord>,
        action: &Action,
        error: &Error,
    ) -> Result<()> {
        if is_race(error) {
            return Ok(());
        }
        let mut app = stored.value.clone();
        let text: String = format!("{REFUSED}{error}").chars().take(limit::OPERATION_EVENT).collect();
        let named = |(name, state): (&ServiceName, &ServiceState)| {
            (action.service() == Some(&state.id)).then(|| name.clone())
        };
        let service = app.services.iter().find_map(named);
        let now = self.clock.now();
        let Some(operation) = app.operation.as_mut().filter(|operation| !operation.state.is_final()) else {
            return Ok(());
        };
        if operation.events.iter().any(|event| event.text == text && event.service == service) {
            return Ok(());
        }
        operation.note(now, service.as_ref(), text);
        app.epoch = self.epoch;
        self.put(app, stored.version).await.map(drop)
    }
}
