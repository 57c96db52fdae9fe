//! The engine, under random people and random trouble: 500 seeds in every run.
//!
//! `PAAS_SEED=7 cargo test -p paas-testkit --test simulation every_seed_keeps` replays one and tells the calls that led to a
//! violation; `PAAS_SEEDS=500..5000` runs others.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use paas_core::engine::Defect;
use paas_testkit::simulation::{Outcome, Rule, Simulation, Violation};

fn seeds() -> Range<u64> {
    let number = |text: &str| text.parse::<u64>().expect("a seed is a number");
    if let Ok(seed) = std::env::var("PAAS_SEED") {
        return number(&seed)..number(&seed) + 1;
    }
    let range = std::env::var("PAAS_SEEDS").unwrap_or_else(|_| "0..500".to_owned());
    let (from, to) = range.split_once("..").expect("PAAS_SEEDS is like 0..500");
    number(from)..number(to)
}

/// Every third seed is on a scheduler that rolls by itself.
fn run(seed: u64) -> Result<Outcome, Violation> {
    let simulation = Simulation::new(seed);
    let simulation = if seed % 3 == 2 { simulation.natively() } else { simulation };
    if std::env::var_os("PAAS_SEED").is_some() { simulation.traced().run() } else { simulation.run() }
}

/// Works on all seeds, as many at once as there are processors.
fn for_each(seeds: Range<u64>, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    work(seed);
                }
            });
        }
    });
}

#[test]
fn every_seed_keeps_every_rule() {
    let (wrong, sum) = (Mutex::new(Vec::new()), Mutex::new(Outcome::default()));
    let seeds = seeds();
    let count = seeds.end - seeds.start;
    for_each(seeds, |seed| match run(seed) {
        Ok(outcome) => {
            let mut sum = sum.lock().unwrap();
            sum.faults += outcome.faults;
            sum.crashes += outcome.crashes;
            sum.suspensions += outcome.suspensions;
            sum.deploys += outcome.deploys;
            sum.started += outcome.started;
            sum.calls += outcome.calls;
            sum.calls_to_rest = sum.calls_to_rest.max(outcome.calls_to_rest);
        }
        Err(violation) => wrong.lock().unwrap().push(format!("PAAS_SEED={seed} {violation}")),
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {count} seeds:\n{}", wrong.len(), wrong.join("\n"));
    let sum = sum.into_inner().unwrap();
    println!("{count} seeds: {sum:?} (calls_to_rest: the most)");
    // Trouble that never strikes shows nothing.
    assert!(count < 500 || (sum.faults > 20 * count && sum.crashes > count && sum.suspensions > count));
}

#[test]
fn a_seed_repeats_itself() {
    for seed in [1, 2, 3] {
        assert_eq!(Simulation::new(seed).run(), Simulation::new(seed).run());
    }
}

/// The rules by which a bug may show.
fn telling(defect: Defect) -> &'static [Rule] {
    match defect {
        Defect::FencingSkipped => &[Rule::Fenced],
        Defect::TermReused => &[Rule::Term],
        Defect::IntentStoredLate => &[Rule::Intent],
        Defect::DrainSkipped | Defect::StoppedWhileRouted => &[Rule::Drained, Rule::Answered],
        Defect::FloorIgnored => &[Rule::Floor],
        Defect::RoutedBeforeReady => &[Rule::Ready],
        Defect::PromotedTwice => &[Rule::Promotion],
        Defect::PartialRollback => &[Rule::Rest],
        Defect::ReplicasForgotten => &[Rule::Replicas],
        Defect::TaskSkipped => &[Rule::Task],
        Defect::VolumeShared => &[Rule::Writer],
        Defect::OperationLost => &[Rule::Kept],
        Defect::OrderIgnored => &[Rule::Order],
        Defect::OutcomeMisstated => &[Rule::Outcome],
        _ => &[],
    }
}

#[test]
fn every_seeded_bug_is_caught() {
    for defect in Defect::ALL {
        let caught = (0..100).find_map(|seed| {
            Simulation::new(seed).with_defect(defect).run().err().map(|violation| (seed, violation))
        });
        let (seed, violation) = caught.unwrap_or_else(|| panic!("{defect:?} is not caught by 100 seeds"));
        println!("{defect:?}: seed {seed}: {violation}");
        assert!(telling(defect).contains(&violation.rule), "{defect:?} shows as {violation}");
    }
}
