//! The cases of [`Exec`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use paas_core::model::{Command, ExecOutput, ExecRequest, InstanceId, Role, Slot, TerminalSize, WorkloadKey};
use paas_core::port::{Exec, ExecCapabilities, ExecResult, ExecSession};
use paas_core::{Error, ErrorKind, Result};

use crate::bench::refused;
use crate::case::{Case, cases, suites};
use crate::{Bench, Fixture, World};

/// An instance, and a program there that does what its arguments say.
///
/// - `both`: writes `out` and a newline to its output, `err` and a newline to its errors
/// - `exit N`: ends with this code
/// - `cat`: writes its input to its output, to the end
/// - `print N`: writes so many bytes, as [`pattern`] has them
/// - `env NAME`: writes a variable
/// - `wait`: writes a word and a newline, then nothing more, and does not end by itself
/// - `size`: writes the size of its terminal like `80x24` on a line, and again where it changes, until its input ends
pub trait ExecFixture: Fixture<Port = dyn Exec, Capabilities = ExecCapabilities> {
    /// Starts an instance of a workload of this world whose variable `GREETING` is `hello`, and gives it once it runs.
    fn instance<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<(WorkloadKey, InstanceId)>>;

    /// Starts a workload of this world whose only instance ends, and gives it once it has ended.
    fn ended<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<(WorkloadKey, InstanceId)>>;

    /// Ends an instance: asks it to, and does not wait.
    fn end<'a>(
        &'a self,
        world: &'a World,
        workload: &'a WorkloadKey,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<()>>;

    /// The program with these arguments.
    fn command(&self, arguments: &[&str]) -> Result<Command>;

    /// Whether what wrote this word runs. Asked only where the capability `ends` is declared.
    fn is_running(&self, word: &str) -> bool;
}

/// What `print N` writes.
#[must_use]
pub fn pattern(length: usize) -> Bytes {
    (0..length).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect()
}

suites!("exec", Exec, ExecFixture);

type Bed = Bench<dyn ExecFixture>;

fn cases() -> Vec<Case<dyn ExecFixture>> {
    cases![dyn ExecFixture:
        it_declares_what_the_backend_reports,
        both_streams_come_apart_and_then_the_exit,
        the_exit_code_is_told,
        it_has_the_environment_of_the_instance,
        arguments_are_taken_as_they_are,
        without_input_the_input_is_at_its_end,
        input_is_passed_on_to_its_end,
        much_output_is_exact,
        much_input_is_exact_both_ways,
        a_reader_that_is_behind_loses_nothing,
        an_instance_that_is_not_there_is_not_found,
        an_instance_of_another_workload_is_not_found,
        an_instance_that_does_not_run_is_a_conflict,
        a_program_that_is_missing_is_named,
        a_command_meets_its_deadline,
        a_command_ends_with_its_instance,
        a_deadline_that_is_none_is_refused,
        a_session_that_is_dropped_ends_the_command needs ends,
        a_command_that_meets_its_deadline_is_ended needs ends,
        a_terminal_has_the_size_that_it_is_given needs terminal,
        a_terminal_that_cannot_be_had_is_unsupported unless terminal,
    ]
}

const MIB: usize = 1024 * 1024;

/// An instance, and what runs there.
struct Place {
    bed: Bed,
    workload: WorkloadKey,
    instance: InstanceId,
}

impl Place {
    async fn new(bed: Bed) -> Result<Self> {
        let (workload, instance) = bed.fixture.instance(&bed.world).await?;
        Ok(Self { bed, workload, instance })
    }

    fn request(&self, arguments: &[&str]) -> Result<ExecRequest> {
        Ok(ExecRequest::new(self.bed.fixture.command(arguments)?).within(self.bed.fixture.deadline()))
    }

    async fn start(&self, request: &ExecRequest) -> Result<ExecSession> {
        self.bed.port.exec(&self.bed.world.scope(), &self.workload, &self.instance, request).await
    }

    async fn run(&self, arguments: &[&str]) -> Result<ExecResult> {
        self.start(&self.request(arguments)?).await?.collect(4 * MIB).await
    }
}

/// The next line of a command's output, without its end.
async fn line(session: &mut ExecSession) -> Result<String> {
    let mut text = String::new();
    while !text.ends_with('\n') {
        match session.output.next().await {
            Some(Ok(ExecOutput::Stdout(bytes))) => text += &String::from_utf8_lossy(&bytes),
            Some(Err(error)) => return Err(error),
            other => return Err(Error::internal("no line").with("found", format!("{other:?}"))),
        }
    }
    Ok(text.trim().to_owned())
}

async fn it_declares_what_the_backend_reports(bed: Bed) -> Result<()> {
    bed.port.check().await?;
    assert_eq!(bed.fixture.capabilities(), bed.port.capabilities());
    Ok(())
}

async fn both_streams_come_apart_and_then_the_exit(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    let result = place.run(&["both"]).await?;
    assert_eq!((&*result.stdout, &*result.stderr), (&b"out\n"[..], &b"err\n"[..]));
    assert!(result.exit.is_success(), "{:?}", result.exit);
    Ok(())
}

async fn the_exit_code_is_told(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    for code in [0, 3, 137] {
        assert_eq!(place.run(&["exit", &code.to_string()]).await?.exit.code, Some(code));
    }
    Ok(())
}

async fn it_has_the_environment_of_the_instance(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    assert_eq!(place.run(&["env", "GREETING"]).await?.stdout, "hello");
    Ok(())
}

async fn arguments_are_taken_as_they_are(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    // No shell, no variables: there is none of this name.
    assert_eq!(place.run(&["env", "$GREETING; $(env) ${"]).await?.stdout, "");
    Ok(())
}

async fn without_input_the_input_is_at_its_end(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    let session = place.start(&place.request(&["cat"])?).await?;
    assert!(session.input.is_none());
    let result = session.collect(MIB).await?;
    assert!(result.stdout.is_empty() && result.exit.is_success(), "{result:?}");
    Ok(())
}

async fn input_is_passed_on_to_its_end(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    let mut session = place.start(&place.request(&["cat"])?.with_input()).await?;
    let input = session.input.take().expect("input");
    for text in ["one\n", "two\n"] {
        input.write(Bytes::from(text)).await?;
        // It answers while its input is open.
        assert_eq!(place.bed.soon("an answer", line(&mut session)).await??, text.trim());
    }
    drop(input);
    let result = session.collect(MIB).await?;
    assert!(result.stdout.is_empty() && result.exit.is_success(), "{result:?}");
    Ok(())
}

async fn much_output_is_exact(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    let result = place.run(&["print", &MIB.to_string()]).await?;
    assert!(result.stdout == pattern(MIB), "{} bytes came", result.stdout.len());
    Ok(())
}

async fn much_input_is_exact_both_ways(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    let mut session = place.start(&place.request(&["cat"])?.with_input()).await?;
    let input = session.input.take().expect("input");
    let writing = async move { input.write(pattern(MIB)).await };
    let (written, result) = futures_util::join!(writing, session.collect(2 * MIB));
    written?;
    let result = result?;
    assert!(result.stdout == pattern(MIB), "{} bytes came back", result.stdout.len());
    assert!(result.exit.is_success(), "{:?}", result.exit);
    Ok(())
}

async fn a_reader_that_is_behind_loses_nothing(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    // More than all that waits on the way.
    let length = 16 * MIB;
    let mut session = place.start(&place.request(&["print", &length.to_string()])?).await?;
    let first = place.bed.soon("the first bytes", session.output.next()).await?;
    let Some(Ok(ExecOutput::Stdout(first))) = first else { panic!("{first:?}") };
    let rest = session.collect(length).await?;
    assert_eq!(first.len() + rest.stdout.len(), length);
    assert!(rest.stdout.ends_with(&pattern(length)[length - 1_000..]));
    Ok(())
}

async fn an_instance_that_is_not_there_is_not_found(bed: Bed) -> Result<()> {
    let mut place = Place::new(bed).await?;
    place.instance = place.bed.world.instance();
    refused(place.start(&place.request(&["both"])?).await, ErrorKind::NotFound);
    Ok(())
}

async fn an_instance_of_another_workload_is_not_found(bed: Bed) -> Result<()> {
    let mut place = Place::new(bed).await?;
    place.workload = place.bed.world.key(Role::Slot(Slot::Blue));
    refused(place.start(&place.request(&["both"])?).await, ErrorKind::NotFound);
    Ok(())
}

async fn an_instance_that_does_not_run_is_a_conflict(bed: Bed) -> Result<()> {
    let (workload, instance) = bed.fixture.ended(&bed.world).await?;
    let place = Place { bed, workload, instance };
    refused(place.start(&place.request(&["both"])?).await, ErrorKind::Conflict);
    Ok(())
}

async fn a_command_ends_with_its_instance(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    let mut session = place.start(&place.request(&["wait"])?).await?;
    line(&mut session).await?;
    place.bed.fixture.end(&place.bed.world, &place.workload, &place.instance).await?;
    match place.bed.soon("its end", session.collect(MIB)).await? {
        Ok(result) => assert!(!result.exit.is_success(), "{:?}", result.exit),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
    }
    Ok(())
}

async fn a_program_that_is_missing_is_named(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    for program in ["no-such-program", "/no/such/program"] {
        let request = ExecRequest::new(Command::new([program])?);
        let outcome = match place.start(&request).await {
            Ok(session) => session.collect(MIB).await.map(drop),
            Err(error) => Err(error),
        };
        let error = outcome.expect_err("it should not be there");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        assert!(error.to_string().contains(program), "{error}");
    }
    Ok(())
}

async fn a_command_meets_its_deadline(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    let mut session = place.start(&place.request(&["wait"])?.within(Duration::from_secs(2))).await?;
    line(&mut session).await?;
    let outcome = place.bed.soon("its deadline", session.collect(MIB)).await?;
    refused(outcome, ErrorKind::Timeout);
    Ok(())
}

async fn a_deadline_that_is_none_is_refused(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    for deadline in [Duration::ZERO, Duration::MAX] {
        refused(place.start(&place.request(&["both"])?.within(deadline)).await, ErrorKind::Invalid);
    }
    Ok(())
}

async fn ended(place: &Place, word: &str) -> Result<()> {
    let gone = || async { Ok((!place.bed.fixture.is_running(word)).then_some(())) };
    place.bed.eventually("the command has ended", gone).await
}

async fn a_session_that_is_dropped_ends_the_command(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    let mut session = place.start(&place.request(&["wait"])?).await?;
    let word = line(&mut session).await?;
    assert!(place.bed.fixture.is_running(&word));
    drop(session);
    ended(&place, &word).await
}

async fn a_command_that_meets_its_deadline_is_ended(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    let mut session = place.start(&place.request(&["wait"])?.within(Duration::from_secs(2))).await?;
    let word = line(&mut session).await?;
    refused(session.collect(MIB).await, ErrorKind::Timeout);
    ended(&place, &word).await
}

async fn a_terminal_has_the_size_that_it_is_given(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    let size = |columns, rows| TerminalSize { columns, rows };
    let mut session = place.start(&place.request(&["size"])?.on_terminal(size(80, 24))).await?;
    assert_eq!(place.bed.soon("a size", line(&mut session)).await??, "80x24");
    let input = session.input.take().expect("input");
    input.resize(size(132, 50)).await?;
    assert_eq!(place.bed.soon("another size", line(&mut session)).await??, "132x50");
    // What ends the input of a terminal is a character.
    input.write(Bytes::from_static(b"\x04")).await?;
    drop(input);
    assert!(session.collect(MIB).await?.exit.is_success());
    Ok(())
}

async fn a_terminal_that_cannot_be_had_is_unsupported(bed: Bed) -> Result<()> {
    let place = Place::new(bed).await?;
    let request = place.request(&["size"])?.on_terminal(TerminalSize { columns: 80, rows: 24 });
    refused(place.start(&request).await, ErrorKind::Unsupported);
    Ok(())
}
