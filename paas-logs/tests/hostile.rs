//! Files that nobody wrote: every parser meets thousands of changed ones. `fuzz/` looks for more, on the nightly toolchain.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use paas_core::model::{
    InstanceId, LogBatch, LogOrigin, LogPosition, LogStream, Resource, RevisionNumber, Scope, TenantId,
    Timestamp,
};
use paas_core::port::LogStore;
use paas_logs::fuzzing;
use paas_logs::{EmbeddedLogStore, LogStoreConfig};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What is taken of memory is counted for all tests at once, so one runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What is given bytes of a file.
type Target = fn(&[u8]);

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % sides.max(1) as u64) as usize
    }
}

fn batch(number: u64, lines: u64) -> LogBatch {
    let [environment, app, service] = ["e-1", "a-1", "s-1"];
    let ids = (environment.parse().unwrap(), app.parse().unwrap(), service.parse().unwrap());
    let service = Resource::Service(TenantId::new("t-1").unwrap(), ids.0, ids.1, ids.2);
    let instance = InstanceId::new(format!("i-{}", number % 3)).unwrap();
    let origin = LogOrigin::new(&service, RevisionNumber(1), instance, LogStream::Stdout).unwrap();
    let text: String = (0..lines).map(|line| format!("line {line} of {number}, an error\n")).collect();
    let position = LogPosition { incarnation: number, sequence: 0, index: 0 };
    LogBatch::new(origin, Bytes::from(text), Timestamp(1_000 + number), position)
}

/// What files of each kind are like: the largest of a small store.
fn files() -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let (path, scope) = (folder.path().join("logs"), Scope::testing(Resource::Platform));
    let mut files = BTreeMap::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut keep = |folder: &Path| collect(folder, &mut files);
    runtime.block_on(async {
        let tenant = TenantId::new("t-1").unwrap();
        for round in 0..3 {
            let store = EmbeddedLogStore::open(LogStoreConfig::new(&path)).await.unwrap();
            keep(&path);
            for number in 0..10 {
                // The last is enough for a block.
                let lines = if (round, number) == (2, 9) { 10_000 } else { 20 };
                store.append(&scope, &[batch(round * 10 + number, lines)]).await.unwrap();
            }
            if round == 1 {
                store.purge(&scope, &tenant, Some(Timestamp(1_002))).await.unwrap();
            }
            keep(&path);
        }
    });
    files
}

fn collect(folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_dir() {
            collect(&path, files);
            continue;
        }
        let kind = name.rsplit('.').next().unwrap().split('-').next().unwrap().to_owned();
        let content = std::fs::read(&path).unwrap();
        let own = files.entry(kind).or_default();
        if content.len() > own.len() {
            *own = content;
        }
    }
}

fn change(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.roll(3) {
        // Where numbers stand that tell of the rest, more often: at the beginning and at the end.
        let at = match dice.roll(3) {
            0 => dice.roll(bytes.len().min(100)),
            1 => bytes.len() - dice.roll(bytes.len().min(200)),
            _ => dice.roll(bytes.len()),
        };
        let Some(byte) = bytes.get_mut(at) else { continue };
        match dice.roll(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..(at + 1 + dice.roll(20)).min(bytes.len()))),
            2 => bytes.insert(at, dice.roll(256) as u8),
            3 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
            4 => *byte = [0, 1, 0x7f, 0x80, 0xff][dice.roll(5)],
            _ => *byte ^= 1 << dice.roll(8),
        }
    }
}

#[test]
fn no_file_makes_a_parser_panic_or_take_much_memory() {
    let _alone = ALONE.lock().unwrap();
    let files = files();
    let header = files["open"][..80].to_vec();
    let targets: [(&str, Target, &[u8]); 7] = [
        ("journal", fuzzing::journal, &files["journal"]),
        ("sealed", fuzzing::sealed, &files["sealed"]),
        ("open", fuzzing::open, &files["open"]),
        ("header", fuzzing::header, &header),
        ("columns", fuzzing::columns, &columns(&files["open"])),
        ("kept", fuzzing::kept, &files["kept"]),
        ("lines", fuzzing::lines, &files["kept"][1..]),
    ];
    let seeds = std::env::var("PAAS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(500);
    std::panic::set_hook(Box::new(|_| {}));
    let mut failures = Vec::new();
    for (name, target, valid) in targets {
        assert!(!valid.is_empty(), "{name}");
        if let Ok(folder) = std::env::var("PAAS_CORPUS") {
            let folder = Path::new(&folder).join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("valid"), valid).unwrap();
        }
        for seed in 0..=seeds {
            let mut bytes = valid.to_vec();
            if seed > 0 {
                change(&mut bytes, &mut Dice(seed));
            }
            let before = MEMORY.current_usage();
            MEMORY.reset_peak_usage();
            let outcome = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
            let taken = MEMORY.peak_usage().saturating_sub(before);
            if outcome.is_err() || taken > 64 * bytes.len() + (1 << 20) {
                failures.push(format!("{name}, seed {seed}: {outcome:?}, {taken} bytes for {}", bytes.len()));
            }
        }
    }
    drop(std::panic::take_hook());
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The columns of the first block of an open segment.
fn columns(open: &[u8]) -> Vec<u8> {
    let number = |at: usize| u32::from_le_bytes(*open[at..].first_chunk().unwrap()) as usize;
    zstd::bulk::decompress(&open[80..80 + number(44)], number(12)).unwrap()
}

/// Lines of which each is read by another rule.
const LINES: &str = r#"{"level":"warn","msg":"a \"b\" c","ts":"2026-11-27T01:02:03Z","nested":{"a":[1,2]}}
level=info msg="took \"long\"" ms=12 time=2026-11-27T01:02:03.456+01:00 token=abcdefgh
10.0.0.1 - bob [27/Nov/2026:01:02:03 +0000] "GET /a?b=c HTTP/1.1" 200 512 "-" "agent"
2026-11-27T01:02:03.456Z  WARN 1 --- [main] c.e.Shop : took 3 ms
2026-11-27 01:02:03,456 ERROR [main] shop.Cart - gone
panic: x

goroutine 1 [running]:
2026/11/27 01:02:03 main.go:7: started
Traceback (most recent call last):
  File "a.py", line 1
ValueError: z
-----BEGIN PRIVATE KEY-----
MIIabc
-----END PRIVATE KEY-----
mail bob@example.com, call +44 20 7946 0958, card 4111 1111 1111 1111, id 078-05-1120, https://a:secret@b.c/
"#;

#[test]
fn no_line_makes_a_rule_panic() {
    let _alone = ALONE.lock().unwrap();
    let seeds = std::env::var("PAAS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(500);
    for seed in 0..=seeds {
        let mut bytes = LINES.as_bytes().to_vec();
        (0..seed.min(20)).for_each(|round| change(&mut bytes, &mut Dice(seed * 100 + round)));
        fuzzing::rules(&bytes);
    }
}
