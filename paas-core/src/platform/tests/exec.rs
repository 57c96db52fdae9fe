//! Commands in instances, as callers run them.

use super::*;
use crate::memory::{MemoryExec, Reply};
use crate::model::{AuditQuery, Command, ExecRequest, InstanceId, Resource, Scope};

struct Stage {
    app: AppHandle,
    instance: InstanceId,
    exec: MemoryExec,
    audit: MemoryAuditLog,
    authorizer: MemoryAuthorizer,
    tenant: TenantId,
}

async fn stage() -> Stage {
    let clock = Clock::runtime(Timestamp(1_000_000));
    let (exec, audit, authorizer) = (MemoryExec::new(), MemoryAuditLog::new(), MemoryAuthorizer::new());
    let scheduler = MemoryScheduler::new(clock.clone());
    authorizer.allow(&Principal::operator("ops"), &Action::ALL, Resource::Platform);
    let platform = compose(&clock)
        .scheduler(Arc::new(scheduler.clone()))
        .router(Arc::new(MemoryRouter::new().with_clock(clock.clone())))
        .volumes(Arc::new(MemoryVolumeStore::new()))
        .state(Arc::new(MemoryStateStore::new()))
        .audit(Arc::new(audit.clone()))
        .authorizer(Arc::new(authorizer.clone()))
        .exec(Arc::new(exec.clone()))
        .build()
        .await
        .unwrap();
    let tenant =
        platform.ensure_tenant(&Principal::operator("ops"), TenantName::new("acme").unwrap()).await.unwrap();
    let ann = Principal::user("ann", tenant.id.clone());
    let most: Vec<Action> = Action::ALL.into_iter().filter(|action| *action != Action::Exec).collect();
    authorizer.allow(&ann, &most, Resource::Tenant(tenant.id.clone()));
    let spec = AppSpec::new("shop").unwrap().with_service("web", &ServiceSpec::image("shop:1")).unwrap();
    platform.deploy(&ann, &spec).await.unwrap().finished_within(LONG).await.unwrap();
    let app = platform.production(&ann).await.unwrap().app(&"shop".parse().unwrap()).await.unwrap();
    let workloads =
        scheduler.list(&Scope::testing(Resource::Platform), &crate::port::Selector::All).await.unwrap();
    let instance = workloads[0].instances[0].id.clone();
    exec.add(&workloads[0].key, &instance);
    exec.reply(["whoami", "--now"], Reply { stdout: "root\n".into(), code: 3, ..Reply::default() });
    Stage { app, instance, exec, audit, authorizer, tenant: tenant.id }
}

fn request() -> ExecRequest {
    ExecRequest::new(Command::new(["whoami", "--now"]).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_command_is_run_only_by_who_was_allowed_to_and_is_written_down() {
    let stage = stage().await;
    let denied = stage.app.exec(&name("web"), &stage.instance, &request()).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied);
    assert!(stage.exec.asked().is_empty());
    let ann = Principal::user("ann", stage.tenant.clone());
    stage.authorizer.allow(&ann, &[Action::Exec], Resource::Tenant(stage.tenant.clone()));
    let session = stage.app.exec(&name("web"), &stage.instance, &request()).await.unwrap();
    let result = session.collect(1_000).await.unwrap();
    assert_eq!((&*result.stdout, result.exit.code), (&b"root\n"[..], Some(3)));
    let scope = Scope::testing(Resource::Platform);
    let told = stage.audit.search(&scope, &AuditQuery::default()).await.unwrap();
    let runs = told.iter().filter(|record| record.entry.action == Action::Exec);
    let said: Vec<&str> = runs.map(|record| &*record.entry.summary).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].ends_with("of service web: whoami --now"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_service_does_not_have_is_not_found() {
    let stage = stage().await;
    let ann = Principal::user("ann", stage.tenant.clone());
    stage.authorizer.allow(&ann, &[Action::Exec], Resource::Tenant(stage.tenant.clone()));
    let other = InstanceId::new("i-other").unwrap();
    let outcomes = [
        stage.app.exec(&name("web"), &other, &request()).await,
        stage.app.exec(&name("db"), &stage.instance, &request()).await,
    ];
    for outcome in outcomes {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let endless = request().within(Duration::from_secs(100_000));
    let outcome = stage.app.exec(&name("web"), &stage.instance, &endless).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
}
