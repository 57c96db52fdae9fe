//! A company's own types for its services and apps: what is the same everywhere is written once, and tested.
#![expect(clippy::print_stdout, reason = "an example talks")]

use std::sync::Arc;
use std::time::Duration;

use paas::memory::{
    MemoryAuditLog, MemoryAuthorizer, MemoryRouter, MemoryScheduler, MemorySecretStore, MemoryStateStore,
    MemoryVolumeStore,
};
use paas::model::{App, AppSpec, Clock, Operation, Principal, Service, ServiceSpec, TenantName};
use paas::{Platform, Result};

/// A Spring Boot service, as this company runs them.
struct SpringBoot {
    jar: &'static str,
    version: String,
    heap_mib: u32,
    needs: Vec<&'static str>,
}

impl Service for SpringBoot {
    fn describe(&self) -> Result<ServiceSpec> {
        let heap = format!("-Xmx{}m", self.heap_mib);
        let mut spec = ServiceSpec::run(["java", &heap, "-jar", self.jar, "--server.port=$PORT"])?;
        spec.port = Some(8080);
        spec.ready = Some("/actuator/health/readiness".parse()?);
        spec.live = Some("/actuator/health/liveness".parse()?);
        spec.grace = Duration::from_secs(30);
        spec.release = Some("blue-green".parse()?);
        spec.env.insert("APP_VERSION".into(), self.version.as_str().into());
        spec.needs = self.needs.iter().map(|need| need.parse()).collect::<Result<_>>()?;
        Ok(spec)
    }
}

/// The web shop.
struct Shop {
    version: String,
}

impl App for Shop {
    fn describe(&self) -> Result<AppSpec> {
        let service =
            |jar, heap_mib, needs| SpringBoot { jar, version: self.version.clone(), heap_mib, needs };
        AppSpec::new("shop")?
            .with_service("orders", &service("orders.jar", 512, vec![]))?
            .with_service("web", &service("web.jar", 256, vec!["orders"]))
    }
}

/// Releases the shop on memory backends, where nothing is run and a minute costs nothing.
async fn release(version: &str) -> Result<Operation> {
    let platform = Platform::builder()
        .scheduler(Arc::new(MemoryScheduler::new(Clock::system())))
        .router(Arc::new(MemoryRouter::new()))
        .volumes(Arc::new(MemoryVolumeStore::new()))
        .state(Arc::new(MemoryStateStore::new()))
        .secrets(Arc::new(MemorySecretStore::new()))
        .audit(Arc::new(MemoryAuditLog::new()))
        .authorizer(Arc::new(MemoryAuthorizer::allow_all()))
        .build()
        .await?;
    let tenant = platform.ensure_tenant(&Principal::operator("ops"), TenantName::new("acme")?).await?;
    let shop = Shop { version: version.to_owned() };
    platform
        .deploy(&Principal::user("ann", tenant.id), &shop)
        .await?
        .finished_within(Duration::from_secs(60))
        .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    for event in release("1.4.0").await?.events {
        let service = event.service.map_or("shop".to_owned(), |service| service.to_string());
        println!("{service:<8} {}", event.text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_of_the_shop_is_probed_and_knows_its_version() {
        let shop = Shop { version: "1.4.0".into() }.describe().unwrap();
        shop.validate().unwrap();
        for service in shop.services.values() {
            assert!(service.ready.is_some() && service.live.is_some());
            assert_eq!(service.env["APP_VERSION"].0, "1.4.0");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn orders_are_released_before_web() {
        let operation = release("1.4.0").await.unwrap();
        let released = operation.events.iter().filter(|event| event.text == "released");
        let order: Vec<_> =
            released.filter_map(|event| event.service.as_ref().map(ToString::to_string)).collect();
        assert_eq!(order, ["orders", "web"]);
    }
}
