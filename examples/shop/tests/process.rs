//! The program as the platform meets it: signals, exit codes, crashes, memory.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

struct Db {
    child: Child,
    port: u16,
}

fn shop(arguments: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
    command.args(arguments).env_clear().envs(env.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    shop(arguments, env).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl Db {
    fn start(folder: &Path) -> Self {
        let env = [("PORT", "0"), ("VOLUME_DATA", folder.to_str().unwrap())];
        let mut child = shop(&["db"], &env).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| line.unwrap().split_once("127.0.0.1:")?.1.parse().ok()).unwrap();
        // Read on, or the pipe fills.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

fn ask(stream: &mut TcpStream, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    loop {
        let mut bytes = [0; 4_096];
        let read = stream.read(&mut bytes)?;
        answer.extend(&bytes[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |n| n.parse().unwrap());
        if body.len() >= length {
            return Ok(text.into_owned());
        }
    }
}

#[test]
fn wrong_arguments_and_settings_end_with_code_2() {
    for arguments in [&[][..], &["shop"], &["api", "migrat"], &["db", "--help"]] {
        let output = output(arguments, &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).starts_with("usage: shop db"), "{}", said(&output));
    }
    let output = output(&["db"], &[("PORT", "0")]);
    assert_eq!(
        (output.status.code(), said(&output).as_str()),
        (Some(2), "shop db: the variable VOLUME_DATA is not set\n")
    );
}

#[test]
fn it_ends_by_itself_where_asked_to() {
    let env = [("PORT", "0"), ("API_URL", "http://127.0.0.1:1"), ("EXIT_AFTER", "10ms"), ("EXIT_CODE", "3")];
    let output = output(&["web"], &env);
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).contains("EXIT_AFTER"), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("listens on"));
}

#[test]
fn a_failing_migration_ends_with_code_1() {
    let output = output(&["api", "migrate"], &[("DB_URL", "http://127.0.0.1:1"), ("MIGRATE_FAILS", "1")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("MIGRATE_FAILS"));
}

#[test]
fn term_ends_it_in_order_and_a_second_db_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut db = Db::start(folder.path());
    let second = output(&["db"], &[("PORT", "0"), ("VOLUME_DATA", folder.path().to_str().unwrap())]);
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains("another db is running in"), "{}", said(&second));
    let taken = db.port.to_string();
    let other = tempfile::tempdir().unwrap();
    let second = output(&["db"], &[("PORT", &taken), ("VOLUME_DATA", other.path().to_str().unwrap())]);
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains(&format!("cannot listen on 127.0.0.1:{taken}")), "{}", said(&second));
    let mut idle = TcpStream::connect(("127.0.0.1", db.port)).unwrap();
    assert!(ask(&mut idle, "GET", "/ready", "").unwrap().starts_with("HTTP/1.1 200"));
    db.signal("-TERM");
    assert_eq!(db.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_was_acknowledged_outlives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let mut db = Db::start(folder.path());
        let port = db.port;
        let posters = (0..8).map(|poster| {
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let mut kept = Vec::new();
                for number in 0.. {
                    let value = format!("{round}-{poster}-{number}");
                    let Ok(answer) = ask(&mut stream, "POST", "/lists/orders", &value) else { break };
                    let id: u64 = answer
                        .split("\"id\":")
                        .nth(1)
                        .unwrap()
                        .trim_end_matches(['}', '\n'])
                        .parse()
                        .unwrap();
                    kept.push((id, value));
                }
                kept
            })
        });
        let posters: Vec<_> = posters.collect();
        let mut watcher = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // In the middle of it all.
        let count = |answer: &str| -> Option<usize> {
            answer.split("\"count\":").nth(1)?.trim_end_matches(['}', '\n']).parse().ok()
        };
        let enough = acknowledged.len() + 200;
        while count(&ask(&mut watcher, "GET", "/lists/orders", "").unwrap())
            .is_none_or(|count| count < enough)
        {}
        db.signal("-KILL");
        db.child.wait().unwrap();
        for poster in posters {
            acknowledged.extend(poster.join().unwrap());
        }
    }
    let mut db = Db::start(folder.path());
    let mut stream = TcpStream::connect(("127.0.0.1", db.port)).unwrap();
    for (id, value) in &acknowledged {
        let answer = ask(&mut stream, "GET", &format!("/lists/orders/{id}"), "").unwrap();
        assert!(answer.ends_with(value.as_str()), "{id}: {answer}");
    }
    assert!(acknowledged.len() > 500);
    let status = std::fs::read_to_string(format!("/proc/{}/status", db.child.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 10 * 1024, "{kib} KiB");
    db.signal("-TERM");
    assert_eq!(db.child.wait().unwrap().code(), Some(0));
}
