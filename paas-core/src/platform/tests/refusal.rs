//! A backend that refuses what it is asked for.

use async_trait::async_trait;

use super::*;
use crate::guard::{Call, Guard, Interceptor};

/// Refuses to apply workloads, in a cluster's words.
#[derive(Debug)]
struct Policy;

#[async_trait]
impl Interceptor for Policy {
    async fn before(&self, call: &Call) -> Result<()> {
        if (call.port, call.op) == ("scheduler", "apply") {
            return Err(Error::new(ErrorKind::Denied, "the API server refuses: no latest tags here"));
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_backend_refuses_is_told_in_its_own_words() {
    let clock = Clock::runtime(Timestamp(1_000_000));
    let platform = compose(&clock)
        .scheduler(Arc::new(MemoryScheduler::new(clock.clone())))
        .router(Arc::new(MemoryRouter::new()))
        .volumes(Arc::new(MemoryVolumeStore::new()))
        .state(Arc::new(MemoryStateStore::new()))
        .guard(Guard::default().interceptor(Policy))
        .build()
        .await
        .unwrap();
    let operator = Principal::operator("ops");
    let tenant = platform.ensure_tenant(&operator, TenantName::new("acme").unwrap()).await.unwrap();
    let user = Principal::user("ann", tenant.id);
    let spec = AppSpec::new("shop").unwrap().with_service("web", &service("1", &[])).unwrap();
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
