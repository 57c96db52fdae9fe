//! What a queue does that has no room.

use paas_core::model::{LogItem, LogOrigin};
use paas_core::{Error, ErrorKind, Result};

use super::{Bed, Consumer, batch, given, item, nothing_before, origin, publish, subscribe};
use crate::bench::refused;

/// Publishes lines of 64 KiB, told by their numbers, until more than fits was asked for or one is refused. Gives how many were
/// taken.
async fn flood(bed: &Bed, origin: &LogOrigin) -> Result<(usize, Option<Error>)> {
    let count = bed.fixture.too_much().div_ceil(LINE);
    for number in 0..count {
        let line = large(number);
        if let Err(error) = publish(bed, &[batch(origin, (number * LINE) as u64, &[&line])]).await {
            return Ok((number, Some(error)));
        }
    }
    Ok((count, None))
}

/// With its newline.
const LINE: usize = 64 * 1024;

fn large(number: usize) -> String {
    format!("{number:0>width$}", width = LINE - 1)
}

pub(super) async fn a_full_queue_refuses_more(bed: Bed) -> Result<()> {
    let mut consumer = subscribe(&bed, "g").await?;
    let (taken, refusal) = flood(&bed, &origin(&bed.world)?).await?;
    let Some(refusal) = refusal else { panic!("all of {taken} lines were taken") };
    assert_eq!(refusal.kind(), ErrorKind::Throttled, "{refusal:?}");
    assert!(refusal.retry_after().is_some_and(|pause| !pause.is_zero()));
    assert!(taken * LINE >= bed.fixture.too_much() / 2, "only {taken} lines were taken");
    let expected: Vec<String> = (0..taken).map(large).collect();
    assert!(given(&bed, &mut consumer, taken).await? == expected);
    Ok(())
}

pub(super) async fn what_was_refused_fits_once_others_are_committed(bed: Bed) -> Result<()> {
    let (mut consumer, origin) = (subscribe(&bed, "g").await?, origin(&bed.world)?);
    for _ in 0..3 {
        let (taken, refusal) = flood(&bed, &origin).await?;
        assert!(refusal.is_some());
        given(&bed, &mut consumer, taken).await?;
        refused(publish(&bed, &[batch(&origin, 0, &[&large(taken)])]).await, ErrorKind::Throttled);
        consumer.commit().await?;
    }
    nothing_before(&bed, &mut consumer, "last").await
}

pub(super) async fn without_a_group_the_oldest_lines_make_room(bed: Bed) -> Result<()> {
    let (taken, refusal) = flood(&bed, &origin(&bed.world)?).await?;
    assert!(refusal.is_none(), "{refusal:?}");
    let mut consumer = subscribe(&bed, "g").await?;
    let first = given(&bed, &mut consumer, 1).await?;
    let first: usize = first.concat().parse().unwrap_or(0);
    assert!(first > 0 && (taken - first) * LINE >= bed.fixture.too_much() / 4, "begins with {first}");
    let rest: Vec<String> = (first + 1..taken).map(large).collect();
    assert!(given(&bed, &mut consumer, rest.len()).await? == rest);
    Ok(())
}

/// A gap comes first, then the lines after it up to the last.
async fn gap_and_rest(bed: &Bed, consumer: &mut Consumer, taken: usize) -> Result<()> {
    let gap = item(bed, consumer).await?;
    let LogItem::Gap { origin: None, bytes, reason } = gap else { panic!("{gap:?} is no gap") };
    assert!(bytes > 0 && !reason.is_empty());
    assert_eq!(bytes % LINE as u64, 0, "{bytes} bytes are no lines");
    let first = usize::try_from(bytes).unwrap_or(0) / LINE;
    assert!((taken - first) * LINE >= bed.fixture.too_much() / 4, "begins with {first} of {taken}");
    let rest: Vec<String> = (first..taken).map(large).collect();
    assert!(given(bed, consumer, rest.len()).await? == rest, "the gap does not end at {first}");
    Ok(())
}

pub(super) async fn what_made_room_shows_as_a_gap(bed: Bed) -> Result<()> {
    let mut consumer = subscribe(&bed, "g").await?;
    let (taken, refusal) = flood(&bed, &origin(&bed.world)?).await?;
    assert!(refusal.is_none(), "{refusal:?}");
    gap_and_rest(&bed, &mut consumer, taken).await?;
    consumer.commit().await?;
    nothing_before(&bed, &mut consumer, "last").await
}

pub(super) async fn a_gap_that_is_not_committed_comes_again(bed: Bed) -> Result<()> {
    drop(subscribe(&bed, "g").await?);
    let (taken, _) = flood(&bed, &origin(&bed.world)?).await?;
    for _ in 0..2 {
        gap_and_rest(&bed, &mut subscribe(&bed, "g").await?, taken).await?;
    }
    let mut consumer = subscribe(&bed, "g").await?;
    let gap = item(&bed, &mut consumer).await?;
    consumer.commit().await?;
    drop(consumer);
    let LogItem::Gap { bytes, .. } = gap else { panic!("{gap:?} is no gap") };
    let first = usize::try_from(bytes).unwrap_or(0) / LINE;
    assert!(given(&bed, &mut subscribe(&bed, "g").await?, 1).await? == [large(first)]);
    Ok(())
}

pub(super) async fn what_was_committed_leaves_no_gap(bed: Bed) -> Result<()> {
    let (mut consumer, origin) = (subscribe(&bed, "g").await?, origin(&bed.world)?);
    let count = bed.fixture.too_much() / LINE;
    for number in 0..count {
        let line = large(number);
        publish(&bed, &[batch(&origin, (number * LINE) as u64, &[&line])]).await?;
        assert!(given(&bed, &mut consumer, 1).await? == [line]);
        consumer.commit().await?;
    }
    drop(consumer);
    nothing_before(&bed, &mut subscribe(&bed, "g").await?, "last").await
}

pub(super) async fn a_gap_survives_a_restart(bed: Bed) -> Result<()> {
    let (mut consumer, origin) = (subscribe(&bed, "g").await?, origin(&bed.world)?);
    publish(&bed, &[batch(&origin, 0, &[&large(0)])]).await?;
    given(&bed, &mut consumer, 1).await?;
    consumer.commit().await?;
    drop(consumer);
    let (taken, _) = flood(&bed, &origin).await?;
    let bed = bed.reopened().await?;
    gap_and_rest(&bed, &mut subscribe(&bed, "g").await?, taken).await
}
