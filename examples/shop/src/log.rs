//! Lines for whoever reads stdout and stderr.
//!
//! Lines of requests go through a thread of their own with a bounded queue: a reader that falls behind costs lines,
//! never requests. What is lost is counted and said.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

/// How many lines may wait.
const QUEUE: usize = 4_096;

enum Item {
    Line(String),
    Flush(SyncSender<()>),
}

static OUT: OnceLock<SyncSender<Item>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);

fn out() -> &'static SyncSender<Item> {
    OUT.get_or_init(|| {
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let write = move || {
            let mut text = String::new();
            while let Ok(first) = receiver.recv() {
                let mut flushes = Vec::new();
                for item in std::iter::once(first).chain(receiver.try_iter().take(QUEUE)) {
                    match item {
                        Item::Line(line) => text.extend([line.as_str(), "\n"]),
                        Item::Flush(done) => flushes.push(done),
                    }
                }
                let lost = LOST.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    text.push_str(&format!("{lost} lines were not written: nobody read them fast enough\n"));
                }
                // Nobody reads any more: nothing to be done about it.
                let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
                text.clear();
                text.shrink_to(64 * 1024);
                for done in flushes {
                    let _ = done.send(());
                }
            }
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).stack_size(128 * 1024);
        if let Err(error) = thread.spawn(write) {
            warn(&format!("cannot write lines: {error}"));
        }
        sender
    })
}

/// Writes a line to stdout, or counts it as lost.
pub(crate) fn line(text: &str) {
    if out().try_send(Item::Line(text.to_owned())).is_err() {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes a line to stderr.
pub(crate) fn warn(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Waits until the lines so far are written, for a second at most.
pub(crate) fn flush() {
    let (done, written) = mpsc::sync_channel(1);
    if out().try_send(Item::Flush(done)).is_ok() {
        let _ = written.recv_timeout(Duration::from_secs(1));
    }
}
