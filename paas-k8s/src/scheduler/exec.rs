//! Commands that people run in pods.

use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, AttachedProcess, TerminalSize as KubeSize};
use kube::client::UpgradeConnectionError;
use paas_core::model::{
    Clock, ExecInput, ExecOutput, ExecRequest, Exit, InstanceId, Scope, TerminalSize, WorkloadKey,
};
use paas_core::port::{EXEC_PIECE, Exec, ExecCapabilities, ExecReader, ExecSession};
use paas_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::KubeScheduler;
use super::manifest::CONTAINER;
use super::output::is_there;
use super::pod::{Instance, Output};
use crate::error::{brief, failed};

/// How many pieces the connection holds each way.
const HELD: usize = 4;

#[async_trait]
impl Exec for KubeScheduler {
    /// The container runtime does not end what runs when the connection ends, nor when the pod turns out to be another.
    fn capabilities(&self) -> ExecCapabilities {
        let mut capabilities = ExecCapabilities::none();
        capabilities.terminal = true;
        capabilities
    }

    async fn exec(
        &self,
        scope: &Scope,
        workload: &WorkloadKey,
        instance: &InstanceId,
        request: &ExecRequest,
    ) -> Result<ExecSession> {
        self.fence.see(scope);
        request.check()?;
        let found = self.cache.instances(workload).into_iter().find(|own| own.status.id == *instance);
        let missing = || Error::not_found("the workload has no such instance").with("instance", instance);
        let found = found.ok_or_else(missing)?;
        if !matches!(found.output, Output::Open(_)) {
            return Err(Error::conflict("the instance does not run").with("instance", instance));
        }
        let params = params(request);
        let command = request.command.arguments();
        self.look(&found).await?;
        let attached =
            self.connection.within::<Pod>(&found.namespace).exec(&found.pod, command, &params).await;
        let attached = attached.map_err(|cause| refused(cause).with("instance", instance))?;
        // Where the next pod came in between, the command is in it; it is told nothing, and nothing is told of it.
        self.look(&found).await?;
        let (program, terminal) = (command[0].clone(), request.terminal);
        Ok(ExecSession::start(request, move |input, reader| run(attached, input, reader, terminal, program)))
    }
}

impl KubeScheduler {
    /// Refuses where another pod has the name of this one by now.
    async fn look(&self, own: &Instance) -> Result<()> {
        let Instance { namespace, pod, uid, .. } = own;
        if own.shares_name() && !is_there(&self.connection, namespace, pod, uid).await? {
            return Err(gone().with("instance", &own.status.id));
        }
        Ok(())
    }
}

fn gone() -> Error {
    Error::not_found("the instance has gone")
}

/// Why a command could not be begun. A refused upgrade comes with a number and no words.
fn refused(cause: kube::Error) -> Error {
    match &cause {
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) => {
            meaning(code.as_u16()).with_source(cause)
        }
        _ => failed(cause, "run a command"),
    }
}

fn meaning(code: u16) -> Error {
    match code {
        401 => Error::new(ErrorKind::Unauthenticated, "the cluster's credentials cannot be used"),
        403 => Error::new(
            ErrorKind::Denied,
            "the platform may not run commands in pods: it needs the rights to `get` and `create` `pods/exec`",
        ),
        404 => gone(),
        code => Error::unavailable("the cluster does not run the command now").with("status", code),
    }
}

fn params(request: &ExecRequest) -> AttachParams {
    let is_terminal = request.terminal.is_some();
    let held = Some(HELD * EXEC_PIECE);
    AttachParams {
        container: Some(CONTAINER.into()),
        stdin: request.input,
        stdout: true,
        // On a terminal there is one stream.
        stderr: !is_terminal,
        tty: is_terminal,
        max_stdin_buf_size: held,
        max_stdout_buf_size: held,
        max_stderr_buf_size: held,
    }
}

/// Passes everything on until the node says how the command ended.
async fn run(
    mut attached: AttachedProcess,
    input: mpsc::Receiver<ExecInput>,
    reader: ExecReader,
    terminal: Option<TerminalSize>,
    program: String,
) -> Result<Exit> {
    let status = attached.take_status();
    let (stdout, stderr) = (attached.stdout(), attached.stderr());
    let feeding = async {
        feed(&mut attached, input, terminal).await;
        // It may run on without input.
        std::future::pending::<()>().await;
    };
    let reading = async {
        let (out, err) = tokio::join!(
            copy(stdout, &reader, ExecOutput::Stdout),
            copy(stderr, &reader, ExecOutput::Stderr)
        );
        out.and(err)?;
        let told = match status {
            Some(status) => status.await,
            None => None,
        };
        let cut = || Error::unavailable("the connection broke: whether the command goes on is not known");
        end(&told.ok_or_else(cut)?, &program)
    };
    tokio::select! {
        outcome = reading => outcome,
        () = feeding => Err(Error::internal("what waits for ever has ended")),
    }
}

async fn feed(
    attached: &mut AttachedProcess,
    mut input: mpsc::Receiver<ExecInput>,
    terminal: Option<TerminalSize>,
) {
    let (mut stdin, mut sizes) = (attached.stdin(), attached.terminal_size());
    let mut next = terminal.map(ExecInput::Resize);
    loop {
        let item = match next.take() {
            Some(item) => Some(item),
            None => input.recv().await,
        };
        match item {
            Some(ExecInput::Stdin(bytes)) => {
                let Some(stdin) = &mut stdin else { continue };
                if stdin.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Some(ExecInput::Resize(size)) => {
                let Some(sizes) = &mut sizes else { continue };
                let size = KubeSize { width: size.columns, height: size.rows };
                let free = std::future::poll_fn(|context| sizes.poll_ready(context)).await;
                if free.and_then(|()| sizes.start_send(size)).is_err() {
                    return;
                }
            }
            Some(_) => {}
            None => break,
        }
    }
    if let Some(stdin) = &mut stdin {
        // Whether that can still be told does not matter to who sends no more.
        let _gone = stdin.shutdown().await;
    }
    // The terminal lives on.
    std::future::pending::<()>().await;
}

async fn copy(
    stream: Option<impl AsyncRead + Unpin>,
    reader: &ExecReader,
    kind: fn(Bytes) -> ExecOutput,
) -> Result<()> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut piece = vec![0; EXEC_PIECE];
    loop {
        let read = stream.read(&mut piece).await;
        match read.map_err(|cause| Error::unavailable("the connection broke").with_source(cause))? {
            0 => return Ok(()),
            length => reader.put(kind(Bytes::copy_from_slice(&piece[..length]))).await?,
        }
    }
}

/// How a command ended, as the node tells.
fn end(status: &Status, program: &str) -> Result<Exit> {
    let now = Clock::system().now();
    if status.status.as_deref() == Some("Success") {
        return Ok(Exit::with_code(0, now));
    }
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let mut codes = causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode"));
    if let Some(code) = codes.next().and_then(|cause| cause.message.as_ref()?.parse().ok()) {
        return Ok(Exit::with_code(code, now));
    }
    let message = status.message.as_deref().unwrap_or_default();
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    let kind = if says(&["executable file not found", "no such file or directory"]) {
        ErrorKind::NotFound
    } else if says(&["container not found", "not running", "is not created or running"]) {
        // It ended a moment ago.
        ErrorKind::Conflict
    } else {
        ErrorKind::Unavailable
    };
    let error = Error::new(kind, "the command did not start").with("program", program);
    let error = error.with("said", brief(message));
    Err(error.permanent())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(status: Value) -> Result<Exit> {
        end(&serde_json::from_value(status).unwrap(), "it")
    }

    #[test]
    fn what_the_node_tells_of_the_end_is_understood() {
        assert_eq!(told(json!({ "status": "Success" })).unwrap().code, Some(0));
        let failed = json!({
            "status": "Failure", "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code",
            "details": { "causes": [{ "reason": "ExitCode", "message": "137" }] },
        });
        assert_eq!(told(failed).unwrap().code, Some(137));
        let missing = json!({
            "status": "Failure", "reason": "InternalError", "code": 500,
            "message": "OCI runtime exec failed: exec: \"it\": executable file not found in $PATH: unknown",
        });
        assert_eq!(told(missing).unwrap_err().kind(), ErrorKind::NotFound);
        let ended = json!({ "status": "Failure", "message": "container not found (\"app\")" });
        assert_eq!(told(ended).unwrap_err().kind(), ErrorKind::Conflict);
        let broken = json!({ "status": "Failure", "message": "error dialing\nbackend" });
        let error = told(broken).unwrap_err();
        assert_eq!(
            (error.kind(), error.context("said")),
            (ErrorKind::Unavailable, Some("error dialing backend"))
        );
    }

    #[test]
    fn a_refused_upgrade_says_what_is_lacking() {
        let kinds = [401, 403, 404, 500].map(|code| meaning(code).kind());
        let expected =
            [ErrorKind::Unauthenticated, ErrorKind::Denied, ErrorKind::NotFound, ErrorKind::Unavailable];
        assert_eq!(kinds, expected);
        assert!(meaning(403).to_string().contains("pods/exec"));
    }
}
