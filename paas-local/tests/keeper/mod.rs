//! The keeper's cases, on real processes. No case sleeps: each waits for an event, with a deadline.

mod death;
mod output;
pub(crate) mod platform;
mod process;
mod socket;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use paas_core::{Error, ErrorKind};
use paas_local::keeper::{
    Backoff, Keeper, KeeperEvent, KeeperOptions, Phase, ProcessSpec, ProcessState, RecordKind, SpoolItem,
    SpoolRecord,
};
use paas_testkit::Proof;
use tempfile::TempDir;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) type Case = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// Names the cases of a module once.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[super::Case] = &[$((stringify!($name), || Box::pin($name()))),*];
    };
}
pub(crate) use cases;

pub(crate) fn trials() -> impl Iterator<Item = (String, Proof)> {
    [process::CASES, output::CASES, death::CASES, socket::CASES].concat().into_iter().map(|(name, case)| {
        let proof: Proof = Box::new(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime
                .block_on(async { tokio::time::timeout(Duration::from_secs(120), case()).await })
                .map_err(|_| Error::new(ErrorKind::Timeout, "the case exceeds its deadline"))
        });
        (format!("keeper::{name}"), proof)
    })
}

type Events = Pin<Box<dyn Stream<Item = KeeperEvent> + Send>>;

/// A keeper in a directory of its own, which takes everything down with it.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) keeper: Keeper,
    pub(crate) events: Events,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(KeeperOptions::default()).await
    }

    pub(crate) async fn with(options: KeeperOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::open(dir.path(), options).await.unwrap();
        let events = Box::pin(keeper.events());
        Self { dir, keeper, events }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A shell script as a process, with a short back-off.
    pub(crate) fn shell(&self, id: &str, script: &str) -> ProcessSpec {
        ProcessSpec::new(id, ["sh", "-c", script], self.dir.path())
            .env("PATH", "/usr/bin:/bin")
            .grace(Duration::from_secs(5))
            .backoff(Backoff::new(Duration::from_millis(20), Duration::from_millis(200), DEADLINE))
    }

    pub(crate) async fn state(&mut self, id: &str, wanted: impl Fn(&ProcessState) -> bool) -> ProcessState {
        let wait = async {
            while let Some(event) = self.events.next().await {
                match event {
                    KeeperEvent::State { state } if state.id == id && wanted(&state) => return state,
                    KeeperEvent::Reset => {
                        if let Ok(state) = self.keeper.status(id).await
                            && wanted(&state)
                        {
                            return state;
                        }
                    }
                    _ => {}
                }
            }
            panic!("events ended")
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("the state is not reached in time")
    }

    pub(crate) async fn reset(&mut self) {
        let wait = async { while self.events.next().await != Some(KeeperEvent::Reset) {} };
        tokio::time::timeout(DEADLINE, wait).await.expect("the keeper does not come back in time");
    }

    pub(crate) fn kill_keeper(&self) {
        kill(self.keeper.pid());
    }

    pub(crate) async fn end(self) {
        self.keeper.shutdown(true).await.unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A case that failed leaves nothing behind either.
        let identity = std::fs::read_to_string(self.dir.path().join("keeper/identity")).unwrap_or_default();
        if std::thread::panicking() {
            if let Ok(log) = std::fs::read_to_string(self.dir.path().join("keeper/keeper.log")) {
                let _shown = writeln!(std::io::stderr(), "{log}");
            }
            // Told, not killed: else the handle would start another one.
            let dir = self.dir.path().to_owned();
            let told = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
                let end = async {
                    let keeper = Keeper::open(&dir, KeeperOptions::default()).await.ok()?;
                    tokio::time::timeout(DEADLINE, keeper.shutdown(true)).await.ok()?.ok()
                };
                runtime.block_on(end)
            });
            let _best_effort = told.join();
            for pid in marked(identity.trim()) {
                kill(pid);
            }
        }
    }
}

pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// The processes that bear the mark of a keeper whose identity begins with `prefix`.
pub(crate) fn marked(prefix: &str) -> Vec<u32> {
    let mark = format!("PAAS_KEEPER={prefix}");
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let environ = environ(*pid);
            environ.split(|byte| *byte == 0).any(|entry| entry.starts_with(mark.as_bytes()))
        })
        .collect()
}

/// The environment of a process, which the kernel does not show while the process becomes another program.
fn environ(pid: u32) -> Vec<u8> {
    loop {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<usize>().ok());
        let in_place = number(27).is_some_and(|end_of_code| end_of_code != 0);
        let whole =
            in_place && number(51).zip(number(50)).is_some_and(|(to, from)| to - from == environ.len());
        // A thread of the kernel, and a process that ended, have no executable.
        if whole || std::fs::read_link(format!("/proc/{pid}/exe")).is_err() {
            return environ;
        }
        std::thread::yield_now();
    }
}

pub(crate) fn pid(state: &ProcessState) -> u32 {
    match state.phase {
        Phase::Running { pid, .. } => pid,
        ref other => panic!("not running: {other:?}"),
    }
}

pub(crate) fn running(state: &ProcessState) -> bool {
    matches!(state.phase, Phase::Running { .. })
}

/// What was read from the spool.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) output: BTreeMap<(String, RecordKindKey), Vec<u8>>,
    pub(crate) records: Vec<SpoolRecord>,
    pub(crate) gaps: u64,
    pub(crate) gap_bytes: u64,
}

/// Output by stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RecordKindKey {
    Out,
    Err,
}

impl Seen {
    pub(crate) fn take(&mut self, item: SpoolItem) {
        match item {
            SpoolItem::Record(record) => {
                let key = match record.kind {
                    RecordKind::Out => Some(RecordKindKey::Out),
                    RecordKind::Err => Some(RecordKindKey::Err),
                    _ => None,
                };
                match key {
                    Some(key) => {
                        self.output
                            .entry((record.id.clone(), key))
                            .or_default()
                            .extend_from_slice(&record.payload);
                    }
                    None => self.records.push(record),
                }
            }
            SpoolItem::Gap { bytes, .. } => {
                self.gaps += 1;
                self.gap_bytes += bytes.unwrap_or(0);
            }
            _ => {}
        }
    }

    pub(crate) fn out(&self, id: &str) -> &[u8] {
        self.output.get(&(id.to_owned(), RecordKindKey::Out)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn err(&self, id: &str) -> &[u8] {
        self.output.get(&(id.to_owned(), RecordKindKey::Err)).map_or(&[], Vec::as_slice)
    }

    pub(crate) async fn until(
        &mut self,
        spool: &mut (impl Stream<Item = paas_core::Result<SpoolItem>> + Unpin),
        mut enough: impl FnMut(&Self) -> bool,
    ) {
        let wait = async {
            while !enough(self) {
                let item = spool.next().await.expect("the spool ended").unwrap();
                self.take(item);
            }
        };
        if tokio::time::timeout(2 * DEADLINE, wait).await.is_err() {
            let sizes: Vec<_> = self.output.iter().map(|(key, bytes)| (key, bytes.len())).collect();
            panic!("the spool does not show it in time: {sizes:?}, {} records", self.records.len());
        }
    }
}

pub(crate) fn json<T: serde::de::DeserializeOwned + Debug>(record: &SpoolRecord) -> T {
    serde_json::from_slice(&record.payload).unwrap()
}
