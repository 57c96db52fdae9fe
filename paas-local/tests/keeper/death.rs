//! `kill -9` of the keeper and of the platform.

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use paas_local::keeper::{
    Ended, Exit, Keeper, KeeperEvent, KeeperOptions, Phase, RecordKind, Restart, Started,
};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Bench, DEADLINE, Seen, cases, json, pid, platform, running};

cases![
    a_killed_keeper_costs_no_line_and_doubles_none,
    a_new_keeper_adopts_what_runs,
    what_died_without_a_keeper_is_started_again,
    stored_intent_without_a_process_is_started,
    an_adopted_process_is_stopped_with_all_it_forked,
    a_task_that_vanished_is_not_run_twice,
    the_spool_is_readable_after_the_keeper_died,
    a_keeper_that_leaves_lets_its_processes_go_on,
    a_killed_platform_costs_nothing,
    stopping_goes_on_with_the_next_keeper,
];

async fn a_killed_keeper_costs_no_line_and_doubles_none() {
    let mut bench = Bench::new().await;
    let mut spool = bench.keeper.spool(None);
    let script = "n=0; while :; do n=$((n+1)); echo line $n; done";
    bench.keeper.spawn(&bench.shell("count", script)).await.unwrap();
    bench
        .keeper
        .spawn(&bench.shell("other", "n=0; while :; do n=$((n+1)); echo line $n >&2; done"))
        .await
        .unwrap();
    let first = bench.keeper.list().await.unwrap();
    let mut seen = Seen::default();
    for round in 1..=20 {
        let lines = |seen: &Seen| seen.out("count").len() + seen.err("other").len();
        let enough = lines(&seen) + 100_000;
        seen.until(&mut spool, |seen| lines(seen) > enough).await;
        bench.kill_keeper();
        let killed = Instant::now();
        bench.reset().await;
        assert!(killed.elapsed() < Duration::from_secs(1), "round {round}: {:?}", killed.elapsed());
        seen.until(&mut spool, |seen| seen.records.len() == 2 + 2 * round).await;
    }
    for id in ["count", "other"] {
        bench.keeper.stop(id, Duration::ZERO).await.unwrap();
    }
    seen.until(&mut spool, |seen| seen.records.len() == 44).await;
    assert_eq!(seen.gaps, 0);
    for bytes in [seen.out("count"), seen.err("other")] {
        let text = std::str::from_utf8(bytes).unwrap();
        let mut number = 0;
        for line in text.split_terminator('\n') {
            number += 1;
            if line != format!("line {number}") {
                assert!(text.ends_with(line), "line {number} is `{line}`");
            }
        }
        assert!(number > 10_000);
    }
    for record in &seen.records[2..42] {
        assert_eq!(record.kind, RecordKind::Start);
        assert!(json::<Started>(record).adopted);
        assert!(first.iter().any(|state| state.id == record.id && state.incarnation == record.incarnation));
    }
    bench.end().await;
}

async fn a_new_keeper_adopts_what_runs() {
    let mut bench = Bench::new().await;
    bench.keeper.spawn(&bench.shell("web", "exec sleep 1000").generation(3)).await.unwrap();
    let before = bench.keeper.status("web").await.unwrap();
    bench.kill_keeper();
    bench.reset().await;
    let after = bench.keeper.status("web").await.unwrap();
    assert_eq!(
        (pid(&before), before.incarnation, before.generation),
        (pid(&after), after.incarnation, after.generation)
    );
    // It is watched: its end is seen, its code is not, and it is started again.
    super::kill(pid(&after));
    let ended = bench.state("web", |state| matches!(state.phase, Phase::BackingOff { .. })).await;
    assert_eq!(ended.last_exit.unwrap().exit, Exit::Unknown);
    let again = bench.state("web", running).await;
    assert_ne!(pid(&again), pid(&after));
    bench.end().await;
}

/// Ends the keeper for a while: its processes go on.
async fn without_keeper(bench: &Bench) {
    bench.keeper.shutdown(false).await.unwrap();
}

async fn reopen(bench: &mut Bench) {
    bench.keeper = Keeper::open(bench.dir.path(), KeeperOptions::default()).await.unwrap();
    bench.events = Box::pin(bench.keeper.events());
}

async fn what_died_without_a_keeper_is_started_again() {
    let mut bench = Bench::new().await;
    bench.keeper.spawn(&bench.shell("web", "exec sleep 1000")).await.unwrap();
    let before = bench.keeper.status("web").await.unwrap();
    without_keeper(&bench).await;
    super::kill(pid(&before));
    gone(pid(&before)).await;
    reopen(&mut bench).await;
    let after = bench.keeper.status("web").await.unwrap();
    assert_ne!(pid(&before), pid(&after));
    assert_eq!(after.last_exit.unwrap().exit, Exit::Unknown);
    bench.end().await;
}

async fn gone(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    if let Ok(watch) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        let wait = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        let mut polled = [rustix::event::PollFd::new(&watch, rustix::event::PollFlags::IN)];
        while rustix::event::poll(&mut polled, Some(&wait)) == Err(rustix::io::Errno::INTR) {}
        assert!(!polled[0].revents().is_empty());
    }
}

async fn stored_intent_without_a_process_is_started() {
    let mut bench = Bench::new().await;
    let spec = bench.shell("web", "exec sleep 1000");
    without_keeper(&bench).await;
    let intent = serde_json::json!({ "spec": spec });
    std::fs::write(bench.path("keeper/web.json"), intent.to_string()).unwrap();
    std::fs::write(bench.path("keeper/torn.json"), "{").unwrap();
    reopen(&mut bench).await;
    assert!(running(&bench.keeper.status("web").await.unwrap()));
    assert!(std::fs::read_to_string(bench.path("keeper/keeper.log")).unwrap().contains("torn.json"));
    bench.end().await;
}

async fn an_adopted_process_is_stopped_with_all_it_forked() {
    let mut bench = Bench::new().await;
    let script = "setsid sh -c 'trap \"\" TERM; echo $$ > escaped; while :; do sleep 1000; done' & \
                  while [ ! -s escaped ]; do sleep 0.01; done; sleep 1000 & echo ready; wait";
    bench.keeper.spawn(&bench.shell("web", script)).await.unwrap();
    let mut spool = bench.keeper.spool(None);
    Seen::default().until(&mut spool, |seen| seen.out("web") == b"ready\n").await;
    bench.kill_keeper();
    bench.reset().await;
    bench.keeper.stop("web", Duration::from_millis(200)).await.unwrap();
    let identity = std::fs::read_to_string(bench.path("keeper/identity")).unwrap();
    assert_eq!(super::marked(identity.trim()), Vec::<u32>::new());
    bench.end().await;
}

async fn a_task_that_vanished_is_not_run_twice() {
    let mut bench = Bench::new().await;
    let task = bench.shell("task", "echo x >> ran; exec sleep 1000").restart(Restart::Never);
    bench.keeper.spawn(&task).await.unwrap();
    let state = bench.keeper.status("task").await.unwrap();
    let ran = async {
        while std::fs::read_to_string(bench.path("ran")).unwrap_or_default().is_empty() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(DEADLINE, ran).await.unwrap();
    without_keeper(&bench).await;
    super::kill(pid(&state));
    gone(pid(&state)).await;
    reopen(&mut bench).await;
    bench.keeper.spawn(&task).await.unwrap();
    let state = bench.keeper.status("task").await.unwrap();
    let Phase::Exited { ended: Some(ended), asked: false } = state.phase else { panic!("{state:?}") };
    assert_eq!(ended.exit, Exit::Unknown);
    assert_eq!(std::fs::read_to_string(bench.path("ran")).unwrap(), "x\n");
    bench.end().await;
}

async fn the_spool_is_readable_after_the_keeper_died() {
    let mut bench = Bench::new().await;
    let mut spool = bench.keeper.spool(None);
    let task = bench.shell("task", "seq 1 200000; exit 5").restart(Restart::Never);
    let Some(Ok(_)) = ({
        bench.keeper.spawn(&task).await.unwrap();
        spool.next().await
    }) else {
        panic!("no record")
    };
    bench.state("task", |state| matches!(state.phase, Phase::Exited { .. })).await;
    // Nothing but the first block was read, and the keeper is gone for good.
    let pid = bench.keeper.pid();
    super::kill(pid);
    gone(pid).await;
    let mut seen = Seen::default();
    seen.until(&mut spool, |seen| seen.records.iter().any(|record| record.kind == RecordKind::Exit)).await;
    let wanted: usize = (1..=200_000_u32).map(|number| number.to_string().len() + 1).sum();
    assert_eq!(seen.out("task").len(), wanted);
    let exit = seen.records.iter().find(|record| record.kind == RecordKind::Exit).unwrap();
    assert_eq!(json::<Ended>(exit).exit, Exit::Code(5));
    bench.end().await;
}

async fn a_keeper_that_leaves_lets_its_processes_go_on() {
    let mut bench = Bench::new().await;
    let mut spool = bench.keeper.spool(None);
    bench.keeper.spawn(&bench.shell("web", "exec sleep 1000")).await.unwrap();
    let before = bench.keeper.status("web").await.unwrap();
    without_keeper(&bench).await;
    while let Some(item) = spool.next().await {
        item.unwrap();
    }
    reopen(&mut bench).await;
    assert_eq!(pid(&bench.keeper.status("web").await.unwrap()), pid(&before));
    bench.end().await;
}

async fn a_killed_platform_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut pids = std::collections::BTreeSet::new();
    let mut last = None;
    for _ in 0..5 {
        let mut child = tokio::process::Command::new("/proc/self/exe")
            .env(platform::PLATFORM_ENV, dir.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..20 {
            let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
            assert_eq!(line.as_deref(), Some("serving"));
        }
        child.kill().await.unwrap();
    }
    let keeper = Keeper::open(dir.path(), KeeperOptions::default()).await.unwrap();
    let state = keeper.status("count").await.unwrap();
    pids.insert(pid(&state));
    assert_eq!(state.restarts, 0);
    let mut spool = keeper.spool(None);
    let mut seen = Seen::default();
    seen.until(&mut spool, |seen| seen.out("count").len() > 1000).await;
    for line in std::str::from_utf8(seen.out("count")).unwrap().split_terminator('\n') {
        let number: u64 = line.parse().unwrap();
        assert_eq!(last.replace(number).map_or(1, |last| last + 1), number);
    }
    assert_eq!((seen.gaps, seen.records.len()), (0, 1));
    keeper.shutdown(true).await.unwrap();
}

async fn stopping_goes_on_with_the_next_keeper() {
    let mut bench = Bench::new().await;
    let script = "trap '' TERM; echo ready; while :; do sleep 1000; done";
    bench.keeper.spawn(&bench.shell("deaf", script).grace(Duration::from_millis(300))).await.unwrap();
    let mut spool = bench.keeper.spool(None);
    Seen::default().until(&mut spool, |seen| seen.out("deaf") == b"ready\n").await;
    let (keeper, events) = (bench.keeper.clone(), bench.keeper.events());
    let stop = tokio::spawn(async move { keeper.stop("deaf", Duration::from_secs(15)).await });
    let stopping = events.filter(|event| {
        let hit = matches!(event, KeeperEvent::State { state } if state.phase == Phase::Stopping);
        async move { hit }
    });
    tokio::time::timeout(DEADLINE, std::pin::pin!(stopping).next()).await.unwrap();
    bench.kill_keeper();
    // The call goes on with the next keeper, which has stored the wish and knows the process's own grace.
    stop.await.unwrap().unwrap();
    assert!(matches!(bench.keeper.status("deaf").await.unwrap().phase, Phase::Exited { asked: true, .. }));
    bench.reset().await;
    bench.end().await;
}
