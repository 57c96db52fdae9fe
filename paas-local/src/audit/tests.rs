use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;

use futures_util::future::join_all;
use paas_core::ErrorKind;
use paas_core::model::{Action, Clock, Principal, Resource, Timestamp};

use super::*;
use crate::testing::{data, play, role, scope, tenant};

fn ids() -> IdSource {
    IdSource::random(Clock::system())
}

async fn open(data: &Arc<DataDir>) -> FileAuditLog {
    FileAuditLog::open(data, ids()).await.unwrap()
}

fn entry(owner: &str, summary: &str, at: u64) -> AuditEntry {
    let resource = Resource::Tenant(tenant(owner));
    AuditEntry::new(Principal::Engine, Action::Deploy, resource, summary, Timestamp(at))
}

async fn begin(log: &FileAuditLog, summary: &str) -> AuditId {
    log.begin(&scope(), entry("a", summary, 1)).await.unwrap()
}

async fn end(log: &FileAuditLog, id: &AuditId, outcome: AuditOutcome) {
    log.end(&scope(), id, outcome).await.unwrap();
}

async fn all(log: &FileAuditLog) -> Vec<AuditRecord> {
    log.search(&scope(), &query(|query| query.limit = 1_000)).await.unwrap()
}

fn query(narrow: impl FnOnce(&mut AuditQuery)) -> AuditQuery {
    let mut query = AuditQuery::default();
    narrow(&mut query);
    query
}

fn summaries(records: &[AuditRecord]) -> Vec<&str> {
    records.iter().map(|record| record.entry.summary.as_str()).collect()
}

fn failed(reason: &str) -> AuditOutcome {
    AuditOutcome::Failed(reason.to_owned())
}

#[tokio::test]
async fn an_entry_is_open_until_its_first_outcome_which_stays() {
    let (_root, data) = data().await;
    let log = open(&data).await;
    log.check().await.unwrap();
    assert_eq!(all(&log).await, []);
    let first = begin(&log, "first").await;
    let second = begin(&log, "second\nline \"quoted\"").await;
    end(&log, &first, failed("no")).await;
    end(&log, &first, AuditOutcome::Done).await;
    let found = all(&log).await;
    assert_eq!(summaries(&found), ["second\nline \"quoted\"", "first"]);
    assert_eq!((&found[0].outcome, &found[1].outcome), (&None, &Some(failed("no"))));
    drop(log);

    let log = open(&data).await;
    assert_eq!(all(&log).await, found);
    end(&log, &first, AuditOutcome::Done).await;
    end(&log, &second, AuditOutcome::Done).await;
    let found = all(&log).await;
    assert_eq!((&found[0].outcome, &found[1].outcome), (&Some(AuditOutcome::Done), &Some(failed("no"))));
    let unknown = AuditId::new("u-unknown").unwrap();
    let error = log.end(&scope(), &unknown, AuditOutcome::Done).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn of_outcomes_at_once_one_stays() {
    let (_root, data) = data().await;
    let log = open(&data).await;
    let id = begin(&log, "x").await;
    let reasons: Vec<_> = (0..32).map(|n| failed(&n.to_string())).collect();
    join_all(reasons.iter().map(|reason| end(&log, &id, reason.clone()))).await;
    let stays = all(&log).await[0].outcome.clone();
    assert!(stays.is_some());
    drop(log);
    let log = open(&data).await;
    assert_eq!(all(&log).await[0].outcome, stays);
    let text = fs::read_to_string(segment::path(&data.audit(), 1)).unwrap();
    assert_eq!(text.matches("\"end\"").count(), 1);
}

#[tokio::test]
async fn a_search_goes_over_all_files_newest_first_up_to_its_limit() {
    let (_root, data) = data().await;
    let log = FileAuditLog::open_with(&data, ids(), 2_000).await.unwrap();
    let first = begin(&log, "left open").await;
    for n in 0..300 {
        let owner = if n % 3 == 0 { "b" } else { "a" };
        let id = log.begin(&scope(), entry(owner, &n.to_string(), n)).await.unwrap();
        end(&log, &id, AuditOutcome::Done).await;
    }
    assert!(segment::numbers(&data.audit()).unwrap().len() > 10);
    let search = async |query: AuditQuery| log.search(&scope(), &query).await.unwrap();
    let found = search(query(|_| {})).await;
    assert_eq!(found.len(), 100);
    let expected: Vec<_> = (200..300).rev().map(|n| n.to_string()).collect();
    assert_eq!(summaries(&found), expected);
    assert!(found.iter().all(|record| record.outcome == Some(AuditOutcome::Done)));
    assert!(found.is_sorted_by(|newer, older| newer.id.as_str()[..11] >= older.id.as_str()[..11]));
    assert_eq!(search(query(|query| query.limit = 1_000)).await.len(), 301);
    let of_b = query(|query| (query.tenant, query.limit) = (Some(tenant("b")), 3));
    let of_b = search(of_b).await;
    assert_eq!(summaries(&of_b), ["297", "294", "291"]);
    let span = query(|query| (query.from, query.to) = (Some(Timestamp(10)), Some(Timestamp(13))));
    assert_eq!(summaries(&search(span).await), ["12", "11", "10"]);
    drop(log);

    // The newest file knows what is open, however long ago it was begun.
    let log = FileAuditLog::open_with(&data, ids(), 2_000).await.unwrap();
    end(&log, &first, failed("late")).await;
    assert_eq!(all(&log).await.last().unwrap().outcome, Some(failed("late")));
    end(&log, &first, AuditOutcome::Done).await;
    assert_eq!(all(&log).await.last().unwrap().outcome, Some(failed("late")));
}

#[tokio::test]
async fn a_line_that_was_cut_off_is_put_aside_and_the_rest_stays() {
    let (_root, data) = data().await;
    let log = open(&data).await;
    let id = begin(&log, "whole").await;
    drop(log);
    let path = segment::path(&data.audit(), 1);
    for torn in [&b"{\"begin\":{\"id\":\"u-1\",\"ent"[..], &[0; 5_000], &b"x"[..]] {
        OpenOptions::new().append(true).open(&path).unwrap().write_all(torn).unwrap();
        let log = open(&data).await;
        assert_eq!(summaries(&all(&log).await), ["whole"]);
    }
    let aside = file::names(&data.audit()).unwrap().into_iter().filter(|name| name.starts_with("torn-"));
    let aside: BTreeSet<_> = aside.map(|name| fs::read(data.audit().join(name)).unwrap().len()).collect();
    assert_eq!(aside, BTreeSet::from([25, 5_000, 1]));
    // A line that makes no sense in the middle costs only itself, and a first line that was lost only a look-up.
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"nonsense\n").unwrap();
    fs::write(segment::path(&data.audit(), 2), "").unwrap();
    let log = open(&data).await;
    begin(&log, "after").await;
    end(&log, &id, AuditOutcome::Done).await;
    assert_eq!(summaries(&all(&log).await), ["after", "whole"]);
}

#[tokio::test]
async fn what_is_too_long_has_a_bound() {
    let (_root, data) = data().await;
    let log = open(&data).await;
    let error = log.begin(&scope(), entry("a", &"x".repeat(LINE), 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let id = begin(&log, &"x".repeat(LINE - 1_000)).await;
    end(&log, &id, failed(&"ö".repeat(REASON))).await;
    let found = all(&log).await;
    let Some(AuditOutcome::Failed(reason)) = &found[0].outcome else { panic!("no reason") };
    assert!(reason.len() < REASON + 10 && reason.ends_with('…'));
    assert_eq!(found.len(), 1);
}

/// A role: begins and ends entries from four tasks, and says each that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role_that_begins_and_ends() {
    let Some(directory) = role() else { return };
    let data = DataDir::open(directory).await.unwrap();
    let log = Arc::new(FileAuditLog::open_with(&data, ids(), 3_000).await.unwrap());
    let tasks = (0..4).map(|_| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            loop {
                let id = begin(&log, "x").await;
                println!("says begun {id}");
                end(&log, &id, AuditOutcome::Done).await;
                println!("says ended {id}");
            }
        })
    });
    join_all(tasks).await;
}

#[tokio::test]
async fn every_acknowledged_entry_survives_a_kill() {
    let root = tempfile::tempdir().unwrap();
    for round in 0..10u64 {
        let path = root.path().join(round.to_string());
        let mut role = play("audit::tests::role_that_begins_and_ends", &path);
        let until = 1 + (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57);
        let mut said: Vec<_> = (0..until).map_while(|_| role.next()).collect();
        said.extend(role.kill());
        let data = DataDir::open(&path).await.unwrap();
        let log = open(&data).await;
        let found = all(&log).await;
        let known = |id: &str| found.iter().find(|record| record.id.as_str() == id);
        for line in said.iter().rev().take(800) {
            let (what, id) = line.split_once(' ').unwrap();
            let record = known(id).unwrap_or_else(|| panic!("round {round}: {id} is lost"));
            assert!(what == "begun" || record.outcome == Some(AuditOutcome::Done), "round {round}: {id}");
        }
        let open = found.iter().filter(|record| record.outcome.is_none()).count();
        assert!(open <= 4, "each task had one open entry at most");
    }
}

/// A role: a file may grow no further, as on a full disk; then it may.
#[tokio::test]
async fn role_that_fills_the_disk() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Some(directory) = role() else { return };
    let seen = Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(rustix::process::Signal::XFSZ.as_raw(), seen).unwrap();
    let data = DataDir::open(directory).await.unwrap();
    let log = open(&data).await;
    let id = begin(&log, "before").await;
    let maximum = getrlimit(Resource::Fsize).maximum;
    let size = segment::path(&data.audit(), 1).metadata().unwrap().len();
    // Half a line fits.
    setrlimit(Resource::Fsize, Rlimit { current: Some(size + 50), maximum }).unwrap();
    for _ in 0..3 {
        let error = log.begin(&scope(), entry("a", "full", 1)).await.unwrap_err();
        assert!(error.to_string().contains("disk full"), "{error:?}");
        assert!(log.end(&scope(), &id, AuditOutcome::Done).await.is_err());
        assert_eq!(summaries(&all(&log).await), ["before"]);
    }
    setrlimit(Resource::Fsize, Rlimit { current: None, maximum }).unwrap();
    begin(&log, "after").await;
    end(&log, &id, AuditOutcome::Done).await;
    let found = all(&log).await;
    assert_eq!(summaries(&found), ["after", "before"]);
    assert_eq!(found[1].outcome, Some(AuditOutcome::Done));
    println!("says done");
}

#[test]
fn a_full_disk_leaves_no_half_line() {
    let root = tempfile::tempdir().unwrap();
    let role = play("audit::tests::role_that_fills_the_disk", &root.path().join("data"));
    assert_eq!(role.end(), (true, vec!["done".to_owned()]));
}
