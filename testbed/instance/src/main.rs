//! What the live suites run as pods: a program that behaves as its environment says. Linked statically, so that its image
//! holds nothing else.
//!
//! - `MODE`: `serve` (unless said otherwise), `stubborn` (serves, and ignores the request to end), `failing` (answers 500 to
//!   whatever is asked), `never-ready` and `sleep` (run and listen nowhere), `exit` (writes `last words` and ends with
//!   `CODE`), `print` (writes `LINES` numbered lines to each of its outputs, then serves), `count` (serves, and writes `RATE`
//!   numbered lines a second, 100 unless said otherwise, with `PAD` more bytes each, until it is asked to end: then `end` and
//!   how many there were), `hungry` (takes 256 MiB of memory, and serves if it gets them).
//! - `PORT`: where it serves; 8080 unless said otherwise. `/die` ends it with 137 at once, `/fail` answers 500,
//!   `/lookup/NAME` the addresses of a name, `/out` and `/err` write what they are sent and a newline to one of its outputs,
//!   anything else a few facts as JSON.
//! - `DATA`: a folder that is its own: it adds a line with its pid and its name to the file `log`, and ends with 99 where
//!   another process has the folder.
//!
//! With arguments it does what they say, and ends: `src/asked.rs`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // Its output is what some suites are about.

mod asked;

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

/// How many requests have no answer yet.
#[derive(Default)]
struct Open {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Open {
    fn begin(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    fn end(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.fewer.notify_all();
    }

    fn wait_for_none(&self) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        // The signal to end ends it, at the latest after the pod's grace.
        drop(self.fewer.wait_while(count, |count| *count > 0));
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.is_empty() {
        exit(asked::act(&arguments)?);
    }
    let mode = variable("MODE");
    let _own = own_folder()?;
    let open = Arc::new(Open::default());
    if mode == "count" {
        return count(&open, variable("RATE").parse().unwrap_or(100));
    }
    end_when_asked(mode == "stubborn", Arc::clone(&open))?;
    let _taken = (mode == "hungry").then(eat);
    match mode.as_str() {
        "exit" => {
            println!("last words");
            exit(variable("CODE").parse().unwrap_or(0));
        }
        "never-ready" | "sleep" => loop {
            std::thread::park();
        },
        "print" => print(variable("LINES").parse().unwrap_or(0))?,
        _ => {}
    }
    serve(&open)
}

/// Holds the folder that is its own, if it has one.
fn own_folder() -> io::Result<Option<File>> {
    let folder = variable("DATA");
    if folder.is_empty() {
        return Ok(None);
    }
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(format!("{folder}/lock"))?;
    if lock.try_lock().is_err() {
        println!("two writers");
        exit(99);
    }
    let mut log = OpenOptions::new().create(true).append(true).open(format!("{folder}/log"))?;
    writeln!(log, "{} {}", std::process::id(), variable("PAAS_INSTANCE_ID"))?;
    Ok(Some(lock))
}

/// More than the suites allow to any instance, and little for a machine that holds nobody to what is allowed.
const MEAL: usize = 256 << 20;

/// Takes memory and uses it: what is only asked for is not counted.
fn eat() -> Vec<u8> {
    std::hint::black_box(vec![1; MEAL])
}

/// The first process of a container gets no signal that it does not handle.
fn end_when_asked(is_stubborn: bool, open: Arc<Open>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM])?;
    std::thread::spawn(move || {
        if signals.forever().any(|_| !is_stubborn) {
            // What was asked is still answered.
            open.wait_for_none();
            exit(0);
        }
    });
    Ok(())
}

/// What it tells of itself, as JSON.
fn facts(path: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let known = [
        ("instance", variable("PAAS_INSTANCE_ID")),
        ("version", variable("VERSION")),
        (
            "mode",
            Some(variable("MODE")).filter(|mode| !mode.is_empty()).unwrap_or_else(|| "serve".to_owned()),
        ),
        ("hostname", host.trim().to_owned()),
        ("path", path.to_owned()),
    ];
    let facts = known.map(|(name, value)| format!("\"{name}\":{}", quoted(&value))).join(",");
    format!("{{{facts},\"pid\":{}}}\n", std::process::id())
}

/// What a name stands for, as this instance sees it, one address a line; or why that is not known.
fn addresses(name: &str) -> String {
    match (name, 0).to_socket_addrs() {
        Ok(found) => found.map(|address| format!("{}\n", address.ip())).collect(),
        Err(error) => format!("{error}\n"),
    }
}

/// A string as JSON has it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted += &format!("\\u{:04x}", u32::from(control)),
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

fn print(lines: u32) -> io::Result<()> {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    for number in 0..lines {
        writeln!(out, "out {number}")?;
        writeln!(err, "err {number}")?;
    }
    Ok(())
}

/// Each line is one write, so that the end cuts none.
fn count(open: &Arc<Open>, rate: u32) -> io::Result<()> {
    let is_over = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&is_over))?;
    let server = Arc::clone(open);
    std::thread::spawn(move || serve(&server));
    let pad = ".".repeat(variable("PAD").parse().unwrap_or(0));
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        println!("line {number}{pad}");
        number += 1;
        #[expect(clippy::disallowed_methods, reason = "it writes at a pace")]
        std::thread::sleep(Duration::from_secs(1) / rate.max(1));
    }
    println!("end {number}");
    Ok(())
}

/// Writes what it is sent to one of its outputs.
fn write(path: &str, body: &[u8]) -> io::Result<()> {
    let line = [body, b"\n"].concat();
    if path == "/out" { io::stdout().lock().write_all(&line) } else { io::stderr().lock().write_all(&line) }
}

fn serve(open: &Arc<Open>) -> io::Result<()> {
    let port = variable("PORT").parse().unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    for stream in listener.incoming() {
        let (stream, open) = (stream?, Arc::clone(open));
        std::thread::spawn(move || {
            // A client that goes away is no trouble of ours.
            drop(answer(&stream, &open));
        });
    }
    Ok(())
}

/// Answers the requests of one connection.
fn answer(stream: &TcpStream, open: &Open) -> io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        let mut header = request.clone();
        while !header.trim().is_empty() {
            header.clear();
            if reader.read_line(&mut header)? == 0 {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut sent = Vec::new();
        reader.by_ref().take(length).read_to_end(&mut sent)?;
        open.begin();
        let path = request.split(' ').nth(1).unwrap_or("/");
        if path.starts_with("/die") {
            exit(137);
        }
        if matches!(path, "/out" | "/err") {
            write(path, &sent)?;
        }
        let fails = path.starts_with("/fail") || variable("MODE") == "failing";
        let status = if fails { "500 Internal Server Error" } else { "200 OK" };
        let body = path.strip_prefix("/lookup/").map_or_else(|| facts(path), addresses);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let written = writer.write_all(format!("{head}{body}").as_bytes());
        open.end();
        written?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_json_whatever_was_asked_for() {
        assert_eq!(quoted("a \"b\" \\ \n é"), r#""a \"b\" \\ \u000a é""#);
        let facts = facts("/a\"b");
        assert!(facts.contains(r#""path":"/a\"b","pid":"#), "{facts}");
    }
}
