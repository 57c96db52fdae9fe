//! Crashes, on a disk that forgets what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use paas_core::Result;
use paas_core::model::{LogBatch, LogOrder, LogPosition, LogQuery, Resource, Timestamp};

use super::super::ask::Ask;
use super::super::check;
use super::super::inner::Inner;
use super::{FOLDER, new_disk, open, origin, seeds, tenant};
use crate::disk::forgetful::{Dice, Forgetful};

pub(super) const TENANTS: u64 = 2;
const ORIGINS: u64 = 2;

/// Something that is done with a store.
#[expect(clippy::large_enum_variant, reason = "nearly all are of the large one")]
#[derive(Clone, Debug)]
pub(super) enum Step {
    Append(LogBatch),
    ForgetBefore(u64, Timestamp),
    Forget(u64),
    ShortenJournal,
    /// Another process goes on: it sees what the one before has written, synced or not.
    Open,
}

/// What is done, from a seed; each origin's lines come in order, some of them again.
pub(super) fn history(seed: u64, length: usize) -> Vec<Step> {
    let mut dice = Dice(seed);
    let mut next: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut number = 0;
    let step = |_| {
        let (of, from) = (dice.roll(TENANTS), dice.roll(ORIGINS));
        match dice.roll(27) {
            0 => Step::Forget(of),
            1 => Step::ForgetBefore(of, Timestamp(1_000 + dice.roll(length as u64 * 10))),
            2 => Step::ShortenJournal,
            3 => Step::Open,
            _ => {
                let mut text = String::new();
                for _ in 0..=dice.roll(4) {
                    number += 1;
                    text.push_str(&format!("line {number} {}\n", "x".repeat(dice.roll(30) as usize)));
                }
                let at = next.entry((of, from)).or_default();
                let time = Timestamp(1_000 + number * 3 + dice.roll(20));
                let position = LogPosition::offset(0, *at);
                *at += text.len() as u64;
                Step::Append(LogBatch::new(origin(of, from), Bytes::from(text), time, position))
            }
        }
    };
    (0..length).map(step).collect()
}

pub(super) fn run(store: &Inner, step: &Step) -> Result<()> {
    match step {
        Step::Append(batch) => store.append(std::slice::from_ref(batch)),
        Step::ForgetBefore(of, time) => store.purge(&tenant(*of), Some(*time)),
        Step::Forget(of) => store.purge(&tenant(*of), None),
        Step::ShortenJournal => store.shorten_journal(),
        Step::Open => Ok(()),
    }
}

/// As [`run`]; the store may be another one then.
fn run_on(store: &mut Inner, disk: &Forgetful, step: &Step) -> Result<()> {
    if matches!(step, Step::Open) {
        *store = open(disk)?;
    }
    run(store, step)
}

/// What a store is to have: the lines of each tenant, by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    lines: BTreeMap<u64, BTreeSet<(u64, String)>>,
}

impl Model {
    pub(super) fn apply(&mut self, step: &Step) {
        match step {
            Step::Append(batch) => {
                let of = (0..TENANTS).find(|of| tenant(*of) == batch.origin.tenant).unwrap();
                let lines = batch.lines().map(|line| (line.time.0, text(line.bytes)));
                self.lines.entry(of).or_default().extend(lines);
            }
            Step::ForgetBefore(of, time) => {
                self.lines.entry(*of).or_default().retain(|(own, _)| *own >= time.0);
            }
            Step::Forget(of) => drop(self.lines.remove(of)),
            Step::ShortenJournal | Step::Open => {}
        }
    }

    pub(super) fn of(&self, of: u64) -> BTreeSet<(u64, String)> {
        self.lines.get(&of).cloned().unwrap_or_default()
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

/// All that a tenant has, by searching for it; none comes twice.
pub(super) fn found(store: &Inner, of: u64, order: LogOrder) -> BTreeSet<(u64, String)> {
    let mut query = LogQuery::of(Resource::Tenant(tenant(of)));
    (query.order, query.limit) = (order, 7);
    let mut all = Vec::new();
    loop {
        let page = store.search(&query, &AtomicBool::new(false)).unwrap();
        all.extend(page.entries.iter().map(|entry| (entry.time.0, text(&entry.line))));
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    let times: Vec<u64> = all.iter().map(|(time, _)| *time).collect();
    match order {
        LogOrder::Newest => assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}"),
        LogOrder::Oldest => assert!(times.is_sorted(), "{times:?}"),
    }
    let set: BTreeSet<_> = all.iter().cloned().collect();
    assert_eq!(set.len(), all.len(), "a line comes twice: {all:?}");
    set
}

pub(super) fn assert_has(store: &Inner, model: &Model, what: &str) {
    for of in 0..TENANTS {
        for order in [LogOrder::Newest, LogOrder::Oldest] {
            assert_eq!(found(store, of, order), model.of(of), "tenant {of}, {what}");
        }
    }
}

/// Runs a history that ends with a crash at an operation of the disk. Gives whether it came so far.
fn crash(seed: u64, steps: &[Step], at: u64) -> bool {
    let disk = new_disk();
    disk.die_after(at);
    let (mut model, mut doubt) = (Model::default(), None);
    if let Ok(mut store) = open(&disk) {
        doubt = steps.iter().find(|step| {
            let outcome = run_on(&mut store, &disk, step);
            outcome.iter().for_each(|()| model.apply(step));
            outcome.is_err()
        });
        if !disk.is_dead() {
            return false;
        }
    }
    recover(seed, steps, at, &disk, model, doubt);
    true
}

/// As [`crash`], on a disk that often fails: what it refuses is tried again.
fn crash_after_failures(seed: u64, steps: &[Step], at: u64, one_of: u64) -> bool {
    let disk = new_disk();
    let mut store = open(&disk).unwrap();
    disk.die_after(at);
    disk.fail_one_of(one_of, seed);
    let mut model = Model::default();
    let mut is_done = |step: &Step| loop {
        match run_on(&mut store, &disk, step) {
            Ok(()) => return true,
            Err(_) if disk.is_dead() => return false,
            Err(_) => {}
        }
    };
    let doubt = steps.iter().find(|step| {
        let is_done = is_done(step);
        is_done.then(|| model.apply(step));
        !is_done
    });
    if disk.is_dead() {
        recover(seed, steps, at, &disk, model, doubt);
    }
    disk.is_dead()
}

/// What is there after a crash is what was acknowledged, and of what is in doubt any part.
fn recover(seed: u64, steps: &[Step], at: u64, disk: &Forgetful, mut model: Model, doubt: Option<&Step>) {
    let mut dice = Dice(seed ^ at << 32);
    let disk = disk.after_crash(&mut dice);
    let report = check::store(&disk, Path::new(FOLDER)).unwrap();
    assert!(report.is_sound(), "seed {seed}, crash at {at}: {report}");
    let store = open(&disk).unwrap_or_else(|error| panic!("seed {seed}, crash at {at}: {error:?}"));
    let what = format!("seed {seed}, crash at {at}, in doubt: {doubt:?}");
    for of in 0..TENANTS {
        let (own, before) = (found(&store, of, LogOrder::Oldest), model.of(of));
        let mut after = model.clone();
        doubt.into_iter().for_each(|step| after.apply(step));
        let after = after.of(of);
        assert!(own.is_superset(&before.intersection(&after).cloned().collect()), "lost, {what}: {own:?}");
        assert!(own.is_subset(&before.union(&after).cloned().collect()), "not asked for, {what}: {own:?}");
    }
    // Whoever was told nothing says it again, and then all is as if nothing had happened.
    if let Some(step) = doubt {
        run(&store, step).unwrap();
        model.apply(step);
    }
    assert_has(&store, &model, &what);
    for step in steps.iter().filter(|step| matches!(step, Step::Append(_))).take(3) {
        let Step::Append(batch) = step else { continue };
        let ends = store.ends(&Resource::Tenant(batch.origin.tenant.clone()));
        let is_known = ends.iter().any(|(origin, end)| *origin == batch.origin && *end >= batch.end());
        if is_known {
            run(&store, step).unwrap();
        }
    }
    assert_has(&store, &model, &format!("what was stored came again, {what}"));
    drop(store);
    let store = open(&disk).unwrap();
    assert_has(&store, &model, &format!("opened again, {what}"));
    store.shorten_journal().unwrap();
    assert_has(&store, &model, &format!("settled, {what}"));
    drop(store);
    assert_has(&open(&disk).unwrap(), &model, &format!("settled and opened again, {what}"));
}

#[test]
fn whatever_is_stored_is_found() {
    for seed in 0..200 {
        let (disk, mut model) = (new_disk(), Model::default());
        let mut store = open(&disk).unwrap();
        for (number, step) in history(seed, 60).iter().enumerate() {
            run_on(&mut store, &disk, step).unwrap();
            model.apply(step);
            if number % 20 == 19 {
                assert_has(&store, &model, &format!("seed {seed}, step {number}"));
                drop(store);
                store = open(&disk).unwrap();
                assert_has(&store, &model, &format!("seed {seed}, step {number}, opened again"));
            }
        }
    }
}

#[test]
fn a_crash_at_any_operation_loses_nothing() {
    for seed in 0..6 {
        let steps = history(seed, 25);
        let crashes = (0..).take_while(|at| crash(seed, &steps, *at)).count();
        assert!(crashes > 50, "only {crashes} operations");
    }
}

#[test]
fn long_histories_survive_crashes() {
    for seed in 0..seeds() {
        let steps = history(seed, 120);
        let mut dice = Dice(seed);
        crash(seed, &steps, dice.roll(900));
    }
}

#[test]
fn crashes_after_failed_writes_lose_nothing() {
    let mut crashes = 0;
    for seed in 0..seeds() {
        let steps = history(seed, 120);
        let mut dice = Dice(seed);
        crashes += u64::from(crash_after_failures(seed, &steps, dice.roll(900), 8));
    }
    assert!(crashes > seeds() / 3, "only {crashes}");
}

/// Blocks of the same length: what is left of one that was not written whole stands where the next one is to stand.
#[test]
fn blocks_left_from_failed_writes_are_not_taken_for_those_after_others() {
    let mut crashes = 0;
    for seed in 0..seeds() {
        let mut dice = Dice(seed);
        let mut time = 1_000;
        let steps: Vec<Step> = (0..60)
            .map(|number| {
                let text = format!("line {number:06} xxxxxxxxxxxxxxxxxxxx\n");
                let position = LogPosition::offset(0, number * text.len() as u64);
                time += dice.roll(2);
                Step::Append(LogBatch::new(origin(0, 0), Bytes::from(text), Timestamp(time), position))
            })
            .collect();
        crashes += u64::from(crash_after_failures(seed, &steps, 100 + dice.roll(150), 3));
    }
    assert!(crashes > seeds() / 3, "only {crashes}");
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    for seed in 0..100 {
        let (disk, mut model) = (new_disk(), Model::default());
        let store = open(&disk).unwrap();
        let mut dice = Dice(seed);
        let mut refused = Vec::new();
        for step in &history(seed, 80) {
            if dice.roll(6) == 0 {
                disk.fill_after((dice.roll(2) == 0).then(|| dice.roll(12)));
            }
            // Only what is appended is tried again below.
            if !matches!(step, Step::Append(_)) {
                continue;
            }
            match run(&store, step) {
                Ok(()) => model.apply(step),
                Err(_) => refused.push(step.clone()),
            }
            // An origin's lines come in order.
            if !refused.is_empty() {
                disk.fill_after(None);
                for step in refused.drain(..) {
                    run(&store, &step).unwrap();
                    model.apply(&step);
                }
            }
        }
        disk.fill_after(None);
        assert_has(&store, &model, &format!("seed {seed}"));
        let crashed = disk.after_crash(&mut dice);
        assert_has(&open(&crashed).unwrap(), &model, &format!("seed {seed}, after a crash"));
    }
}

#[test]
fn a_full_disk_says_so_and_reads_and_later_writes_go_on() {
    let disk = new_disk();
    let store = open(&disk).unwrap();
    let [first, second] = [0, 7].map(|at| {
        LogBatch::new(origin(0, 0), Bytes::from("a line\n"), Timestamp(at), LogPosition::offset(0, at))
    });
    store.append(&[first]).unwrap();
    disk.fill_after(Some(0));
    let error = store.append(std::slice::from_ref(&second)).unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("disk full: free some space"), "{error:?}");
    assert_eq!(found(&store, 0, LogOrder::Newest).len(), 1);
    disk.fill_after(None);
    store.append(&[second]).unwrap();
    assert_eq!(found(&store, 0, LogOrder::Newest).len(), 2);
    drop(store);
    assert_eq!(found(&open(&disk).unwrap(), 0, LogOrder::Newest).len(), 2);
}

#[test]
fn old_segments_go_and_what_they_had_is_not_stored_again() {
    let (disk, mut batches) = (new_disk(), Vec::new());
    let store = open(&disk).unwrap();
    for step in history(1, 200) {
        let Step::Append(batch) = step else { continue };
        store.append(std::slice::from_ref(&batch)).unwrap();
        batches.push(batch);
    }
    store.shorten_journal().unwrap();
    let (all, first) = (store.all(), Timestamp(1_400));
    all.iter().for_each(|tenant| tenant.retain(first, u64::MAX, &store.encoders).unwrap());
    let before: Vec<_> = (0..TENANTS).map(|of| found(&store, of, LogOrder::Oldest)).collect();
    assert!(before.iter().all(|lines| lines.first().unwrap().0 > 1_200), "{before:?}");
    let newer = |batch: &&LogBatch| batch.times[0] >= first;
    for line in batches.iter().filter(newer).flat_map(LogBatch::lines) {
        let line = (line.time.0, text(line.bytes));
        assert!(before.iter().any(|lines| lines.contains(&line)), "{line:?} is gone");
    }
    store.append(&batches).unwrap();
    let has_same =
        |store: &Inner| (0..TENANTS).all(|of| found(store, of, LogOrder::Oldest) == before[of as usize]);
    assert!(has_same(&store));
    drop(store);
    let store = open(&disk).unwrap();
    assert!(has_same(&store));
    // A tenant with too many bytes keeps its newest lines.
    store.all().iter().for_each(|tenant| tenant.retain(Timestamp(0), 2_000, &store.encoders).unwrap());
    for of in 0..TENANTS {
        let left = found(&store, of, LogOrder::Oldest);
        assert!(
            left.len() < before[of as usize].len() && left.last() == before[of as usize].last(),
            "{left:?}"
        );
    }
}

#[test]
fn what_is_in_no_segment_outlives_that_old_ones_go() {
    let (disk, mut model) = (new_disk(), Model::default());
    let store = open(&disk).unwrap();
    let mut at = 0;
    let mut append = |lines: u64, model: &mut Model| {
        for _ in 0..lines {
            let text = format!("line {at} {}\n", "x".repeat(30));
            let position = LogPosition::offset(0, at * text.len() as u64);
            let batch = LogBatch::new(origin(0, 0), Bytes::from(text), Timestamp(1_000 + at), position);
            store.append(std::slice::from_ref(&batch)).unwrap();
            model.apply(&Step::Append(batch));
            at += 1;
        }
    };
    append(40, &mut Model::default());
    store.shorten_journal().unwrap();
    // Some of these are in an open segment that was not synced, and the last in memory only.
    append(6, &mut model);
    store.all()[0].retain(Timestamp(1_040), u64::MAX, &store.encoders).unwrap();
    let left = found(&store, 0, LogOrder::Oldest);
    assert!(left.len() < 46 && left.is_superset(&model.of(0)), "{left:?}");
    drop(store);
    assert_eq!(found(&open(&disk).unwrap(), 0, LogOrder::Oldest), left);
    let crashed = open(&disk.after_crash(&mut Dice(1))).unwrap();
    assert!(found(&crashed, 0, LogOrder::Oldest).is_superset(&model.of(0)));
}
