//! A backend that refuses what it is asked for.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::rig::Rig;
use super::*;
use crate::guard::{Call, Interceptor};

/// Refuses to apply workloads, in a cluster's words.
#[derive(Debug)]
struct Policy(ErrorKind);

#[async_trait]
impl Interceptor for Policy {
    async fn before(&self, call: &Call) -> Result<()> {
        if (call.port, call.op) == ("scheduler", "apply") {
            return Err(Error::new(self.0, "the API server refuses: no latest tags here"));
        }
        Ok(())
    }
}

/// A platform whose scheduler refuses everything, and who uses it.
async fn refusing(kind: ErrorKind) -> (Platform, Principal) {
    Rig::new().intercepted(Policy(kind)).await
}

#[tokio::test(start_paused = true)]
async fn what_a_backend_refuses_is_told_in_its_own_words() {
    let (platform, user) = refusing(ErrorKind::Denied).await;
    let spec = one(&service("1", &[]));
    let operation = platform.deploy(&user, &spec).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let told: Vec<_> = operation.state().await.unwrap().events;
    let told: Vec<_> = told.iter().filter(|event| event.text.contains("no latest tags here")).collect();
    assert_eq!((told.len(), told[0].service.clone()), (1, Some(name("web"))), "{told:?}");
    let shop = platform.production(&user).await.unwrap().app(&"shop".parse().unwrap()).await.unwrap();
    let explained = shop.explain().await.unwrap().to_string();
    assert!(explained.contains("no latest tags here"), "{explained}");
    let failed = operation.finished_within(LONG).await.unwrap_err();
    assert!(failed.to_string().contains("no latest tags here"), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_that_does_not_end_is_told() {
    let (platform, user) = refusing(ErrorKind::Conflict).await;
    platform.deploy(&user, &one(&service("1", &[]))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let shop = platform.production(&user).await.unwrap().app(&"shop".parse().unwrap()).await.unwrap();
    let trouble = shop.explain().await.unwrap().trouble.unwrap_or_default();
    assert!(trouble.contains("no latest tags here"), "{trouble}");
    platform.shutdown().await;
    assert_eq!(shop.explain().await.unwrap().trouble, None, "this one looks no more");
}

/// Cannot tell.
#[derive(Debug)]
struct Speechless;

#[async_trait]
impl crate::port::Backend for Speechless {
    fn name(&self) -> &'static str {
        "speechless"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Authorizer for Speechless {
    async fn decide(&self, _: &Principal, _: Action, _: &Resource) -> Result<crate::port::Decision> {
        Err(Error::new(ErrorKind::Internal, "the directory is away"))
    }
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_that_cannot_tell_allows_nothing_and_hides_nothing() {
    let rig = super::rig::Rig::new();
    let world = rig.world(Default::default()).await;
    world.deploy(&one(&service("1", &[]))).await.unwrap();
    let builder = compose(&rig.clock).authorizer(Arc::new(Speechless)).scheduler(Arc::new(rig.scheduler));
    let builder = builder.router(Arc::new(rig.router)).volumes(Arc::new(rig.volumes)).state(rig.state);
    let platform = builder.build().await.unwrap();
    for error in [
        platform.production(&world.user).await.unwrap_err(),
        platform.ensure_tenant(&Principal::operator("ops"), "other".parse().unwrap()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("cannot be told just now"), "{error}");
    }
}

/// Asks to be left alone for a minute, and counts who comes all the same.
#[derive(Debug, Default)]
struct Busy(AtomicU64);

#[async_trait]
impl Interceptor for Arc<Busy> {
    async fn before(&self, call: &Call) -> Result<()> {
        if (call.port, call.op) == ("scheduler", "apply") {
            self.0.fetch_add(1, Ordering::SeqCst);
            return Err(Error::unavailable("too much to do").with_retry_after(Duration::from_secs(60)));
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn hearing_late_of_its_own_writes_does_not_make_the_engine_come_too_early() {
    let (rig, busy) = (Rig::new(), Arc::new(Busy::default()));
    rig.state.told_after_ms.store(400, Ordering::SeqCst);
    let (platform, user) = rig.intercepted(busy.clone()).await;
    platform.deploy(&user, &one(&service("1", &[]))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(busy.0.load(Ordering::SeqCst), 1);
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(busy.0.load(Ordering::SeqCst), 2);
    // Somebody who wants something else need not wait.
    platform.deploy(&user, &one(&service("2", &[]))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(busy.0.load(Ordering::SeqCst), 3);
}
