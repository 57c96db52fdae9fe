//! Who sends requests while all this goes on.

use std::time::Duration;

use paas_core::model::{InstanceState, InstanceStatus, Resource, ServiceId};

use super::app;
use super::oracle::Oracle;
use super::rng::Rng;
use super::rule::Rule;

/// The longest that a request is open: shorter than the time that the engine gives a leaving instance.
const LONGEST: u64 = 8_000;

/// Sends requests to the services of the app, one after the other, for ever.
pub(super) async fn visit(oracle: Oracle, mut rng: Rng) {
    loop {
        tokio::time::sleep(Duration::from_millis(rng.between(20, 2_000))).await;
        let Some(service) = some_service(&oracle, &mut rng) else { continue };
        let router = &oracle.backends.router;
        // Nobody may be there to answer: that is what the floor is about.
        let Ok(request) = router.begin(&service, &[]) else { continue };
        let endpoint = request.endpoint().clone();
        let began = instance(&oracle, &endpoint.instance);
        let time = if rng.chance(150) { rng.below(LONGEST) } else { rng.below(400) };
        tokio::time::sleep(Duration::from_millis(time)).await;
        let ended = instance(&oracle, &endpoint.instance);
        let answered = match (&began, &ended) {
            (Some(began), Some(ended)) => {
                began.restarts == ended.restarts && (has_process(ended) || oracle.is_native())
            }
            // What it stops it lets answer.
            _ => oracle.is_native(),
        };
        if !answered && !oracle.has_crashed(&endpoint.instance) {
            oracle.violate(Rule::Answered, || {
                format!("a request of {time} ms on {} was cut: {ended:?}", endpoint.instance)
            });
        }
        let fails = began.is_some_and(|instance| errs(&oracle, &service, &instance)) && rng.chance(500);
        request.finish(answered && !fails, Duration::from_millis(time));
    }
}

fn some_service(oracle: &Oracle, rng: &mut Rng) -> Option<Resource> {
    let instances = oracle.backends.scheduler.instances();
    let services: Vec<Resource> = instances.iter().map(|(key, _)| key.resource()).collect();
    (!services.is_empty()).then(|| rng.pick(&services).clone())
}

fn instance(oracle: &Oracle, id: &paas_core::model::InstanceId) -> Option<InstanceStatus> {
    let instances = oracle.backends.scheduler.instances();
    instances.into_iter().map(|(_, instance)| instance).find(|instance| instance.id == *id)
}

fn has_process(instance: &InstanceStatus) -> bool {
    !matches!(instance.state, InstanceState::BackingOff | InstanceState::Exited)
}

/// Whether an instance is of a version that answers with errors.
fn errs(oracle: &Oracle, service: &Resource, instance: &InstanceStatus) -> bool {
    let Resource::Service(.., id) = service else { return false };
    let id: &ServiceId = id;
    let Some(intent) = oracle.intent() else { return false };
    let specs = oracle.specs(&intent);
    let spec = intent.service(id).and_then(|(name, _)| specs.service(&intent, instance.revision, name));
    spec.is_some_and(app::errs)
}
