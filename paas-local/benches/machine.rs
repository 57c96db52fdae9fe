//! What a whole machine costs: `cargo bench -p paas-local --bench machine`.
//!
//! Each line is a name, our figure, the peer's, their ratio, the goal, and whether it was met. This program is also the
//! platform that is measured (a process of its own), its keeper, its edge, and the program of the instances.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use paas_core::model::{
    AppId, AppName, AppSpec, Clock, EnvironmentId, EnvironmentName, IdSource, Principal, Resource,
    RevisionNumber, Role, Scope, ServiceId, ServiceName, ServiceSpec, Slot, Source, Template, TenantId,
    TenantName, Workload, WorkloadKey, WorkloadLabels,
};
use paas_core::port::{Scheduler, Selector};
use paas_local::keeper::{Keeper, KeeperOptions, ProcessSpec, RecordKind, Restart, SpoolItem};
use paas_local::{LocalConfig, LocalMachine};
use tempfile::TempDir;

/// What this process is, beside the roles of the machine.
const ROLE: &str = "MACHINE_BENCH_ROLE";
/// The data directory of the platform that is measured.
const DIRECTORY: &str = "MACHINE_BENCH_DIRECTORY";
/// How much is poured, in MiB.
const MEBIBYTES: &str = "MACHINE_BENCH_MEBIBYTES";
const DEADLINE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if let Some(code) = paas_local::run_if_asked() {
        return code;
    }
    match std::env::var(ROLE).as_deref() {
        Ok("platform") => runtime().block_on(platform()),
        Ok("serve") => serve(),
        Ok("pour") => pour(),
        _ => bench(std::env::args().any(|argument| argument == "--test")),
    }
    ExitCode::SUCCESS
}

fn bench(short: bool) {
    let (rounds, poured) = if short { (1, 16) } else { (11, 2_048) };
    println!("{:44} {:>12} {:>12} {:>7} {:>9}", "name", "ours", "peer", "ratio", "goal");
    open(rounds);
    memory(if short { Duration::ZERO } else { Duration::from_secs(3) });
    runtime().block_on(async {
        spawn(rounds).await;
        deploy(rounds).await;
        spool(poured).await;
    });
}

#[derive(Clone, Copy)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

fn line(name: &str, ours: f64, peer: Option<f64>, goal: Goal) {
    let (met, shown) = match goal {
        Goal::AtMost(most) => (ours <= most, format!("<= {most}")),
        Goal::AtLeast(least) => (ours >= least, format!(">= {least}")),
    };
    let text = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let met = if met { "met" } else { "short" };
    let ratio = text(peer.map(|peer| ours / peer));
    println!("{name:44} {ours:>12.3} {:>12} {ratio:>7} {shown:>9}  {met}", text(peer));
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn program() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

fn config(dir: &Path) -> LocalConfig {
    LocalConfig::new(dir).with_public(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

/// The role `platform`: opens, says so, and leaves nothing behind once its input ends.
async fn platform() {
    let machine = LocalMachine::open(config(Path::new(&std::env::var_os(DIRECTORY).unwrap()))).await.unwrap();
    let platform = machine.builder().build().await.unwrap();
    let operator = Principal::operator("bench");
    platform.ensure_tenant(&operator, TenantName::new("bench").unwrap()).await.unwrap();
    let (keeper, edge) = machine.pids().await.unwrap();
    println!("{keeper} {edge}");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    platform.shutdown().await;
    machine.shutdown(true).await.unwrap();
}

/// A platform in a process of its own.
struct Measured {
    child: Child,
    roles: [u32; 3],
    _dir: TempDir,
}

impl Measured {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(program())
            .env(ROLE, "platform")
            .env(DIRECTORY, dir.path().join("data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let (keeper, edge) = said.trim().split_once(' ').unwrap();
        let roles = [child.id(), keeper.parse().unwrap(), edge.parse().unwrap()];
        Self { child, roles, _dir: dir }
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

/// From the start of the program in an empty directory to a platform that takes releases.
fn open(rounds: usize) {
    let mut took = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let measured = Measured::open();
        took.push(began.elapsed());
        measured.end();
    }
    line("open an empty machine until ready, ms", median(took), None, Goal::AtMost(1_000.0));
}

/// What an idle platform holds, once it has come to rest.
fn memory(rest: Duration) {
    let measured = Measured::open();
    std::thread::park_timeout(rest);
    let sum = |name| measured.roles.iter().map(|pid| mebibytes(*pid, name)).sum();
    line("idle platform, keeper and edge, resident MiB", sum("Rss:"), None, Goal::AtMost(100.0));
    line("the same, what they share counted once, MiB", sum("Pss:"), None, Goal::AtMost(100.0));
    measured.end();
}

fn mebibytes(pid: u32, name: &str) -> f64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1_024.0
}

/// The role `serve`: accepts connections and closes them.
fn serve() {
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    for mut stream in listener.incoming().flatten() {
        let _gone = stream.read(&mut [0; 1_024]);
        let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    }
}

/// From the wish for an instance to one that is ready; the peer starts the program itself and tries to connect.
async fn spawn(rounds: usize) {
    let dir = tempfile::tempdir().unwrap();
    let machine = LocalMachine::open(config(&dir.path().join("data"))).await.unwrap();
    let (scheduler, scope) = (machine.scheduler(), Scope::testing(Resource::Platform));
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let workload = workload();
        let mut hints = scheduler.watch(&scope).await.unwrap();
        let began = Instant::now();
        scheduler.apply(&scope, &workload).await.unwrap();
        let ready = async {
            while scheduler.list(&scope, &Selector::All).await.unwrap()[0].ready().next().is_none() {
                hints.next().await;
            }
        };
        tokio::time::timeout(DEADLINE, ready).await.unwrap();
        ours.push(began.elapsed());
        scheduler.remove(&scope, &workload.key).await.unwrap();
        let gone = async {
            while !scheduler.list(&scope, &Selector::All).await.unwrap().is_empty() {
                hints.next().await;
            }
        };
        tokio::time::timeout(DEADLINE, gone).await.unwrap();
        peer.push(tokio::task::spawn_blocking(bare_start).await.unwrap());
    }
    line("spawn to ready of one instance, ms", median(ours), Some(median(peer)), Goal::AtMost(50.0));
    machine.shutdown(true).await.unwrap();
}

fn bare_start() -> Duration {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let began = Instant::now();
    let mut child = Command::new(program()).env(ROLE, "serve").env("PORT", port.to_string()).spawn().unwrap();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(began.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    let took = began.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    took
}

fn workload() -> Workload {
    let ids = IdSource::random(Clock::system());
    let key = WorkloadKey::new(
        TenantId::generate(&ids),
        EnvironmentId::generate(&ids),
        AppId::generate(&ids),
        ServiceId::generate(&ids),
        Role::Slot(Slot::Blue),
    );
    let labels = WorkloadLabels::new(
        TenantName::new("bench").unwrap(),
        EnvironmentName::production(),
        AppName::new("bench").unwrap(),
        ServiceName::new("web").unwrap(),
    );
    let program = ServiceSpec::run([program()]).unwrap().run.unwrap();
    let mut template = Template::new(vec![Source::Run(program)]);
    template.port = Some(8_080);
    template.env.insert(ROLE.to_owned(), "serve".to_owned());
    Workload::new(key, labels, RevisionNumber(1), template, 1)
}

/// From a release of one service to its end, when the edge serves it.
async fn deploy(rounds: usize) {
    let dir = tempfile::tempdir().unwrap();
    let machine = LocalMachine::open(config(&dir.path().join("data"))).await.unwrap();
    let platform = machine.builder().build().await.unwrap();
    let operator = Principal::operator("bench");
    let tenant = platform.ensure_tenant(&operator, TenantName::new("bench").unwrap()).await.unwrap();
    let production = platform.production(&Principal::user("bench", tenant.id)).await.unwrap();
    let mut took = Vec::new();
    for round in 0..rounds {
        let mut web = ServiceSpec::run([program()]).unwrap();
        web.port = Some(8_080);
        web.env.insert(ROLE.to_owned(), "serve".into());
        web.domain.push(format!("bench-{round}.test").parse().unwrap());
        let app = AppSpec::new(format!("bench-{round}")).unwrap().with_service("web", &web).unwrap();
        let began = Instant::now();
        production.deploy(&app).await.unwrap().finished_within(DEADLINE).await.unwrap();
        took.push(began.elapsed());
    }
    line("first release of one service, ms", median(took), None, Goal::AtMost(250.0));
    platform.shutdown().await;
    machine.shutdown(true).await.unwrap();
}

/// The role `pour`: writes lines until it has written enough.
fn pour() {
    let mebibytes: usize = std::env::var(MEBIBYTES).unwrap().parse().unwrap();
    let block = [[b'x'; 127].as_slice(), b"\n"].concat().repeat(1_024);
    let mut out = std::fs::File::from(rustix::io::dup(std::io::stdout()).unwrap());
    for _ in 0..mebibytes * 8 {
        out.write_all(&block).unwrap();
    }
}

/// Bytes that pass through the spool and are read, none lost; the peer reads the program's pipe itself.
async fn spool(mebibytes: usize) {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::open(dir.path(), KeeperOptions::default()).await.unwrap();
    let spec = ProcessSpec::new("pour", [program()], dir.path()).restart(Restart::Never);
    let spec = spec.env(ROLE, "pour").env(MEBIBYTES, mebibytes.to_string());
    let mut spool = keeper.spool(None);
    let began = Instant::now();
    keeper.spawn(&spec).await.unwrap();
    let (mut read, mut lost, mut committed) = (0_u64, 0, 0);
    loop {
        match tokio::time::timeout(DEADLINE, spool.next()).await.unwrap().unwrap().unwrap() {
            SpoolItem::Record(record) if record.kind == RecordKind::Exit => break,
            SpoolItem::Record(record) => {
                read += record.payload.len() as u64;
                if record.next.offset > committed + (1 << 20) {
                    committed = record.next.offset;
                    keeper.commit(record.next).await.unwrap();
                }
            }
            SpoolItem::Gap { bytes, .. } => lost += bytes.unwrap_or(0),
            _ => {}
        }
    }
    let ours = read as f64 / began.elapsed().as_secs_f64() / 1e6;
    let peer = tokio::task::spawn_blocking(move || bare_pour(mebibytes)).await.unwrap();
    line("output read through the spool, MB/s", ours, Some(peer), Goal::AtLeast(100.0));
    let share = lost as f64 * 100.0 / (read + lost) as f64;
    line("output lost at full speed, counted, %", share, None, Goal::AtMost(1.0));
    keeper.shutdown(true).await.unwrap();
}

fn bare_pour(mebibytes: usize) -> f64 {
    let began = Instant::now();
    let mut pour = Command::new(program());
    pour.env(ROLE, "pour").env(MEBIBYTES, mebibytes.to_string()).stdout(Stdio::piped());
    let mut child = pour.spawn().unwrap();
    let (mut out, mut block, mut read) = (child.stdout.take().unwrap(), vec![0; 64 * 1_024], 0);
    loop {
        match out.read(&mut block).unwrap() {
            0 => break,
            bytes => read += bytes,
        }
    }
    child.wait().unwrap();
    read as f64 / began.elapsed().as_secs_f64() / 1e6
}
