//! Who is who in `/proc`: a process's identity, its marks, the keeper's children.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::model::{KEEPER_MARK, PROCESS_MARK, RUN_MARK};

/// The longest environment that is looked at.
const MAX_ENVIRON: u64 = 512 * 1024;

/// `PF_EXITING` and `PF_KTHREAD` of the kernel.
const EXITING: u32 = 0x4;
const KERNEL: u32 = 0x0020_0000;

/// How often a process is looked at, a millisecond apart, before it counts as one without an environment.
const MAX_LOOKS: u32 = 1000;

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) group: i32,
    pub(crate) zombie: bool,
    /// It is on its way out: its environment is gone already, its children are not ours yet.
    pub(crate) dying: bool,
    /// A thread of the kernel, which has no environment.
    pub(crate) kernel: bool,
    /// In clock ticks since boot; with the boot id and the pid it names a process for ever.
    pub(crate) start: u64,
    /// Bytes of its environment; `None` for a moment while it becomes another program, and for a thread of the kernel.
    pub(crate) environ: Option<u64>,
}

/// The run that a process belongs to, as its environment tells: generation, incarnation, and the inodes of the pipes
/// that were its standard output and error. Its descriptors 1 and 2 may be something else by now, or for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunMark {
    pub(crate) generation: u64,
    pub(crate) incarnation: u64,
    pub(crate) out: u64,
    pub(crate) err: u64,
}

impl fmt::Display for RunMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.generation, self.incarnation, self.out, self.err)
    }
}

impl RunMark {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(Self { generation: next()?, incarnation: next()?, out: next()?, err: next()? })
    }
}

/// A process that carries this keeper's mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) pid: i32,
    pub(crate) stat: Stat,
    pub(crate) process: String,
    pub(crate) run: RunMark,
}

/// This boot of the machine.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Looks at one process.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name stands in brackets and may contain anything.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let group = fields.nth(1)?.parse().ok()?;
    let flags: u32 = fields.nth(3)?.parse().ok()?;
    let start = fields.nth(12)?.parse().ok()?;
    // The kernel sets the end of the code when all else of a new program is in place.
    let in_place = fields.nth(4)? != "0";
    let (from, to): (u64, u64) = (fields.nth(22)?.parse().ok()?, fields.next()?.parse().ok()?);
    let environ = in_place.then(|| to.saturating_sub(from));
    Some(Stat { group, zombie, dying: flags & EXITING != 0, kernel: flags & KERNEL != 0, start, environ })
}

/// The marks of a process, if it carries the mark of the keeper `identity`.
pub(crate) fn marked(pid: i32, identity: &str) -> Option<Marked> {
    let environ = environ(pid)?;
    let value = |name: &str| {
        environ.split(|byte| *byte == 0).find_map(|entry| {
            let rest = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            std::str::from_utf8(rest).ok()
        })
    };
    if value(KEEPER_MARK)? != identity {
        return None;
    }
    Some(Marked {
        pid,
        stat: stat(pid)?,
        process: value(PROCESS_MARK)?.to_owned(),
        run: RunMark::parse(value(RUN_MARK)?)?,
    })
}

/// The environment a process was started with.
///
/// While a process becomes another program (`exec`) the kernel shows none of it, or a part: it is looked at again then.
/// A process that was missed would be started a second time.
fn environ(pid: i32) -> Option<Vec<u8>> {
    for _ in 0..MAX_LOOKS {
        let mut environ = Vec::new();
        fs::File::open(format!("/proc/{pid}/environ"))
            .ok()?
            .take(MAX_ENVIRON)
            .read_to_end(&mut environ)
            .ok()?;
        let stat = stat(pid)?;
        if stat.zombie || stat.dying || stat.kernel {
            return None;
        }
        let size = environ.len() as u64;
        if stat.environ.is_some_and(|expected| size == expected.min(MAX_ENVIRON)) {
            return Some(environ);
        }
        wait_for_end(&pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?, Duration::from_millis(1));
    }
    None
}

/// Whether a process holds one of these pipes.
pub(crate) fn holds(pid: i32, pipes: &[u64]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        fs::metadata(descriptor.path())
            .is_ok_and(|meta| meta.file_type().is_fifo() && pipes.contains(&meta.ino()))
    })
}

/// All processes of the machine.
pub(crate) fn everyone() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The keeper's own children: those it started and those it inherited from processes that died.
pub(crate) fn children() -> Vec<i32> {
    let own = std::process::id();
    match fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        Ok(list) => list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        // A kernel without that file.
        Err(_) => everyone(),
    }
}

/// Listings after which [`look_at_all`] gives up on a machine where processes come and go all the time.
const MAX_LISTINGS: u32 = 16;

/// Looks at each process that `list` names until a listing names nobody new, and tells whether it came to that.
///
/// One listing is not enough: a process that dies before it is looked at has left its children to a later one.
pub(crate) fn look_at_all(mut list: impl FnMut() -> Vec<i32>, mut look: impl FnMut(i32)) -> bool {
    let mut seen = HashSet::new();
    for _ in 0..MAX_LISTINGS {
        let known = seen.len();
        for pid in list() {
            if seen.insert(pid) {
                look(pid);
            }
        }
        if seen.len() == known {
            return true;
        }
    }
    false
}

/// Sends a signal; a process that is gone already is fine.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _gone = rustix::process::kill_process(pid, signal);
    }
}

/// Kills a process and waits until it is gone, for a second at most.
pub(crate) fn end(pid: i32) {
    let watch = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    signal(pid, Signal::KILL);
    if let Some(watch) = watch {
        wait_for_end(&watch, Duration::from_secs(1));
    }
}

/// Waits until a process is gone, or for so long.
fn wait_for_end(process: &OwnedFd, most: Duration) {
    let most = Timespec { tv_sec: most.as_secs().cast_signed(), tv_nsec: most.subsec_nanos().into() };
    let _best_effort = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&most));
}

/// Sends a signal to a process group; one that is gone already is fine.
pub(crate) fn signal_group(pid: Pid, signal: Signal) {
    let _gone = rustix::process::kill_process_group(pid, signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_confuse_stat() {
        let text = "42 (a) R 1 (b) S 1 7 7 0 -1 4194560 96 0 0 0 0 0 0 0 20 0 1 0 9876 2228224 140 1844 \
            4194304 4198400 140721 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 5000 5100 6000 7000 7100 7200 7300 0";
        let stat =
            Stat { group: 7, zombie: false, dying: false, kernel: false, start: 9876, environ: Some(100) };
        assert_eq!(parse_stat(text), Some(stat));
        let becoming = text.replace("4198400", "0");
        assert_eq!(parse_stat(&becoming).and_then(|stat| stat.environ), None);
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn what_a_process_leaves_behind_is_looked_at_though_it_died_before_its_turn() {
        // 7 was listed, then died and left 8 to us, and was looked at only then.
        let mut listings = [vec![7], vec![7, 8], vec![8]].into_iter();
        let mut looked = Vec::new();
        assert!(look_at_all(|| listings.next().unwrap(), |pid| looked.push(pid)));
        assert_eq!(looked, [7, 8]);
        let mut last = 0;
        let endless = || {
            last += 1;
            vec![last]
        };
        assert!(!look_at_all(endless, |_| ()));
    }

    #[test]
    fn the_mark_of_a_run_comes_back() {
        let mark = RunMark { generation: 1, incarnation: 1_795_478_223_126_336_831, out: 3, err: 4 };
        assert_eq!(RunMark::parse(&mark.to_string()), Some(mark));
        assert_eq!(RunMark::parse("1.2.3"), None);
    }

    #[test]
    fn a_process_is_recognised_at_every_moment_of_becoming_another_program() {
        let mut process = std::process::Command::new("/bin/sh")
            .args(["-c", r#"exec /bin/sh -c "$0" "$0""#, r#"exec /bin/sh -c "$0" "$0""#])
            .env_clear()
            .envs([(KEEPER_MARK, "k"), (PROCESS_MARK, "p"), (RUN_MARK, "1.2.3.4")])
            .spawn()
            .unwrap();
        let pid = i32::try_from(process.id()).unwrap();
        let missed = (0..5_000).filter(|_| marked(pid, "k").is_none()).count();
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(missed, 0);
        assert_eq!(marked(pid, "k"), None);
    }

    #[test]
    fn this_process_is_found_and_bears_no_mark() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(everyone().contains(&own));
        assert!(stat(own).is_some_and(|stat| !stat.zombie && stat.start > 0));
        assert_eq!(marked(own, "nobody"), None);
    }
}
