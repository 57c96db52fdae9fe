//! Trouble on purpose: calls that fail before or after they took effect, or never answer.
//!
//! The guard's interceptors stand before a call; what goes wrong after one needs to stand around it. [`Faulty`] is
//! that for every port, and one [`FaultPlan`] decides for all of them.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use paas_core::{Error, Result};

mod ports;

/// What happens to a call.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing.
    None,
    /// It fails without having happened.
    Before(Error),
    /// It happens, and the caller is told that it failed.
    After(Error),
    /// It does not happen, and no answer comes.
    Never,
    /// It happens, and no answer comes.
    NeverAfter,
    /// It happens after this long.
    Late(Duration),
    /// The caller dies before the call: no answer comes, and the plan is told.
    Crash,
    /// The caller dies after the call took effect: no answer comes, and the plan is told.
    CrashAfter,
}

/// Decides what happens to each call of all decorated ports.
pub trait FaultPlan: Send + Sync + 'static {
    /// What happens to this call, like `scheduler`, `apply`.
    fn decide(&self, port: &'static str, op: &'static str) -> Fault;

    /// The caller was to die now. A simulation ends its engine here; the call itself waits for ever.
    fn crashed(&self) {}
}

impl<F: Fn(&'static str, &'static str) -> Fault + Send + Sync + 'static> FaultPlan for F {
    fn decide(&self, port: &'static str, op: &'static str) -> Fault {
        self(port, op)
    }
}

/// A backend with trouble around it. It implements every port that its backend does.
pub struct Faulty<B: ?Sized> {
    plan: Arc<dyn FaultPlan>,
    inner: Arc<B>,
}

impl<B: ?Sized> Faulty<B> {
    /// Puts a plan around a backend.
    #[must_use]
    pub fn new(plan: Arc<dyn FaultPlan>, inner: Arc<B>) -> Self {
        Self { plan, inner }
    }

    async fn run<T>(
        &self,
        port: &'static str,
        op: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match self.plan.decide(port, op) {
            Fault::None => call.await,
            Fault::Before(error) => Err(error),
            Fault::After(error) => call.await.and(Err(error)),
            Fault::Never => std::future::pending().await,
            Fault::NeverAfter => {
                drop(call.await);
                std::future::pending().await
            }
            Fault::Late(delay) => {
                tokio::time::sleep(delay).await;
                call.await
            }
            Fault::Crash => {
                self.plan.crashed();
                std::future::pending().await
            }
            Fault::CrashAfter => {
                drop(call.await);
                self.plan.crashed();
                std::future::pending().await
            }
        }
    }
}

impl<B: ?Sized> Clone for Faulty<B> {
    fn clone(&self) -> Self {
        Self { plan: Arc::clone(&self.plan), inner: Arc::clone(&self.inner) }
    }
}

impl<B: ?Sized + Debug> Debug for Faulty<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faulty").field(&self.inner).finish()
    }
}

/// A plan by script and by seed. A clone shares the plan: give one to each [`Faulty`].
#[derive(Clone, Debug, Default)]
pub struct Faults {
    state: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    /// By port and method: after so many further calls, this.
    scripted: Vec<(&'static str, &'static str, u64, Fault)>,
    made: BTreeMap<(&'static str, &'static str), u64>,
    random: Option<(u64, u32)>,
    struck: u64,
}

impl Faults {
    /// Nothing goes wrong until told.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// So many of a thousand calls go wrong, before or after they took effect or late; a seed repeats its faults.
    #[must_use]
    pub fn seeded(seed: u64, per_thousand: u32) -> Self {
        let script = Script { random: Some((seed, per_thousand)), ..Script::default() };
        Self { state: Arc::new(Mutex::new(script)) }
    }

    /// The `nth` call of a method from now on, counted from 1, meets this fault.
    pub fn strike(&self, port: &'static str, op: &'static str, nth: u64, fault: Fault) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let made = state.made.get(&(port, op)).copied().unwrap_or_default();
        state.scripted.push((port, op, made + nth.max(1), fault));
    }

    /// Stops all faults, those to come included.
    pub fn stop(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.scripted.clear();
        state.random = None;
    }

    /// How many faults there were.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).struck
    }
}

impl FaultPlan for Faults {
    fn decide(&self, port: &'static str, op: &'static str) -> Fault {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let made = state.made.entry((port, op)).or_default();
        *made += 1;
        let now = *made;
        let scripted = state.scripted.iter().position(|(p, o, nth, _)| (*p, *o, *nth) == (port, op, now));
        let fault = match scripted {
            Some(at) => state.scripted.swap_remove(at).3,
            None => state.random(),
        };
        state.struck += u64::from(!matches!(fault, Fault::None));
        fault
    }
}

impl Script {
    fn random(&mut self) -> Fault {
        let Some((seed, per_thousand)) = &mut self.random else { return Fault::None };
        let bits = splitmix64(seed);
        if bits % 1_000 >= u64::from(*per_thousand) {
            return Fault::None;
        }
        match (bits >> 32) % 4 {
            0 => Fault::Before(Error::unavailable("a fault on purpose, before the call")),
            1 => Fault::After(Error::unavailable("a fault on purpose, after the call")),
            2 => Fault::Late(Duration::from_millis((bits >> 40) % 1_000)),
            _ => Fault::NeverAfter,
        }
    }
}

/// One step of splitmix64 (Steele, Lea, Flood 2014): a small generator whose state is one word.
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
