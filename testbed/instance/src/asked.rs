//! What it does when it is run beside itself, as the suite of `Exec` wants it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::exit;
use std::time::Duration;

/// How long somebody may take to take a connection.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a terminal is asked for its size.
const LOOK: Duration = Duration::from_millis(20);

/// Does what the arguments say, and gives the exit code.
pub(crate) fn act(arguments: &[String]) -> io::Result<i32> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut out = io::stdout().lock();
    match words[..] {
        ["both"] => {
            out.write_all(b"out\n")?;
            io::stderr().write_all(b"err\n")?;
        }
        ["exit", code] => return Ok(code.parse().unwrap_or(2)),
        ["cat"] => drop(io::copy(&mut io::stdin(), &mut out)?),
        ["print", length] => {
            let length: usize = length.parse().unwrap_or(0);
            let bytes = (0..length).map(|at| u8::try_from(at % 251).unwrap_or(0));
            out.write_all(&bytes.collect::<Vec<u8>>())?;
        }
        ["env", name] => out.write_all(std::env::var(name).unwrap_or_default().as_bytes())?,
        ["wait"] => {
            writeln!(out, "waiting")?;
            out.flush()?;
            loop {
                std::thread::park();
            }
        }
        ["reach", address] => return Ok(i32::from(!is_reached(address))),
        ["size"] => sizes(&mut out)?,
        _ => return Ok(2),
    }
    out.flush()?;
    Ok(0)
}

/// Whether somebody takes a connection there. Policies drop what they do not let through: no answer comes then.
fn is_reached(address: &str) -> bool {
    let address = address.parse().ok();
    address.is_some_and(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok())
}

/// Tells each size of the terminal until the input ends.
fn sizes(out: &mut impl Write) -> io::Result<()> {
    std::thread::spawn(|| {
        let mut rest = [0; 64];
        while io::stdin().read(&mut rest).is_ok_and(|length| length > 0) {}
        exit(0);
    });
    let mut told = (0, 0);
    loop {
        let size = rustix::termios::tcgetwinsize(io::stdin())?;
        let size = (size.ws_col, size.ws_row);
        if size != told && size != (0, 0) {
            writeln!(out, "{}x{}", size.0, size.1)?;
            out.flush()?;
            told = size;
        }
        std::thread::park_timeout(LOOK);
    }
}
