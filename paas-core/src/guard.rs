//! The one pipeline that every call of a port passes through.
//!
//! The order is fixed: span → scope check → `before` → retry { permit → `attempt` → timeout(backend) → `failed` } →
//! `after`. Only calls marked idempotent are retried; a timed-out write may have happened, so it is not.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Instrument;

use crate::model::{Action, Resource, Scope};
use crate::{Error, ErrorKind, Result};

/// A call of a port's method, as interceptors see it: who, what and where, never the payload.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Call {
    /// The port's name, like `scheduler`.
    pub port: &'static str,
    /// The backend's name, like `local`.
    pub backend: &'static str,
    /// The method's name.
    pub op: &'static str,
    /// Who may do what.
    pub scope: Scope,
    /// What the scope must allow.
    pub action: Action,
    /// What the call touches.
    pub resource: Resource,
    /// Whether doing it twice is the same as doing it once.
    pub idempotent: bool,
}

/// A concern that cuts across all ports.
#[async_trait]
pub trait Interceptor: Debug + Send + Sync + 'static {
    /// Once per call, before any attempt. An error ends the call.
    ///
    /// # Errors
    /// What should end the call.
    async fn before(&self, call: &Call) -> Result<()> {
        let _ = call;
        Ok(())
    }

    /// Before each attempt, from 1. An error stands for the backend's answer.
    ///
    /// # Errors
    /// What should stand for the backend's answer.
    async fn attempt(&self, call: &Call, attempt: u32) -> Result<()> {
        let _ = (call, attempt);
        Ok(())
    }

    /// After each attempt that failed.
    fn failed(&self, call: &Call, attempt: u32, error: &Error) {
        let _ = (call, attempt, error);
    }

    /// Once per call, at the end.
    fn after(&self, call: &Call, elapsed: Duration, outcome: Result<(), &Error>) {
        let _ = (call, elapsed, outcome);
    }
}

/// How often and how soon an idempotent call is made again.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Attempts in all.
    pub attempts: u32,
    /// The pause after the first failure; it doubles each time.
    pub first: Duration,
    /// The longest pause. A backend that asks for more with `retry_after` is not asked again here: the caller is told.
    pub longest: Duration,
}

impl RetryPolicy {
    /// Three attempts, 50 ms then 100 ms apart, at most 2 s.
    #[must_use]
    pub fn standard() -> Self {
        Self { attempts: 3, first: Duration::from_millis(50), longest: Duration::from_secs(2) }
    }

    /// One attempt.
    #[must_use]
    pub fn none() -> Self {
        Self { attempts: 1, ..Self::standard() }
    }

    /// `None` where it would be longer than anybody should wait here.
    fn pause(&self, attempt: u32, error: &Error) -> Option<Duration> {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(attempt.saturating_sub(1)));
        let doubled = doubled.min(self.longest);
        error.retry_after().map_or(Some(doubled), |asked| (asked <= self.longest).then_some(asked))
    }
}

/// The pipeline. Cloning shares the permits.
#[derive(Debug, Clone)]
pub struct Guard {
    timeout: Duration,
    retry: RetryPolicy,
    permits: Arc<Semaphore>,
    interceptors: Arc<[Arc<dyn Interceptor>]>,
}

impl Default for Guard {
    /// Ten seconds an attempt, the standard retry policy, 256 calls at once, no interceptors.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            retry: RetryPolicy::standard(),
            permits: Arc::new(Semaphore::new(256)),
            interceptors: Arc::new([]),
        }
    }
}

impl Guard {
    /// How long one attempt may take.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How idempotent calls are retried.
    #[must_use]
    pub fn retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// How many attempts may run at once; further ones wait.
    #[must_use]
    pub fn concurrency(self, most: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS))), ..self }
    }

    /// Adds an interceptor after those already there.
    #[must_use]
    pub fn interceptor(self, interceptor: impl Interceptor) -> Self {
        let added: Arc<dyn Interceptor> = Arc::new(interceptor);
        let interceptors = self.interceptors.iter().cloned().chain([added]).collect();
        Self { interceptors, ..self }
    }

    /// Runs a call through the pipeline.
    ///
    /// # Errors
    /// `Denied` where the scope does not cover it, `Timeout` where the last attempt took too long, else what an
    /// interceptor or the backend answered, with `port`, `backend` and `op` added.
    pub async fn run<T, F, Fut>(&self, call: Call, attempt: F) -> Result<T>
    where
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let span = tracing::debug_span!("port", port = call.port, backend = call.backend, op = call.op);
        let labelled =
            |error: Error| error.with("port", call.port).with("backend", call.backend).with("op", call.op);
        self.checked(&call, attempt).instrument(span).await.map_err(labelled)
    }

    async fn checked<T, F, Fut>(&self, call: &Call, attempt: F) -> Result<T>
    where
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
        T: Send,
    {
        call.scope.check(call.action, &call.resource)?;
        for interceptor in &*self.interceptors {
            interceptor.before(call).await?;
        }
        let started = Instant::now();
        let outcome = self.retried(call, attempt).await;
        for interceptor in &*self.interceptors {
            interceptor.after(call, started.elapsed(), outcome.as_ref().map(|_| ()));
        }
        outcome
    }

    async fn retried<T, F, Fut>(&self, call: &Call, attempt: F) -> Result<T>
    where
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let attempts = if call.idempotent { self.retry.attempts.max(1) } else { 1 };
        let mut number = 1;
        loop {
            let error = match self.once(call, number, &attempt).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            for interceptor in &*self.interceptors {
                interceptor.failed(call, number, &error);
            }
            let pause = self.retry.pause(number, &error);
            let Some(pause) = pause.filter(|_| number < attempts && error.is_retryable()) else {
                return Err(error);
            };
            tokio::time::sleep(pause).await;
            number += 1;
        }
    }

    async fn once<T, F, Fut>(&self, call: &Call, number: u32, attempt: &F) -> Result<T>
    where
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let work = async {
            // The semaphore is never closed, so the only answer is a permit.
            let _permit = self.permits.acquire().await;
            for interceptor in &*self.interceptors {
                interceptor.attempt(call, number).await?;
            }
            attempt().await
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            let seconds = self.timeout.as_secs_f32();
            Err(Error::new(ErrorKind::Timeout, "no answer in time").with("seconds", seconds))
        })
    }

    /// Checks a call that gives a stream. Streams are neither retried nor timed out: they end when the reader leaves.
    ///
    /// # Errors
    /// `Denied` where the scope does not cover it.
    pub fn open(&self, call: &Call) -> Result<()> {
        let labelled =
            |error: Error| error.with("port", call.port).with("backend", call.backend).with("op", call.op);
        call.scope.check(call.action, &call.resource).map_err(labelled)
    }
}

/// A backend behind the guard. The platform wraps every backend in one; each port's file holds its implementation.
#[derive(Debug)]
pub struct Guarded<B: ?Sized> {
    pub(crate) guard: Guard,
    pub(crate) inner: Arc<B>,
}

impl<B: ?Sized> Guarded<B> {
    /// Puts a backend behind a guard.
    #[must_use]
    pub fn new(guard: Guard, inner: Arc<B>) -> Self {
        Self { guard, inner }
    }
}

impl<B: ?Sized> Clone for Guarded<B> {
    fn clone(&self) -> Self {
        Self { guard: self.guard.clone(), inner: Arc::clone(&self.inner) }
    }
}

/// Names a call where a port's guard is written: `call!(self, scope, "scheduler", "apply", Deploy, resource)`.
macro_rules! call {
    ($self:ident, $scope:expr, $port:literal, $op:literal, $action:ident, $resource:expr) => {
        $crate::guard::Call {
            port: $port,
            backend: $crate::port::Backend::name(&*$self.inner),
            op: $op,
            scope: $scope.clone(),
            action: $crate::model::Action::$action,
            resource: $resource,
            idempotent: false,
        }
    };
    ($self:ident, $scope:expr, $port:literal, $op:literal, $action:ident, $resource:expr, idempotent) => {
        $crate::guard::Call {
            idempotent: true,
            ..$crate::guard::call!($self, $scope, $port, $op, $action, $resource)
        }
    };
}
pub(crate) use call;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::model::TenantId;

    fn call(scope: Scope, idempotent: bool) -> Call {
        let resource = Resource::Tenant(TenantId::new("a").unwrap());
        Call { port: "p", backend: "b", op: "o", scope, action: Action::Read, resource, idempotent }
    }

    async fn attempts(idempotent: bool, error: impl Fn() -> Error + Send + Sync) -> (u32, Error) {
        let count = AtomicU32::new(0);
        let call = call(Scope::testing(Resource::Platform), idempotent);
        let outcome = Guard::default()
            .run(call, || async {
                count.fetch_add(1, Ordering::Relaxed);
                Err::<(), _>(error())
            })
            .await;
        (count.into_inner(), outcome.unwrap_err())
    }

    #[tokio::test(start_paused = true)]
    async fn only_idempotent_calls_with_retryable_errors_are_retried() {
        assert_eq!(attempts(true, || Error::unavailable("x")).await.0, 3);
        assert_eq!(attempts(false, || Error::unavailable("x")).await.0, 1);
        assert_eq!(attempts(true, || Error::invalid("x")).await.0, 1);
        assert_eq!(attempts(true, || Error::unavailable("x").permanent()).await.0, 1);
        let asks = |seconds| move || Error::unavailable("x").with_retry_after(Duration::from_secs(seconds));
        assert_eq!(attempts(true, asks(2)).await.0, 3);
        // Longer than a caller should hang: it is told, and nobody asks too early.
        assert_eq!(attempts(true, asks(3)).await.0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scope_that_does_not_cover_the_call_never_reaches_the_backend() {
        let other = Scope::testing(Resource::Tenant(TenantId::new("b").unwrap()));
        let outcome: Result<()> = Guard::default().run(call(other, true), || async { unreachable!() }).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(error.context("port"), Some("p"));
    }

    #[tokio::test(start_paused = true)]
    async fn every_call_ends_in_time() {
        let call = call(Scope::testing(Resource::Platform), false);
        let outcome = Guard::default().run(call, std::future::pending::<Result<()>>).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
    }
}
