//! What the cluster has of ours, as the watches tell it: reading it costs no call.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use paas_core::backend::HintFeed;
use paas_core::model::{
    AppId, Digest, InstanceId, InstanceState, InstanceStatus, Resource, RevisionNumber, WorkloadKey,
    WorkloadStatus,
};

use super::part::{Kind, Part};
use super::pod::{Instance, is_about_pulling};
use super::warning::{Subject, Warning};
use crate::error::brief;
use crate::index::{Index, News};

/// How many hints wait for a reader that is behind.
const HINTS: usize = 4_096;

#[derive(Debug)]
pub(super) struct Cache {
    state: Mutex<State>,
    pub(super) feed: HintFeed,
}

#[derive(Debug, Default)]
struct State {
    parts: Index<Part>,
    instances: Index<Instance>,
    /// The ordinal of each instance, as long as it lives.
    ordinals: HashMap<String, u32>,
    /// The uids by workload, and those by app, so that one app costs only its own.
    apps: BTreeMap<AppId, BTreeMap<WorkloadKey, Members>>,
    /// The uids of parts by their namespace and name.
    places: HashMap<(String, String), String>,
    /// What was warned of last, by the uid of whom it is about.
    warnings: HashMap<String, Warning>,
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

    fn tell(&self, keys: impl IntoIterator<Item = WorkloadKey>) {
        keys.into_iter().for_each(|key| self.feed.tell(key.resource(), &key.app));
    }

    /// A workload's object was made or changed. What is older than what is known is passed over.
    pub(super) fn put_part(&self, part: Part) {
        let keys = self.state().put_part(part);
        self.tell(keys);
    }

    pub(super) fn put_instance(&self, instance: Instance) {
        let keys = self.state().put_instance(instance);
        self.tell(keys);
    }

    /// The cluster warns of something that its objects do not say.
    pub(super) fn warn(&self, warning: Warning) {
        let key = self.state().warn(warning);
        self.tell(key);
    }

    /// As of this version an object is gone, or is no workload's any more.
    pub(super) fn remove_part(&self, uid: &str, version: u64) {
        let key = self.state().remove_part(uid, version);
        self.tell(key);
    }

    pub(super) fn remove_instance(&self, uid: &str, version: u64) {
        let key = self.state().remove_instance(uid, version);
        self.tell(key);
    }

    /// We have deleted one of a workload's objects: whatever is still told of it is from before.
    pub(super) fn ending(&self, uid: &str) {
        let key = self.state().parts.end(uid).map(|part| part.key.clone());
        self.tell(key);
    }

    /// A list is complete: of this kind there is nothing but these, and what is newer than the list.
    pub(super) fn keep_parts(&self, kind: Kind, uids: &HashSet<String>, version: u64) {
        self.state().keep_parts(uids, version, |part| part.kind == kind);
    }

    /// The same of what holds the values of secrets in a namespace.
    pub(super) fn keep_secrets(&self, namespace: &str, uids: &HashSet<String>, version: u64) {
        self.state().keep_parts(uids, version, |part| part.is_secret_in(namespace));
    }

    /// The namespaces where something holds the values of secrets, or a workload reads some.
    pub(super) fn vaults(&self) -> HashSet<String> {
        let state = self.state();
        let is_one = |part: &&Part| part.kind == Kind::Secret || part.secrets.is_some();
        state.parts.all().filter(is_one).map(|part| part.namespace.clone()).collect()
    }

    pub(super) fn keep_instances(&self, uids: &HashSet<String>, version: u64) {
        let mut state = self.state();
        let lost = state.instances.lost(uids, version, |_| true);
        lost.iter().for_each(|uid| drop(state.remove_instance(uid, version)));
    }

    /// The objects that a workload is made of, those that are on their way out not.
    pub(super) fn parts(&self, key: &WorkloadKey) -> Vec<Part> {
        let state = self.state();
        let Some(members) = state.members(key) else { return Vec::new() };
        state.there(members).cloned().collect()
    }

    pub(super) fn instances(&self, key: &WorkloadKey) -> Vec<Instance> {
        let state = self.state();
        let Some(members) = state.members(key) else { return Vec::new() };
        state.running(members).map(|(own, _)| own.clone()).collect()
    }

    /// The instances within a resource, each with the revision that it runs.
    pub(super) fn with_revision(&self, within: &Resource) -> Vec<(Instance, RevisionNumber)> {
        let state = self.state();
        let mut found = Vec::new();
        for (_, members) in state.within(within) {
            let owner = state.owner(members);
            for (own, ordinal) in state.running(members) {
                found.push((own.clone(), instance(own, ordinal, owner, None).revision));
            }
        }
        found
    }

    pub(super) fn list(&self, within: &Resource) -> Vec<WorkloadStatus> {
        let state = self.state();
        state.within(within).map(|(key, members)| state.status(key, members)).collect()
    }
}

impl State {
    fn members(&self, key: &WorkloadKey) -> Option<&Members> {
        self.apps.get(&key.app)?.get(key)
    }

    fn enter(&mut self, key: &WorkloadKey) -> &mut Members {
        self.apps.entry(key.app.clone()).or_default().entry(key.clone()).or_default()
    }

    fn leave(&mut self, key: &WorkloadKey, uid: &str) {
        let Some(app) = self.apps.get_mut(&key.app) else { return };
        let Some(members) = app.get_mut(key) else { return };
        members.parts.remove(uid);
        members.instances.remove(uid);
        if members.parts.is_empty() && members.instances.is_empty() {
            app.remove(key);
        }
        if app.is_empty() {
            self.apps.remove(&key.app);
        }
    }

    /// The workloads within a resource.
    fn within(&self, within: &Resource) -> impl Iterator<Item = (&WorkloadKey, &Members)> {
        let one = match within {
            Resource::App(.., app) | Resource::Service(.., app, _) => Some(app),
            _ => None,
        };
        let apps = match one {
            Some(app) => self.apps.range(app..=app),
            None => self.apps.range::<AppId, _>(..),
        };
        apps.flat_map(|(_, own)| own).filter(|(key, _)| within.contains(&key.resource()))
    }

    /// Gives the workloads whose status tells something else now.
    fn put_part(&mut self, part: Part) -> Vec<WorkloadKey> {
        let (key, uid, place) = (part.key.clone(), part.uid.clone(), part.place());
        let before = match self.parts.put(part) {
            News::None => return Vec::new(),
            News::Changed(before) if before.key == key => return vec![key],
            News::Changed(before) => Some(self.forget(&before)),
            News::Made => None,
        };
        self.enter(&key).parts.insert(uid.clone());
        self.places.extend(place.map(|place| (place, uid)));
        before.into_iter().chain([key]).collect()
    }

    fn put_instance(&mut self, instance: Instance) -> Vec<WorkloadKey> {
        let own = instance.clone();
        let (key, uid) = (own.key.clone(), own.uid.clone());
        let before = match self.instances.put(instance) {
            News::None => return Vec::new(),
            News::Changed(before) => {
                if own.status.is_ready() && !before.status.is_ready() {
                    self.warnings.remove(&uid);
                }
                if before.key == key {
                    return vec![key];
                }
                self.leave(&before.key, &uid);
                Some(before.key)
            }
            News::Made => None,
        };
        self.relieve(&own);
        let ordinal = own.index.unwrap_or_else(|| self.free_ordinal(&key));
        self.ordinals.insert(uid.clone(), ordinal);
        self.enter(&key).instances.insert(uid);
        before.into_iter().chain([key]).collect()
    }

    /// One could be made: what was said before against that is over.
    fn relieve(&mut self, instance: &Instance) {
        let own = self.apps.get(&instance.key.app).and_then(|app| app.get(&instance.key));
        for uid in own.into_iter().flat_map(|members| &members.parts) {
            if self.warnings.get(uid).is_some_and(|last| last.at <= instance.status.started) {
                self.warnings.remove(uid);
            }
        }
    }

    /// Gives the workload whose status tells more now.
    fn warn(&mut self, warning: Warning) -> Option<WorkloadKey> {
        let at = warning.at;
        let (uid, key) = match &warning.subject {
            Subject::Pod(uid) => {
                let instance = self.instances.get(uid)?;
                let key = (!instance.status.is_ready()).then(|| instance.key.clone());
                (uid.clone(), key)
            }
            Subject::Owner { namespace, name } => {
                let uid = self.places.get(&(namespace.clone(), name.clone()))?.clone();
                let key = self.parts.get(&uid)?.key.clone();
                let mut made = self.running(self.members(&key)?);
                if made.any(|(instance, _)| instance.status.started > at) {
                    return None;
                }
                (uid, Some(key))
            }
        };
        if self.warnings.get(&uid).is_some_and(|last| last.at > at) {
            return None;
        }
        self.warnings.insert(uid, warning);
        key
    }

    /// The lowest ordinal that no instance of the workload has.
    fn free_ordinal(&self, key: &WorkloadKey) -> u32 {
        let own = self.members(key).into_iter().flat_map(|members| self.running(members));
        let taken: HashSet<u32> = own.map(|(_, ordinal)| ordinal).collect();
        (0..).find(|ordinal| !taken.contains(ordinal)).unwrap_or(u32::MAX)
    }

    fn keep_parts(&mut self, uids: &HashSet<String>, version: u64, is_listed: impl Fn(&Part) -> bool) {
        let lost = self.parts.lost(uids, version, is_listed);
        lost.iter().for_each(|uid| drop(self.remove_part(uid, version)));
    }

    fn remove_part(&mut self, uid: &str, version: u64) -> Option<WorkloadKey> {
        let is_expected = self.parts.staying(uid).is_none();
        let part = self.parts.remove(uid, version)?;
        if !is_expected {
            tracing::info!(name = part.name, kind = ?part.kind, "drift: somebody else has deleted it");
        }
        self.warnings.remove(uid);
        Some(self.forget(&part))
    }

    /// Forgets whose it is, and gives that.
    fn forget(&mut self, part: &Part) -> WorkloadKey {
        // Another of its name may have come already.
        if let Some(place) = part.place()
            && self.places.get(&place) == Some(&part.uid)
        {
            self.places.remove(&place);
        }
        self.leave(&part.key, &part.uid);
        part.key.clone()
    }

    fn remove_instance(&mut self, uid: &str, version: u64) -> Option<WorkloadKey> {
        let key = self.instances.remove(uid, version)?.key;
        self.warnings.remove(uid);
        self.ordinals.remove(uid);
        self.leave(&key, uid);
        Some(key)
    }

    /// The instances of a workload, each with its ordinal.
    fn running(&self, members: &Members) -> impl Iterator<Item = (&Instance, u32)> {
        let own = members.instances.iter().filter_map(|uid| self.instances.get(uid));
        own.map(|own| (own, self.ordinals.get(&own.uid).copied().unwrap_or_default()))
    }

    /// The objects of a workload that are not on their way out.
    fn there(&self, members: &Members) -> impl Iterator<Item = &Part> {
        members.parts.iter().filter_map(|uid| self.parts.staying(uid))
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
            let holds =
                |name: &String| self.there(members).any(|part| part.name == *name && part.holds_secrets());
            owner.kind.companions().iter().all(is_there) && owner.secrets.iter().all(holds)
        });
        let applied = whole.and_then(Part::applied).cloned();
        let mut versions: Vec<u64> = self.there(members).map(|part| part.version).collect();
        versions.sort_unstable();
        applied.or_else(|| (!versions.is_empty()).then(|| Digest::of(&versions)))
    }

    fn status(&self, key: &WorkloadKey, members: &Members) -> WorkloadStatus {
        let owner = self.owner(members);
        let mut status = WorkloadStatus::new(key.clone(), self.applied(members));
        status.message = owner.and_then(|owner| self.warnings.get(&owner.uid)).map(|last| last.text.clone());
        let told =
            |(own, ordinal): (&Instance, u32)| instance(own, ordinal, owner, self.warnings.get(&own.uid));
        status.instances = self.running(members).map(told).collect();
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
    let id = InstanceId::new(owner.name.as_str()).ok()?;
    let mut status = InstanceStatus::new(id, 0, revision, template, exit.at);
    status.state = InstanceState::Exited;
    status.message = Some("what ran it is gone, and with it its output".to_owned());
    status.last_exit = Some(exit);
    Some(status)
}

/// An instance, with what only its owner knows, and what is warned of where it says nothing itself.
fn instance(own: &Instance, ordinal: u32, owner: Option<&Part>, warning: Option<&Warning>) -> InstanceStatus {
    let mut status = own.status.clone();
    status.ordinal = ordinal;
    let is_unwell =
        matches!(status.state, InstanceState::Starting | InstanceState::Unready | InstanceState::BackingOff);
    if let Some(warning) = warning.filter(|_| is_unwell) {
        status.message = match status.message.take() {
            None => (!warning.is_about_pulling).then(|| warning.text.clone()),
            Some(own) if warning.is_about_pulling && is_about_pulling(&own) => {
                Some(brief(&format!("{own}; {}", warning.text)))
            }
            own => own,
        };
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
