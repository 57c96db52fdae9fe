//! The processes: what is asked of them, and starting them. How they end is in [`super::settle`].

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant, SystemTime};

use paas_core::ErrorKind;
use rustix::process::Signal;

use super::entry::{Asker, Core, Effect, Entry, Goal, Token};
use super::intent::{Intent, RunNote};
use super::kin;
use super::model::{KeeperEvent, MAX_PROCESSES, Phase, ProcessSpec, ProcessState, Restart};
use super::process::{Marks, Run};
use super::record::{Head, LIFE_SHIFT, RecordKind, Started};
use super::spool::Taken;
use super::wire::{Answer, Refusal};

/// All processes of a keeper.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) core: Core,
    pub(crate) entries: Vec<Option<Entry>>,
    pub(crate) slots: BTreeMap<String, usize>,
    /// The processes that this keeper started and has not reaped.
    pub(crate) mains: HashMap<i32, usize>,
    /// No entry is due before this.
    next_due: Option<Instant>,
}

impl Table {
    pub(crate) fn new(core: Core) -> Self {
        Self { core, entries: Vec::new(), slots: BTreeMap::new(), mains: HashMap::new(), next_due: None }
    }

    pub(crate) fn states(&self) -> Vec<ProcessState> {
        self.slots.values().filter_map(|slot| self.entries[*slot].as_ref()).map(Entry::state).collect()
    }

    pub(crate) fn slot(&self, id: &str) -> Result<usize, Refusal> {
        self.slots
            .get(id)
            .copied()
            .ok_or_else(|| Refusal::new(ErrorKind::NotFound, "no such process").with("process", id))
    }

    pub(crate) fn insert(&mut self, spec: ProcessSpec) -> usize {
        let slot = self.entries.iter().position(Option::is_none).unwrap_or(self.entries.len());
        if slot == self.entries.len() {
            self.entries.push(None);
        }
        self.slots.insert(spec.id.clone(), slot);
        self.entries[slot] = Some(Entry::new(spec));
        slot
    }

    /// Starts what is not there yet. `None`: the answer comes when the process runs.
    pub(crate) fn spawn(&mut self, spec: ProcessSpec, asker: Asker) -> Option<Result<Answer, Refusal>> {
        if let Err(refusal) = spec.check() {
            return Some(Err(refusal));
        }
        let Some(slot) = self.slots.get(&spec.id).copied() else {
            if self.slots.len() >= MAX_PROCESSES {
                let refusal = Refusal::new(ErrorKind::Throttled, "the keeper keeps no more processes");
                return Some(Err(refusal.with("limit", MAX_PROCESSES)));
            }
            if let Err(refusal) = self.store(&spec, false) {
                return Some(Err(refusal));
            }
            let slot = self.insert(spec);
            return self.begin(slot, asker);
        };
        let entry = self.entries[slot].as_mut()?;
        let conflict =
            |message: &str| Some(Err(Refusal::new(ErrorKind::Conflict, message).with("process", &spec.id)));
        if spec.generation < entry.meant().generation {
            return conflict("a newer generation is kept");
        }
        if spec.generation == entry.meant().generation {
            if entry.lacks_secrets && spec.without_secrets() == entry.spec {
                entry.spec = spec.clone();
                entry.lacks_secrets = false;
            }
            if spec != *entry.meant() {
                return conflict("this generation is kept with other content");
            }
            return match (&entry.goal, &entry.phase) {
                (Goal::Replace(_), _) | (_, Phase::Starting) => {
                    entry.start_askers.push(asker);
                    None
                }
                (Goal::Stop, _) | (_, Phase::Exited { asked: true, .. }) => {
                    conflict("this generation was stopped")
                }
                (_, Phase::Failed { .. }) if entry.run.is_none() => self.begin(slot, asker),
                _ => Some(Ok(Answer::Done)),
            };
        }
        if let Err(refusal) = self.store(&spec, false) {
            return Some(Err(refusal));
        }
        self.core.intents.forget_run(&spec.id);
        let entry = self.entries[slot].as_mut()?;
        if entry.run.is_none() {
            *entry = Entry { incarnation: entry.incarnation, ..Entry::new(spec) };
            return self.begin(slot, asker);
        }
        let grace = entry.spec.grace;
        entry.start_askers.push(asker);
        entry.goal = Goal::Replace(Box::new(spec));
        self.wind_down(slot, grace);
        None
    }

    /// Starts it; the answer is among the effects by then.
    fn begin(&mut self, slot: usize, asker: Asker) -> Option<Result<Answer, Refusal>> {
        self.entries[slot].as_mut()?.start_askers.push(asker);
        self.start(slot);
        None
    }

    /// Stops it for good. `None`: the answer comes when nothing of it is left.
    pub(crate) fn stop(
        &mut self,
        id: &str,
        grace: Duration,
        asker: Option<Asker>,
    ) -> Option<Result<Answer, Refusal>> {
        let Ok(slot) = self.slot(id) else { return Some(Ok(Answer::Done)) };
        let entry = self.entries[slot].as_mut()?;
        let meant = entry.meant().clone();
        if entry.run.is_none() && matches!(entry.phase, Phase::Exited { .. }) {
            return Some(Ok(Answer::Done));
        }
        if let Err(refusal) = self.store(&meant, true) {
            // Stopping matters more than remembering that it was asked for.
            self.core.journal.note("cannot store that a process was stopped", refusal.line());
        }
        let entry = self.entries[slot].as_mut()?;
        entry.goal = Goal::Stop;
        let refused =
            Refusal::new(ErrorKind::Conflict, "the process was stopped meanwhile").with("process", id);
        for waiting in std::mem::take(&mut entry.start_askers) {
            self.core.answer(waiting, Err(refused.clone()));
        }
        if meant.generation != entry.spec.generation {
            entry.spec = meant;
        }
        entry.stop_askers.extend(asker);
        self.wind_down(slot, grace);
        None
    }

    /// Forgets a process of which nothing is left.
    pub(crate) fn forget(&mut self, id: &str) -> Result<Answer, Refusal> {
        let Ok(slot) = self.slot(id) else { return Ok(Answer::Done) };
        if self.entries[slot].as_ref().is_some_and(|entry| entry.run.is_some()) {
            return Err(Refusal::new(ErrorKind::Conflict, "stop the process first").with("process", id));
        }
        self.core
            .intents
            .remove(id)
            .map_err(|error| Refusal::io("cannot remove what is stored", &error).with("process", id))?;
        self.slots.remove(id);
        self.entries[slot] = None;
        self.core.spool.forget(slot);
        self.core.effects.push(Effect::Event(KeeperEvent::Gone { id: id.to_owned() }));
        Ok(Answer::Done)
    }

    fn store(&mut self, spec: &ProcessSpec, stopped: bool) -> Result<(), Refusal> {
        let known = self.slots.get(&spec.id).and_then(|slot| self.entries[*slot].as_ref());
        let lacks =
            known.is_some_and(|entry| entry.lacks_secrets && entry.spec.generation == spec.generation);
        self.core
            .intents
            .store(&Intent::of(spec, lacks || !spec.secrets.is_empty(), stopped, None))
            .map_err(|error| Refusal::io("cannot store the intent", &error).with("process", &spec.id))
    }

    /// Starts the process of `slot` now.
    pub(crate) fn start(&mut self, slot: usize) {
        let Some(entry) = self.entries[slot].as_mut() else { return };
        let incarnation = self.core.next_incarnation();
        entry.incarnation = incarnation;
        entry.due = None;
        entry.kill_at = None;
        entry.phase = Phase::Starting;
        let id = entry.spec.id.clone();
        let mut note = RunNote { boot: self.core.boot.clone(), incarnation, pid: 0, start: 0 };
        if entry.spec.restart == Restart::Never {
            // A task must not run twice, so that it began is known before it begins.
            let _best_effort = self.core.intents.note_run(&id, &note);
        }
        self.tell(slot);
        let marks = Marks { identity: &self.core.identity, incarnation, descriptors: self.core.descriptors };
        let Some(entry) = self.entries[slot].as_mut() else { return };
        if entry.lacks_secrets {
            let reason = "its secrets are unknown since the keeper was restarted; spawn it again";
            return self.failed(slot, &Refusal::new(ErrorKind::Unavailable, reason).with("process", &id));
        }
        match Run::start(&entry.spec, marks) {
            Ok(run) => {
                (note.pid, note.start) = (run.pid.as_raw_pid(), run.start);
                if let Err(error) = self.core.intents.note_run(&id, &note) {
                    self.core.journal.note("cannot note a run", error);
                }
                self.mains.insert(run.pid.as_raw_pid(), slot);
                self.install(slot, run, SystemTime::now());
            }
            Err(refusal) => self.failed(slot, &refusal),
        }
    }

    fn failed(&mut self, slot: usize, refusal: &Refusal) {
        let Some(entry) = self.entries[slot].as_mut() else { return };
        let pause = entry.spec.backoff.pause(entry.failures);
        entry.failures = entry.failures.saturating_add(1);
        let again = entry.spec.restart == Restart::Always;
        entry.phase =
            Phase::Failed { reason: refusal.line(), until: again.then(|| SystemTime::now() + pause) };
        let askers = std::mem::take(&mut entry.start_askers);
        if askers.is_empty() {
            self.core.journal.note("cannot start a process", refusal.line());
        }
        if again {
            self.wake_at(slot, Instant::now() + pause);
        }
        self.tell(slot);
        for asker in askers {
            self.core.answer(asker, Err(refusal.clone()));
        }
    }

    /// Takes a run in: watches it and says that it runs.
    pub(crate) fn install(&mut self, slot: usize, run: Run, started_at: SystemTime) {
        let Some(entry) = self.entries[slot].as_mut() else { return };
        self.core.watch(&run.watch, Token::Watch(slot));
        for (pipe, token) in [(&run.out, Token::Out(slot)), (&run.err, Token::Err(slot))] {
            if let Some(pipe) = pipe {
                self.core.watch(&pipe.end, token);
            }
        }
        let pid = run.pid.as_raw_pid().unsigned_abs();
        let started = Started { pid, adopted: !run.child };
        entry.phase = Phase::Running { pid, started_at };
        entry.run = Some(run);
        let askers = std::mem::take(&mut entry.start_askers);
        self.mark(slot, RecordKind::Start, &started);
        self.tell(slot);
        for asker in askers {
            self.core.answer(asker, Ok(Answer::Done));
        }
    }

    /// Writes a START or EXIT record.
    pub(crate) fn mark(&mut self, slot: usize, kind: RecordKind, payload: &impl serde::Serialize) {
        let Some(entry) = self.entries[slot].as_ref() else { return };
        let head = Head {
            kind,
            id: &entry.spec.id,
            generation: entry.spec.generation,
            incarnation: entry.incarnation,
            position: 0,
        };
        let payload = serde_json::to_vec(payload).unwrap_or_default();
        if let Err(error) = self.core.spool.append(&head, &payload) {
            self.core.journal.note("cannot write to the spool", error);
        }
    }

    /// Takes one chunk from a pipe.
    pub(crate) fn pump(&mut self, slot: usize, kind: RecordKind) -> Taken {
        let Some(entry) = self.entries.get_mut(slot).and_then(Option::as_mut) else { return Taken::End };
        let Some(run) = entry.run.as_mut() else { return Taken::End };
        let place = if kind == RecordKind::Out { &mut run.out } else { &mut run.err };
        let Some(pipe) = place else { return Taken::End };
        let head = Head {
            kind,
            id: &entry.spec.id,
            generation: entry.spec.generation,
            incarnation: entry.incarnation,
            position: (self.core.spool.life() << LIFE_SHIFT) | pipe.bytes,
        };
        let taken =
            self.core.spool.take(slot, &head, std::os::fd::AsFd::as_fd(&pipe.end)).unwrap_or_else(|error| {
                // No memory for output: better lose it, counted, than block the process.
                let mut waste = [0_u8; 16 * 1024];
                let lost = rustix::io::read(&pipe.end, &mut waste).unwrap_or(0);
                if self.core.spool.dropped == 0 {
                    self.core.journal.note("output is lost", error);
                }
                self.core.spool.dropped += lost as u64;
                if lost > 0 { Taken::Bytes(lost) } else { Taken::Empty }
            });
        match taken {
            Taken::Bytes(bytes) => pipe.bytes += bytes as u64,
            Taken::Empty => {}
            Taken::End => {
                if let Some(pipe) = place.take() {
                    self.core.unwatch(&pipe.end);
                }
            }
        }
        taken
    }

    /// Tells subscribers what a process is doing now.
    pub(crate) fn tell(&mut self, slot: usize) {
        if let Some(entry) = self.entries[slot].as_ref() {
            self.core.effects.push(Effect::Event(KeeperEvent::State { state: entry.state() }));
        }
    }

    /// Looks at `slot` again at `at`.
    pub(crate) fn wake_at(&mut self, slot: usize, at: Instant) {
        if let Some(entry) = self.entries[slot].as_mut() {
            entry.due = Some(at);
            self.next_due = Some(self.next_due.map_or(at, |due| due.min(at)));
        }
    }

    /// When [`on_time`](Self::on_time) has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// Does what is due.
    pub(crate) fn on_time(&mut self, now: Instant) {
        if self.next_due.is_none_or(|due| due > now) {
            return;
        }
        for slot in 0..self.entries.len() {
            let Some(entry) = self.entries[slot].as_mut() else { continue };
            if entry.due.is_none_or(|due| due > now) {
                continue;
            }
            entry.due = None;
            if entry.run.is_some() {
                self.press(slot, now);
            } else if matches!(entry.phase, Phase::BackingOff { .. } | Phase::Failed { .. }) {
                entry.restarts = entry.restarts.saturating_add(1);
                self.start(slot);
            }
        }
        self.next_due = self.entries.iter().flatten().filter_map(|entry| entry.due).min();
    }

    /// TERM to all of it, KILL after `grace`.
    pub(crate) fn wind_down(&mut self, slot: usize, grace: Duration) {
        let now = Instant::now();
        let Some(entry) = self.entries[slot].as_mut() else { return };
        let Some(run) = entry.run.as_ref() else {
            entry.due = None;
            self.finish(slot);
            return;
        };
        let first = !matches!(entry.phase, Phase::Stopping);
        let kill_at = entry.kill_at.filter(|_| !first).map_or(now + grace, |known| known.min(now + grace));
        entry.kill_at = Some(kill_at);
        entry.phase = Phase::Stopping;
        let ended = run.ended.is_some();
        if first {
            if run.child || !ended {
                kin::signal_group(run.pid, Signal::TERM);
            }
            for pid in self.survivors(slot).alive {
                kin::signal(pid, Signal::TERM);
            }
            self.tell(slot);
        }
        if ended {
            self.settle(slot);
        } else {
            self.wake_at(slot, kill_at);
        }
    }
}
