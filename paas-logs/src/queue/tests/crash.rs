//! Crashes, on a disk that forgets what was not synced.

use std::collections::BTreeMap;

use paas_core::model::{LogBatch, LogItem, WhenFull};
use paas_core::{ErrorKind, Result};

use super::super::Inner;
use super::super::groups::Mark;
use super::{batch, group, new_disk, oldest, open, rest};
use crate::disk::forgetful::{Dice, Forgetful};

const GROUPS: u64 = 2;
const ORIGINS: u64 = 3;

/// Something that is done with a queue.
#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<LogBatch>),
    Subscribe(u64),
    /// Takes so many batches at most, and commits them or not.
    Work(u64, usize, bool),
    /// Drops the consumer, who gives back what it did not commit.
    Leave(u64),
    Remove(u64),
    Reopen,
}

fn history(seed: u64, length: usize) -> Vec<Step> {
    let (mut dice, mut number) = (Dice(seed), 0);
    let step = |_| match dice.roll(24) {
        0..2 => Step::Subscribe(dice.roll(GROUPS)),
        2..9 => Step::Work(dice.roll(GROUPS), 1 + dice.roll(12) as usize, dice.roll(3) > 0),
        9 => Step::Leave(dice.roll(GROUPS)),
        10 if dice.roll(3) == 0 => Step::Remove(dice.roll(GROUPS)),
        11 => Step::Reopen,
        12 if dice.roll(2) == 0 => {
            number += 1;
            Step::Publish(vec![batch(dice.roll(ORIGINS), number, 1_000 + dice.roll(700) as usize)])
        }
        _ => {
            let count = 1 + dice.roll(3);
            let batch = |_| {
                number += 1;
                batch(dice.roll(ORIGINS), number, dice.roll(90) as usize)
            };
            Step::Publish((0..count).map(batch).collect())
        }
    };
    (0..length).map(step).collect()
}

/// What a group is told to have committed and given, in batches that were sent.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Progress {
    committed: usize,
    given: usize,
    /// After what was given.
    mark: Mark,
}

/// A queue, and what it has to be.
struct World {
    what: String,
    full: WhenFull,
    disk: Forgetful,
    queue: Option<Inner>,
    /// All that was acknowledged, in its order.
    sent: Vec<LogBatch>,
    groups: BTreeMap<u64, Progress>,
}

impl World {
    fn new(what: String, full: WhenFull) -> Self {
        let disk = new_disk();
        Self { what, full, disk, queue: None, sent: Vec::new(), groups: BTreeMap::new() }
    }

    fn queue(&mut self) -> Result<&Inner> {
        if self.queue.is_none() {
            self.queue = Some(open(&self.disk, self.full)?);
            self.groups.values_mut().for_each(|own| own.given = own.committed);
            for (number, mark) in self.marks() {
                self.groups.get_mut(&number).unwrap().mark = mark;
            }
        }
        Ok(self.queue.as_ref().unwrap())
    }

    fn marks(&self) -> Vec<(u64, Mark)> {
        let queue = self.queue.as_ref().unwrap();
        self.groups.keys().map(|number| (*number, queue.committed(&group(*number)).unwrap())).collect()
    }

    /// How many batches come before a mark, as the bytes of their lines tell.
    fn index(&self, mark: Mark) -> usize {
        let mut bytes = 0;
        for (index, batch) in self.sent.iter().enumerate() {
            if bytes >= mark.weight {
                assert_eq!(bytes, mark.weight, "a mark within a batch, {}", self.what);
                return index;
            }
            bytes += batch.buffer.len() as u64;
        }
        assert_eq!(bytes, mark.weight, "a mark after the end, {}", self.what);
        self.sent.len()
    }

    /// Follows items from a place on. Gives the place after them.
    fn follow(&self, from: usize, items: &[(LogItem, Mark)]) -> usize {
        let mut at = from;
        for (item, mark) in items {
            match item {
                LogItem::Batch(batch) => {
                    assert_eq!(Some(batch), self.sent.get(at), "at {at}, {}", self.what);
                    at += 1;
                }
                LogItem::Gap { bytes, .. } => {
                    assert_eq!(self.full, WhenFull::DropOldest, "a gap at {at}, {}", self.what);
                    let after = self.index(*mark);
                    let missing: usize = self.sent[at..after].iter().map(|batch| batch.buffer.len()).sum();
                    assert_eq!(*bytes, missing as u64, "a gap at {at}, {}", self.what);
                    at = after;
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(self.index(*mark), at, "a mark, {}", self.what);
        }
        at
    }

    /// Does a step. An error is one of the disk.
    fn run(&mut self, step: &Step) -> Result<()> {
        self.queue()?;
        match step {
            Step::Publish(batches) => match self.queue()?.publish(batches) {
                Err(error) if error.kind() == ErrorKind::Throttled => {
                    assert_eq!(self.full, WhenFull::Refuse, "{error:?}");
                    let least = self.groups.values().map(|own| own.committed).min();
                    assert!(least.is_some_and(|least| least < self.sent.len()), "{error:?}, {}", self.what);
                }
                outcome => {
                    outcome?;
                    self.sent.extend(batches.iter().cloned());
                }
            },
            Step::Subscribe(number) => {
                self.queue()?.subscribe(&group(*number))?;
                self.is_there(*number);
            }
            Step::Work(number, most, commits) => {
                let Some(own) = self.groups.get(number).copied() else { return Ok(()) };
                let mut items = rest(self.queue()?, own.mark)?;
                items.truncate(*most);
                let given = self.follow(own.given, &items);
                let mark = items.last().map_or(own.mark, |(_, mark)| *mark);
                self.groups.insert(*number, Progress { given, mark, ..own });
                if *commits {
                    self.queue()?.commit(&group(*number), mark)?;
                    self.groups.insert(*number, Progress { committed: given, given, mark });
                }
            }
            Step::Leave(number) => {
                let Some(own) = self.groups.get(number).copied() else { return Ok(()) };
                let mark = self.queue()?.committed(&group(*number))?;
                self.groups.insert(*number, Progress { given: own.committed, mark, ..own });
            }
            Step::Remove(number) => {
                self.queue()?.remove(&group(*number))?;
                self.groups.remove(number);
            }
            Step::Reopen => {
                self.queue = None;
                self.queue()?;
            }
        }
        Ok(())
    }

    /// A group is there: a new one begins with the oldest that is there.
    fn is_there(&mut self, number: u64) {
        if !self.groups.contains_key(&number) {
            let mark = self.queue.as_ref().unwrap().committed(&group(number)).unwrap();
            let given = self.index(mark);
            let least = self.groups.values().map(|own| own.committed).min();
            assert!(
                self.full == WhenFull::DropOldest || least.is_none_or(|least| given <= least),
                "begins with {given}, {}",
                self.what
            );
            self.groups.insert(number, Progress { committed: given, given, mark });
        }
    }

    /// The process or the machine crashes, while this step was being done. Whatever it did then shows.
    fn crash(&mut self, dice: &mut Dice, doubt: Option<&Step>) {
        let is_kill = dice.roll(3) == 0;
        self.disk = if is_kill { self.disk.after_kill() } else { self.disk.after_crash(dice) };
        self.queue = None;
        let queue = open(&self.disk, self.full).unwrap_or_else(|error| panic!("{}: {error:?}", self.what));
        if let Some(Step::Publish(batches)) = doubt {
            let is_there = rest(&queue, oldest(&queue)).unwrap().last().is_some_and(
                |(item, _)| matches!(item, LogItem::Batch(last) if batches.last() == Some(last)),
            );
            self.sent.extend(batches.iter().filter(|_| is_there).cloned());
        }
        let there = lock(&queue);
        self.queue = Some(queue);
        if let Some(Step::Remove(number)) = doubt
            && !there.contains(number)
        {
            self.groups.remove(number);
        }
        for number in there {
            match (self.groups.get(&number).copied(), doubt) {
                (Some(own), _) => {
                    let mark = self.queue.as_ref().unwrap().committed(&group(number)).unwrap();
                    let committed = self.index(mark);
                    let may_be = match doubt {
                        Some(Step::Work(of, _, true)) if *of == number => own.given,
                        _ => own.committed,
                    };
                    let is_right = committed == own.committed || committed == may_be;
                    assert!(is_right, "g{number} is at {committed}, {own:?}, {}", self.what);
                    self.groups.insert(number, Progress { committed, given: committed, mark });
                }
                (None, Some(Step::Subscribe(of))) if *of == number => self.is_there(number),
                (None, _) => panic!("g{number} came from nowhere, {}", self.what),
            }
        }
        assert!(self.groups.keys().all(|number| lock(self.queue.as_ref().unwrap()).contains(number)));
    }

    /// Everything is as it should be: nothing is lost, and nothing comes that was not sent.
    fn check(&mut self) {
        let queue = self.queue().unwrap();
        let (begin, all) = (oldest(queue), rest(queue, oldest(queue)).unwrap());
        let begin = self.index(begin);
        assert_eq!(self.follow(begin, &all), self.sent.len(), "lost at the end, {}", self.what);
        for (number, own) in self.groups.clone() {
            let mark = self.queue().unwrap().committed(&group(number)).unwrap();
            assert_eq!(self.index(mark), own.committed, "g{number}, {}", self.what);
            let items = rest(self.queue().unwrap(), mark).unwrap();
            assert_eq!(self.follow(own.committed, &items), self.sent.len(), "g{number}, {}", self.what);
        }
    }

    /// Once all is committed by all, one file is left, and there is room.
    fn finish(&mut self) {
        for number in 0..GROUPS {
            for step in [Step::Subscribe(number), Step::Work(number, usize::MAX, true)] {
                self.run(&step).unwrap();
            }
        }
        self.check();
        let old = self.queue().unwrap().journal.old();
        assert!(old.is_empty(), "{old:?} stay, {}", self.what);
        self.run(&Step::Publish(vec![batch(0, 1_000_000, 500)])).unwrap();
        assert_eq!(self.sent.last(), Some(&batch(0, 1_000_000, 500)));
        self.run(&Step::Reopen).unwrap();
        self.check();
    }
}

fn lock(queue: &Inner) -> Vec<u64> {
    let groups = queue.groups.lock().unwrap();
    groups.keys().map(|name| name.as_str()[1..].parse().unwrap()).collect()
}

/// Runs a history, with a crash whenever the disk dies. Gives how often it did.
fn run(seed: u64, full: WhenFull, steps: &[Step], mut next: impl FnMut(&mut Dice) -> Option<u64>) -> usize {
    let mut dice = Dice(seed ^ 0xdead);
    let mut world = World::new(String::new(), full);
    let mut crashes = 0;
    let mut die = |disk: &Forgetful, dice: &mut Dice| {
        let at = next(dice);
        at.into_iter().for_each(|at| disk.die_after(at));
        at
    };
    let mut at = die(&world.disk, &mut dice);
    for (number, step) in steps.iter().enumerate() {
        world.what = format!("{full:?}, seed {seed}, crash {crashes} at {at:?}, step {number}: {step:?}");
        if let Err(error) = world.run(step) {
            assert!(world.disk.is_dead(), "{error:?}, {}", world.what);
            world.crash(&mut dice, Some(step));
            world.check();
            crashes += 1;
            at = die(&world.disk, &mut dice);
        }
    }
    if world.disk.is_dead() {
        world.crash(&mut dice, None);
        crashes += 1;
    } else {
        world.disk.die_after(u64::MAX / 2);
    }
    world.check();
    // The machine, once more, with nothing in doubt.
    world.crash(&mut dice, None);
    world.check();
    world.finish();
    crashes
}

const BOTH: [WhenFull; 2] = [WhenFull::Refuse, WhenFull::DropOldest];

#[test]
fn whatever_is_published_is_given() {
    for seed in 0..100 {
        for full in BOTH {
            assert_eq!(run(seed, full, &history(seed, 150), |_| None), 0);
        }
    }
}

#[test]
fn a_crash_at_any_operation_loses_nothing() {
    for (seed, full) in (0..6).flat_map(|seed| BOTH.map(|full| (seed, full))) {
        let steps = history(seed, 30);
        let crash = |at: &u64| {
            let mut once = Some(*at);
            run(seed ^ at << 32, full, &steps, |_| once.take()) > 0
        };
        let crashes = (0..).take_while(crash).count();
        assert!(crashes > 50, "only {crashes} operations");
    }
}

#[test]
fn long_histories_survive_crashes() {
    // The rest runs where there is time for it.
    let seeds = std::env::var("PAAS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(500);
    let mut crashes = 0;
    for seed in 0..seeds {
        let full = BOTH[seed as usize % 2];
        crashes += run(seed, full, &history(seed, 200), |dice| Some(dice.roll(150)));
    }
    assert!(crashes as u64 > seeds, "only {crashes} crashes");
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    for (seed, full) in (0..100).flat_map(|seed| BOTH.map(|full| (seed, full))) {
        let (mut dice, mut refused) = (Dice(seed), 0);
        let mut world = World::new(String::new(), full);
        world.queue().unwrap();
        for (number, step) in history(seed, 150).iter().enumerate() {
            world.what = format!("{full:?}, seed {seed}, step {number}: {step:?}");
            let room = if dice.roll(4) == 0 { Some(dice.roll(4)) } else { None };
            world.disk.fill_after(room);
            if let Err(error) = world.run(step) {
                assert!(error.to_string().contains("free some space"), "{error}");
                refused += 1;
                world.disk.fill_after(None);
                world.run(step).unwrap_or_else(|error| panic!("{error:?}, {}", world.what));
            }
        }
        world.disk.fill_after(None);
        assert!(refused > 2, "refused only {refused}, seed {seed}");
        world.check();
        world.crash(&mut dice, None);
        world.check();
        world.finish();
    }
}
