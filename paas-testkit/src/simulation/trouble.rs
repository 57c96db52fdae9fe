//! What goes wrong for one replica of the platform.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use paas_core::Error;

use super::rng::Rng;
use crate::fault::{Fault, FaultPlan};

/// The trouble of one replica: calls fail before or after they took effect, come late, or never answer; the replica
/// dies before a call, after it, or while it is on its way; hints are lost, doubled and late.
#[derive(Debug)]
pub(super) struct Trouble {
    rng: Mutex<Rng>,
    on: AtomicBool,
    dead: AtomicBool,
    struck: AtomicU64,
}

impl Trouble {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            rng: Mutex::new(rng),
            on: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            struck: AtomicU64::new(0),
        }
    }

    pub(super) fn set(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// How many faults there were.
    pub(super) fn struck(&self) -> u64 {
        self.struck.load(Ordering::SeqCst)
    }

    fn draw(&self, bound: u64) -> Option<u64> {
        let strikes = self.on.load(Ordering::SeqCst) && !self.is_dead();
        strikes.then(|| self.rng.lock().unwrap_or_else(PoisonError::into_inner).below(bound))
    }

    fn strike<T>(&self, what: T) -> T {
        self.struck.fetch_add(1, Ordering::SeqCst);
        what
    }

    /// How long a write is still on its way after its sender has died, if it is to die now.
    pub(super) fn adrift(&self) -> Option<Duration> {
        let unlucky = self.draw(1_000).is_some_and(|drawn| drawn < 8);
        unlucky.then(|| {
            self.dead.store(true, Ordering::SeqCst);
            self.strike(Duration::from_millis(
                self.rng.lock().unwrap_or_else(PoisonError::into_inner).below(40_000),
            ))
        })
    }

    /// When the copies of a hint arrive: none where it is lost.
    pub(super) fn hint(&self) -> Vec<Duration> {
        let late = |drawn: u64| Duration::from_millis(drawn % 5_000);
        match self.draw(1_000_000) {
            Some(drawn) if drawn % 100 < 6 => self.strike(Vec::new()),
            Some(drawn) if drawn % 100 < 12 => self.strike(vec![Duration::ZERO, late(drawn / 100)]),
            Some(drawn) if drawn % 100 < 24 => self.strike(vec![late(drawn / 100)]),
            _ => vec![Duration::ZERO],
        }
    }
}

impl FaultPlan for Trouble {
    fn decide(&self, port: &'static str, op: &'static str) -> Fault {
        if self.is_dead() {
            // Who is dead makes no calls; one that was about to waits until its replica is dropped.
            return Fault::Never;
        }
        let error = || Error::unavailable("trouble").with("call", format!("{port}.{op}"));
        let fault = match self.draw(1_000) {
            Some(0..20) => Fault::Before(error()),
            Some(20..40) => Fault::After(error()),
            Some(40..45) => Fault::Never,
            Some(45..50) => Fault::NeverAfter,
            Some(50..60) => Fault::Crash,
            Some(60..70) => Fault::CrashAfter,
            Some(drawn @ 70..90) => Fault::Late(Duration::from_millis((drawn - 69) * 150)),
            _ => return Fault::None,
        };
        self.strike(fault)
    }

    fn crashed(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }
}
