//! The apps' records as a leader is told of them: what its watch tells need not be read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::AppRecord;
use super::store::Versioned;
use crate::model::{AppId, Version};

/// The records that are known, as long as every change of them is told.
///
/// One may be behind by as long as its change is on its way. A decision that is made on it is then refused when it is
/// stored, and calls that it leads to are those of a moment before; whoever is refused forgets it, and reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(Arc<Mutex<State>>);

/// A time in which no change was missed. What was read in an earlier one may be old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Era(u64);

#[derive(Debug, Default)]
struct State {
    era: u64,
    is_told: bool,
    apps: BTreeMap<AppId, Versioned<AppRecord>>,
    /// The last version that was met here of each, whether or not what was known of it still holds.
    met: BTreeMap<AppId, Version>,
    /// What was deleted: an answer from before may still come. A record that is made anew under such an id is read each time,
    /// until all was listed.
    gone: BTreeSet<AppId>,
}

impl State {
    fn lacks(&self, id: &AppId, version: Version) -> bool {
        self.is_told
            && !self.gone.contains(id)
            && self.apps.get(id).is_none_or(|known| known.version < version)
    }

    fn put(&mut self, era: Era, app: Versioned<AppRecord>) {
        if self.era == era.0 && self.lacks(&app.value.id, app.version) {
            let met = self.met.entry(app.value.id.clone()).or_insert(app.version);
            *met = app.version.max(*met);
            self.apps.insert(app.value.id.clone(), app);
        }
    }
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on changes are told, or not any more; what was known may be old.
    pub(crate) fn begin(&self, is_told: bool) {
        let mut state = self.state();
        *state = State { era: state.era + 1, is_told, ..State::default() };
    }

    /// Whether every change is told.
    pub(crate) fn is_told(&self) -> bool {
        self.state().is_told
    }

    /// The era that what is read from now on belongs to.
    pub(crate) fn era(&self) -> Era {
        Era(self.state().era)
    }

    pub(crate) fn get(&self, id: &AppId) -> Option<Versioned<AppRecord>> {
        self.state().apps.get(id).cloned()
    }

    /// Whether a record of this version would tell anything new.
    pub(crate) fn lacks(&self, id: &AppId, version: Version) -> bool {
        self.state().lacks(id, version)
    }

    /// Whether a record of this version may be of somebody else: what was read or written here is heard of later.
    pub(crate) fn is_news(&self, id: &AppId, version: Version) -> bool {
        self.state().met.get(id).is_none_or(|met| *met < version)
    }

    /// Takes in what was read or written in this era, unless something later is known.
    pub(crate) fn put(&self, era: Era, app: Versioned<AppRecord>) {
        self.state().put(era, app);
    }

    /// What is known of it may be wrong.
    pub(crate) fn forget(&self, id: &AppId) {
        self.state().apps.remove(id);
    }

    /// It was deleted.
    pub(crate) fn bury(&self, id: &AppId) {
        let mut state = self.state();
        state.apps.remove(id);
        state.met.remove(id);
        state.gone.insert(id.clone());
    }

    /// All there is was listed in this era: nothing older is on its way any more.
    pub(crate) fn listed(&self, era: Era, apps: &[Versioned<AppRecord>]) {
        let mut state = self.state();
        if state.era != era.0 {
            return;
        }
        let listed: BTreeSet<&AppId> = apps.iter().map(|app| &app.value.id).collect();
        state.apps.retain(|id, _| listed.contains(id));
        state.met.retain(|id, _| listed.contains(id));
        state.gone.retain(|id| listed.contains(id));
        apps.iter().for_each(|app| state.put(era, app.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        AppName, EnvironmentId, EnvironmentName, Epoch, RevisionNumber, TenantId, TenantName, Timestamp,
    };

    fn record(id: &str, version: u64) -> Versioned<AppRecord> {
        let value = AppRecord {
            schema: super::super::record::SCHEMA,
            id: AppId::new(id).unwrap(),
            tenant: TenantId::new("t-1").unwrap(),
            environment: EnvironmentId::new("e-1").unwrap(),
            tenant_name: TenantName::new("acme").unwrap(),
            environment_name: EnvironmentName::production(),
            name: AppName::new("shop").unwrap(),
            desired: super::super::record::Desired::Running,
            revisions: Vec::new(),
            last_revision: RevisionNumber(0),
            promoted: None,
            services: BTreeMap::new(),
            operation: None,
            progressed: Timestamp(0),
            ended: Vec::new(),
            epoch: Epoch(1),
        };
        Versioned { value, version: Version(version) }
    }

    fn version(known: &Known, id: &str) -> Option<u64> {
        known.get(&AppId::new(id).unwrap()).map(|app| app.version.0)
    }

    /// Changes are told.
    fn told() -> Known {
        let known = Known::default();
        known.begin(true);
        known
    }

    #[test]
    fn nothing_is_known_unless_changes_are_told() {
        let known = Known::default();
        known.put(known.era(), record("a-1", 1));
        assert_eq!(version(&known, "a-1"), None);
        known.begin(true);
        known.put(known.era(), record("a-1", 1));
        assert_eq!(version(&known, "a-1"), Some(1));
        known.begin(false);
        known.put(known.era(), record("a-1", 2));
        assert_eq!(version(&known, "a-1"), None);
    }

    #[test]
    fn what_comes_late_or_twice_does_not_take_the_place_of_what_is_newer() {
        let known = told();
        known.put(known.era(), record("a-1", 2));
        known.put(known.era(), record("a-1", 1));
        assert_eq!(version(&known, "a-1"), Some(2));
        assert!(!known.lacks(&AppId::new("a-1").unwrap(), Version(2)));
        known.put(known.era(), record("a-1", 3));
        assert_eq!(version(&known, "a-1"), Some(3));
    }

    #[test]
    fn what_was_met_here_is_no_news_later() {
        let (known, id) = (told(), AppId::new("a-1").unwrap());
        assert!(known.is_news(&id, Version(2)));
        known.put(known.era(), record("a-1", 2));
        known.forget(&id);
        known.put(known.era(), record("a-1", 1));
        assert!(!known.is_news(&id, Version(1)) && !known.is_news(&id, Version(2)));
        assert!(known.is_news(&id, Version(3)));
        known.bury(&id);
        assert!(known.is_news(&id, Version(1)));
    }

    #[test]
    fn what_was_read_before_changes_were_missed_is_not_taken_in() {
        let known = told();
        let before = known.era();
        known.begin(true);
        known.put(before, record("a-1", 1));
        known.listed(before, &[record("a-2", 1)]);
        assert_eq!((version(&known, "a-1"), version(&known, "a-2")), (None, None));
    }

    #[test]
    fn what_was_deleted_stays_away_until_nothing_older_can_come() {
        let known = told();
        let (era, id) = (known.era(), AppId::new("a-1").unwrap());
        known.put(era, record("a-1", 1));
        known.bury(&id);
        known.put(era, record("a-1", 2));
        // The list was made before it was deleted.
        known.listed(era, &[record("a-1", 2), record("a-2", 1)]);
        assert_eq!((version(&known, "a-1"), version(&known, "a-2")), (None, Some(1)));
        known.listed(era, &[record("a-2", 1)]);
        assert!(known.state().gone.is_empty());
    }
}
