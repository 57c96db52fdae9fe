//! All workloads and their instances, and what should become of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use paas_core::backend::Steps;
use paas_core::model::{Digest, InstanceId, InstanceState, Resource, Workload, WorkloadKey, WorkloadStatus};

use super::Inner;
use super::instance::{Instance, Note};
use super::launch::Launch;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    workload: Workload,
    pub(super) launch: Launch,
}

/// A workload.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) wanted: Option<Wanted>,
    removed: bool,
    pub(super) instances: Vec<Instance>,
}

/// Everything this scheduler knows.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) entries: BTreeMap<WorkloadKey, Entry>,
    keys: BTreeMap<InstanceId, WorkloadKey>,
}

impl Pool {
    pub(super) fn list(&self, within: &Resource) -> Vec<WorkloadStatus> {
        let selected = self.entries.iter().filter(|(key, _)| within.contains(&key.resource()));
        selected
            .map(|(key, entry)| {
                let applied = entry.wanted.as_ref().map(|wanted| wanted.workload.digest());
                let mut status = WorkloadStatus::new(key.clone(), applied);
                status.instances = entry.instances.iter().map(Instance::status).collect();
                status.instances.sort_by(|a, b| (a.ordinal, &a.id).cmp(&(b.ordinal, &b.id)));
                status
            })
            .collect()
    }

    pub(super) fn key(&self, id: &InstanceId) -> Option<&WorkloadKey> {
        self.keys.get(id)
    }

    pub(super) fn instance(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        let key = self.keys.get(id)?;
        self.entries.get_mut(key)?.instances.iter_mut().find(|instance| instance.id == *id)
    }

    pub(super) fn launch(&self, id: &InstanceId) -> Option<&Launch> {
        let entry = self.entries.get(self.keys.get(id)?)?;
        let instance = entry.instances.iter().find(|instance| instance.id == *id)?;
        let wanted = entry.wanted.as_ref()?;
        // Only a launch of the same template speaks for the instance.
        (wanted.launch.template().digest() == instance.note.template).then_some(&wanted.launch)
    }

    pub(super) fn insert(&mut self, instance: Instance) {
        let key = instance.note.key.clone();
        self.keys.insert(instance.id.clone(), key.clone());
        self.entries.entry(key).or_default().instances.push(instance);
    }

    /// Forgets an instance of which nothing is left; a workload that was removed goes with its last.
    pub(super) fn forget(&mut self, id: &InstanceId) -> Option<Instance> {
        let key = self.keys.remove(id)?;
        let entry = self.entries.get_mut(&key)?;
        let at = entry.instances.iter().position(|instance| instance.id == *id)?;
        let gone = entry.instances.remove(at);
        self.sweep(&key);
        Some(gone)
    }

    fn sweep(&mut self, key: &WorkloadKey) {
        let over = |entry: &Entry| entry.instances.is_empty() && entry.wanted.is_none();
        if self.entries.get(key).is_some_and(over) {
            self.entries.remove(key);
        }
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.entries.values().flat_map(|entry| &entry.instances)
    }
}

impl Entry {
    fn steps(&self) -> Steps {
        let desired = self.wanted.as_ref().map(|wanted| &wanted.workload);
        if desired.is_none() && !self.removed {
            // Found after a restart, and nothing was asked of it since.
            return Steps::default();
        }
        Steps::toward(desired, &self.instances.iter().map(Instance::status).collect::<Vec<_>>())
    }
}

impl Inner {
    /// Makes this the desired state of a workload.
    pub(super) fn apply(self: &Arc<Self>, workload: &Workload, launch: Launch) {
        {
            let mut pool = self.pool();
            let entry = pool.entries.entry(workload.key.clone()).or_default();
            entry.wanted = Some(Wanted { workload: workload.clone(), launch });
            entry.removed = false;
        }
        self.settle(&workload.key);
        self.give_secrets(&workload.key);
    }

    pub(super) fn remove(self: &Arc<Self>, key: &WorkloadKey) {
        {
            let mut pool = self.pool();
            let Some(entry) = pool.entries.get_mut(key) else { return };
            entry.wanted = None;
            entry.removed = true;
            pool.sweep(key);
        }
        self.settle(key);
    }

    /// Does what is to be done about a workload now.
    pub(super) fn settle(self: &Arc<Self>, key: &WorkloadKey) {
        let mut pool = self.pool();
        let Some(entry) = pool.entries.get_mut(key) else { return };
        let steps = entry.steps();
        let changed = !steps.stop.is_empty() || !steps.start.is_empty();
        for instance in entry.instances.iter_mut().filter(|instance| steps.stop.contains(&instance.id)) {
            instance.leaving = true;
            instance.stop_probing();
            tokio::spawn(super::reap::stop(Arc::clone(self), instance.id.clone(), instance.note.grace()));
        }
        let Some(wanted) = entry.wanted.as_ref() else {
            drop(pool);
            if changed {
                self.tell(key);
            }
            return;
        };
        let (template, digest): (_, Digest) = (&wanted.workload.template, wanted.workload.template.digest());
        let mut started = Vec::new();
        for ordinal in steps.start {
            let id = InstanceId::generate(&self.ids);
            let taken = template.port.map(|_| self.ports.take()).transpose();
            let note = Note {
                key: key.clone(),
                ordinal,
                revision: wanted.workload.revision,
                template: digest.clone(),
                port: taken.as_ref().ok().copied().flatten(),
                ready: template.ready.clone(),
                live: template.live.clone(),
                restart: template.restart,
                grace_ms: u64::try_from(template.grace.as_millis()).unwrap_or(u64::MAX),
                started: self.clock.now(),
            };
            let spec = taken.and_then(|_| wanted.launch.spec(self, &note, &id, 1));
            let mut instance = Instance::new(id.clone(), note);
            if let Err(error) = &spec {
                instance.state = InstanceState::Exited;
                instance.message = Some(error.to_string());
            }
            started.push((instance, spec));
        }
        for (instance, spec) in started {
            let id = instance.id.clone();
            pool.insert(instance);
            if let Ok(spec) = spec {
                tokio::spawn(super::reap::start(Arc::clone(self), id, spec));
            }
        }
        drop(pool);
        if changed {
            self.tell(key);
        }
    }

    /// A keeper that was restarted does not know secrets: it is told again.
    pub(super) fn give_secrets(self: &Arc<Self>, key: &WorkloadKey) {
        let pool = self.pool();
        let Some(entry) = pool.entries.get(key) else { return };
        let Some(wanted) = entry.wanted.as_ref() else { return };
        if wanted.workload.template.secrets.is_empty() {
            return;
        }
        let digest = wanted.launch.template().digest();
        for instance in entry.instances.iter().filter(|i| i.is_living() && i.note.template == digest) {
            if let Ok(spec) = wanted.launch.spec(self, &instance.note, &instance.id, instance.generation) {
                tokio::spawn(super::reap::start(Arc::clone(self), instance.id.clone(), spec));
            }
        }
    }
}
