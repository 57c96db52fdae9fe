//! Requests through the gateway, from before a release until after it.

use std::time::Duration;

use paas_core::model::ServiceSpec;

use crate::Outcome;
use crate::client::{Load, Target, request};
use crate::line::{Goal, line};
use crate::stage::{Stage, app, serving, until};

/// How many requests each shape of a release has to stand.
const REQUESTS: u64 = 17_000;
const CLIENTS: usize = 8;
/// How long the load goes on after a release: instances of before end only then.
const AFTER: Duration = Duration::from_secs(12);

const SHAPES: [(&str, &str); 3] = [
    ("rolling", r#"{ "strategy": "rolling" }"#),
    ("blue-green", r#"{ "strategy": "blue-green", "warm": "0s" }"#),
    ("canary", r#"{ "canary": ["10%", "50%"], "every": "3s", "warm": "0s" }"#),
];

pub(crate) async fn measure() -> Outcome {
    let (mut answered, mut failed) = (0, 0);
    for (shape, release) in SHAPES {
        let stage = Stage::open("release").await?;
        let target = Target {
            ip: "172.30.0.1".into(),
            port: 80,
            host: format!("{}.example.com", stage.name),
            keeps: true,
        };
        let service = |version: usize| -> Outcome<ServiceSpec> {
            let mut service = serving(&version.to_string(), 3);
            service.domain.push(target.host.parse()?);
            service.release = Some(serde_json::from_str(release)?);
            Ok(service)
        };
        stage.release(&app("shop", &service(0)?)).await?;
        until("the first answer", || async { Ok(request(&target).await.ok()) }).await?;
        let (mut own, mut lost, mut releases) = (0, Vec::new(), 0);
        while own < REQUESTS {
            let load = Load::start(&target, CLIENTS);
            releases += 1;
            stage.release(&app("shop", &service(releases)?)).await?;
            tokio::time::sleep(AFTER).await;
            let (versions, errors) = load.end().await;
            let is_over = versions.contains_key(&releases.to_string());
            assert!(is_over, "the new version has answered nothing: {versions:?}");
            own += versions.values().sum::<u64>();
            lost.extend(errors);
        }
        let name = format!("{shape}, {releases} releases: failed of {} requests", own + lost.len() as u64);
        line(&name, lost.len() as f64, None, Goal::AtMost(0.0));
        if let Some(first) = lost.first() {
            println!("    the first: {first}");
        }
        (answered, failed) = (answered + own, failed + lost.len());
        stage.end().await?;
    }
    line("requests in all", (answered + failed as u64) as f64, None, Goal::AtLeast(50_000.0));
    Ok(())
}
