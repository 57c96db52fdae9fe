//! Runs commands in instances.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;

use super::Backend;
use crate::guard::{Guarded, call};
use crate::model::{ExecInput, ExecOutput, ExecRequest, Exit, InstanceId, Scope, TerminalSize, WorkloadKey};
use crate::{Error, ErrorKind, Result};

/// How many pieces wait between a command and whoever talks to it, each way.
const WAITING: usize = 16;
/// The largest piece, in bytes.
pub const EXEC_PIECE: usize = 32 * 1024;
/// How long a command's end waits for its reader.
const LINGER: Duration = Duration::from_secs(60);

/// What a backend can do, beyond what all can.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecCapabilities {
    /// Whether commands can run on a terminal.
    pub terminal: bool,
    /// Whether a command ends when its session does: where it is dropped, and at the deadline. Without it, a command whose
    /// session is gone only finds its input at its end.
    pub ends: bool,
}

impl ExecCapabilities {
    /// Those of a backend that can do nothing more.
    #[must_use]
    pub fn none() -> Self {
        Self { terminal: false, ends: false }
    }
}

/// Runs commands beside what an instance runs: with its environment, in its directory, as its user.
///
/// Ports of an instance are not forwarded: no part of the platform needs that.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Exec: Backend {
    /// What it can do. Always the same answer.
    fn capabilities(&self) -> ExecCapabilities;

    /// Starts a command in an instance of a workload. Not idempotent: each call runs it.
    ///
    /// What waits each way is bounded: a command waits for its reader, and a writer for the command. The session ends with
    /// [`ExecOutput::Exit`] or one error; `Timeout` is the deadline's. Dropped, it cancels the command, as far as the
    /// capability `ends` goes. A command ends with what its instance runs, at the latest: the session then tells how, or
    /// `Unavailable`.
    ///
    /// # Errors
    /// `NotFound` where the workload has no such instance; `Conflict` where it does not run; `Unsupported` where a terminal
    /// is asked for and cannot be had. A program that is missing is `NotFound`, from the call or from the session.
    async fn exec(
        &self,
        scope: &Scope,
        workload: &WorkloadKey,
        instance: &InstanceId,
        request: &ExecRequest,
    ) -> Result<ExecSession>;
}

/// A command that runs, seen from outside.
pub struct ExecSession {
    /// Where its input goes; `None` where it gets none. Dropped, the input is at its end.
    pub input: Option<ExecWriter>,
    /// What comes from it. Dropped, the command is cancelled.
    pub output: BoxStream<'static, Result<ExecOutput>>,
}

impl fmt::Debug for ExecSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSession").field("input", &self.input).finish_non_exhaustive()
    }
}

/// Writes to a command.
#[derive(Clone, Debug)]
pub struct ExecWriter(mpsc::Sender<ExecInput>);

impl ExecWriter {
    /// Sends input. Waits where the command is behind.
    ///
    /// # Errors
    /// `Unavailable` where the command reads no more.
    pub async fn write(&self, mut input: Bytes) -> Result<()> {
        while !input.is_empty() {
            let piece = input.split_to(input.len().min(EXEC_PIECE));
            self.send(ExecInput::Stdin(piece)).await?;
        }
        Ok(())
    }

    /// Tells the command that its terminal has another size.
    ///
    /// # Errors
    /// `Unavailable` where the command reads no more.
    pub async fn resize(&self, size: TerminalSize) -> Result<()> {
        self.send(ExecInput::Resize(size)).await
    }

    async fn send(&self, input: ExecInput) -> Result<()> {
        self.0.send(input).await.map_err(|_| Error::unavailable("the command reads no more").permanent())
    }
}

/// All that came from a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecResult {
    /// Its output.
    pub stdout: Bytes,
    /// Its errors.
    pub stderr: Bytes,
    /// How it ended.
    pub exit: Exit,
}

impl ExecSession {
    /// Ends the input and waits for all that comes, at most `most` bytes.
    ///
    /// # Errors
    /// `Invalid` where more comes, which cancels the command; those of the session.
    pub async fn collect(self, most: usize) -> Result<ExecResult> {
        let Self { input, mut output } = self;
        drop(input);
        let (mut stdout, mut stderr) = (BytesMut::new(), BytesMut::new());
        while let Some(item) = output.next().await {
            match item? {
                ExecOutput::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                ExecOutput::Stderr(bytes) => stderr.extend_from_slice(&bytes),
                ExecOutput::Exit(exit) => {
                    return Ok(ExecResult { stdout: stdout.freeze(), stderr: stderr.freeze(), exit });
                }
            }
            if stdout.len() + stderr.len() > most {
                return Err(Error::invalid("the command writes more than was to be kept").with("most", most));
            }
        }
        Err(Error::unavailable("the session broke off before the command ended"))
    }

    /// A session for `work`, which gets what goes to the command and where what comes from it goes. It is dropped where the
    /// session is, and at the deadline; it must take the command with it then. For backends.
    pub fn start<W>(
        request: &ExecRequest,
        work: impl FnOnce(mpsc::Receiver<ExecInput>, ExecReader) -> W,
    ) -> Self
    where
        W: Future<Output = Result<Exit>> + Send + 'static,
    {
        let (writer, input) = mpsc::channel(WAITING);
        let (sender, receiver) = mpsc::channel(WAITING);
        let work = work(input, ExecReader(sender.clone()));
        let deadline = request.deadline;
        tokio::spawn(async move {
            let late = |_| {
                let late = Error::new(ErrorKind::Timeout, "the command did not end before its deadline");
                Err(late.with("seconds", deadline.as_secs_f32()).permanent())
            };
            let end = tokio::select! {
                // Nobody reads any more.
                () = sender.closed() => return,
                end = tokio::time::timeout(deadline, work) => end.unwrap_or_else(late),
            };
            // A reader that never comes is not waited for.
            drop(tokio::time::timeout(LINGER, sender.send(end.map(ExecOutput::Exit))).await);
        });
        let output = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|item| (item, receiver))
        });
        Self { input: request.input.then_some(ExecWriter(writer)), output: output.boxed() }
    }
}

/// Where a backend puts what comes from a command.
#[derive(Clone, Debug)]
pub struct ExecReader(mpsc::Sender<Result<ExecOutput>>);

impl ExecReader {
    /// Passes something on; waits where the reader is behind. Pieces are at most [`EXEC_PIECE`] long.
    ///
    /// # Errors
    /// `Unavailable` where nobody reads any more.
    pub async fn put(&self, output: ExecOutput) -> Result<()> {
        self.0.send(Ok(output)).await.map_err(|_| Error::unavailable("nobody reads the command's output"))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: Exec + ?Sized> Exec for Guarded<E> {
    fn capabilities(&self) -> ExecCapabilities {
        self.inner.capabilities()
    }

    async fn exec(
        &self,
        scope: &Scope,
        workload: &WorkloadKey,
        instance: &InstanceId,
        request: &ExecRequest,
    ) -> Result<ExecSession> {
        request.check()?;
        let call = call!(self, scope, "exec", "exec", Exec, workload.resource());
        self.guard.run(call, || self.inner.exec(scope, workload, instance, request)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::model::{Command, Timestamp};

    fn request() -> ExecRequest {
        ExecRequest::new(Command::new(["it"]).unwrap())
    }

    /// Writes pieces for ever, and counts those that were taken; counts 1,000 more when it is dropped.
    async fn flood(taken: Arc<AtomicUsize>, reader: ExecReader) -> Result<Exit> {
        struct Dropped(Arc<AtomicUsize>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.fetch_add(1_000, Ordering::SeqCst);
            }
        }
        let _dropped = Dropped(Arc::clone(&taken));
        loop {
            reader.put(ExecOutput::Stdout(Bytes::from_static(b"piece"))).await?;
            taken.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_waits_for_a_reader_than_is_said_and_a_reader_that_goes_ends_it() {
        let taken = Arc::new(AtomicUsize::new(0));
        let mut session = ExecSession::start(&request(), |_, reader| flood(Arc::clone(&taken), reader));
        let waits = async |most: usize| {
            // The clock is paused: time passes once nobody can go on.
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(taken.load(Ordering::SeqCst), most);
        };
        waits(WAITING).await;
        session.output.next().await.unwrap().unwrap();
        waits(WAITING + 1).await;
        drop(session);
        waits(WAITING + 1 + 1_000).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_meets_its_deadline_is_dropped_though_nobody_reads() {
        let taken = Arc::new(AtomicUsize::new(0));
        let request = request().within(Duration::from_secs(5));
        let session = ExecSession::start(&request, |_, reader| flood(Arc::clone(&taken), reader));
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(taken.load(Ordering::SeqCst), WAITING + 1_000);
        let mut items: Vec<_> = session.output.collect().await;
        assert_eq!(items.pop().unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(items.len(), WAITING);
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_waits_for_the_command_and_is_told_that_it_reads_no_more() {
        let held = |input: mpsc::Receiver<ExecInput>, _| async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            drop(input);
            std::future::pending().await
        };
        let session = ExecSession::start(&request().with_input(), held);
        let writing = session.input.as_ref().unwrap().write(Bytes::from(vec![0; EXEC_PIECE * (WAITING + 1)]));
        let began = tokio::time::Instant::now();
        assert_eq!(writing.await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_comes_is_kept_up_to_a_bound() {
        let say = |_, reader: ExecReader| async move {
            reader.put(ExecOutput::Stdout(Bytes::from_static(b"four"))).await?;
            Ok(Exit::with_code(7, Timestamp::default()))
        };
        let result = ExecSession::start(&request(), say).collect(4).await.unwrap();
        assert_eq!((&*result.stdout, result.exit.code), (&b"four"[..], Some(7)));
        let error = ExecSession::start(&request(), say).collect(3).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
