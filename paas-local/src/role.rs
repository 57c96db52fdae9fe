//! The roles of one program.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use paas_core::{Error, Result};
use tokio::sync::OnceCell;

use crate::edge::{self, EdgeConfig, ListenerSource};
use crate::keeper::{self, Keeper, KeeperEvent, KeeperOptions, ProcessSpec, ROLE_ENV};

/// Where a role finds its data directory.
const DIR_ENV: &str = "PAAS_LOCAL_DIR";
/// The edge's name among the keeper's processes; ids of instances have a prefix.
pub(crate) const EDGE: &str = "edge";

/// Runs a program in the role it was started for: as the keeper or the edge where [`LocalMachine`](crate::LocalMachine)
/// started it as one, else `run` on a runtime of its own. Call it first in `main`, before there are threads.
///
/// An error of `run` is printed to standard error and becomes exit code 1.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     paas_local::main(|| async {
///         let machine = paas_local::LocalMachine::open(paas_local::LocalConfig::new("./data")).await?;
///         let platform = machine.builder().build().await?;
///         platform.shutdown().await;
///         Ok(())
///     })
/// }
/// ```
pub fn main<F, Fut>(run: F) -> ExitCode
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<()>>,
{
    if let Some(code) = run_if_asked() {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .map_err(|cause| Error::unavailable("cannot start the runtime").with_source(cause))
        .and_then(|runtime| runtime.block_on(run()));
    exit_code(outcome)
}

/// Runs the keeper or the edge if this process was started as one, for programs whose `main` does more than
/// [`main`]: call it before anything else looks at the arguments, which are not yours then.
#[must_use]
pub fn run_if_asked() -> Option<ExitCode> {
    if let Some(code) = keeper::run_if_asked() {
        return Some(code);
    }
    let asked = std::env::var_os(ROLE_ENV).as_deref() == Some(OsStr::new(EDGE));
    asked.then(|| exit_code(run_edge()))
}

fn exit_code(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Tells whoever started the program what went wrong, causes included.
#[expect(clippy::print_stderr, reason = "the last words of a program")]
fn report(error: &Error) {
    eprintln!("error: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}

/// The edge as a process that the keeper keeps.
pub(crate) fn edge_process(dir: &Path) -> Result<ProcessSpec> {
    let program = std::env::current_exe()
        .map_err(|cause| Error::internal("cannot tell which program this is").with_source(cause))?;
    let text = |path: &Path| {
        let utf8 = path.to_str().map(str::to_owned);
        utf8.ok_or_else(|| Error::invalid("a path is not UTF-8").with("path", path.display()))
    };
    // A rebuilt program, or one of a newer release, takes the place of the old one.
    let generation = std::fs::metadata(&program)
        .and_then(|meta| meta.modified())
        .map(|changed| paas_core::model::Timestamp::from(changed).0)
        .unwrap_or(1);
    Ok(ProcessSpec::new(EDGE, [text(&program)?], "/")
        .env(ROLE_ENV, EDGE)
        .env(DIR_ENV, text(dir)?)
        .generation(generation)
        .grace(std::time::Duration::from_secs(35)))
}

fn run_edge() -> Result<()> {
    let missing = || Error::invalid("the edge needs its data directory").with("variable", DIR_ENV);
    let dir = PathBuf::from(std::env::var_os(DIR_ENV).ok_or_else(missing)?);
    let source = KeeperSockets { dir: dir.clone(), keeper: OnceCell::new(), taken: Arc::default() };
    edge::run(EdgeConfig::new(dir), Arc::new(source))
}

/// The keeper's listening sockets. A keeper that was restarted gets duplicates back.
struct KeeperSockets {
    dir: PathBuf,
    keeper: OnceCell<Keeper>,
    taken: Taken,
}

type Taken = Arc<Mutex<Vec<(String, std::net::TcpListener)>>>;

impl KeeperSockets {
    async fn keeper(&self) -> Result<&Keeper> {
        self.keeper
            .get_or_try_init(async || {
                let keeper = Keeper::open(&self.dir, KeeperOptions::default()).await?;
                let (told, taken) = (keeper.clone(), Arc::clone(&self.taken));
                let events = keeper.events();
                tokio::spawn(give_back(told, taken, events));
                Ok(keeper)
            })
            .await
    }
}

async fn give_back(
    keeper: Keeper,
    taken: Taken,
    mut events: impl futures_util::Stream<Item = KeeperEvent> + Unpin,
) {
    while let Some(event) = events.next().await {
        if event != KeeperEvent::Reset {
            continue;
        }
        let duplicates: Vec<_> = {
            let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.iter().filter_map(|(name, socket)| Some((name.clone(), socket.try_clone().ok()?))).collect()
        };
        for (name, socket) in duplicates {
            if let Err(error) = keeper.give(&name, socket).await {
                tracing::warn!(name, ?error, "cannot give a socket back to the keeper");
            }
        }
    }
}

#[async_trait]
impl ListenerSource for KeeperSockets {
    async fn take(&self, name: &str) -> Result<std::net::TcpListener> {
        let socket = self.keeper().await?.take(name).await?;
        let kept = socket
            .try_clone()
            .map_err(|cause| Error::unavailable("cannot duplicate a listening socket").with_source(cause))?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|(known, _)| known != name);
        taken.push((name.to_owned(), kept));
        Ok(socket)
    }

    fn release(&self, name: &str) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| known != name);
    }
}
