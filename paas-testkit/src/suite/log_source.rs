//! The cases of [`LogSource`].

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use paas_core::Result;
use paas_core::model::{
    LogBatch, LogItem, LogLine, LogOrigin, LogPosition, LogSelector, LogStream, Resource,
};
use paas_core::port::LogSource;

use crate::case::{Case, cases, suites};
use crate::{Bench, Fixture, World};

/// What log sources are told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSourceTraits {
    /// Whether it keeps so little that [`LogSourceFixture::overflow`] can exceed it.
    pub bounded: bool,
    /// Whether it tells an instance's two outputs apart; else it gives them as [`LogStream::Combined`].
    pub streams: bool,
    /// Whether positions are byte offsets, so that each batch begins where the last one ended; else they are stamps.
    pub offsets: bool,
}

/// A log source, and instances that write.
pub trait LogSourceFixture: Fixture<Port = dyn LogSource, Capabilities = LogSourceTraits> {
    /// Starts an instance of a new service of the world's app, which writes nothing by itself.
    fn origin<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<LogOrigin>>;

    /// Makes an instance write a line to its origin's stream; the newline is added.
    fn emit<'a>(&'a self, origin: &'a LogOrigin, line: &'a [u8]) -> BoxFuture<'a, Result<()>>;

    /// Makes an instance write more than the source keeps, in lines of at most 1 KiB.
    fn overflow<'a>(&'a self, origin: &'a LogOrigin) -> BoxFuture<'a, Result<()>>;
}

suites!("log_source", LogSource, LogSourceFixture);

type Bed = Bench<dyn LogSourceFixture>;

fn cases() -> Vec<Case<dyn LogSourceFixture>> {
    cases![dyn LogSourceFixture:
        the_backend_says_that_it_can_work,
        lines_that_are_there_are_given_and_the_stream_ends,
        lines_of_an_origin_come_in_order,
        an_origin_tells_whose_lines_they_are,
        any_bytes_are_given_as_they_were,
        an_empty_line_is_a_line,
        a_long_line_is_not_cut,
        a_follower_gets_what_is_written_later,
        a_follower_gets_old_and_new_lines_without_loss_or_doubling,
        a_follower_gets_instances_that_start_later,
        a_follower_waits_while_nothing_is_written,
        two_readers_get_everything_each,
        reading_goes_on_after_a_position_without_loss_or_doubling,
        reading_goes_on_after_any_line_of_a_batch,
        a_line_has_the_same_position_for_every_reader,
        positions_of_an_origin_are_ordered,
        batches_of_an_origin_join needs offsets,
        the_two_streams_of_an_instance_are_told_apart needs streams,
        a_selection_of_an_instance_shows_no_other,
        a_selection_of_a_service_shows_no_other,
        a_selection_of_an_app_shows_all_its_services,
        a_selection_of_a_tenant_shows_nothing_of_others,
        what_made_room_for_newer_lines_shows_as_a_gap needs bounded,
        a_reader_without_a_position_begins_with_the_oldest_line_that_is_there needs bounded,
    ]
}

type Items = BoxStream<'static, Result<LogItem>>;

async fn open(bed: &Bed, selector: LogSelector) -> Result<Items> {
    bed.port.lines(&bed.world.platform(), selector).await
}

async fn emit(bed: &Bed, origin: &LogOrigin, lines: &[&str]) -> Result<()> {
    for line in lines {
        bed.fixture.emit(origin, line.as_bytes()).await?;
    }
    Ok(())
}

fn batches(items: &[LogItem]) -> impl Iterator<Item = &LogBatch> {
    items.iter().filter_map(|item| match item {
        LogItem::Batch(batch) => Some(batch),
        _ => None,
    })
}

fn texts(items: &[LogItem]) -> Vec<String> {
    let lines = batches(items).flat_map(LogBatch::lines);
    lines.map(|line| String::from_utf8_lossy(line.bytes).into_owned()).collect()
}

/// What is there now, once it has at least `lines` lines: what a process wrote takes a moment to arrive.
async fn existing(bed: &Bed, selector: LogSelector, lines: usize) -> Result<Vec<LogItem>> {
    let selector = &selector;
    bed.eventually("the lines are there", || async move {
        let mut selector = selector.clone();
        selector.follow = false;
        let stream = open(bed, selector).await?;
        let items: Vec<Result<LogItem>> = bed.soon("the stream ends", stream.collect()).await?;
        let items = items.into_iter().collect::<Result<Vec<LogItem>>>()?;
        Ok((texts(&items).len() >= lines).then_some(items))
    })
    .await
}

/// The next items of a follower, until it has given `lines` lines.
async fn next(bed: &Bed, stream: &mut Items, lines: usize) -> Result<Vec<LogItem>> {
    let mut items = Vec::new();
    while texts(&items).len() < lines {
        match bed.soon("a line comes", stream.next()).await? {
            Some(item) => items.push(item?),
            None => panic!("the stream ended after {items:?}"),
        }
    }
    Ok(items)
}

async fn the_backend_says_that_it_can_work(bed: Bed) -> Result<()> {
    bed.port.check().await
}

async fn lines_that_are_there_are_given_and_the_stream_ends(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    assert_eq!(texts(&existing(&bed, LogSelector::existing(origin.resource()), 0).await?).len(), 0);
    emit(&bed, &origin, &["one", "two"]).await?;
    let items = existing(&bed, LogSelector::existing(origin.resource()), 2).await?;
    assert_eq!(texts(&items), ["one", "two"]);
    Ok(())
}

async fn lines_of_an_origin_come_in_order(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    let written: Vec<String> = (0..500).map(|n| format!("line {n}")).collect();
    for line in &written {
        bed.fixture.emit(&origin, line.as_bytes()).await?;
    }
    let items = existing(&bed, LogSelector::existing(origin.resource()), 500).await?;
    assert_eq!(texts(&items), written);
    Ok(())
}

async fn an_origin_tells_whose_lines_they_are(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    emit(&bed, &origin, &["one"]).await?;
    let items = existing(&bed, LogSelector::existing(origin.resource()), 1).await?;
    assert!(batches(&items).all(|batch| batch.origin == origin));
    assert_eq!(origin.tenant, bed.world.tenant);
    Ok(())
}

async fn any_bytes_are_given_as_they_were(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    let bytes: Vec<u8> = (0..=u8::MAX).filter(|byte| *byte != b'\n').collect();
    bed.fixture.emit(&origin, &bytes).await?;
    let items = existing(&bed, LogSelector::existing(origin.resource()), 1).await?;
    let lines: Vec<Vec<u8>> =
        batches(&items).flat_map(LogBatch::lines).map(|line| line.bytes.to_vec()).collect();
    assert_eq!(lines, [bytes]);
    Ok(())
}

async fn an_empty_line_is_a_line(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    emit(&bed, &origin, &["one", "", "two"]).await?;
    let items = existing(&bed, LogSelector::existing(origin.resource()), 3).await?;
    assert_eq!(texts(&items), ["one", "", "two"]);
    Ok(())
}

async fn a_long_line_is_not_cut(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    let long = "x".repeat(512 * 1024);
    emit(&bed, &origin, &["before", &long]).await?;
    let items = existing(&bed, LogSelector::existing(origin.resource()), 2).await?;
    assert_eq!(texts(&items).iter().map(String::len).collect::<Vec<_>>(), [6, long.len()]);
    Ok(())
}

async fn a_follower_gets_what_is_written_later(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    let mut stream = open(&bed, LogSelector::follow(origin.resource())).await?;
    for line in ["one", "two"] {
        emit(&bed, &origin, &[line]).await?;
        assert_eq!(texts(&next(&bed, &mut stream, 1).await?), [line]);
    }
    Ok(())
}

async fn a_follower_gets_old_and_new_lines_without_loss_or_doubling(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    emit(&bed, &origin, &["1", "2"]).await?;
    existing(&bed, LogSelector::existing(origin.resource()), 2).await?;
    let mut stream = open(&bed, LogSelector::follow(origin.resource())).await?;
    emit(&bed, &origin, &["3"]).await?;
    let mut items = next(&bed, &mut stream, 3).await?;
    emit(&bed, &origin, &["4"]).await?;
    items.extend(next(&bed, &mut stream, 1).await?);
    assert_eq!(texts(&items), ["1", "2", "3", "4"]);
    Ok(())
}

async fn a_follower_gets_instances_that_start_later(bed: Bed) -> Result<()> {
    let mut stream = open(&bed, LogSelector::follow(bed.world.app_resource())).await?;
    for _ in 0..2 {
        let origin = bed.fixture.origin(&bed.world).await?;
        emit(&bed, &origin, &["hello"]).await?;
        let items = next(&bed, &mut stream, 1).await?;
        assert!(batches(&items).all(|batch| batch.origin == origin));
    }
    Ok(())
}

async fn a_follower_waits_while_nothing_is_written(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    emit(&bed, &origin, &["one"]).await?;
    let mut stream = open(&bed, LogSelector::follow(origin.resource())).await?;
    next(&bed, &mut stream, 1).await?;
    while let Some(item) = stream.next().now_or_never() {
        assert!(!matches!(item, None | Some(Ok(LogItem::Batch(_)))), "{item:?}");
    }
    Ok(())
}

async fn two_readers_get_everything_each(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    let mut first = open(&bed, LogSelector::follow(origin.resource())).await?;
    let mut second = open(&bed, LogSelector::follow(origin.resource())).await?;
    emit(&bed, &origin, &["one", "two"]).await?;
    assert_eq!(texts(&next(&bed, &mut first, 2).await?), ["one", "two"]);
    assert_eq!(texts(&next(&bed, &mut second, 2).await?), ["one", "two"]);
    Ok(())
}

fn end(items: &[LogItem]) -> Option<(LogOrigin, LogPosition)> {
    batches(items).last().map(|batch| (batch.origin.clone(), batch.end()))
}

async fn reading_goes_on_after_a_position_without_loss_or_doubling(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    emit(&bed, &origin, &["one", "two"]).await?;
    let items = existing(&bed, LogSelector::existing(origin.resource()), 2).await?;
    let Some((_, position)) = end(&items) else { panic!("no batch") };
    emit(&bed, &origin, &["three"]).await?;
    for follow in [false, true] {
        let mut selector = LogSelector::existing(origin.resource());
        selector.after = vec![(origin.instance.clone(), origin.stream, position)];
        selector.follow = follow;
        let items = if follow {
            next(&bed, &mut open(&bed, selector).await?, 1).await?
        } else {
            existing(&bed, selector, 1).await?
        };
        assert_eq!(texts(&items), ["three"]);
    }
    Ok(())
}

async fn reading_goes_on_after_any_line_of_a_batch(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    emit(&bed, &origin, &["1", "2", "3", "4"]).await?;
    let items = existing(&bed, LogSelector::existing(origin.resource()), 4).await?;
    let begins = |line: LogLine<'_>| line.position;
    let positions: Vec<LogPosition> =
        batches(&items).flat_map(|batch| batch.lines().map(begins).collect::<Vec<_>>()).collect();
    for (given, position) in positions.into_iter().enumerate() {
        // After what comes before a line, that line is the next.
        let mut selector = LogSelector::existing(origin.resource());
        selector.after = vec![(origin.instance.clone(), origin.stream, position)];
        let items = existing(&bed, selector, 4 - given).await?;
        assert_eq!(texts(&items), ["1", "2", "3", "4"][given..], "{position:?}");
    }
    Ok(())
}

async fn a_line_has_the_same_position_for_every_reader(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    let mut follower = open(&bed, LogSelector::follow(origin.resource())).await?;
    let mut seen = Vec::new();
    let positions = |items: &[LogItem]| {
        batches(items).flat_map(LogBatch::lines).map(|line| line.position).collect::<Vec<_>>()
    };
    for line in ["one", "two", "three"] {
        emit(&bed, &origin, &[line]).await?;
        seen.extend(positions(&next(&bed, &mut follower, 1).await?));
    }
    let items = existing(&bed, LogSelector::existing(origin.resource()), 3).await?;
    assert_eq!(positions(&items), seen);
    Ok(())
}

async fn positions_of_an_origin_are_ordered(bed: Bed) -> Result<()> {
    joined(&bed, |last, position| last <= position).await
}

async fn batches_of_an_origin_join(bed: Bed) -> Result<()> {
    joined(&bed, |last, position| last == position).await
}

/// Writes a few lines, and compares where each batch begins with where the last one ended.
async fn joined(bed: &Bed, fits: fn(LogPosition, LogPosition) -> bool) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    let mut stream = open(bed, LogSelector::follow(origin.resource())).await?;
    let mut last: Option<LogPosition> = None;
    for line in ["one", "", "three"] {
        emit(bed, &origin, &[line]).await?;
        let items = next(bed, &mut stream, 1).await?;
        for batch in batches(&items) {
            assert!(last.is_none_or(|last| fits(last, batch.position)), "{last:?} {:?}", batch.position);
            assert!(batch.lines().all(|line| line.position >= batch.position && line.position < batch.end()));
            last = Some(batch.end());
        }
    }
    Ok(())
}

async fn the_two_streams_of_an_instance_are_told_apart(bed: Bed) -> Result<()> {
    let first = bed.fixture.origin(&bed.world).await?;
    let mut second = first.clone();
    second.stream = match first.stream {
        LogStream::Stdout => LogStream::Stderr,
        _ => LogStream::Stdout,
    };
    emit(&bed, &first, &["first"]).await?;
    emit(&bed, &second, &["second"]).await?;
    let items = existing(&bed, LogSelector::existing(first.resource()), 2).await?;
    for batch in batches(&items) {
        let expected = if batch.origin.stream == first.stream { "first" } else { "second" };
        assert!(batch.lines().all(|line| line.bytes == expected.as_bytes()));
    }
    Ok(())
}

async fn a_selection_of_an_instance_shows_no_other(bed: Bed) -> Result<()> {
    let (first, second) = (bed.fixture.origin(&bed.world).await?, bed.fixture.origin(&bed.world).await?);
    emit(&bed, &first, &["first"]).await?;
    emit(&bed, &second, &["second"]).await?;
    existing(&bed, LogSelector::existing(bed.world.app_resource()), 2).await?;
    let mut selector = LogSelector::existing(bed.world.app_resource());
    selector.instance = Some(second.instance.clone());
    assert_eq!(texts(&existing(&bed, selector, 1).await?), ["second"]);
    Ok(())
}

async fn a_selection_of_a_service_shows_no_other(bed: Bed) -> Result<()> {
    let (first, second) = (bed.fixture.origin(&bed.world).await?, bed.fixture.origin(&bed.world).await?);
    emit(&bed, &first, &["first"]).await?;
    emit(&bed, &second, &["second"]).await?;
    existing(&bed, LogSelector::existing(bed.world.app_resource()), 2).await?;
    let items = existing(&bed, LogSelector::existing(first.resource()), 1).await?;
    assert_eq!(texts(&items), ["first"]);
    Ok(())
}

async fn a_selection_of_an_app_shows_all_its_services(bed: Bed) -> Result<()> {
    for line in ["first", "second"] {
        let origin = bed.fixture.origin(&bed.world).await?;
        emit(&bed, &origin, &[line]).await?;
    }
    let items = existing(&bed, LogSelector::existing(bed.world.app_resource()), 2).await?;
    let mut lines = texts(&items);
    lines.sort();
    assert_eq!(lines, ["first", "second"]);
    Ok(())
}

async fn a_selection_of_a_tenant_shows_nothing_of_others(bed: Bed) -> Result<()> {
    let others = bed.fixture.origin(&bed.world.of_other()).await?;
    emit(&bed, &others, &["others"]).await?;
    existing(&bed, LogSelector::existing(others.resource()), 1).await?;
    let own = bed.fixture.origin(&bed.world).await?;
    emit(&bed, &own, &["own"]).await?;
    let selector = LogSelector::existing(Resource::Tenant(bed.world.tenant.clone()));
    assert_eq!(texts(&existing(&bed, selector, 1).await?), ["own"]);
    Ok(())
}

async fn what_made_room_for_newer_lines_shows_as_a_gap(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    emit(&bed, &origin, &["one"]).await?;
    let items = existing(&bed, LogSelector::existing(origin.resource()), 1).await?;
    let Some((_, position)) = end(&items) else { panic!("no batch") };
    bed.fixture.overflow(&origin).await?;
    emit(&bed, &origin, &["last"]).await?;
    until_the_last_is_there(&bed, &origin).await?;
    let mut selector = LogSelector::follow(origin.resource());
    selector.after = vec![(origin.instance.clone(), origin.stream, position)];
    let mut stream = open(&bed, selector).await?;
    let offsets = bed.fixture.capabilities().offsets;
    let (mut at, mut lost, mut gaps) = (position.sequence, 0, 0);
    loop {
        match bed.soon("the last line comes", stream.next()).await? {
            Some(Ok(LogItem::Gap { origin: Some(of), bytes, .. })) if of == origin => {
                lost += bytes;
                at += bytes;
                gaps += 1;
            }
            Some(Ok(LogItem::Batch(batch))) => {
                assert!(gaps > 0, "lines are missing without a gap");
                assert!(!offsets || batch.position.sequence == at, "bytes are missing without a gap");
                at = batch.end().sequence;
                if batch.lines().any(|line| line.bytes == b"last") {
                    break;
                }
            }
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(lost > 0 || !offsets);
    Ok(())
}

async fn a_reader_without_a_position_begins_with_the_oldest_line_that_is_there(bed: Bed) -> Result<()> {
    let origin = bed.fixture.origin(&bed.world).await?;
    emit(&bed, &origin, &["first"]).await?;
    bed.fixture.overflow(&origin).await?;
    emit(&bed, &origin, &["last"]).await?;
    let lines = until_the_last_is_there(&bed, &origin).await?;
    assert_ne!(lines[0], "first");
    Ok(())
}

/// The lines that are there once the source has come to the last one, and with it thrown away the first.
async fn until_the_last_is_there(bed: &Bed, origin: &LogOrigin) -> Result<Vec<String>> {
    bed.eventually("the last line is there", || async {
        let lines = texts(&existing(bed, LogSelector::existing(origin.resource()), 1).await?);
        Ok(lines.last().is_some_and(|line| line == "last").then_some(lines))
    })
    .await
}
