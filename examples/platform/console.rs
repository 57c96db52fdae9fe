//! What the person at the terminal sees: aligned lines, never more than the terminal takes.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use paas::model::LogStream;

/// How many lines of services may wait for the terminal; beyond that they are counted instead.
const LINES: usize = 4_096;
/// How many lines of the platform itself may wait.
const NEWS: usize = 8_192;
/// How many characters of a line are shown.
const WIDTH: usize = 1_000;
/// Width of the column of names.
const NAMES: usize = 10;
const COLOURS: [&str; 6] = ["\x1b[36m", "\x1b[32m", "\x1b[33m", "\x1b[35m", "\x1b[34m", "\x1b[31m"];

enum Item {
    Text(String),
    Flush(Sender<()>),
}

/// Writes from a thread of its own, so that a terminal that stands still holds nothing up.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    sender: Sender<Item>,
    waiting: Arc<AtomicUsize>,
    hidden: Arc<AtomicU64>,
    colour: bool,
    began: Instant,
}

impl Console {
    pub(crate) fn start() -> Self {
        let (sender, receiver) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let hidden = Arc::new(AtomicU64::new(0));
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let console = Self {
            sender,
            waiting: Arc::clone(&waiting),
            hidden: Arc::clone(&hidden),
            colour,
            began: Instant::now(),
        };
        let writer = console.clone_for_writer();
        // Without the thread nothing is shown, which is no reason not to serve.
        let _ = std::thread::Builder::new().name("console".to_owned()).spawn(move || writer.write(&receiver));
        console
    }

    fn clone_for_writer(&self) -> Writer {
        Writer { waiting: Arc::clone(&self.waiting), hidden: Arc::clone(&self.hidden) }
    }

    /// Something the platform says.
    pub(crate) fn say(&self, text: &str) {
        for line in text.lines() {
            self.put("platform", '|', line.as_bytes(), NEWS);
        }
    }

    /// A line that an instance wrote.
    pub(crate) fn line(&self, name: &str, stream: LogStream, bytes: &[u8]) {
        let mark = if stream == LogStream::Stderr { '!' } else { '|' };
        self.put(name, mark, bytes, LINES);
    }

    fn put(&self, name: &str, mark: char, bytes: &[u8], most: usize) {
        if self.waiting.load(Ordering::Relaxed) >= most {
            self.hidden.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let (on, off) = if self.colour { (colour(name), "\x1b[0m") } else { ("", "") };
        let mut text = String::with_capacity(bytes.len() + 40);
        let _ = write!(text, "{:>9.3}  {on}{name:<NAMES$}{off} {mark} ", self.began.elapsed().as_secs_f64());
        escape(bytes, &mut text);
        text.push('\n');
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.sender.send(Item::Text(text));
    }

    /// Waits until everything so far is written, for a second at most.
    pub(crate) fn flush(&self) {
        let (done, written) = mpsc::channel();
        if self.sender.send(Item::Flush(done)).is_ok() {
            let _ = written.recv_timeout(Duration::from_secs(1));
        }
    }
}

struct Writer {
    waiting: Arc<AtomicUsize>,
    hidden: Arc<AtomicU64>,
}

impl Writer {
    fn write(&self, items: &Receiver<Item>) {
        let mut text = String::new();
        while let Ok(first) = items.recv() {
            let mut flushes = Vec::new();
            for item in std::iter::once(first).chain(items.try_iter().take(256)) {
                match item {
                    Item::Text(line) => {
                        text.push_str(&line);
                        self.waiting.fetch_sub(1, Ordering::Relaxed);
                    }
                    Item::Flush(done) => flushes.push(done),
                }
            }
            match self.hidden.swap(0, Ordering::Relaxed) {
                0 => {}
                hidden => {
                    let _ =
                        writeln!(text, "           ... {hidden} lines came faster than they could be shown");
                }
            }
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            drop(out);
            text.clear();
            text.shrink_to(64 * 1024);
            for done in flushes {
                let _ = done.send(());
            }
        }
    }
}

/// A name's colour: the same each time.
fn colour(name: &str) -> &'static str {
    if name == "platform" {
        return "\x1b[1m";
    }
    COLOURS[name.bytes().fold(0, |sum, byte| (sum * 31 + usize::from(byte)) % COLOURS.len())]
}

/// Writes bytes so that they cannot move the cursor, clear the screen or pretend to be another line.
fn escape(bytes: &[u8], out: &mut String) {
    let mut left = WIDTH;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if left == 0 {
                out.push_str("...");
                return;
            }
            left -= 1;
            match c {
                '\t' => out.push_str("    "),
                c if c.is_control() || is_hidden(c) => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            left = left.saturating_sub(1);
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// Characters that turn the direction of what follows, or take no space.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
