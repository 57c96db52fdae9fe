//! The routes there are: what was applied here, and what the cluster has of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::api::ObjectMeta;
use paas_core::backend::HintFeed;
use paas_core::model::{
    Address, AppId, Digest, EnvironmentId, Epoch, InstanceId, Protocol, Resource, Route, RouteStatus,
    ServiceId, Slot, TenantId,
};
use paas_core::{Error, Result};

use super::manifest::{self, APPLIED, HOSTS, Kind, MAIN, PROTOCOL, Rendered};
use crate::apply::{self, Known};
use crate::index::{Entry, Index, News};
use crate::label;

/// How many hints wait for a reader that is behind.
const HINTS: usize = 4_096;

/// An object that a route is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    version: u64,
    owner: (TenantId, EnvironmentId, AppId, ServiceId),
    digest: Option<Digest>,
    hosts: Vec<String>,
    /// Of the Service that is the service's own address: what is spoken there, and where it leads.
    own: Option<(Protocol, Slot)>,
    epoch: Option<Epoch>,
    changed_by: Option<String>,
    ending: bool,
}

impl Object {
    pub(super) fn of(kind: Kind, meta: &ObjectMeta) -> Option<Self> {
        if !label::is_in_its_place(meta) {
            return None;
        }
        let get = |label: &str| meta.labels.as_ref()?.get(label).map(String::as_str);
        let note = |name: &str| meta.annotations.as_ref().and_then(|own| own.get(name)).map(String::as_str);
        let owner = (
            TenantId::new(get(label::TENANT)?).ok()?,
            EnvironmentId::new(get(label::ENVIRONMENT)?).ok()?,
            AppId::new(get(label::APP)?).ok()?,
            ServiceId::new(get(label::SERVICE)?).ok()?,
        );
        Some(Self {
            kind,
            namespace: meta.namespace.clone()?,
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            version: meta.resource_version.as_ref()?.parse().ok()?,
            owner,
            digest: word(note(APPLIED)),
            hosts: note(HOSTS).unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            own: word(note(PROTOCOL)).zip(word(note(MAIN))),
            epoch: apply::epoch(meta),
            changed_by: apply::changed_by(meta),
            ending: meta.deletion_timestamp.is_some(),
        })
    }

    /// Whether it is as we would write it.
    pub(super) fn is(&self, digest: &Digest) -> bool {
        self.digest.as_ref() == Some(digest) && self.changed_by.is_none() && !self.ending
    }

    fn place(&self) -> Place {
        (self.kind, self.namespace.clone(), self.name.clone())
    }

    fn service(&self) -> &ServiceId {
        &self.owner.3
    }

    fn resource(&self) -> Resource {
        let (tenant, environment, app, service) = self.owner.clone();
        Resource::Service(tenant, environment, app, service)
    }
}

/// A word of the model, where it is one.
fn word<T: serde::de::DeserializeOwned>(note: Option<&str>) -> Option<T> {
    serde_json::from_value(note?.into()).ok()
}

impl Known for Object {
    fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }
}

impl Entry for Object {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn at(self, version: u64) -> Self {
        Self { version, ..self }
    }

    fn is_ending(&self) -> bool {
        self.ending
    }
}

/// A route that was applied by this process.
#[derive(Clone, Debug)]
struct Held {
    resource: Resource,
    app: AppId,
    applied: Digest,
    address: Address,
    routed: Vec<InstanceId>,
    /// Its objects, with the digest of each.
    objects: Vec<(Place, Digest)>,
}

#[derive(Debug)]
pub(super) struct Table {
    state: Mutex<State>,
    pub(super) feed: HintFeed,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<ServiceId, Held>,
    objects: Index<Object>,
    /// The uids of what has one name: the last and, while it goes, the one before it.
    places: HashMap<Place, HashSet<String>>,
    services: HashMap<ServiceId, HashSet<String>>,
    /// The uids of what publishes a host and path.
    hosts: HashMap<String, HashSet<String>>,
    /// Why what has a uid is refused by the edge.
    refused: HashMap<String, String>,
}

/// Kind, namespace and name.
type Place = (Kind, String, String);

impl State {
    /// Notes where an object is looked for.
    fn enter(&mut self, object: &Object) {
        let uid = &object.uid;
        self.places.entry(object.place()).or_default().insert(uid.clone());
        self.services.entry(object.service().clone()).or_default().insert(uid.clone());
        for pair in &object.hosts {
            self.hosts.entry(pair.clone()).or_default().insert(uid.clone());
        }
    }

    fn leave(&mut self, object: &Object) {
        let uid = &object.uid;
        leave(&mut self.places, &object.place(), uid);
        leave(&mut self.services, object.service(), uid);
        object.hosts.iter().for_each(|pair| leave(&mut self.hosts, pair, uid));
    }

    /// Those of an index that stay.
    fn living<'a>(&'a self, uids: Option<&'a HashSet<String>>) -> impl Iterator<Item = &'a Object> {
        uids.into_iter().flatten().filter_map(|uid| self.objects.staying(uid))
    }

    fn at(&self, place: &Place) -> Option<&Object> {
        self.living(self.places.get(place)).next()
    }
}

fn leave<K: std::hash::Hash + Eq>(index: &mut HashMap<K, HashSet<String>>, key: &K, uid: &str) {
    if let Some(uids) = index.get_mut(key) {
        uids.remove(uid);
        if uids.is_empty() {
            index.remove(key);
        }
    }
}

impl Default for Table {
    fn default() -> Self {
        Self { state: Mutex::default(), feed: HintFeed::new(HINTS) }
    }
}

impl Table {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, object: &Object) {
        self.feed.tell(object.resource(), &object.owner.2);
    }

    pub(super) fn put(&self, object: &Object) {
        let mut state = self.state();
        let before = match state.objects.put(object.clone()) {
            News::None => return,
            News::Made => None,
            News::Changed(before) => Some(before),
        };
        before.iter().for_each(|before| state.leave(before));
        state.enter(object);
        drop(state);
        self.tell(object);
        // Its labels may have said that it is another's.
        before.iter().filter(|before| before.owner != object.owner).for_each(|before| self.tell(before));
    }

    pub(super) fn remove(&self, uid: &str, version: u64) {
        let mut state = self.state();
        let Some(object) = state.objects.remove(uid, version) else { return };
        state.refused.remove(uid);
        state.leave(&object);
        drop(state);
        self.tell(&object);
    }

    /// Why the edge refuses an object, where it does.
    pub(super) fn refuse(&self, uid: &str, why: Option<&str>) {
        let mut state = self.state();
        if state.refused.get(uid).map(String::as_str) == why {
            return;
        }
        let Some(object) = state.objects.get(uid).cloned() else { return };
        match why {
            Some(why) => state.refused.insert(uid.to_owned(), why.to_owned()),
            None => state.refused.remove(uid),
        };
        drop(state);
        self.tell(&object);
    }

    /// We have deleted it: whatever is still told of it is from before.
    pub(super) fn ending(&self, uid: &str) {
        self.state().objects.end(uid);
    }

    pub(super) fn keep(&self, kind: Kind, uids: &HashSet<String>, version: u64) {
        let lost = self.state().objects.lost(uids, version, |own| own.kind == kind);
        lost.iter().for_each(|uid| self.remove(uid, version));
    }

    pub(super) fn object(&self, kind: Kind, namespace: &str, name: &str) -> Option<Object> {
        self.state().at(&(kind, namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The objects of a service that are not among those wanted.
    pub(super) fn others(&self, service: &ServiceId, wanted: &[Rendered]) -> Vec<Object> {
        let state = self.state();
        let is_wanted = |own: &Object| wanted.iter().any(|it| it.kind == own.kind && it.name == own.name);
        let others = state.living(state.services.get(service)).filter(|own| !is_wanted(own));
        let mut others: Vec<Object> = others.cloned().collect();
        // What a route is found by goes last: a removal that is cut short must be seen to be left.
        others.sort_by_key(|own| own.own.is_some());
        others
    }

    /// Refuses a host and path that belong to another service.
    pub(super) fn admit(&self, route: &Route) -> Result<()> {
        let state = self.state();
        for domain in &route.hosts {
            let pair = format!("{}{}", domain.host, domain.path);
            if state.living(state.hosts.get(&pair)).any(|own| *own.service() != route.service) {
                return Err(Error::conflict("the domain belongs to another service").with("domain", pair));
            }
        }
        Ok(())
    }

    /// Where calls to a service's own address go now.
    pub(super) fn main_slot(&self, service: &ServiceId) -> Option<Slot> {
        let state = self.state();
        state.living(state.services.get(service)).find_map(|own| own.own).map(|(_, slot)| slot)
    }

    pub(super) fn hold(&self, route: &Route, wanted: &[Rendered], address: Address) {
        let named = route.slots.iter().flat_map(|slot| &slot.endpoints);
        let object = |it: &Rendered| ((it.kind, it.namespace.clone(), it.name.clone()), it.digest.clone());
        let held = Held {
            resource: route.resource(),
            app: route.app.clone(),
            applied: route.digest(),
            address,
            routed: named.map(|endpoint| endpoint.instance.clone()).collect(),
            objects: wanted.iter().map(object).collect(),
        };
        self.state().held.insert(route.service.clone(), held);
        self.feed.tell(route.resource(), &route.app);
    }

    pub(super) fn release(&self, service: &ServiceId) {
        let held = self.state().held.remove(service);
        if let Some(held) = held {
            self.feed.tell(held.resource, &held.app);
        }
    }

    /// The routes there are: those that this process has applied, and those it finds and knows nothing else of.
    pub(super) fn list(&self, within: &Resource) -> Vec<RouteStatus> {
        let state = self.state();
        let mut all = state.held_within(within);
        let found = state.services.keys().filter(|service| !state.held.contains_key(*service));
        for own in found.flat_map(|service| state.living(state.services.get(service))) {
            if let Some((protocol, _)) = own.own
                && within.contains(&own.resource())
            {
                let address = manifest::address_of(&own.name, &own.namespace, protocol);
                let applied = Digest::of(&"found");
                let mut status =
                    RouteStatus::new(own.owner.2.clone(), own.service().clone(), applied, address);
                status.message = state.refusal(own.service());
                all.push(status);
            }
        }
        all
    }
}

impl State {
    /// Why the edge refuses an object of a service: of several, always the same.
    fn refusal(&self, service: &ServiceId) -> Option<String> {
        let own = self.living(self.services.get(service));
        own.filter_map(|own| self.refused.get(&own.uid)).min().cloned()
    }

    /// The routes that this process has applied, as far as the cluster still has them as they were applied.
    fn held_within(&self, within: &Resource) -> Vec<RouteStatus> {
        let own = self.held.iter().filter(|(_, held)| within.contains(&held.resource));
        own.map(|(service, held)| {
            let is_there =
                |(place, digest): &(Place, Digest)| self.at(place).is_some_and(|own| own.is(digest));
            let stands = held.objects.iter().all(is_there);
            // What somebody has changed is another route.
            let applied = if stands { held.applied.clone() } else { Digest::of(&"changed") };
            let mut status =
                RouteStatus::new(held.app.clone(), service.clone(), applied, held.address.clone());
            status.routed.clone_from(&held.routed);
            status.message = self.refusal(service);
            status
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
