//! What the cluster has of ours, as the watches tell it: reading it costs no call.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use paas_core::backend::HintFeed;
use paas_core::model::{
    Digest, InstanceId, InstanceState, InstanceStatus, Resource, RevisionNumber, Timestamp, WorkloadKey,
    WorkloadStatus,
};

use super::part::{Kind, Part};
use super::pod::Instance;
use super::warning::{Subject, Warning};
use crate::follow::Dead;

/// How many hints wait for a reader that is behind.
const HINTS: usize = 4_096;

#[derive(Debug)]
pub(super) struct Cache {
    state: Mutex<State>,
    pub(super) feed: HintFeed,
}

#[derive(Debug, Default)]
struct State {
    parts: HashMap<String, Part>,
    /// With the ordinal each has as long as it lives.
    instances: HashMap<String, (Instance, u32)>,
    /// The uids by workload, so that one app costs only its own.
    workloads: BTreeMap<WorkloadKey, Members>,
    /// The uids of parts by their namespace and name.
    places: HashMap<(String, String), String>,
    /// What was warned of last, by the uid of whom it is about.
    warnings: HashMap<String, (Timestamp, String)>,
    /// What was deleted by us and may still be told of.
    gone: HashSet<String>,
    dead: Dead,
}

#[derive(Debug, Default)]
struct Members {
    parts: HashSet<String>,
    instances: HashSet<String>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { state: Mutex::default(), feed: HintFeed::new(HINTS) }
    }
}

impl Cache {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, key: &WorkloadKey) {
        self.feed.tell(key.resource(), &key.app);
    }

    /// A workload's object was made or changed. What is older than what is known is passed over.
    pub(super) fn put_part(&self, part: Part) {
        let key = part.key.clone();
        if self.state().put_part(part) {
            self.tell(&key);
        }
    }

    pub(super) fn put_instance(&self, instance: Instance) {
        let key = instance.key.clone();
        if self.state().put_instance(instance) {
            self.tell(&key);
        }
    }

    /// The cluster warns of something that its objects do not say.
    pub(super) fn warn(&self, warning: Warning) {
        let key = self.state().warn(warning);
        if let Some(key) = key {
            self.tell(&key);
        }
    }

    /// An object is gone for good.
    pub(super) fn remove(&self, uid: &str) {
        let key = self.state().remove(uid);
        if let Some(key) = key {
            self.tell(&key);
        }
    }

    /// We have deleted one of a workload's objects: whatever is still told of it is from before.
    pub(super) fn ending(&self, uid: &str) {
        let mut state = self.state();
        // Its deletion may have been told already.
        let Some(part) = state.parts.get_mut(uid) else { return };
        part.ending = true;
        let key = part.key.clone();
        state.gone.insert(uid.to_owned());
        drop(state);
        self.tell(&key);
    }

    /// A list is complete: of this kind there is nothing but these, and what is newer than the list.
    pub(super) fn keep_parts(&self, kind: Kind, uids: &HashSet<String>, version: u64) {
        let mut state = self.state();
        let lost = |part: &&Part| part.kind == kind && part.version <= version && !uids.contains(&part.uid);
        let lost: Vec<String> = state.parts.values().filter(lost).map(|part| part.uid.clone()).collect();
        lost.iter().for_each(|uid| drop(state.remove(uid)));
    }

    pub(super) fn keep_instances(&self, uids: &HashSet<String>, version: u64) {
        let mut state = self.state();
        let all = state.instances.values();
        let lost = all.filter(|(own, _)| own.version <= version && !uids.contains(&own.uid));
        let lost: Vec<String> = lost.map(|(instance, _)| instance.uid.clone()).collect();
        lost.iter().for_each(|uid| drop(state.remove(uid)));
    }

    /// The objects that a workload is made of, those that are on their way out not.
    pub(super) fn parts(&self, key: &WorkloadKey) -> Vec<Part> {
        let state = self.state();
        let Some(members) = state.workloads.get(key) else { return Vec::new() };
        state.there(members).cloned().collect()
    }

    pub(super) fn instances(&self, key: &WorkloadKey) -> Vec<Instance> {
        let state = self.state();
        let Some(members) = state.workloads.get(key) else { return Vec::new() };
        members
            .instances
            .iter()
            .filter_map(|uid| state.instances.get(uid))
            .map(|(own, _)| own.clone())
            .collect()
    }

    /// The instances within a resource, each with the revision that it runs.
    pub(super) fn with_revision(&self, within: &Resource) -> Vec<(Instance, RevisionNumber)> {
        let state = self.state();
        let all = state.workloads.iter().filter(|(key, _)| within.contains(&key.resource()));
        let mut found = Vec::new();
        for members in all.map(|(_, members)| members) {
            let owner = state.owner(members);
            for (own, ordinal) in members.instances.iter().filter_map(|uid| state.instances.get(uid)) {
                found.push((own.clone(), instance(own, *ordinal, owner, None).revision));
            }
        }
        found
    }

    pub(super) fn list(&self, within: &Resource) -> Vec<WorkloadStatus> {
        let state = self.state();
        let all = state.workloads.iter().filter(|(key, _)| within.contains(&key.resource()));
        all.map(|(key, members)| state.status(key, members)).collect()
    }
}

impl State {
    /// Tells whether anything is new.
    fn put_part(&mut self, mut part: Part) -> bool {
        if self.dead.has(&part.uid) {
            return false;
        }
        part.ending |= self.gone.contains(&part.uid);
        if let Some(known) = self.parts.get_mut(&part.uid) {
            if known.version >= part.version {
                return false;
            }
            let silent = Part { version: part.version, ..known.clone() } == part;
            *known = part;
            return !silent;
        }
        self.workloads.entry(part.key.clone()).or_default().parts.insert(part.uid.clone());
        if part.kind.runs() {
            self.places.insert((part.namespace.clone(), part.name()), part.uid.clone());
        }
        self.parts.insert(part.uid.clone(), part);
        true
    }

    fn put_instance(&mut self, instance: Instance) -> bool {
        if self.dead.has(&instance.uid) {
            return false;
        }
        if let Some((known, _)) = self.instances.get_mut(&instance.uid) {
            if known.version >= instance.version {
                return false;
            }
            let silent = Instance { version: instance.version, ..known.clone() } == instance;
            if instance.status.is_ready() && !known.status.is_ready() {
                self.warnings.remove(&instance.uid);
            }
            *known = instance;
            return !silent;
        }
        self.relieve(&instance);
        let ordinal = instance.index.unwrap_or_else(|| self.free_ordinal(&instance.key));
        self.workloads.entry(instance.key.clone()).or_default().instances.insert(instance.uid.clone());
        self.instances.insert(instance.uid.clone(), (instance, ordinal));
        true
    }

    /// One could be made: what was said before against that is over.
    fn relieve(&mut self, instance: &Instance) {
        let Some(members) = self.workloads.get(&instance.key) else { return };
        for uid in &members.parts {
            if self.warnings.get(uid).is_some_and(|(at, _)| *at <= instance.status.started) {
                self.warnings.remove(uid);
            }
        }
    }

    /// Gives the workload whose status tells more now.
    fn warn(&mut self, warning: Warning) -> Option<WorkloadKey> {
        let Warning { subject, text, at } = warning;
        let (uid, key) = match subject {
            Subject::Pod(uid) => {
                let (instance, _) = self.instances.get(&uid)?;
                let key = (!instance.status.is_ready()).then(|| instance.key.clone());
                (uid, key)
            }
            Subject::Owner { namespace, name } => {
                let uid = self.places.get(&(namespace, name))?.clone();
                let key = self.parts.get(&uid)?.key.clone();
                let members = &self.workloads.get(&key)?.instances;
                let mut made = members.iter().filter_map(|uid| self.instances.get(uid));
                if made.any(|(instance, _)| instance.status.started > at) {
                    return None;
                }
                (uid, Some(key))
            }
        };
        if self.warnings.get(&uid).is_some_and(|(last, _)| *last > at) {
            return None;
        }
        self.warnings.insert(uid, (at, text));
        key
    }

    fn warning(&self, uid: &str) -> Option<&str> {
        self.warnings.get(uid).map(|(_, text)| text.as_str())
    }

    /// The lowest ordinal that no instance of the workload has.
    fn free_ordinal(&self, key: &WorkloadKey) -> u32 {
        let members = self.workloads.get(key).map(|members| &members.instances);
        let taken: HashSet<u32> = members
            .into_iter()
            .flatten()
            .filter_map(|uid| self.instances.get(uid))
            .map(|(_, ordinal)| *ordinal)
            .collect();
        (0..).find(|ordinal| !taken.contains(ordinal)).unwrap_or(u32::MAX)
    }

    fn remove(&mut self, uid: &str) -> Option<WorkloadKey> {
        let is_ours = self.gone.remove(uid);
        self.dead.add(uid);
        self.warnings.remove(uid);
        let part = self.parts.remove(uid).map(|part| {
            if !is_ours && !part.ending {
                tracing::info!(name = part.name(), kind = ?part.kind, "drift: somebody else has deleted it");
            }
            let place = (part.namespace.clone(), part.name());
            // Another of its name may have come already.
            if self.places.get(&place).is_some_and(|other| other == uid) {
                self.places.remove(&place);
            }
            part.key
        });
        let key = part.or_else(|| self.instances.remove(uid).map(|(instance, _)| instance.key))?;
        if let Some(members) = self.workloads.get_mut(&key) {
            members.parts.remove(uid);
            members.instances.remove(uid);
            if members.parts.is_empty() && members.instances.is_empty() {
                self.workloads.remove(&key);
            }
        }
        Some(key)
    }

    /// The objects of a workload that are not on their way out.
    fn there(&self, members: &Members) -> impl Iterator<Item = &Part> {
        members.parts.iter().filter_map(|uid| self.parts.get(uid)).filter(|part| !part.ending)
    }

    /// What runs a workload, unless it is on its way out.
    fn owner(&self, members: &Members) -> Option<&Part> {
        self.there(members).find(|part| part.kind.runs())
    }

    /// The digest of the workload that was applied, where all of it is there and as it was applied; else, as long as
    /// anything is left of it, one of no workload, and another one after each change.
    fn applied(&self, members: &Members) -> Option<Digest> {
        let whole = self.owner(members).filter(|owner| {
            let is_there =
                |kind: &Kind| self.there(members).any(|part| part.kind == *kind && part.applied().is_some());
            owner.kind.companions().iter().all(is_there)
        });
        let applied = whole.and_then(Part::applied).cloned();
        let mut versions: Vec<u64> = self.there(members).map(|part| part.version).collect();
        versions.sort_unstable();
        applied.or_else(|| (!versions.is_empty()).then(|| Digest::of(&versions)))
    }

    fn status(&self, key: &WorkloadKey, members: &Members) -> WorkloadStatus {
        let owner = self.owner(members);
        let mut status = WorkloadStatus::new(key.clone(), self.applied(members));
        status.message = owner.and_then(|owner| self.warning(&owner.uid)).map(str::to_owned);
        let instances = members.instances.iter().filter_map(|uid| self.instances.get(uid));
        let instances =
            instances.map(|(own, ordinal)| instance(own, *ordinal, owner, self.warning(&own.uid)));
        status.instances = instances.collect();
        if status.instances.is_empty() {
            status.instances.extend(owner.and_then(lost));
        }
        status.instances.sort_by_key(|instance| (instance.ordinal, instance.started));
        status
    }
}

/// The instance of a task that has ended, where its pod is gone.
fn lost(owner: &Part) -> Option<InstanceStatus> {
    let exit = owner.ended.clone()?;
    let (template, revision) = owner.revisions.last()?.clone();
    let id = InstanceId::new(owner.name()).ok()?;
    let mut status = InstanceStatus::new(id, 0, revision, template, exit.at);
    status.state = InstanceState::Exited;
    status.message = Some("what ran it is gone, and with it its output".to_owned());
    status.last_exit = Some(exit);
    Some(status)
}

/// An instance, with what only its owner knows, and what is warned of where it says nothing itself.
fn instance(own: &Instance, ordinal: u32, owner: Option<&Part>, warning: Option<&str>) -> InstanceStatus {
    let mut status = own.status.clone();
    status.ordinal = ordinal;
    let is_unwell =
        matches!(status.state, InstanceState::Starting | InstanceState::Unready | InstanceState::BackingOff);
    if is_unwell && status.message.is_none() {
        status.message = warning.map(str::to_owned);
    }
    match owner {
        Some(owner) => status.revision = owner.revision(&status.template).unwrap_or(status.revision),
        // What ran it is gone, and it will be next.
        None => status.state = InstanceState::Stopping,
    }
    status
}

#[cfg(test)]
mod tests;
