//! Releases.

use paas_core::model::OperationState;
use paas_core::{ErrorKind, Result};

use super::client::{Load, Target, request};
use super::{Case, SOON, World, app, assert_none_failed, cases, serving, until, web};

pub(super) const CASES: &[(&str, Case)] = cases![
    services_start_after_what_they_need,
    a_rolling_release_loses_no_request,
    a_canary_through_the_gateway_loses_no_request,
    a_canary_whose_requests_fail_is_taken_back,
    a_release_that_crashes_tells_the_last_words_and_goes_back,
    a_task_runs_before_the_release,
    volumes_outlive_a_release,
    a_broken_release_with_volumes_goes_back,
    an_image_that_is_missing_is_named,
];

async fn inside(world: &World) -> Result<Target> {
    let (ip, port) = world.address().await?;
    Ok(Target { ip, port, host: "web".into(), keeps: false })
}

/// Waits until one version answers all requests.
async fn all_answer(target: &Target, version: &str) -> Result<()> {
    let (_, _) = until("one version answers", || async {
        let mut all = true;
        for _ in 0..20 {
            all &= request(target).await.is_ok_and(|own| own == version);
        }
        Ok(all.then_some(()))
    })
    .await?;
    Ok(())
}

async fn services_start_after_what_they_need() -> Result<()> {
    let world = World::new().await?;
    let mut front = serving("1", 1);
    front.needs = vec!["web".parse()?];
    let spec = app(&serving("1", 2)).with_service("front", &front)?;
    let operation = world.deploy(&spec).await?;
    let released: Vec<String> = operation
        .events
        .iter()
        .filter(|event| event.text == "released")
        .filter_map(|event| event.service.as_ref().map(ToString::to_string))
        .collect();
    assert_eq!(released, ["web", "front"]);
    world.end().await
}

async fn a_rolling_release_loses_no_request() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 2))).await?;
    let target = inside(&world).await?;
    until("the first answer", || async { Ok(request(&target).await.ok()) }).await?;
    let load = Load::start(&target, 4);
    world.deploy(&app(&serving("2", 2))).await?;
    all_answer(&target, "2").await?;
    let (answered, failed) = load.end().await;
    assert_none_failed(&answered, &failed);
    assert!(answered["1"] > 0 && answered["2"] > 0, "{answered:?}");
    world.end().await
}

async fn a_canary_through_the_gateway_loses_no_request() -> Result<()> {
    let world = World::new().await?;
    let host = format!("{}.example.com", world.name);
    let release = |version: &str| {
        let mut service = serving(version, 2);
        service.domain.push(host.parse().unwrap());
        service.release = Some(serde_json::from_str(r#"{ "canary": ["20%"], "approve": true }"#).unwrap());
        service
    };
    world.deploy(&app(&release("1"))).await?;
    let target = Target { ip: "172.30.0.1".into(), port: 80, host: host.clone(), keeps: true };
    until("the first answer", || async { Ok(request(&target).await.ok()) }).await?;
    let load = Load::start(&target, 4);
    let operation = world.platform.deploy(&world.user, &app(&release("2"))).await?;
    until("the new version answers", || async {
        Ok(request(&target).await.ok().filter(|version| version == "2"))
    })
    .await?;
    let mut new = 0;
    for _ in 0..500 {
        new += u32::from(request(&target).await.is_ok_and(|version| version == "2"));
    }
    assert!((70..=130).contains(&new), "{new} of 500 where 100 should be");
    until("it waits for an approval", || async {
        Ok(operation.signal(paas_core::model::Signal::Approve).await.ok())
    })
    .await?;
    assert_eq!(operation.finished_within(SOON).await?.state, OperationState::Succeeded);
    all_answer(&target, "2").await?;
    let (answered, failed) = load.end().await;
    assert_none_failed(&answered, &failed);
    world.end().await
}

async fn a_canary_whose_requests_fail_is_taken_back() -> Result<()> {
    let world = World::new().await?;
    let host = format!("{}.example.com", world.name);
    let release = |version: &str, mode: &str| {
        let mut service = serving(version, 1);
        service.domain.push(host.parse().unwrap());
        service.env.insert("MODE".into(), mode.into());
        let release = r#"{ "canary": ["20%"], "approve": true, "abort_if": [{ "errors": "> 1%" }] }"#;
        service.release = Some(serde_json::from_str(release).unwrap());
        service
    };
    world.deploy(&app(&release("1", "serve"))).await?;
    let target = Target { ip: "172.30.0.1".into(), port: 80, host: host.clone(), keeps: true };
    until("the first answer", || async { Ok(request(&target).await.ok()) }).await?;
    let load = Load::start(&target, 2);
    let error = world.deploy(&app(&release("2", "failing"))).await.unwrap_err();
    let (answered, failed) = load.end().await;
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.to_string().contains("requests failed, more than 1%"), "{error:?}");
    assert!(answered["1"] > 0 && !failed.is_empty(), "{answered:?}, {} failed", failed.len());
    all_answer(&target, "1").await?;
    world.end().await
}

async fn a_release_that_crashes_tells_the_last_words_and_goes_back() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    let mut broken = serving("2", 1);
    broken.env.insert("MODE".into(), "exit".into());
    broken.env.insert("CODE".into(), "3".into());
    let error = world.deploy(&app(&broken)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    let said = format!("{error:?}");
    assert!(said.contains("last words") && said.contains('3'), "{said}");
    let target = inside(&world).await?;
    assert_eq!(request(&target).await.as_deref(), Ok("1"));
    world.end().await
}

async fn a_task_runs_before_the_release() -> Result<()> {
    let world = World::new().await?;
    let mut service = serving("1", 1);
    service.before_release = Some("/instance".parse()?);
    // The task is the same program in the same environment: it ends there.
    service.env.insert("MODE".into(), "exit".into());
    service.env.insert("CODE".into(), "4".into());
    let error = world.deploy(&app(&service)).await.unwrap_err();
    let said = format!("{error:?}");
    assert!(said.contains("task") && said.contains('4'), "{said}");
    world.end().await
}

async fn volumes_outlive_a_release() -> Result<()> {
    let world = World::new().await?;
    let with = |version: &str| {
        let mut service = serving(version, 1);
        service.volumes.insert("own".parse().unwrap(), "1MiB".parse().unwrap());
        service.env.insert("DATA".into(), "/data/own".into());
        service
    };
    world.deploy(&app(&with("1"))).await?;
    world.deploy(&app(&with("2"))).await?;
    let volumes = world.shop().await?.volumes().await?;
    assert_eq!(volumes.len(), 1);
    let explained = world.shop().await?.status().await?;
    assert!(explained.services.iter().any(|service| service.name == web()), "{explained:?}");
    world.end().await
}

async fn an_image_that_is_missing_is_named() -> Result<()> {
    let world = World::new().await?;
    let mut service = serving("1", 1);
    service.image = Some("testbed.local/missing:1".into());
    service.release = Some(serde_json::from_str(r#"{ "strategy": "rolling", "deadline": "20s" }"#).unwrap());
    let error = world.deploy(&app(&service)).await.unwrap_err();
    assert!(format!("{error:?}").contains("testbed.local/missing:1"), "{error:?}");
    world.end().await
}

async fn a_broken_release_with_volumes_goes_back() -> Result<()> {
    let world = World::new().await?;
    let with = |version: &str, mode: &str| {
        let mut service = serving(version, 2);
        service.volumes.insert("own".parse().unwrap(), "1MiB".parse().unwrap());
        service.env.insert("MODE".into(), mode.into());
        service.release =
            Some(serde_json::from_str(r#"{ "strategy": "ordered", "deadline": "15s" }"#).unwrap());
        service
    };
    world.deploy(&app(&with("1", "serve"))).await?;
    let error = world.deploy(&app(&with("2", "never-ready"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    let target = inside(&world).await?;
    all_answer(&target, "1").await?;
    world.end().await
}
