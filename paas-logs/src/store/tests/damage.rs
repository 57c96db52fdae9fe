//! Disks that go bad: what is told of a store's files, and what a repair makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use paas_core::ErrorKind;
use paas_core::model::{LogOrder, Resource, Scope};
use paas_core::port::LogStore;

use super::super::report::{LogStoreRepair, LogStoreReport, LogStoreSeverity};
use super::super::{EmbeddedLogStore, LogStoreConfig, check, repair};
use super::crash::{Model, Step, TENANTS, found, history, run};
use super::{FOLDER, SMALL, new_disk, open, seeds};
use crate::disk::forgetful::{Dice, Forgetful};

fn verify(disk: &Forgetful) -> LogStoreReport {
    check::store(disk, Path::new(FOLDER)).unwrap()
}

fn mend(disk: &Forgetful) -> paas_core::Result<LogStoreRepair> {
    repair::store(disk, Path::new(FOLDER), SMALL)
}

/// A store that was closed, and what it has; nothing of it was forgotten.
fn store(seed: u64) -> (Forgetful, Model) {
    let (disk, mut model) = (new_disk(), Model::default());
    let store = open(&disk).unwrap();
    let is_kept = |step: &Step| matches!(step, Step::Append(_) | Step::ShortenJournal);
    for step in history(seed, 80).iter().filter(|step| is_kept(step)) {
        run(&store, step).unwrap();
        model.apply(step);
    }
    drop(store);
    (disk.copy(), model)
}

/// Makes one of the files bad, and tells which.
fn damage(disk: &Forgetful, dice: &mut Dice) -> PathBuf {
    let files: Vec<PathBuf> =
        disk.contents().into_iter().filter(|file| !file.1.is_empty()).map(|file| file.0).collect();
    let path = files[dice.roll(files.len() as u64) as usize].clone();
    disk.damage(&path, |bytes| {
        let at = dice.roll(bytes.len() as u64) as usize;
        match dice.roll(4) {
            0 => bytes.truncate(at),
            1 => bytes[at..].iter_mut().take(600).for_each(|byte| *byte = 0),
            _ => bytes[at] ^= 1 << dice.roll(8),
        }
    });
    path
}

fn all(disk: &Forgetful) -> Vec<BTreeSet<(u64, String)>> {
    let store = open(disk).unwrap();
    (0..TENANTS).map(|of| found(&store, of, LogOrder::Oldest)).collect()
}

/// What is set aside is what was there.
fn assert_nothing_is_deleted(before: &BTreeMap<PathBuf, Vec<u8>>, disk: &Forgetful, done: &LogStoreRepair) {
    let after = disk.contents();
    for file in &done.files {
        assert_eq!(before[&file.file], after[&file.moved_to], "{file:?}");
    }
}

#[test]
fn whatever_is_damaged_is_told_and_repaired() {
    let (mut told, mut lost, mut missed) = (0, 0, 0);
    for seed in 0..seeds() / 4 {
        let (disk, model) = store(seed % 20);
        let report = verify(&disk);
        assert!(report.findings.is_empty(), "{report}");
        let mut dice = Dice(seed);
        let path = damage(&disk, &mut dice);
        let (report, before) = (verify(&disk), disk.contents());
        let what = format!("seed {seed}, {path:?}: {report}");
        if report.is_sound() {
            assert_eq!(mend(&disk).unwrap(), LogStoreRepair::default(), "{what}");
            let expected: Vec<_> = (0..TENANTS).map(|of| model.of(of)).collect();
            let own = all(&disk);
            // Of what is written at its end nothing tells how long it was.
            let is_written_on = !path.to_string_lossy().ends_with("sealed");
            let are_some = own.iter().zip(&expected).all(|(own, all)| own.is_subset(all));
            assert!(own == expected || is_written_on && are_some, "{what}");
            missed += u64::from(own != expected);
            continue;
        }
        told += 1;
        let done = mend(&disk).unwrap();
        assert!(!done.files.is_empty(), "{what}");
        assert_nothing_is_deleted(&before, &disk, &done);
        let after = verify(&disk);
        assert!(after.is_sound(), "{what}\nafter {done}\n{after}");
        assert_eq!(mend(&disk).unwrap(), LogStoreRepair::default(), "{what}");
        let own = all(&disk);
        for of in 0..TENANTS {
            assert!(own[of as usize].is_subset(&model.of(of)), "{what}");
            lost += model.of(of).len() - own[of as usize].len();
        }
        // A store that was repaired takes lines.
        let (store, step) = (open(&disk).unwrap(), &history(seed % 20, 80)[0]);
        run(&store, step).unwrap();
    }
    assert!(told > seeds() / 8 && missed < told / 5, "{told} told, {missed} missed");
    assert!(lost as u64 > told && (lost as u64) < told * 40, "{lost} lines in {told} files");
}

#[test]
fn a_repair_that_a_crash_interrupts_is_done_by_the_next() {
    for seed in 0..seeds() / 50 {
        let (disk, _) = store(seed);
        let mut dice = Dice(seed);
        for _ in 0..3 {
            damage(&disk, &mut dice);
        }
        let whole = disk.copy();
        let before = disk.contents();
        let done = mend(&whole).unwrap();
        assert_nothing_is_deleted(&before, &whole, &done);
        let expected = all(&whole);
        for at in 0.. {
            let disk = disk.copy();
            disk.die_after(at);
            let outcome = mend(&disk);
            if !disk.is_dead() {
                break;
            }
            let disk = disk.after_crash(&mut dice);
            mend(&disk).unwrap();
            // Lines that stood twice in damaged files may come from either.
            assert_eq!(all(&disk), expected, "seed {seed}, crash at {at}: {outcome:?}");
        }
    }
}

#[test]
fn findings_are_told_to_people() {
    let (disk, _) = store(1);
    let path = disk
        .contents()
        .into_keys()
        .find(|path| path.extension().is_some_and(|kind| kind == "sealed"))
        .unwrap();
    disk.damage(&path, |bytes| bytes[10] ^= 1);
    let report = verify(&disk).to_string();
    assert!(
        report.contains("wrong: /store/tenants/t-")
            && report.contains("searches that come to this block fail"),
        "{report}"
    );
    assert!(report.contains("lines at least from 1970-"), "{report}");
    let done = mend(&disk).unwrap().to_string();
    assert!(
        done.contains("it is now /store/damaged/tenants.t-") && done.ends_with("1 files were damaged"),
        "{done}"
    );
}

#[tokio::test]
async fn tools_work_on_a_folder_and_leave_an_open_store_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let missing = EmbeddedLogStore::verify(path.join("elsewhere")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let store = EmbeddedLogStore::open(LogStoreConfig::new(path)).await.unwrap();
    let scope = Scope::testing(Resource::Platform);
    for step in history(1, 30) {
        let Step::Append(batch) = step else { continue };
        store.append(&scope, &[batch]).await.unwrap();
    }
    store.0.shorten_journal().unwrap();
    for refused in [EmbeddedLogStore::verify(path).await.err(), EmbeddedLogStore::repair(path).await.err()] {
        assert!(refused.unwrap().to_string().contains("another process has this folder open"));
    }
    drop(store);
    drop(EmbeddedLogStore::open(LogStoreConfig::new(path)).await.unwrap());
    assert_eq!(EmbeddedLogStore::verify(path).await.unwrap().worst(), None);
    // One byte of a segment goes bad.
    let tenants = std::fs::read_dir(path.join("tenants")).unwrap().map(|entry| entry.unwrap().path());
    let segment = tenants.map(|life| life.join("0000000001.open")).find(|path| path.exists()).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    assert_eq!(EmbeddedLogStore::verify(path).await.unwrap().worst(), Some(LogStoreSeverity::Wrong));
    let done = EmbeddedLogStore::repair(path).await.unwrap();
    assert_eq!(std::fs::read(&done.files[0].moved_to).unwrap(), bytes);
    assert!(EmbeddedLogStore::verify(path).await.unwrap().is_sound());
    EmbeddedLogStore::open(LogStoreConfig::new(path)).await.unwrap();
}
