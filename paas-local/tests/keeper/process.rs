//! Starting, restarting, stopping.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use paas_core::ErrorKind;
use paas_local::keeper::{Backoff, Exit, Keeper, KeeperEvent, KeeperOptions, Phase, ProcessSpec, Restart};

use super::{Bench, cases, marked, pid, running};

cases![
    spawning_twice_starts_once,
    a_higher_generation_replaces_and_a_lower_is_refused,
    a_crash_is_restarted_with_growing_pauses,
    a_service_that_exits_zero_is_restarted,
    the_exit_of_a_task_is_kept,
    a_missing_executable_is_named_and_does_not_spin,
    what_ignores_term_dies_after_its_grace,
    what_forks_away_is_stopped_too,
    what_a_crash_leaves_behind_is_gone_before_the_restart,
    nothing_but_the_spec_is_inherited,
    a_stopped_process_stays_stopped,
    forgetting_leaves_nothing,
    wrong_requests_are_refused,
    a_long_directory_works,
    a_second_handle_shares_the_keeper,
    a_directory_held_by_another_is_refused,
    hundreds_of_processes_are_listed_in_one_call,
    an_idle_keeper_uses_no_time_and_little_memory,
];

async fn spawning_twice_starts_once() {
    let bench = Bench::new().await;
    let spec = bench.shell("web", "echo started >> count; exec sleep 1000");
    let (one, two) = tokio::join!(bench.keeper.spawn(&spec), bench.keeper.spawn(&spec));
    one.unwrap();
    two.unwrap();
    bench.keeper.spawn(&spec).await.unwrap();
    let states = bench.keeper.list().await.unwrap();
    assert_eq!(states.len(), 1);
    assert!(running(&states[0]), "{states:?}");
    assert_eq!(marked(&identity(&bench)).len(), 1);
    let other = bench.shell("web", "exit 3");
    assert_eq!(bench.keeper.spawn(&other).await.unwrap_err().kind(), ErrorKind::Conflict);
    bench.end().await;
}

fn identity(bench: &Bench) -> String {
    std::fs::read_to_string(bench.path("keeper/identity")).unwrap().trim().to_owned()
}

async fn a_higher_generation_replaces_and_a_lower_is_refused() {
    let bench = Bench::new().await;
    let spec = bench.shell("web", "exec sleep 1000").generation(4);
    bench.keeper.spawn(&spec).await.unwrap();
    let old = bench.keeper.status("web").await.unwrap();
    bench.keeper.spawn(&bench.shell("web", "exec sleep 2000").generation(5)).await.unwrap();
    let new = bench.keeper.status("web").await.unwrap();
    assert_eq!((old.generation, new.generation), (4, 5));
    assert!(new.incarnation > old.incarnation);
    assert_ne!(pid(&old), pid(&new));
    assert!(!std::path::Path::new(&format!("/proc/{}", pid(&old))).exists());
    let refused = bench.keeper.spawn(&spec).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    bench.end().await;
}

async fn a_crash_is_restarted_with_growing_pauses() {
    let mut bench = Bench::new().await;
    bench.keeper.spawn(&bench.shell("web", "exit 7")).await.unwrap();
    let mut pauses = Vec::new();
    while pauses.len() < 5 {
        let state = bench.state("web", |state| matches!(state.phase, Phase::BackingOff { .. })).await;
        let Phase::BackingOff { until, ended } = state.phase else { unreachable!() };
        assert_eq!(ended.exit, Exit::Code(7));
        pauses.push(until.duration_since(ended.at).unwrap().as_millis());
    }
    for (pause, least) in pauses.iter().zip([20, 40, 80, 160, 200]) {
        assert!(*pause >= least && *pause < least + 60, "{pauses:?}");
    }
    bench.end().await;
}

async fn a_service_that_exits_zero_is_restarted() {
    let mut bench = Bench::new().await;
    bench.keeper.spawn(&bench.shell("web", "exit 0")).await.unwrap();
    let state = bench.state("web", |state| state.restarts == 3).await;
    assert_eq!(state.last_exit.unwrap().exit, Exit::Code(0));
    bench.end().await;
}

async fn the_exit_of_a_task_is_kept() {
    let mut bench = Bench::new().await;
    let task = bench.shell("migrate", "echo x >> ran; exit 42").restart(Restart::Never);
    bench.keeper.spawn(&task).await.unwrap();
    let killed = bench.shell("killed", "kill -9 $$").restart(Restart::Never);
    let ended = |state: &paas_local::keeper::ProcessState| matches!(state.phase, Phase::Exited { .. });
    bench.state("migrate", ended).await;
    bench.keeper.spawn(&killed).await.unwrap();
    bench.state("killed", ended).await;
    bench.kill_keeper();
    bench.reset().await;
    bench.keeper.spawn(&task).await.unwrap();
    for (id, exit) in [("migrate", Exit::Code(42)), ("killed", Exit::Signal(9))] {
        let state = bench.keeper.status(id).await.unwrap();
        let Phase::Exited { ended: Some(ended), asked: false } = state.phase else { panic!("{state:?}") };
        assert_eq!(ended.exit, exit);
    }
    assert_eq!(std::fs::read_to_string(bench.path("ran")).unwrap(), "x\n");
    bench.end().await;
}

async fn a_missing_executable_is_named_and_does_not_spin() {
    let bench = Bench::new().await;
    let mut events = bench.keeper.events();
    std::fs::write(bench.path("plain"), "text").unwrap();
    std::fs::set_permissions(bench.path("plain"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let slow = Backoff::new(Duration::from_secs(5), Duration::from_secs(5), Duration::from_secs(5));
    for (id, program, kind) in [
        ("absent", "/nowhere/program", ErrorKind::NotFound),
        ("unknown", "no-such-program", ErrorKind::NotFound),
        ("plain", "./plain", ErrorKind::Denied),
    ] {
        let spec = ProcessSpec::new(id, [program], bench.dir.path()).backoff(slow);
        let error = bench.keeper.spawn(&spec).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(program.trim_start_matches("./")), "{error}");
        let state = bench.keeper.status(id).await.unwrap();
        let Phase::Failed { reason, until: Some(_) } = state.phase else { panic!("{state:?}") };
        assert!(reason.contains(program.trim_start_matches("./")), "{reason}");
    }
    let spec = ProcessSpec::new("homeless", ["sleep", "1"], "/nowhere").backoff(slow);
    let error = bench.keeper.spawn(&spec).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere"), "{error}");
    // It appears, and a repeated request starts it at once.
    let late = bench.path("late");
    let spec = ProcessSpec::new("late", [late.to_str().unwrap()], bench.dir.path()).backoff(slow);
    bench.keeper.spawn(&spec).await.unwrap_err();
    std::fs::copy("/usr/bin/yes", &late).unwrap();
    bench.keeper.spawn(&spec).await.unwrap();
    let mut attempts = 0;
    while let Some(KeeperEvent::State { state }) = events.next().await {
        attempts += usize::from(matches!(state.phase, Phase::Failed { .. }));
        if state.id == "late" && running(&state) {
            break;
        }
    }
    assert_eq!(attempts, 5);
    bench.end().await;
}

async fn what_ignores_term_dies_after_its_grace() {
    let bench = Bench::new().await;
    bench
        .keeper
        .spawn(&bench.shell("deaf", "trap '' TERM; echo ready; while :; do sleep 1000; done"))
        .await
        .unwrap();
    let mut spool = bench.keeper.spool(None);
    super::Seen::default().until(&mut spool, |seen| seen.out("deaf") == b"ready\n").await;
    let begun = Instant::now();
    let stop = bench.keeper.stop("deaf", Duration::from_millis(300));
    let status = async {
        let state = bench.keeper.status("deaf").await.unwrap();
        assert_eq!(state.phase, Phase::Stopping);
    };
    let (stopped, ()) = tokio::join!(stop, status);
    stopped.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let state = bench.keeper.status("deaf").await.unwrap();
    assert!(matches!(state.phase, Phase::Exited { asked: true, .. }), "{state:?}");
    assert_eq!(state.last_exit.unwrap().exit, Exit::Signal(9));
    assert!(marked(&identity(&bench)).is_empty());
    bench.end().await;
}

const ESCAPE: &str = "setsid sh -c 'trap \"\" TERM; (setsid sleep 1000 &) ; echo $$ > escaped; sleep 1000' & \
     while [ ! -s escaped ]; do sleep 0.01; done; echo ready; ";

async fn what_forks_away_is_stopped_too() {
    let bench = Bench::new().await;
    bench.keeper.spawn(&bench.shell("daemon", &format!("{ESCAPE} exec sleep 1000"))).await.unwrap();
    let mut spool = bench.keeper.spool(None);
    super::Seen::default().until(&mut spool, |seen| seen.out("daemon") == b"ready\n").await;
    assert!(marked(&identity(&bench)).len() >= 3);
    bench.keeper.stop("daemon", Duration::from_millis(200)).await.unwrap();
    assert_eq!(marked(&identity(&bench)), Vec::<u32>::new());
    bench.end().await;
}

async fn what_a_crash_leaves_behind_is_gone_before_the_restart() {
    let mut bench = Bench::new().await;
    let script = format!("rm -f escaped; {ESCAPE} exit 1");
    bench.keeper.spawn(&bench.shell("daemon", &script)).await.unwrap();
    for _ in 0..3 {
        bench.state("daemon", |state| matches!(state.phase, Phase::BackingOff { .. })).await;
    }
    bench.keeper.stop("daemon", Duration::ZERO).await.unwrap();
    assert_eq!(marked(&identity(&bench)), Vec::<u32>::new());
    bench.end().await;
}

async fn nothing_but_the_spec_is_inherited() {
    let bench = Bench::new().await;
    let spec = bench
        .shell("env", "env | cut -d= -f1 | sort | tr '\\n' ' '; ls /proc/self/fd | tr '\\n' ' '; ulimit -n")
        .restart(Restart::Never);
    bench.keeper.spawn(&spec).await.unwrap();
    let mut spool = bench.keeper.spool(None);
    let mut seen = super::Seen::default();
    seen.until(&mut spool, |seen| seen.records.len() == 2).await;
    let text = String::from_utf8_lossy(seen.out("env")).into_owned();
    // Whoever runs the tests may have left descriptors open, which is not the keeper's doing.
    let plain = std::process::Command::new("sh")
        .args(["-c", "ls /proc/self/fd | tr '\\n' ' '; ulimit -n"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let wanted =
        format!("PAAS_INSTANCE PAAS_KEEPER PAAS_RUN PATH PWD {}", String::from_utf8_lossy(&plain.stdout));
    assert_eq!(text.replace("_ ", ""), wanted);
    bench.end().await;
}

async fn a_stopped_process_stays_stopped() {
    let mut bench = Bench::new().await;
    let spec = bench.shell("web", "exec sleep 1000");
    bench.keeper.spawn(&spec).await.unwrap();
    bench.keeper.stop("web", Duration::from_secs(5)).await.unwrap();
    bench.keeper.stop("web", Duration::from_secs(5)).await.unwrap();
    bench.keeper.stop("nobody", Duration::from_secs(5)).await.unwrap();
    bench.kill_keeper();
    bench.reset().await;
    let state = bench.keeper.status("web").await.unwrap();
    assert!(matches!(state.phase, Phase::Exited { asked: true, .. }), "{state:?}");
    assert_eq!(bench.keeper.spawn(&spec).await.unwrap_err().kind(), ErrorKind::Conflict);
    bench.keeper.spawn(&spec.clone().generation(2)).await.unwrap();
    assert!(running(&bench.keeper.status("web").await.unwrap()));
    bench.end().await;
}

async fn forgetting_leaves_nothing() {
    let mut bench = Bench::new().await;
    bench.keeper.spawn(&bench.shell("web", "exec sleep 1000")).await.unwrap();
    assert_eq!(bench.keeper.forget("web").await.unwrap_err().kind(), ErrorKind::Conflict);
    bench.keeper.stop("web", Duration::from_secs(5)).await.unwrap();
    bench.keeper.forget("web").await.unwrap();
    bench.keeper.forget("web").await.unwrap();
    let gone = async { while bench.events.next().await != Some(KeeperEvent::Gone { id: "web".into() }) {} };
    tokio::time::timeout(super::DEADLINE, gone).await.unwrap();
    assert!(bench.keeper.list().await.unwrap().is_empty());
    assert_eq!(bench.keeper.status("web").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!bench.path("keeper/web.json").exists() && !bench.path("keeper/web.run").exists());
    bench.end().await;
}

async fn wrong_requests_are_refused() {
    let bench = Bench::new().await;
    for spec in [
        ProcessSpec::new("../escape", ["sleep"], "/tmp"),
        ProcessSpec::new("empty", Vec::<String>::new(), "/tmp"),
        ProcessSpec::new("big", ["sleep"], "/tmp").env("A", "x".repeat(200_000)),
        ProcessSpec::new("relative", ["sleep"], "tmp"),
    ] {
        assert_eq!(bench.keeper.spawn(&spec).await.unwrap_err().kind(), ErrorKind::Invalid, "{}", spec.id);
    }
    let huge = ProcessSpec::new("huge", ["sleep"], "/tmp").env("A", "x".repeat(20_000_000));
    assert_eq!(bench.keeper.spawn(&huge).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(bench.keeper.list().await.unwrap().is_empty());
    bench.end().await;
}

async fn a_long_directory_works() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("d".repeat(100)).join("e".repeat(100));
    let keeper = Keeper::open(&long, KeeperOptions::default()).await.unwrap();
    keeper.spawn(&ProcessSpec::new("web", ["sleep", "1000"], dir.path())).await.unwrap();
    keeper.shutdown(true).await.unwrap();
    assert_eq!(keeper.list().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

async fn a_second_handle_shares_the_keeper() {
    let bench = Bench::new().await;
    let options = KeeperOptions::default;
    let handles =
        futures_util::future::join_all((0..8).map(|_| Keeper::open(bench.dir.path(), options()))).await;
    for handle in handles {
        assert_eq!(handle.unwrap().pid(), bench.keeper.pid());
    }
    // And eight at once where none runs.
    let dir = tempfile::tempdir().unwrap();
    let handles = futures_util::future::join_all((0..8).map(|_| Keeper::open(dir.path(), options()))).await;
    let pids: std::collections::BTreeSet<_> =
        handles.iter().map(|handle| handle.as_ref().unwrap().pid()).collect();
    assert_eq!(pids.len(), 1);
    handles[0].as_ref().unwrap().shutdown(true).await.unwrap();
    bench.end().await;
}

async fn a_directory_held_by_another_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("keeper")).unwrap();
    let lock = std::fs::File::create(dir.path().join("keeper/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    std::fs::write(dir.path().join("keeper/lock"), r#"{"role":"backup","pid":4711}"#).unwrap();
    let error = Keeper::open(dir.path(), KeeperOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let text = error.to_string();
    assert!(text.contains("backup, pid 4711") && text.contains(dir.path().to_str().unwrap()), "{text}");
}

async fn hundreds_of_processes_are_listed_in_one_call() {
    let bench = Bench::new().await;
    for number in 0..300 {
        let spec = ProcessSpec::new(format!("idle-{number}"), ["sleep", "1000"], "/");
        bench.keeper.spawn(&spec).await.unwrap();
    }
    let states = bench.keeper.list().await.unwrap();
    assert_eq!(states.iter().filter(|state| running(state)).count(), 300);
    let one = bench.keeper.status("idle-7").await.unwrap();
    super::kill(pid(&one));
    bench.end().await;
}

async fn an_idle_keeper_uses_no_time_and_little_memory() {
    let bench = Bench::new().await;
    bench.keeper.spawn(&bench.shell("web", "exec sleep 1000")).await.unwrap();
    let status = || std::fs::read_to_string(format!("/proc/{}/status", bench.keeper.pid())).unwrap();
    let line = |name: &str| -> u64 {
        let text = status();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let anonymous = line("RssAnon");
    assert!(anonymous < 4096, "{anonymous} KiB");
    let before = line("voluntary_ctxt_switches");
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Whatever it still had to do when asked, it was not woken after that.
    assert!(line("voluntary_ctxt_switches") - before <= 1);
    bench.end().await;
}
