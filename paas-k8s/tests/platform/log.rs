//! What an app writes, as its developers read it.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use paas_core::Result;
use paas_core::model::{LogTail, ServiceName, TailItem, Timestamp};
use paas_core::platform::AppHandle;

use super::{Case, World, app, cases, serving, web};

pub(super) const CASES: &[(&str, Case)] = cases![what_an_app_writes_is_read_and_followed_over_a_release];

/// Writes three lines to each of its outputs, then serves.
fn printing(version: &str) -> paas_core::model::ServiceSpec {
    let mut service = serving(version, 1);
    service.env.insert("MODE".into(), "print".into());
    service.env.insert("LINES".into(), "3".into());
    service
}

/// What was written by each revision, and the number of that.
type Written = (u64, String);

fn written(revision: u64) -> impl Iterator<Item = Written> {
    let lines = move |to| (0..3).map(move |line| (revision, format!("{to} {line}")));
    ["err", "out"].into_iter().flat_map(lines)
}

/// All lines that are there.
async fn all(shop: &AppHandle, service: Option<&ServiceName>) -> Result<LogTail> {
    Ok(LogTail::since(shop.log_tail(service).await?.resource, Timestamp(0)))
}

/// So many lines, or all that come.
async fn take(items: &mut BoxStream<'static, Result<TailItem>>, most: usize) -> Result<Vec<Written>> {
    let mut found = Vec::new();
    while found.len() < most {
        let Some(item) = items.next().await else { break };
        if let TailItem::Lines(lines) = item? {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            found.extend(lines.entries.iter().map(|line| (line.origin.revision.0, text(&line.line))));
        }
    }
    Ok(found)
}

async fn what_an_app_writes_is_read_and_followed_over_a_release() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&printing("1"))).await?;
    let shop = world.shop().await?;
    let mut items = shop.tail(all(&shop, Some(&web())).await?.and_on()).await?;
    world.deploy(&app(&printing("2"))).await?;
    let mut found = take(&mut items, 12).await?;
    found.sort();
    assert_eq!(found, written(1).chain(written(2)).collect::<Vec<_>>());
    // The first instance may be on its way out, and readable until it is gone.
    let mut there = take(&mut shop.tail(all(&shop, None).await?).await?, usize::MAX).await?;
    there.retain(|(revision, _)| *revision == 2);
    there.sort();
    assert_eq!(there, written(2).collect::<Vec<_>>());
    world.end().await
}
