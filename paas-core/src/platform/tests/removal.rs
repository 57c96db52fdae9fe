//! Whoever asks while an app is just being forgotten.

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::guard::{Call, Guard, Interceptor};
use crate::platform::{AppHandle, OperationHandle};

/// Removes the app once more when its first record goes.
#[derive(Debug, Default)]
struct Second {
    app: Mutex<Option<AppHandle>>,
    operation: Mutex<Option<OperationHandle>>,
}

#[async_trait]
impl Interceptor for Arc<Second> {
    async fn before(&self, call: &Call) -> Result<()> {
        if (call.port, call.op) == ("state_store", "delete") {
            let app = self.app.lock().unwrap().take();
            if let Some(app) = app {
                let operation = app.remove().await?;
                *self.operation.lock().unwrap() = Some(operation);
            }
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_asked_for_twice_ends_twice() {
    let (clock, second) = (Clock::runtime(Timestamp(1_000_000)), Arc::new(Second::default()));
    let platform = compose(&clock)
        .scheduler(Arc::new(MemoryScheduler::new(clock.clone())))
        .router(Arc::new(MemoryRouter::new()))
        .volumes(Arc::new(MemoryVolumeStore::new()))
        .state(Arc::new(MemoryStateStore::new()))
        .guard(Guard::default().interceptor(second.clone()))
        .build()
        .await
        .unwrap();
    let operator = Principal::operator("ops");
    let tenant = platform.ensure_tenant(&operator, TenantName::new("acme").unwrap()).await.unwrap();
    let user = Principal::user("ann", tenant.id);
    let spec = AppSpec::new("shop").unwrap().with_service("web", &service("1", &[])).unwrap();
    platform.deploy(&user, &spec).await.unwrap().finished_within(LONG).await.unwrap();
    let shop = platform.production(&user).await.unwrap().app(&"shop".parse().unwrap()).await.unwrap();
    *second.app.lock().unwrap() = Some(shop.clone());
    shop.remove().await.unwrap().finished_within(LONG).await.unwrap();
    let again = second.operation.lock().unwrap().take().expect("it was asked for a second time");
    let ended = again.finished_within(LONG).await.unwrap();
    assert_eq!(ended.state, crate::model::OperationState::Succeeded);
}
