//! Which rooms are not as they should be, as the watches tell.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paas_core::backend::Drift;
use paas_core::model::{Digest, Resource, TenantId};

use super::part::{Home, Part, Piece, Seen, Wanted};
use crate::follow;

/// The tenants that were removed here: that their objects go is nobody else's doing.
#[derive(Clone, Debug, Default)]
pub(super) struct Removed(Arc<Mutex<BTreeSet<TenantId>>>);

impl Removed {
    fn tenants(&self) -> MutexGuard<'_, BTreeSet<TenantId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, tenant: &TenantId) {
        self.tenants().insert(tenant.clone());
    }

    pub(super) fn forget(&self, tenant: &TenantId) {
        self.tenants().remove(tenant);
    }

    fn has(&self, tenant: &TenantId) -> bool {
        self.tenants().contains(tenant)
    }
}

#[derive(Debug)]
pub(super) struct Table {
    platform: String,
    wanted: Wanted,
    removed: Removed,
    state: Mutex<State>,
    pub(super) drift: Drift<Resource>,
}

#[derive(Debug, Default)]
struct State {
    /// By uid.
    objects: HashMap<String, (Home, Part)>,
    rooms: BTreeMap<Home, Known>,
}

/// What is known of a room.
#[derive(Debug, Default)]
struct Known {
    /// The uid of each, and what it is where that is not what it should be.
    parts: BTreeMap<Part, (String, Option<Digest>)>,
    /// What was there, or should have been.
    missing: BTreeSet<Part>,
    is_ending: bool,
    /// It is closed to be removed, whoever of the platform's replicas does that.
    is_closed: bool,
}

impl Known {
    fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.parts.values().all(|(_, off)| off.is_none())
    }

    /// Whether what goes is missed: with a namespace, everything in it goes.
    fn stays(&self) -> bool {
        !self.is_ending && !self.is_closed && self.parts.contains_key(&Part::Namespace)
    }
}

fn resource((tenant, environment): &Home) -> Resource {
    Resource::Environment(tenant.clone(), environment.clone())
}

impl Table {
    pub(super) fn new(platform: &str, wanted: Wanted, removed: Removed) -> Self {
        let platform = platform.to_owned();
        Self { platform, wanted, removed, state: Mutex::default(), drift: Drift::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells that a room has to be put back, unless its tenant was removed.
    fn note(&self, home: &Home, part: Part, hand: Option<&str>, what: &'static str) {
        if self.removed.has(&home.0) {
            return;
        }
        tracing::warn!(tenant = %home.0, environment = %home.1, ?part, by = hand, "drift: what keeps an environment apart {what}; it is put back");
        self.drift.note(resource(home));
    }

    pub(super) fn put(&self, seen: Seen) {
        let Seen { part, home, uid, off, is_ending, is_closed, hand } = seen;
        let mut state = self.state();
        state.objects.insert(uid.clone(), (home.clone(), part));
        let known = state.rooms.entry(home.clone()).or_default();
        let was_closed = known.is_closed;
        if part == Part::Namespace {
            known.is_ending |= is_ending;
            known.is_closed = is_closed;
        }
        known.missing.remove(&part);
        let is_off = off.is_some() && !is_ending;
        let found = (uid, off);
        let is_new = known.parts.get(&part) != Some(&found);
        known.parts.insert(part, found);
        let (all_whole, is_closed) = (known.is_whole(), known.is_closed);
        drop(state);
        if all_whole {
            self.drift.settle(&resource(&home));
        } else if !is_closed && ((is_off && is_new) || was_closed) {
            self.note(&home, part, hand.as_deref(), "was changed");
        }
    }

    /// An object has lost what marks it as a room's.
    fn unmarked(&self, uid: &str) {
        let mut state = self.state();
        let Some((home, part)) = state.objects.get(uid).cloned() else { return };
        if let Some(known) = state.rooms.get_mut(&home) {
            known.parts.insert(part, (uid.to_owned(), Some(Digest::of(&"unmarked"))));
        }
        drop(state);
        self.note(&home, part, None, "has lost its labels");
    }

    /// It is gone, or is no room's any more.
    pub(super) fn remove(&self, uid: &str) {
        let mut state = self.state();
        let Some((home, part)) = state.objects.remove(uid) else { return };
        let Some(known) = state.rooms.get_mut(&home) else { return };
        if known.parts.get(&part).is_none_or(|(own, _)| own != uid) {
            // Another has taken its place.
            return;
        }
        let is_missed = !known.is_closed && (part == Part::Namespace || known.stays());
        known.parts.remove(&part);
        if part == Part::Namespace {
            state.rooms.remove(&home);
            state.objects.retain(|_, (own, _)| *own != home);
        } else if is_missed {
            known.missing.insert(part);
        }
        drop(state);
        if is_missed {
            self.note(&home, part, None, "was deleted");
        }
    }

    /// Of these parts there are none but those.
    fn keep(&self, parts: &[Part], uids: &HashSet<String>) {
        let state = self.state();
        let gone = |(uid, (_, part)): &(&String, &(Home, Part))| parts.contains(part) && !uids.contains(*uid);
        let gone: Vec<String> = state.objects.iter().filter(gone).map(|(uid, _)| uid.clone()).collect();
        drop(state);
        gone.iter().for_each(|uid| self.remove(uid));
    }

    /// What is not as it should be may have been put back and changed again meanwhile.
    fn again(&self, parts: &[Part]) {
        let state = self.state();
        let is_off = |known: &&Known| {
            !known.is_closed
                && known.parts.iter().any(|(part, (_, off))| parts.contains(part) && off.is_some())
        };
        let off = state.rooms.iter().filter(|(_, known)| is_off(known));
        off.for_each(|(home, _)| self.drift.note(resource(home)));
    }

    /// Everything there is was listed: what is not there is missing.
    pub(super) fn complete(&self) {
        let mut state = self.state();
        let mut missing = Vec::new();
        for (home, known) in state.rooms.iter_mut().filter(|(_, known)| known.stays()) {
            for part in Part::INNER.into_iter().filter(|part| !known.parts.contains_key(part)) {
                known.missing.insert(part);
                missing.push((home.clone(), part));
            }
        }
        drop(state);
        missing.iter().for_each(|(home, part)| self.note(home, *part, None, "is missing"));
    }
}

/// How what is followed comes into the table.
pub(super) struct Shelf(pub(super) Arc<Table>);

impl<P: Piece + 'static> follow::Shelf<P> for Shelf {
    fn put(&self, object: P) {
        let table = &self.0;
        match Seen::of(&object, &table.platform, &table.wanted) {
            Some(seen) => table.put(seen),
            None => table.unmarked(object.meta().uid.as_deref().unwrap_or_default()),
        }
    }

    fn remove(&self, uid: &str, _: u64) {
        self.0.remove(uid);
    }

    fn keep(&self, uids: &HashSet<String>, _: u64) {
        self.0.keep(P::PARTS, uids);
    }

    fn reset(&self) {
        self.0.again(P::PARTS);
    }
}
