//! Runs other programs.

use std::io::Read;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;

use crate::{Result, interrupt};

/// Runs a program to its end, in silence; where it fails, its last lines are the error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = output(command.stdin(Stdio::null()).stderr(Stdio::piped()))?;
    if output.status.success() {
        return Ok(());
    }
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(12)..].join("\n");
    Err(format!("{name} ended with {}:\n{last}", output.status).into())
}

/// Runs a program to its end, and tells how it ended.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    interrupt::wait(&mut interrupt::spawn(command)?)
}

/// Runs a program to its end, and gives what it wrote; its errors only where `command` has a pipe for them.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let mut child = interrupt::spawn(command.stdout(Stdio::piped()))?;
    let (stdout, stderr) = (child.stdout.take().map(read), child.stderr.take().map(read));
    let status = interrupt::wait(&mut child)?;
    let whole = |reader: Option<Reader>| match reader.map(JoinHandle::join) {
        Some(Ok(text)) => text,
        Some(Err(_)) => Err(std::io::Error::other("what a program wrote was not read")),
        None => Ok(Vec::new()),
    };
    Ok(Output { status, stdout: whole(stdout)?, stderr: whole(stderr)? })
}

type Reader = JoinHandle<std::io::Result<Vec<u8>>>;

/// Reads all that comes: a program waits where nobody does.
fn read(mut pipe: impl Read + Send + 'static) -> Reader {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).map(|_| text)
    })
}

/// Whether a program is to be found.
pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_writes_is_whole() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "head -c 200000 /dev/zero; echo no >&2; exit 3"]).stderr(Stdio::piped());
        let output = output(&mut shell).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 200_000));
        assert_eq!(output.stderr, b"no\n");
        let error = run(Command::new("sh").args(["-c", "echo a; echo b >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().ends_with("\na\nb"), "{error}");
    }
}
