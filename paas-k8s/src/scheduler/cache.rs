//! What the cluster has of ours, as the watches tell it: reading it costs no call.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use paas_core::backend::HintFeed;
use paas_core::model::{
    InstanceId, InstanceState, InstanceStatus, Resource, RevisionNumber, Timestamp, WorkloadKey,
    WorkloadStatus,
};

use super::owner::{Kind, Owner};
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
    owners: HashMap<String, Owner>,
    /// With the ordinal each has as long as it lives.
    instances: HashMap<String, (Instance, u32)>,
    /// The uids by workload, so that one app costs only its own.
    workloads: BTreeMap<WorkloadKey, Members>,
    /// The uids of owners by their namespace and name.
    places: HashMap<(String, String), String>,
    /// What was warned of last, by the uid of whom it is about.
    warnings: HashMap<String, (Timestamp, String)>,
    /// What was deleted by us and may still be told of.
    gone: HashSet<String>,
    dead: Dead,
}

#[derive(Debug, Default)]
struct Members {
    owners: HashSet<String>,
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

    /// An owner was made or changed. What is older than what is known is passed over.
    pub(super) fn put_owner(&self, owner: Owner) {
        let key = owner.key.clone();
        if self.state().put_owner(owner) {
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

    /// We have deleted an owner: whatever is still told of it is from before.
    pub(super) fn ending(&self, uid: &str) {
        let mut state = self.state();
        // Its deletion may have been told already.
        let Some(owner) = state.owners.get_mut(uid) else { return };
        owner.ending = true;
        let key = owner.key.clone();
        state.gone.insert(uid.to_owned());
        drop(state);
        self.tell(&key);
    }

    /// A list is complete: of this kind there is nothing but these, and what is newer than the list.
    pub(super) fn keep_owners(&self, kind: Kind, uids: &HashSet<String>, version: u64) {
        let mut state = self.state();
        let lost =
            |owner: &&Owner| owner.kind == kind && owner.version <= version && !uids.contains(&owner.uid);
        let lost: Vec<String> = state.owners.values().filter(lost).map(|owner| owner.uid.clone()).collect();
        lost.iter().for_each(|uid| drop(state.remove(uid)));
    }

    pub(super) fn keep_instances(&self, uids: &HashSet<String>, version: u64) {
        let mut state = self.state();
        let all = state.instances.values();
        let lost = all.filter(|(own, _)| own.version <= version && !uids.contains(&own.uid));
        let lost: Vec<String> = lost.map(|(instance, _)| instance.uid.clone()).collect();
        lost.iter().for_each(|uid| drop(state.remove(uid)));
    }

    /// What runs a workload, of each kind.
    pub(super) fn owners(&self, key: &WorkloadKey) -> Vec<Owner> {
        let state = self.state();
        let Some(members) = state.workloads.get(key) else { return Vec::new() };
        members.owners.iter().filter_map(|uid| state.owners.get(uid)).cloned().collect()
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
    fn put_owner(&mut self, mut owner: Owner) -> bool {
        if self.dead.has(&owner.uid) {
            return false;
        }
        owner.ending |= self.gone.contains(&owner.uid);
        if let Some(known) = self.owners.get_mut(&owner.uid) {
            if known.version >= owner.version {
                return false;
            }
            let silent = Owner { version: owner.version, ..known.clone() } == owner;
            *known = owner;
            return !silent;
        }
        self.workloads.entry(owner.key.clone()).or_default().owners.insert(owner.uid.clone());
        self.places.insert((owner.namespace.clone(), owner.name()), owner.uid.clone());
        self.owners.insert(owner.uid.clone(), owner);
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
        for uid in &members.owners {
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
                let key = self.owners.get(&uid)?.key.clone();
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
        self.gone.remove(uid);
        self.dead.add(uid);
        self.warnings.remove(uid);
        let owner = self.owners.remove(uid).map(|owner| {
            let place = (owner.namespace.clone(), owner.name());
            // Another of its name may have come already.
            if self.places.get(&place).is_some_and(|other| other == uid) {
                self.places.remove(&place);
            }
            owner.key
        });
        let key = owner.or_else(|| self.instances.remove(uid).map(|(instance, _)| instance.key))?;
        if let Some(members) = self.workloads.get_mut(&key) {
            members.owners.remove(uid);
            members.instances.remove(uid);
            if members.owners.is_empty() && members.instances.is_empty() {
                self.workloads.remove(&key);
            }
        }
        Some(key)
    }

    /// What runs a workload, unless it is on its way out.
    fn owner(&self, members: &Members) -> Option<&Owner> {
        let mut owners = members.owners.iter().filter_map(|uid| self.owners.get(uid));
        owners.find(|owner| !owner.ending)
    }

    fn status(&self, key: &WorkloadKey, members: &Members) -> WorkloadStatus {
        let owner = self.owner(members);
        let mut status = WorkloadStatus::new(key.clone(), owner.and_then(Owner::applied).cloned());
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
fn lost(owner: &Owner) -> Option<InstanceStatus> {
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
fn instance(own: &Instance, ordinal: u32, owner: Option<&Owner>, warning: Option<&str>) -> InstanceStatus {
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
