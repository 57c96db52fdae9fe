//! Objects as the cluster had them last, by uid. They come by watches, by lists and as answers to writes, in any order.

use std::collections::{HashMap, HashSet, VecDeque};

/// An object, as far as it is told from others and from itself at other times.
pub(crate) trait Entry: Clone + PartialEq {
    fn uid(&self) -> &str;

    fn version(&self) -> u64;

    /// The same, of another version.
    fn at(self, version: u64) -> Self;

    /// Whether it is on its way out.
    fn is_ending(&self) -> bool;
}

/// What there is.
#[derive(Debug)]
pub(crate) struct Index<T> {
    entries: HashMap<String, T>,
    /// What was deleted by us and may still be told of.
    deleted: HashSet<String>,
    dead: Dead,
}

/// What an object that comes in says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News<T> {
    /// Nothing that was not known.
    None,
    /// It is there.
    Made,
    /// It is not any more as it was before.
    Changed(T),
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), deleted: HashSet::new(), dead: Dead::default() }
    }
}

impl<T: Entry> Index<T> {
    /// It was made or changed; what is older than what is known is passed over.
    pub(crate) fn put(&mut self, entry: T) -> News<T> {
        let (uid, version) = (entry.uid(), entry.version());
        let known = self.entries.get(uid);
        if self.dead.version(uid).max(known.map(T::version)) >= Some(version) {
            return News::None;
        }
        let is_same = known.is_some_and(|known| known.clone().at(version) == entry);
        match self.entries.insert(uid.to_owned(), entry) {
            _ if is_same => News::None,
            Some(before) => News::Changed(before),
            None => News::Made,
        }
    }

    /// As of this version it is gone, or is none of ours any more.
    pub(crate) fn remove(&mut self, uid: &str, version: u64) -> Option<T> {
        if self.entries.get(uid).is_some_and(|known| known.version() > version) {
            return None;
        }
        self.deleted.remove(uid);
        self.dead.add(uid, version);
        self.entries.remove(uid)
    }

    /// We have deleted it: whatever is still told of it is from before.
    pub(crate) fn end(&mut self, uid: &str) -> Option<&T> {
        // Its deletion may have been told already.
        let entry = self.entries.get(uid)?;
        self.deleted.insert(uid.to_owned());
        Some(entry)
    }

    pub(crate) fn get(&self, uid: &str) -> Option<&T> {
        self.entries.get(uid)
    }

    /// The one that has this uid, unless it is on its way out.
    pub(crate) fn staying(&self, uid: &str) -> Option<&T> {
        self.entries.get(uid).filter(|entry| !entry.is_ending() && !self.deleted.contains(uid))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.entries.values()
    }

    /// What a list of this version should have brought, and has not.
    pub(crate) fn lost(
        &self,
        listed: &HashSet<String>,
        version: u64,
        is_listed: impl Fn(&T) -> bool,
    ) -> Vec<String> {
        let all = self.entries.values().filter(|own| is_listed(own) && own.version() <= version);
        all.map(T::uid).filter(|uid| !listed.contains(*uid)).map(str::to_owned).collect()
    }
}

/// Since when the last ones are gone: the answer to a write may come after the end of what was written was told.
#[derive(Debug, Default)]
struct Dead {
    order: VecDeque<String>,
    versions: HashMap<String, u64>,
}

impl Dead {
    /// As many as may end while one answer is on its way.
    const MOST: usize = 4_096;

    fn add(&mut self, uid: &str, version: u64) {
        if let Some(known) = self.versions.get_mut(uid) {
            *known = version.max(*known);
            return;
        }
        self.versions.insert(uid.to_owned(), version);
        self.order.push_back(uid.to_owned());
        if self.order.len() > Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.versions.remove(&oldest);
        }
    }

    fn version(&self, uid: &str) -> Option<u64> {
        self.versions.get(uid).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct It(u64, &'static str);

    impl Entry for It {
        fn uid(&self) -> &'static str {
            "u-1"
        }

        fn version(&self) -> u64 {
            self.0
        }

        fn at(self, version: u64) -> Self {
            Self(version, self.1)
        }

        fn is_ending(&self) -> bool {
            self.1 == "ending"
        }
    }

    #[test]
    fn only_what_is_newer_is_news() {
        let mut index = Index::default();
        assert_eq!(index.put(It(5, "a")), News::Made);
        assert_eq!((index.put(It(4, "b")), index.put(It(5, "b"))), (News::None, News::None));
        assert_eq!(index.put(It(6, "a")), News::None);
        assert_eq!(index.put(It(7, "b")), News::Changed(It(6, "a")));
    }

    #[test]
    fn what_is_gone_comes_back_only_as_something_newer() {
        let mut index = Index::default();
        index.put(It(5, "a"));
        assert_eq!(index.remove("u-1", 7), Some(It(5, "a")));
        // The answer to a write from before.
        assert_eq!((index.put(It(7, "b")), index.get("u-1")), (News::None, None));
        // Its label was put back.
        assert_eq!(index.put(It(8, "a")), News::Made);
        // That it was taken off is told late.
        assert_eq!(index.remove("u-1", 7), None);
        assert_eq!(index.get("u-1"), Some(&It(8, "a")));
    }

    #[test]
    fn what_we_deleted_does_not_stay_whatever_is_still_told_of_it() {
        let mut index = Index::default();
        index.put(It(5, "a"));
        assert_eq!(index.end("u-1"), Some(&It(5, "a")));
        index.put(It(6, "b"));
        assert_eq!((index.get("u-1"), index.staying("u-1")), (Some(&It(6, "b")), None));
        index.remove("u-1", 7);
        assert_eq!(index.end("u-1"), None);
        index.put(It(8, "a"));
        assert_eq!(index.staying("u-1"), Some(&It(8, "a")));
        index.put(It(9, "ending"));
        assert_eq!(index.staying("u-1"), None);
    }

    #[test]
    fn a_complete_list_lacks_what_is_lost() {
        let mut index = Index::default();
        index.put(It(5, "a"));
        let (none, own) = (HashSet::new(), HashSet::from(["u-1".to_owned()]));
        assert_eq!(index.lost(&none, 5, |_| true), ["u-1"]);
        for lost in [
            index.lost(&own, 5, |_| true),
            index.lost(&none, 4, |_| true), // made since
            index.lost(&none, 5, |it| it.1 == "b"),
        ] {
            assert!(lost.is_empty());
        }
    }

    #[test]
    fn only_the_last_dead_are_remembered() {
        let mut dead = Dead::default();
        (0..=Dead::MOST).for_each(|number| dead.add(&number.to_string(), 1));
        assert_eq!((dead.version("0"), dead.version("1"), dead.versions.len()), (None, Some(1), Dead::MOST));
    }
}
