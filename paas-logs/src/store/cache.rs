//! Blocks that were read, for who reads them again: the newest lines are asked for again and again.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lines::Lines;

/// So many bytes of text are kept.
const KEPT: usize = 16 * 1024 * 1024;

/// A block of a segment.
type Key = (Arc<Path>, usize);

/// Blocks in memory.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<Key, (u64, Arc<Lines>)>,
    size: usize,
    /// Counts how often a block was asked for.
    clock: u64,
}

impl Cache {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Lines>> {
        let mut state = self.state();
        state.clock += 1;
        let now = state.clock;
        let (asked, lines) = state.blocks.get_mut(key)?;
        *asked = now;
        Some(Arc::clone(lines))
    }

    /// Keeps a block, and no longer those that nobody has asked for the longest.
    pub(super) fn put(&self, key: Key, lines: &Arc<Lines>) {
        let mut state = self.state();
        state.clock += 1;
        let now = state.clock;
        if state.blocks.insert(key, (now, Arc::clone(lines))).is_none() {
            state.size += lines.size();
        }
        while state.size > KEPT {
            let oldest = state.blocks.iter().min_by_key(|(_, (asked, _))| *asked).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            state.size -= state.blocks.remove(&oldest).map_or(0, |(_, lines)| lines.size());
        }
    }

    /// Keeps nothing of files that are gone.
    pub(super) fn forget(&self, is_gone: impl Fn(&Path) -> bool) {
        let mut state = self.state();
        state.blocks.retain(|(path, _), _| !is_gone(path));
        state.size = state.blocks.values().map(|(_, lines)| lines.size()).sum();
    }
}
