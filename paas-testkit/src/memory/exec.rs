//! Commands.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use paas_core::Result;
use paas_core::memory::{MemoryExec, Reply};
use paas_core::model::{Command, InstanceId, Role, Slot, WorkloadKey};
use paas_core::port::{Exec, ExecCapabilities};

use crate::suite::exec::{ExecFixture, pattern};
use crate::{Fixture, World};

/// [`MemoryExec`].
#[derive(Debug, Default)]
pub struct Execs {
    backend: MemoryExec,
}

/// The program of every command.
const PROGRAM: &str = "program";
/// What the one that waits writes.
const WORD: &str = "waiting";

fn capabilities() -> ExecCapabilities {
    let mut capabilities = ExecCapabilities::none();
    (capabilities.terminal, capabilities.ends) = (true, true);
    capabilities
}

fn reply(arguments: &[&str]) -> Reply {
    let mut reply = Reply::default();
    match *arguments {
        ["both"] => (reply.stdout, reply.stderr) = ("out\n".into(), "err\n".into()),
        ["exit", code] => reply.code = code.parse().unwrap_or_default(),
        ["cat"] => reply.echoes = true,
        ["print", length] => reply.stdout = pattern(length.parse().unwrap_or_default()),
        ["env", "GREETING"] => reply.stdout = "hello".into(),
        ["wait"] => (reply.stdout, reply.lasts) = (format!("{WORD}\n").into(), true),
        ["size"] => reply.tells_size = true,
        _ => {}
    }
    reply
}

impl Fixture for Execs {
    type Port = dyn Exec;
    type Capabilities = ExecCapabilities;

    fn capabilities(&self) -> ExecCapabilities {
        capabilities()
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Exec>>> {
        let backend: Arc<dyn Exec> = Arc::new(self.backend.clone());
        Box::pin(async move { Ok(backend) })
    }
}

impl ExecFixture for Execs {
    fn instance<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<(WorkloadKey, InstanceId)>> {
        let (key, instance) = (world.key(Role::Slot(Slot::Blue)), world.instance());
        self.backend.add(&key, &instance);
        Box::pin(async { Ok((key, instance)) })
    }

    fn ended<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<(WorkloadKey, InstanceId)>> {
        Box::pin(async move {
            let (key, instance) = self.instance(world).await?;
            self.backend.end(&key, &instance);
            Ok((key, instance))
        })
    }

    fn end<'a>(
        &'a self,
        _: &'a World,
        workload: &'a WorkloadKey,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.backend.end(workload, instance);
            Ok(())
        })
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let words = || [PROGRAM].into_iter().chain(arguments.iter().copied());
        self.backend.reply(words(), reply(arguments));
        Command::new(words())
    }

    fn is_running(&self, word: &str) -> bool {
        assert_eq!(word, WORD);
        self.backend.running() > 0
    }
}
