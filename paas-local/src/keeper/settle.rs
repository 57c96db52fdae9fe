//! How processes end: nothing is started again, and no stop answered, before nothing of the old run is left.

use std::time::{Duration, Instant, SystemTime};

use paas_core::ErrorKind;
use rustix::process::{Pid, Signal};

use super::entry::{Entry, Goal};
use super::intent::{Intent, Intents};
use super::kin::{self, Marked};
use super::model::{Ended, Exit, Phase, Restart};
use super::process::{Run, reap};
use super::record::RecordKind;
use super::spool::Taken;
use super::table::Table;
use super::wire::{Answer, Refusal};

/// A pipe holds at most this much; who writes faster than we read must not keep us from the exit.
const MAX_DRAIN: usize = 1024 * 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// What survives KILL for this long is reported to those who wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is left of a run beside its main process.
#[derive(Debug, Default)]
pub(crate) struct Survivors {
    pub(crate) alive: Vec<i32>,
    /// Something is about to die. It can't be said any more whose it is, and what it leaves behind is not ours yet.
    pub(crate) dying: bool,
}

impl Table {
    /// The process of `slot` may have ended: takes what is left in its pipes, then its exit, then what it left behind.
    pub(crate) fn ended(&mut self, slot: usize) {
        let Some(entry) = self.entries.get_mut(slot).and_then(Option::as_mut) else { return };
        let Some(run) = entry.run.as_mut().filter(|run| run.ended.is_none()) else { return };
        let Some(ended) = run.look() else { return };
        run.ended = Some(ended);
        entry.last_exit = Some(ended);
        entry.pause = FIRST_PAUSE;
        // A pidfd stays readable: watching it on would spin.
        self.core.unwatch(&run.watch);
        if matches!(entry.goal, Goal::Keep) && run.began.elapsed() >= entry.spec.backoff.reset {
            entry.failures = 0;
        }
        self.drain(slot);
        self.mark(slot, RecordKind::Exit, &ended);
        self.keep_exit(slot, ended);
        self.settle(slot);
    }

    fn drain(&mut self, slot: usize) {
        for kind in [RecordKind::Out, RecordKind::Err] {
            let mut drained = 0;
            while let Taken::Bytes(bytes) = self.pump(slot, kind) {
                drained += bytes;
                if drained >= MAX_DRAIN {
                    break;
                }
            }
        }
    }

    /// The exit of a task is on disk before the task is reaped.
    pub(crate) fn keep_exit(&mut self, slot: usize, ended: Ended) {
        let Some(entry) = self.entries[slot].as_ref() else { return };
        if entry.spec.restart == Restart::Always || matches!(entry.goal, Goal::Replace(_)) {
            return;
        }
        let stopped = matches!(entry.goal, Goal::Stop);
        let has_secrets = entry.lacks_secrets || !entry.spec.secrets.is_empty();
        let intent = Intent::of(&entry.spec, has_secrets, stopped, Some(ended));
        if let Err(error) = self.core.intents.store(&intent) {
            self.core.journal.note("cannot store the exit of a task", error);
        }
    }

    /// What is left of `slot` beside its main process.
    pub(crate) fn survivors(&self, slot: usize) -> Survivors {
        let mut survivors = Survivors::default();
        let Some(entry) = self.entries[slot].as_ref() else { return survivors };
        let Some(run) = entry.run.as_ref() else { return survivors };
        let main = run.pid.as_raw_pid();
        // What a child of ours left behind became our child; what others left behind went elsewhere.
        let list = if run.child { kin::children } else { kin::everyone };
        let (own, pipes) = (std::process::id().cast_signed(), run.pipes());
        let complete = kin::look_at_all(list, |pid| {
            if pid == main || pid == own || self.mains.contains_key(&pid) {
                return;
            }
            let Some(stat) = kin::stat(pid).filter(|stat| !stat.zombie) else { return };
            // What forked away may have dropped its mark, and still writes where it was told to.
            let ours = match kin::marked(pid, &self.core.identity) {
                Some(marked) => marked.process == entry.spec.id,
                None => kin::holds(pid, &pipes),
            };
            if run.child && stat.group == main || ours {
                survivors.alive.push(pid);
            } else if kin::stat(pid).is_none_or(|stat| stat.dying || stat.zombie) {
                // Its mark was gone already when we looked, and what it leaves behind is not ours yet.
                survivors.dying = true;
            }
        });
        survivors.dying |= !complete;
        survivors
    }

    /// Somebody's grace may be over.
    pub(crate) fn press(&mut self, slot: usize, now: Instant) {
        let Some(entry) = self.entries[slot].as_ref() else { return };
        let Some(run) = entry.run.as_ref() else { return };
        if run.ended.is_some() {
            self.settle(slot);
        } else if entry.kill_at.is_some_and(|at| at <= now) {
            kin::signal_group(run.pid, Signal::KILL);
            self.wake_at(slot, now + LONGEST_PAUSE);
            self.report_stuck(slot, now);
        }
    }

    /// The main process has ended: waits for the rest, or kills it, then finishes.
    pub(crate) fn settle(&mut self, slot: usize) {
        let now = Instant::now();
        let survivors = self.survivors(slot);
        let Some(entry) = self.entries[slot].as_mut() else { return };
        let Some(run) = entry.run.as_ref().filter(|run| run.ended.is_some()) else { return };
        if survivors.alive.is_empty() && !survivors.dying {
            self.drain(slot);
            self.release(slot);
            self.finish(slot);
            return;
        }
        let kill_at = entry.kill_at.filter(|_| !matches!(entry.goal, Goal::Keep)).unwrap_or(now);
        if kill_at <= now {
            if run.child {
                // Not reaped yet, so the number is still this group's.
                kin::signal_group(run.pid, Signal::KILL);
            }
            for pid in survivors.alive {
                kin::signal(pid, Signal::KILL);
            }
        }
        let next = now + entry.pause;
        entry.pause = (entry.pause * 2).min(LONGEST_PAUSE);
        self.wake_at(slot, if kill_at > now { next.min(kill_at) } else { next });
        self.report_stuck(slot, now);
    }

    fn report_stuck(&mut self, slot: usize, now: Instant) {
        let Some(entry) = self.entries[slot].as_mut() else { return };
        if entry.kill_at.is_none_or(|at| at + PATIENCE > now) || entry.stop_askers.is_empty() {
            return;
        }
        let refusal =
            Refusal::new(ErrorKind::Timeout, "the process survives KILL").with("process", &entry.spec.id);
        self.core.journal.note("stuck", refusal.line());
        for asker in std::mem::take(&mut entry.stop_askers) {
            self.core.answer(asker, Err(refusal.clone()));
        }
    }

    /// Closes what belongs to a run and reaps it.
    fn release(&mut self, slot: usize) {
        let Some(run) = self.entries[slot].as_mut().and_then(|entry| entry.run.take()) else { return };
        for pipe in [&run.out, &run.err].into_iter().flatten() {
            self.core.unwatch(&pipe.end);
        }
        run.reap();
        self.mains.remove(&run.pid.as_raw_pid());
    }

    /// Nothing of the old run is left: what comes next.
    pub(crate) fn finish(&mut self, slot: usize) {
        let Some(entry) = self.entries[slot].as_mut() else { return };
        let askers = std::mem::take(&mut entry.stop_askers);
        entry.due = None;
        let mut again = false;
        match std::mem::replace(&mut entry.goal, Goal::Keep) {
            Goal::Stop => entry.phase = Phase::Exited { ended: entry.last_exit, asked: true },
            Goal::Replace(spec) => {
                let start_askers = std::mem::take(&mut entry.start_askers);
                *entry = Entry { incarnation: entry.incarnation, start_askers, ..Entry::new(*spec) };
                again = true;
            }
            Goal::Keep => self.keep_on(slot),
        }
        for asker in askers {
            self.core.answer(asker, Ok(Answer::Done));
        }
        if again { self.start(slot) } else { self.tell(slot) }
    }

    fn keep_on(&mut self, slot: usize) {
        let Some(entry) = self.entries[slot].as_mut() else { return };
        let ended = entry.last_exit.unwrap_or(Ended { exit: Exit::Unknown, at: SystemTime::now() });
        if entry.spec.restart == Restart::Never {
            entry.phase = Phase::Exited { ended: Some(ended), asked: false };
            return;
        }
        let pause = entry.spec.backoff.pause(entry.failures);
        entry.failures = entry.failures.saturating_add(1);
        entry.phase = Phase::BackingOff { until: SystemTime::now() + pause, ended };
        self.wake_at(slot, Instant::now() + pause);
    }

    /// A child ended: reaps those that are nobody's main process, and looks at who waits for them.
    pub(crate) fn child_ended(&mut self) {
        for pid in kin::children() {
            if let Some(pid) = Pid::from_raw(pid).filter(|pid| !self.mains.contains_key(&pid.as_raw_pid())) {
                reap(pid);
            }
        }
        for slot in 0..self.entries.len() {
            let settling = |entry: &Entry| entry.run.as_ref().is_some_and(|run| run.ended.is_some());
            if self.entries[slot].as_ref().is_some_and(settling) {
                self.settle(slot);
            }
        }
    }

    /// Takes over from an earlier keeper: processes by their marks, the rest by what is stored.
    pub(crate) fn adopt(&mut self, intents: Vec<Intent>) {
        let identity = self.core.identity.clone();
        let mut found: Vec<Marked> = kin::everyone()
            .into_iter()
            .filter_map(|pid| kin::marked(pid, &identity))
            .filter(|marked| !marked.stat.zombie)
            .collect();
        found.sort_by_key(|marked| (marked.stat.start, marked.pid));
        self.core.last_incarnation = found.iter().map(|marked| marked.run.incarnation).max().unwrap_or(0);
        for marked in &found {
            if !intents.iter().any(|intent| intent.spec.id == marked.process) {
                self.core.journal.note(
                    "ends a process without an intent",
                    format!("{} (pid {})", marked.process, marked.pid),
                );
                kin::signal(marked.pid, Signal::KILL);
            }
        }
        for intent in intents {
            let slot = self.insert(intent.spec.clone());
            let own: Vec<_> = found.iter().filter(|marked| marked.process == intent.spec.id).collect();
            self.adopt_one(slot, &intent, &own);
        }
    }

    fn adopt_one(&mut self, slot: usize, intent: &Intent, own: &[&Marked]) {
        let noted = self
            .core
            .intents
            .run(&intent.spec.id)
            .filter(|run| run.boot == self.core.boot || intent.spec.restart == Restart::Never);
        let main = main_process(own, &self.core.intents, &intent.spec.id, &self.core.boot);
        let Some(entry) = self.entries[slot].as_mut() else { return };
        entry.last_exit = intent.ended;
        entry.lacks_secrets = intent.has_secrets;
        entry.incarnation = noted.as_ref().map_or(0, |run| run.incarnation);
        let adopted = main.and_then(|main| Some((main, Run::adopt(main, own)?)));
        if let Some((main, run)) = adopted {
            entry.incarnation = main.run.incarnation;
            entry.spec.generation = main.run.generation;
            if intent.spec.generation > main.run.generation {
                entry.goal = Goal::Replace(Box::new(intent.spec.clone()));
            } else if intent.stopped {
                entry.goal = Goal::Stop;
            }
            let (keep, grace) = (matches!(entry.goal, Goal::Keep), entry.spec.grace);
            self.install(slot, run, SystemTime::now());
            if !keep {
                self.wind_down(slot, grace);
            }
            return;
        }
        for survivor in own {
            kin::end(survivor.pid);
        }
        let Some(entry) = self.entries[slot].as_mut() else { return };
        let vanished = Ended { exit: Exit::Unknown, at: SystemTime::now() };
        if intent.stopped || intent.ended.is_some() {
            entry.phase = Phase::Exited { ended: intent.ended, asked: intent.stopped };
        } else if intent.spec.restart == Restart::Never && noted.is_some() {
            entry.last_exit = Some(vanished);
            entry.phase = Phase::Exited { ended: Some(vanished), asked: false };
            self.mark(slot, RecordKind::Exit, &vanished);
            self.keep_exit(slot, vanished);
        } else {
            if noted.is_some() {
                entry.last_exit = Some(vanished);
                self.mark(slot, RecordKind::Exit, &vanished);
            }
            self.start(slot);
        }
    }
}

/// Which of the processes that bear a process's mark is the one that was started: the one noted, or the eldest leader of
/// a group in a run newer than the one noted (the keeper was killed before it could note that).
fn main_process<'a>(own: &[&'a Marked], intents: &Intents, id: &str, boot: &str) -> Option<&'a Marked> {
    let noted = intents.run(id).filter(|run| run.boot == boot);
    if let Some(run) = &noted
        && let Some(main) = own.iter().find(|marked| marked.pid == run.pid && marked.stat.start == run.start)
    {
        return Some(main);
    }
    let after = noted.filter(|run| run.pid != 0).map_or(0, |run| run.incarnation + 1);
    own.iter().find(|marked| marked.run.incarnation >= after && marked.stat.group == marked.pid).copied()
}
