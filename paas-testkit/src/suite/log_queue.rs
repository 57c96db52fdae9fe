//! The cases of [`LogQueue`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use paas_core::model::{
    Level, LogBatch, LogGroup, LogItem, LogOrigin, LogPosition, LogStream, RevisionNumber, Timestamp,
};
use paas_core::port::{LogConsumer, LogQueue};
use paas_core::{Error, ErrorKind, Result};

use crate::bench::refused;
use crate::case::{Case, cases, suites};
use crate::{Bench, Fixture, World};

/// What log queues are told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogQueueTraits {
    /// Whether what was acknowledged is still there when the same data is opened again.
    pub durable: bool,
    /// Whether it refuses what does not fit.
    pub refuses: bool,
    /// Whether it drops the oldest lines where others do not fit.
    pub drops: bool,
}

/// A log queue.
pub trait LogQueueFixture: Fixture<Port = dyn LogQueue, Capabilities = LogQueueTraits> {
    /// So many bytes of lines do not fit. At least 2 MiB fit, half of this.
    fn too_much(&self) -> usize;
}

mod full;

use full::{
    a_full_queue_refuses_more, a_gap_survives_a_restart, a_gap_that_is_not_committed_comes_again,
    what_made_room_shows_as_a_gap, what_was_committed_leaves_no_gap,
    what_was_refused_fits_once_others_are_committed, without_a_group_the_oldest_lines_make_room,
};

suites!("log_queue", LogQueue, LogQueueFixture);

type Bed = Bench<dyn LogQueueFixture>;
type Consumer = Box<dyn LogConsumer>;

fn cases() -> Vec<Case<dyn LogQueueFixture>> {
    cases![dyn LogQueueFixture:
        the_backend_says_that_it_can_work,
        what_was_published_is_given_as_it_was,
        any_bytes_are_given_as_they_were,
        a_megabyte_of_lines_is_taken,
        to_publish_nothing_is_to_do_nothing,
        lines_of_an_origin_come_in_the_order_in_which_they_were_published,
        lines_of_all_tenants_come,
        a_consumer_waits_while_there_is_nothing,
        a_consumer_gets_what_is_published_later,
        a_wait_that_is_given_up_loses_nothing,
        a_group_begins_with_the_oldest_line,
        groups_get_everything_each,
        what_is_committed_does_not_come_again,
        what_is_not_committed_comes_to_the_next_consumer,
        a_commit_covers_what_was_given_and_no_more,
        a_commit_of_nothing_changes_nothing,
        an_origin_goes_to_one_consumer_of_a_group,
        what_a_group_has_not_committed_is_kept,
        a_group_that_was_removed_begins_anew,
        a_group_with_a_consumer_is_not_removed,
        a_group_that_is_not_there_can_be_removed,
        lines_survive_a_restart needs durable,
        commits_survive_a_restart needs durable,
        groups_survive_a_restart needs durable,
        a_full_queue_refuses_more needs refuses,
        what_was_refused_fits_once_others_are_committed needs refuses,
        without_a_group_the_oldest_lines_make_room needs refuses,
        what_made_room_shows_as_a_gap needs drops,
        a_gap_that_is_not_committed_comes_again needs drops,
        what_was_committed_leaves_no_gap needs drops,
        a_gap_survives_a_restart needs drops & durable,
    ]
}

const START: Timestamp = Timestamp(1_800_000_000_000);

fn origin(world: &World) -> Result<LogOrigin> {
    let instance = world.instance();
    let origin = LogOrigin::new(&world.service_resource(), RevisionNumber(3), instance, LogStream::Stdout);
    origin.ok_or_else(|| Error::internal("a world has services"))
}

fn batch(origin: &LogOrigin, offset: u64, lines: &[&str]) -> LogBatch {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    LogBatch::new(origin.clone(), Bytes::from(text), START, LogPosition::offset(1, offset))
}

async fn publish(bed: &Bed, batches: &[LogBatch]) -> Result<()> {
    bed.port.publish(&bed.world.platform(), batches).await
}

/// One line for each batch of an origin.
async fn say(bed: &Bed, origin: &LogOrigin, lines: &[&str]) -> Result<()> {
    let batches: Vec<_> = lines.iter().zip(0..).map(|(line, at)| batch(origin, at * 100, &[line])).collect();
    publish(bed, &batches).await
}

async fn subscribe(bed: &Bed, group: &str) -> Result<Consumer> {
    bed.port.subscribe(&bed.world.platform(), &LogGroup::new(group)?).await
}

async fn remove(bed: &Bed, group: &str) -> Result<()> {
    bed.port.remove(&bed.world.platform(), &LogGroup::new(group)?).await
}

async fn item(bed: &Bed, consumer: &mut Consumer) -> Result<LogItem> {
    bed.soon("lines come", consumer.next()).await?
}

/// The next batches, until they have that many lines.
async fn batches(bed: &Bed, consumer: &mut Consumer, lines: usize) -> Result<Vec<LogBatch>> {
    let mut all: Vec<LogBatch> = Vec::new();
    while all.iter().map(|batch| batch.starts.len()).sum::<usize>() < lines {
        match item(bed, consumer).await? {
            LogItem::Batch(batch) => all.push(batch),
            other => panic!("{other:?} after {all:?}"),
        }
    }
    Ok(all)
}

fn texts(batches: &[LogBatch]) -> Vec<String> {
    let lines = batches.iter().flat_map(LogBatch::lines);
    lines.map(|line| String::from_utf8_lossy(line.bytes).into_owned()).collect()
}

async fn given(bed: &Bed, consumer: &mut Consumer, lines: usize) -> Result<Vec<String>> {
    Ok(texts(&batches(bed, consumer, lines).await?))
}

/// Nothing comes, however long one waits: what is said after it is the next.
async fn nothing_before(bed: &Bed, consumer: &mut Consumer, line: &str) -> Result<()> {
    publish(bed, &[batch(&origin(&bed.world)?, 0, &[line])]).await?;
    assert_eq!(given(bed, consumer, 1).await?, [line]);
    Ok(())
}

async fn the_backend_says_that_it_can_work(bed: Bed) -> Result<()> {
    bed.port.check().await
}

async fn what_was_published_is_given_as_it_was(bed: Bed) -> Result<()> {
    let origin = origin(&bed.world)?;
    let mut offsets = batch(&origin, 40, &["one", "", "three"]);
    offsets.levels = vec![Some(Level::Warn), None, Some(Level::Fatal)];
    ["", "status=500", "a=\"x y\" b=1"].iter().for_each(|pairs| offsets.fields.push(pairs.as_bytes()));
    offsets.times = vec![START, START + Duration::from_secs(9), START];
    let (text, stamps) = ("a\nb\nc\n", vec![7_000_000_000, 7_000_000_000, 9_000_000_000]);
    let first = LogPosition { incarnation: 2, sequence: 7_000_000_000, index: 3 };
    let stamped = LogBatch::stamped(origin.clone(), text.into(), vec![0, 2, 4], stamps, first);
    publish(&bed, &[offsets.clone(), stamped.clone()]).await?;
    let given = batches(&bed, &mut subscribe(&bed, "g").await?, 6).await?;
    let published = [offsets, stamped];
    let lines = |batches: &[LogBatch]| {
        let all = batches.iter().flat_map(|batch| batch.lines().map(|line| (batch.origin.clone(), line)));
        let own = |(origin, line): (LogOrigin, paas_core::model::LogLine<'_>)| {
            (origin, line.bytes.to_vec(), line.time, line.level, line.position, line.fields.to_vec())
        };
        all.map(own).collect::<Vec<_>>()
    };
    assert_eq!(lines(&given), lines(&published));
    assert_eq!(given.last().map(LogBatch::end), published.last().map(LogBatch::end));
    Ok(())
}

async fn any_bytes_are_given_as_they_were(bed: Bed) -> Result<()> {
    let lines: [&[u8]; 4] = [b"", b"\0\xff\xfe\r", "größe 😀".as_bytes(), &[b'x'; 70_000]];
    let text = lines.map(|line| [line, b"\n"].concat()).concat();
    publish(&bed, &[LogBatch::new(origin(&bed.world)?, text.into(), START, LogPosition::offset(1, 0))])
        .await?;
    let given = batches(&bed, &mut subscribe(&bed, "g").await?, lines.len()).await?;
    let given: Vec<&[u8]> = given.iter().flat_map(LogBatch::lines).map(|line| line.bytes).collect();
    assert_eq!(given, lines);
    Ok(())
}

async fn a_megabyte_of_lines_is_taken(bed: Bed) -> Result<()> {
    let line = "x".repeat((1 << 20) - 1);
    publish(&bed, &[batch(&origin(&bed.world)?, 0, &[&line])]).await?;
    let mut consumer = subscribe(&bed, "g").await?;
    assert!(given(&bed, &mut consumer, 1).await? == [line]);
    nothing_before(&bed, &mut consumer, "next").await
}

async fn to_publish_nothing_is_to_do_nothing(bed: Bed) -> Result<()> {
    let empty = batch(&origin(&bed.world)?, 0, &[]);
    publish(&bed, &[]).await?;
    publish(&bed, &[empty]).await?;
    nothing_before(&bed, &mut subscribe(&bed, "g").await?, "one").await
}

async fn lines_of_an_origin_come_in_the_order_in_which_they_were_published(bed: Bed) -> Result<()> {
    let (first, second) = (origin(&bed.world)?, origin(&bed.world)?);
    let mut consumer = subscribe(&bed, "g").await?;
    let lines: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    for (number, lines) in lines.chunks(3).enumerate() {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let one = |origin| batch(origin, number as u64 * 100, &lines);
        publish(&bed, &[one(&first), one(&second)]).await?;
    }
    let all = batches(&bed, &mut consumer, 120).await?;
    for origin in [&first, &second] {
        let own: Vec<_> = all.iter().filter(|batch| batch.origin == *origin).cloned().collect();
        assert_eq!(texts(&own), lines);
    }
    Ok(())
}

async fn lines_of_all_tenants_come(bed: Bed) -> Result<()> {
    let (own, other) = (origin(&bed.world)?, origin(&bed.world.of_other())?);
    publish(&bed, &[batch(&own, 0, &["own"]), batch(&other, 0, &["other"])]).await?;
    let all = batches(&bed, &mut subscribe(&bed, "g").await?, 2).await?;
    for (origin, line) in [(&own, "own"), (&other, "other")] {
        let of: Vec<_> = all.iter().filter(|batch| batch.origin == *origin).cloned().collect();
        assert_eq!(texts(&of), [line]);
    }
    Ok(())
}

async fn a_consumer_waits_while_there_is_nothing(bed: Bed) -> Result<()> {
    let mut consumer = subscribe(&bed, "g").await?;
    assert!(consumer.next().now_or_never().is_none());
    say(&bed, &origin(&bed.world)?, &["one"]).await?;
    assert_eq!(given(&bed, &mut consumer, 1).await?, ["one"]);
    assert!(consumer.next().now_or_never().is_none());
    Ok(())
}

async fn a_consumer_gets_what_is_published_later(bed: Bed) -> Result<()> {
    let (origin, mut consumer) = (origin(&bed.world)?, subscribe(&bed, "g").await?);
    for (number, line) in ["one", "two"].into_iter().enumerate() {
        // It waits already while that is published.
        let (lines, said) = (given(&bed, &mut consumer, 1), batch(&origin, number as u64 * 10, &[line]));
        let (lines, published) = futures_util::join!(lines, publish(&bed, std::slice::from_ref(&said)));
        published?;
        assert_eq!(lines?, [line]);
    }
    Ok(())
}

async fn a_wait_that_is_given_up_loses_nothing(bed: Bed) -> Result<()> {
    let (origin, mut consumer) = (origin(&bed.world)?, subscribe(&bed, "g").await?);
    let lines: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    say(&bed, &origin, &lines.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let mut all = Vec::new();
    const PIECE: Duration = Duration::from_micros(50);
    let mut patience = Duration::ZERO;
    while all.len() < lines.len() {
        if let Ok(item) = tokio::time::timeout(patience, consumer.next()).await {
            let LogItem::Batch(batch) = item? else { panic!("no batch") };
            all.extend(texts(&[batch]));
        }
        patience = if patience > Duration::from_millis(200) { Duration::ZERO } else { patience * 2 + PIECE };
    }
    assert_eq!(all, lines);
    Ok(())
}

async fn a_group_begins_with_the_oldest_line(bed: Bed) -> Result<()> {
    say(&bed, &origin(&bed.world)?, &["one", "two"]).await?;
    assert_eq!(given(&bed, &mut subscribe(&bed, "g").await?, 2).await?, ["one", "two"]);
    Ok(())
}

async fn groups_get_everything_each(bed: Bed) -> Result<()> {
    let (mut first, mut second) = (subscribe(&bed, "first").await?, subscribe(&bed, "second").await?);
    say(&bed, &origin(&bed.world)?, &["one", "two"]).await?;
    assert_eq!(given(&bed, &mut first, 2).await?, ["one", "two"]);
    first.commit().await?;
    assert_eq!(given(&bed, &mut second, 2).await?, ["one", "two"]);
    Ok(())
}

async fn what_is_committed_does_not_come_again(bed: Bed) -> Result<()> {
    let mut consumer = subscribe(&bed, "g").await?;
    say(&bed, &origin(&bed.world)?, &["one", "two"]).await?;
    given(&bed, &mut consumer, 2).await?;
    consumer.commit().await?;
    drop(consumer);
    nothing_before(&bed, &mut subscribe(&bed, "g").await?, "three").await
}

async fn what_is_not_committed_comes_to_the_next_consumer(bed: Bed) -> Result<()> {
    say(&bed, &origin(&bed.world)?, &["one", "two", "three"]).await?;
    for read in [2, 3, 1] {
        let mut consumer = subscribe(&bed, "g").await?;
        assert_eq!(given(&bed, &mut consumer, read).await?, ["one", "two", "three"][..read]);
    }
    Ok(())
}

async fn a_commit_covers_what_was_given_and_no_more(bed: Bed) -> Result<()> {
    say(&bed, &origin(&bed.world)?, &["one", "two", "three"]).await?;
    for line in ["one", "two", "three"] {
        let mut consumer = subscribe(&bed, "g").await?;
        assert_eq!(given(&bed, &mut consumer, 1).await?, [line]);
        consumer.commit().await?;
    }
    nothing_before(&bed, &mut subscribe(&bed, "g").await?, "four").await
}

async fn a_commit_of_nothing_changes_nothing(bed: Bed) -> Result<()> {
    say(&bed, &origin(&bed.world)?, &["one", "two"]).await?;
    let mut consumer = subscribe(&bed, "g").await?;
    consumer.commit().await?;
    assert_eq!(given(&bed, &mut consumer, 1).await?, ["one"]);
    for _ in 0..2 {
        consumer.commit().await?;
    }
    drop(consumer);
    let mut consumer = subscribe(&bed, "g").await?;
    consumer.commit().await?;
    assert_eq!(given(&bed, &mut consumer, 1).await?, ["two"]);
    Ok(())
}

async fn an_origin_goes_to_one_consumer_of_a_group(bed: Bed) -> Result<()> {
    let (origin, lines) = (origin(&bed.world)?, ["one", "two", "three", "four"]);
    let (mut first, mut second) = (subscribe(&bed, "g").await?, subscribe(&bed, "g").await?);
    say(&bed, &origin, &lines).await?;
    let mut all = [Vec::new(), Vec::new()];
    while all[0].len() + all[1].len() < lines.len() {
        let either = select(first.next(), second.next());
        let (who, item) = match bed.soon("lines come", either).await? {
            Either::Left((item, _)) => (0, item?),
            Either::Right((item, _)) => (1, item?),
        };
        let LogItem::Batch(batch) = item else { panic!("{item:?}") };
        all[who].extend(texts(&[batch]));
    }
    let [of_first, of_second] = &all;
    assert!(of_first.is_empty() || of_second.is_empty(), "{all:?}");
    assert_eq!(all.concat(), lines);
    // Nothing of it was committed, so the other gets all of it.
    let mut other = if of_first.is_empty() {
        drop(second);
        first
    } else {
        drop(first);
        second
    };
    assert_eq!(given(&bed, &mut other, 4).await?, lines);
    Ok(())
}

async fn what_a_group_has_not_committed_is_kept(bed: Bed) -> Result<()> {
    drop(subscribe(&bed, "slow").await?);
    let mut fast = subscribe(&bed, "fast").await?;
    say(&bed, &origin(&bed.world)?, &["one", "two"]).await?;
    given(&bed, &mut fast, 2).await?;
    fast.commit().await?;
    assert_eq!(given(&bed, &mut subscribe(&bed, "slow").await?, 2).await?, ["one", "two"]);
    Ok(())
}

async fn a_group_that_was_removed_begins_anew(bed: Bed) -> Result<()> {
    drop(subscribe(&bed, "other").await?);
    say(&bed, &origin(&bed.world)?, &["one", "two"]).await?;
    let mut consumer = subscribe(&bed, "g").await?;
    given(&bed, &mut consumer, 2).await?;
    consumer.commit().await?;
    drop(consumer);
    remove(&bed, "g").await?;
    assert_eq!(given(&bed, &mut subscribe(&bed, "g").await?, 2).await?, ["one", "two"]);
    Ok(())
}

async fn a_group_with_a_consumer_is_not_removed(bed: Bed) -> Result<()> {
    let mut consumer = subscribe(&bed, "g").await?;
    refused(remove(&bed, "g").await, ErrorKind::Conflict);
    nothing_before(&bed, &mut consumer, "one").await?;
    refused(remove(&bed, "g").await, ErrorKind::Conflict);
    consumer.commit().await
}

async fn a_group_that_is_not_there_can_be_removed(bed: Bed) -> Result<()> {
    remove(&bed, "g").await?;
    drop(subscribe(&bed, "g").await?);
    for _ in 0..2 {
        remove(&bed, "g").await?;
    }
    Ok(())
}

async fn lines_survive_a_restart(bed: Bed) -> Result<()> {
    say(&bed, &origin(&bed.world)?, &["one", "two"]).await?;
    let bed = bed.reopened().await?;
    let mut consumer = subscribe(&bed, "g").await?;
    assert_eq!(given(&bed, &mut consumer, 2).await?, ["one", "two"]);
    nothing_before(&bed, &mut consumer, "three").await
}

async fn commits_survive_a_restart(bed: Bed) -> Result<()> {
    say(&bed, &origin(&bed.world)?, &["one", "two", "three"]).await?;
    let mut consumer = subscribe(&bed, "g").await?;
    given(&bed, &mut consumer, 1).await?;
    consumer.commit().await?;
    given(&bed, &mut consumer, 1).await?;
    drop(consumer);
    let bed = bed.reopened().await?;
    assert_eq!(given(&bed, &mut subscribe(&bed, "g").await?, 2).await?, ["two", "three"]);
    Ok(())
}

async fn groups_survive_a_restart(bed: Bed) -> Result<()> {
    drop(subscribe(&bed, "slow").await?);
    let bed = bed.reopened().await?;
    say(&bed, &origin(&bed.world)?, &["one", "two"]).await?;
    let mut fast = subscribe(&bed, "fast").await?;
    given(&bed, &mut fast, 2).await?;
    fast.commit().await?;
    drop(fast);
    let bed = bed.reopened().await?;
    assert_eq!(given(&bed, &mut subscribe(&bed, "slow").await?, 2).await?, ["one", "two"]);
    nothing_before(&bed, &mut subscribe(&bed, "fast").await?, "three").await
}
