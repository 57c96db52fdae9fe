//! Commands that only pretend to run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::lock;
use crate::model::{
    ExecInput, ExecOutput, ExecRequest, Exit, InstanceId, Scope, TerminalSize, Timestamp, WorkloadKey,
};
use crate::port::{EXEC_PIECE, Exec, ExecCapabilities, ExecReader, ExecSession};
use crate::{Error, Result};

/// Answers commands as a test says, and forgets nothing that it was asked.
#[derive(Clone, Debug, Default)]
pub struct MemoryExec {
    state: Arc<Mutex<State>>,
    running: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether each of them runs.
    instances: BTreeMap<(WorkloadKey, InstanceId), watch::Sender<bool>>,
    replies: BTreeMap<Vec<String>, Reply>,
    asked: Vec<ExecRequest>,
}

/// What a command does that only pretends to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// What it writes to its output first.
    pub stdout: Bytes,
    /// What it writes to its errors then.
    pub stderr: Bytes,
    /// Whether it writes all its input to its output, to the end.
    pub echoes: bool,
    /// Whether it tells each size of its terminal, as `80x24` on a line, until its input ends.
    pub tells_size: bool,
    /// Whether it never ends by itself.
    pub lasts: bool,
    /// Its exit code.
    pub code: i32,
}

impl MemoryExec {
    /// No instances, and no commands that they know.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that an instance runs.
    pub fn add(&self, workload: &WorkloadKey, instance: &InstanceId) {
        let place = (workload.clone(), instance.clone());
        lock(&self.state).instances.insert(place, watch::Sender::new(true));
    }

    /// Says that what an instance runs has ended, and all commands with it.
    pub fn end(&self, workload: &WorkloadKey, instance: &InstanceId) {
        if let Some(runs) = lock(&self.state).instances.get(&(workload.clone(), instance.clone())) {
            runs.send_replace(false);
        }
    }

    /// Says what this very command does. What was not said is a program that is missing.
    pub fn reply<I: IntoIterator<Item: Into<String>>>(&self, command: I, reply: Reply) {
        let command = command.into_iter().map(Into::into).collect();
        lock(&self.state).replies.insert(command, reply);
    }

    /// All that was asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<ExecRequest> {
        lock(&self.state).asked.clone()
    }

    /// How many commands run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

/// Counts a command for as long as it lives.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn put(mut bytes: Bytes, reader: &ExecReader, kind: fn(Bytes) -> ExecOutput) -> Result<()> {
    while !bytes.is_empty() {
        reader.put(kind(bytes.split_to(bytes.len().min(EXEC_PIECE)))).await?;
    }
    Ok(())
}

async fn act(
    reply: Reply,
    size: Option<TerminalSize>,
    mut input: mpsc::Receiver<ExecInput>,
    reader: ExecReader,
) -> Result<Exit> {
    put(reply.stdout, &reader, ExecOutput::Stdout).await?;
    put(reply.stderr, &reader, ExecOutput::Stderr).await?;
    let told = |size: TerminalSize| Bytes::from(format!("{}x{}\n", size.columns, size.rows));
    if let Some(size) = size.filter(|_| reply.tells_size) {
        put(told(size), &reader, ExecOutput::Stdout).await?;
    }
    if reply.echoes || reply.tells_size {
        while let Some(item) = input.recv().await {
            match item {
                ExecInput::Stdin(bytes) if reply.echoes => put(bytes, &reader, ExecOutput::Stdout).await?,
                ExecInput::Resize(size) if reply.tells_size => {
                    put(told(size), &reader, ExecOutput::Stdout).await?;
                }
                _ => {}
            }
        }
    }
    if reply.lasts {
        std::future::pending::<()>().await;
    }
    Ok(Exit::with_code(reply.code, Timestamp::default()))
}

#[async_trait]
impl Exec for MemoryExec {
    fn capabilities(&self) -> ExecCapabilities {
        ExecCapabilities { terminal: true, ends: true }
    }

    async fn exec(
        &self,
        _: &Scope,
        workload: &WorkloadKey,
        instance: &InstanceId,
        request: &ExecRequest,
    ) -> Result<ExecSession> {
        request.check()?;
        let mut state = lock(&self.state);
        let missing = || Error::not_found("the workload has no such instance").with("instance", instance);
        let mut runs =
            state.instances.get(&(workload.clone(), instance.clone())).ok_or_else(missing)?.subscribe();
        if !*runs.borrow_and_update() {
            return Err(Error::conflict("the instance does not run").with("instance", instance));
        }
        state.asked.push(request.clone());
        let reply = state.replies.get(request.command.arguments()).cloned().ok_or_else(|| {
            Error::not_found("no such program").with("program", &request.command.arguments()[0])
        })?;
        let (running, size) = (Running::new(&self.running), request.terminal);
        Ok(ExecSession::start(request, |input, reader| async move {
            let _running = running;
            tokio::select! {
                end = act(reply, size, input, reader) => end,
                _ = runs.changed() => Err(Error::unavailable("the instance has ended").permanent()),
            }
        }))
    }
}
