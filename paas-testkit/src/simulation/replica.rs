//! An engine that can be stopped in the middle, for a while or for good.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use paas_core::engine::{Engine, EngineConfig, Ports};
use paas_core::model::Clock;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Whether a suspended future may go on.
#[derive(Debug, Default)]
struct Gate(Mutex<(bool, Option<Waker>)>);

/// A future that makes no step while its gate is closed, like a process that is stopped by a signal.
struct Suspendable<F> {
    gate: Arc<Gate>,
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for Suspendable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut gate = self.gate.0.lock().unwrap_or_else(PoisonError::into_inner);
        if gate.0 {
            gate.1 = Some(context.waker().clone());
            return Poll::Pending;
        }
        drop(gate);
        self.inner.as_mut().poll(context)
    }
}

/// A running engine. Dropped, it is dead at once.
#[derive(Debug)]
pub(super) struct Replica {
    gate: Arc<Gate>,
    task: JoinHandle<()>,
    _stop: watch::Sender<bool>,
}

impl Replica {
    pub(super) fn start(name: &str, ports: Ports, clock: Clock) -> Self {
        let mut config = EngineConfig::default();
        config.replica = name.to_owned();
        let engine = Engine::new(ports, config, clock);
        let (stop, stopped) = watch::channel(false);
        let gate = Arc::new(Gate::default());
        let inner = Box::pin(async move { engine.run(stopped).await });
        let task = tokio::spawn(Suspendable { gate: Arc::clone(&gate), inner });
        Self { gate, task, _stop: stop }
    }

    /// Makes no step until it is resumed.
    pub(super) fn suspend(&self) {
        self.gate.0.lock().unwrap_or_else(PoisonError::into_inner).0 = true;
    }

    /// Goes on where it was, as if no time had gone by.
    pub(super) fn resume(&self) {
        let mut gate = self.gate.0.lock().unwrap_or_else(PoisonError::into_inner);
        gate.0 = false;
        if let Some(waker) = gate.1.take() {
            waker.wake();
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}
