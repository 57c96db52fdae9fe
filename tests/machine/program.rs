//! Test programs: this binary again, with a behaviour in its environment.
//!
//! All that serve answer on `PORT` with their label; besides `GET /ready` (200 or 503), `GET /stray` (the process id of
//! what forked away), `GET /secret`, `GET /written` (bytes of the flood so far), `POST /out` (writes the body and a newline).

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use paas::model::{Probe, ServiceSpec};

const BEHAVIOUR: &str = "MACHINE_TEST_BEHAVIOUR";
const LABEL: &str = "MACHINE_TEST_LABEL";
/// The secret that `GET /secret` gives away.
pub(crate) const SECRET: &str = "KEY";
/// Where what forks away leaves its process id, in the instance's working directory.
const STRAY: &str = "stray";

/// What a program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Serves, and ends when asked to.
    Serve,
    /// Lives, and says 503.
    Unready,
    /// Writes its last words, which are no text, and ends with a code.
    Exit(u8),
    /// Serves, and does not end when asked to; nor does its child.
    Stubborn,
    /// Serves, and leaves a process in a session of its own that does not end when asked to.
    Stray,
    /// The same, and what it leaves has an empty environment.
    BareStray,
    /// Serves, and writes as fast as it can: hundreds of megabytes a second.
    Flood,
    /// Serves nothing, and does not end when asked to.
    Orphan,
    /// Becomes the leader of a session, leaves an orphan behind and ends.
    Fork,
}

const PLAIN: [(&str, Behaviour); 8] = [
    ("serve", Behaviour::Serve),
    ("unready", Behaviour::Unready),
    ("stubborn", Behaviour::Stubborn),
    ("stray", Behaviour::Stray),
    ("bare-stray", Behaviour::BareStray),
    ("flood", Behaviour::Flood),
    ("orphan", Behaviour::Orphan),
    ("fork", Behaviour::Fork),
];

/// This binary.
pub(crate) fn program() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

impl Behaviour {
    fn name(self) -> String {
        match self {
            Self::Exit(code) => format!("exit-{code}"),
            plain => PLAIN.iter().find(|(_, known)| *known == plain).unwrap().0.to_owned(),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        match name.strip_prefix("exit-") {
            Some(code) => code.parse().ok().map(Self::Exit),
            None => PLAIN.iter().find(|(known, _)| *known == name).map(|(_, behaviour)| *behaviour),
        }
    }

    /// A service that does this, asked often whether it is ready.
    pub(crate) fn service(self, label: &str) -> ServiceSpec {
        let mut spec = ServiceSpec::run([program()]).unwrap();
        spec.env.insert(BEHAVIOUR.to_owned(), self.name().into());
        spec.env.insert(LABEL.to_owned(), label.into());
        spec.port = Some(8080);
        let mut ready: Probe = "/ready".parse().unwrap();
        ready.every = Duration::from_millis(50);
        spec.ready = Some(ready);
        let obeys = !matches!(self, Self::Stubborn | Self::Stray | Self::BareStray);
        spec.grace = Duration::from_secs(if obeys { 10 } else { 1 });
        spec
    }
}

pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let behaviour = Behaviour::parse(&std::env::var(BEHAVIOUR).ok()?)?;
    Some(ExitCode::from(run(behaviour)))
}

fn run(behaviour: Behaviour) -> u8 {
    match behaviour {
        Behaviour::Serve => serve(true),
        Behaviour::Unready => serve(false),
        Behaviour::Exit(code) => {
            say(b"starting\nfatal: no database \xff\x00\x1b[31m\n");
            code
        }
        Behaviour::Stubborn => {
            ignore_term();
            #[expect(clippy::zombie_processes, reason = "it dies with its parent's group")]
            let _child = again(Behaviour::Orphan).spawn().unwrap();
            serve(true)
        }
        Behaviour::Stray => leave_behind(again(Behaviour::Fork)),
        Behaviour::BareStray => {
            let mut bare = again(Behaviour::Fork);
            bare.env_clear().env(BEHAVIOUR, Behaviour::Fork.name());
            leave_behind(bare)
        }
        Behaviour::Flood => {
            std::thread::spawn(flood);
            serve(true)
        }
        Behaviour::Fork => {
            rustix::process::setsid().unwrap();
            #[expect(clippy::zombie_processes, reason = "an orphan is what is wanted")]
            let orphan = again(Behaviour::Orphan).spawn().unwrap();
            std::fs::write(STRAY, orphan.id().to_string()).unwrap();
            0
        }
        Behaviour::Orphan => {
            ignore_term();
            loop {
                std::thread::park();
            }
        }
    }
}

fn again(behaviour: Behaviour) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.env(BEHAVIOUR, behaviour.name()).stdin(Stdio::null());
    command
}

fn leave_behind(mut fork: Command) -> u8 {
    fork.status().unwrap();
    serve(true)
}

fn ignore_term() {
    let ignored = Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, ignored).unwrap();
}

fn say(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).unwrap();
}

static WRITTEN: AtomicU64 = AtomicU64::new(0);

fn flood() {
    let block: Vec<u8> = [b"flood ".repeat(20), b"\n".to_vec()].concat().repeat(500);
    // Descriptor 1 without the line buffer of the standard library.
    let mut out = File::from(rustix::io::dup(std::io::stdout()).unwrap());
    while out.write_all(&block).is_ok() {
        WRITTEN.fetch_add(block.len() as u64, Ordering::Relaxed);
    }
}

fn serve(ready: bool) -> u8 {
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || while answer(&stream, ready).is_some() {});
    }
    0
}

fn answer(mut stream: &TcpStream, ready: bool) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|length| *length > 0)?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (code, text) = act(&path, &body, ready);
    let head = format!("HTTP/1.1 {code} x\r\ncontent-length: {}\r\n\r\n", text.len());
    stream.write_all(&[head.as_bytes(), text.as_bytes()].concat()).ok()
}

fn act(path: &str, body: &[u8], ready: bool) -> (u16, String) {
    match path {
        "/ready" => (if ready { 200 } else { 503 }, String::new()),
        "/out" => {
            say(&[body, b"\n"].concat());
            (200, String::new())
        }
        "/secret" => (200, std::env::var(SECRET).unwrap_or_default()),
        "/stray" => (200, std::fs::read_to_string(STRAY).unwrap_or_default()),
        "/written" => (200, WRITTEN.load(Ordering::Relaxed).to_string()),
        _ => (200, std::env::var(LABEL).unwrap_or_default()),
    }
}
