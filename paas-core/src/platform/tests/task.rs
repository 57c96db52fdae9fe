//! Tasks, before a release and as services of an app.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::model::{Kind, Workload};

fn with_task() -> AppSpec {
    let mut migrate = ServiceSpec::run(["./migrate"]).unwrap();
    migrate.kind = Kind::Task;
    AppSpec::new("shop")
        .unwrap()
        .with_service("migrate", &migrate)
        .unwrap()
        .with_service("web", &service("1", &["migrate"]))
        .unwrap()
}

fn count_task(world: &World) -> Arc<AtomicU64> {
    let runs = Arc::new(AtomicU64::new(0));
    let counted = runs.clone();
    world.scheduler.behave_where(
        move |w: &Workload| {
            if w.labels.service.as_str() == "migrate" {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            false
        },
        Behaviour::healthy(),
    );
    runs
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_once_per_release_not_at_a_start() {
    let world = World::new().await;
    let runs = count_task(&world);
    world.deploy(&with_task()).await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    let shop = world.shop().await;
    shop.stop().await.unwrap().finished_within(LONG).await.unwrap();
    shop.start().await.unwrap().finished_within(LONG).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1, "{}", shop.explain().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_task_is_neither_restarted_nor_scaled() {
    let world = World::new().await;
    world.deploy(&with_task()).await.unwrap();
    let shop = world.shop().await;
    assert_eq!(shop.restart(&name("migrate")).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(shop.scale(&name("migrate"), 2).await.unwrap_err().kind(), ErrorKind::Invalid);
    tokio::time::sleep(LONG).await;
    let status = shop.status().await.unwrap();
    let task = status.service("migrate").unwrap();
    assert!(task.slots.iter().all(|slot| slot.revision.is_none() && slot.instances.is_empty()), "{task:?}");
}

#[tokio::test(start_paused = true)]
async fn an_app_whose_task_succeeded_is_well() {
    let world = World::new().await;
    world.deploy(&with_task()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let text = world.shop().await.explain().await.unwrap().to_string();
    assert!(text.contains("all is well"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn two_migrations_of_a_service_never_run_at_once() {
    let world = World::new().await;
    world.deploy(&one(&service("1", &[]))).await.unwrap();
    world.scheduler.behave_where(
        |w| w.template.command.is_some(),
        Behaviour::healthy().with_startup(Duration::from_secs(60)).with_stop(Duration::from_secs(8)),
    );
    let app = |v: &str| {
        let mut s = service(v, &[]);
        s.before_release = Some("./migrate".parse().unwrap());
        one(&s)
    };
    world.platform.deploy(&world.user, &app("2")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.platform.deploy(&world.user, &app("3")).await.unwrap();
    let mut most = 0;
    for _ in 0..200 {
        let running = world
            .scheduler
            .instances()
            .iter()
            .filter(|(k, i)| {
                matches!(k.role, crate::model::Role::Task(_))
                    && i.state != crate::model::InstanceState::Exited
            })
            .count();
        most = most.max(running);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(most, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_starts_no_task() {
    let world = World::new().await;
    world.deploy(&shop("1", r#""rolling""#)).await.unwrap();
    world.scheduler.behave_by_default(Behaviour::healthy().with_stop(Duration::from_secs(8)));
    world.scheduler.behave_where(
        |w| w.template.command.is_some(),
        Behaviour::healthy().with_startup(Duration::from_secs(60)),
    );
    let mut next = shop("1", r#""rolling""#);
    next.services.get_mut("db").unwrap().before_release = Some("./migrate".parse().unwrap());
    world.platform.deploy(&world.user, &next).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.shop().await.stop().await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..600 {
        for (k, i) in world.scheduler.instances() {
            if matches!(k.role, crate::model::Role::Task(_)) {
                seen.insert((i.id.clone(), k.role.to_string()));
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}
