//! The cases of [`LogStore`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use paas_core::model::{
    FieldName, Level, LogBatch, LogCount, LogEntry, LogOrder, LogOrigin, LogPlaces, LogPosition, LogQuery,
    LogStream, Resource, RevisionNumber, Timestamp,
};
use paas_core::port::LogStore;
use paas_core::{ErrorKind, Result};

use super::Durability;
use crate::bench::refused;
use crate::case::{Case, cases, suites};
use crate::{Bench, Fixture, World};

/// A log store.
pub trait LogStoreFixture: Fixture<Port = dyn LogStore, Capabilities = Durability> {}
impl<F: Fixture<Port = dyn LogStore, Capabilities = Durability>> LogStoreFixture for F {}

suites!("log_store", LogStore, LogStoreFixture);

type Bed = Bench<dyn LogStoreFixture>;

fn cases() -> Vec<Case<dyn LogStoreFixture>> {
    cases![dyn LogStoreFixture:
        the_backend_says_that_it_can_work,
        what_was_stored_is_found_as_it_was,
        any_bytes_are_found_as_they_were,
        the_newest_lines_come_first,
        the_oldest_lines_come_first_where_that_is_asked_for,
        lines_of_one_moment_come_in_the_order_of_their_output,
        a_batch_that_is_stored_again_is_stored_once,
        of_a_batch_that_overlaps_what_is_new_is_stored,
        where_an_origin_ends_is_told,
        lines_that_were_changed_are_found_in_their_places,
        a_batch_of_which_nothing_is_left_still_ends,
        a_search_of_a_tenant_shows_nothing_of_others,
        a_search_of_everybody_is_refused,
        a_search_of_a_service_shows_no_other,
        a_search_of_an_instance_shows_no_other,
        a_search_takes_times_from_and_before,
        a_search_finds_what_the_filter_matches,
        a_level_is_kept_with_its_line,
        what_is_known_of_a_line_is_kept_and_found,
        pages_give_every_line_once,
        pages_stay_exact_while_lines_arrive,
        a_search_without_a_limit_gives_a_hundred,
        a_search_never_gives_more_than_five_thousand,
        a_histogram_counts_what_matches_by_time,
        a_step_that_is_none_is_refused,
        a_histogram_of_too_many_spans_is_refused,
        the_most_frequent_values_come_first,
        what_is_purged_is_not_found_any_more,
        what_is_purged_does_not_come_back_with_its_batch,
        a_purged_tenant_is_gone_and_no_other,
        lines_survive_a_restart needs durable,
    ]
}

const START: Timestamp = Timestamp(1_800_000_000_000);

fn origin(world: &World) -> Result<LogOrigin> {
    let instance = world.instance();
    let origin = LogOrigin::new(&world.service_resource(), RevisionNumber(3), instance, LogStream::Stdout);
    origin.ok_or_else(|| paas_core::Error::internal("a world has services"))
}

/// Lines of an origin, the first at this offset of its output and second of time, each a second later.
fn batch(origin: &LogOrigin, offset: u64, second: u64, lines: &[&str]) -> LogBatch {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut batch = LogBatch::new(origin.clone(), Bytes::from(text), START, LogPosition::offset(1, offset));
    // A line may hold newlines.
    let ends = lines.iter().scan(0, |end, line| {
        *end += line.len() as u32 + 1;
        Some(*end)
    });
    batch.starts = std::iter::once(0).chain(ends).take(lines.len()).collect();
    batch.times.truncate(lines.len());
    let seconds = (second..).take(batch.times.len());
    batch.times = seconds.map(|second| START + Duration::from_secs(second)).collect();
    batch
}

async fn store(bed: &Bed, batches: &[LogBatch]) -> Result<()> {
    bed.port.append(&bed.world.platform(), batches).await
}

fn all(bed: &Bed) -> LogQuery {
    LogQuery::of(Resource::Tenant(bed.world.tenant.clone()))
}

async fn search(bed: &Bed, query: &LogQuery) -> Result<Vec<LogEntry>> {
    Ok(bed.port.search(&bed.world.platform(), query).await?.entries)
}

fn texts(entries: &[LogEntry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.line).into_owned()).collect()
}

async fn found(bed: &Bed, query: &LogQuery) -> Result<Vec<String>> {
    Ok(texts(&search(bed, query).await?))
}

async fn the_backend_says_that_it_can_work(bed: Bed) -> Result<()> {
    bed.port.check().await
}

async fn what_was_stored_is_found_as_it_was(bed: Bed) -> Result<()> {
    let origin = origin(&bed.world)?;
    store(&bed, &[batch(&origin, 40, 7, &["one"])]).await?;
    let entries = search(&bed, &all(&bed)).await?;
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(*entry.origin, origin);
    assert_eq!((entry.position, entry.level), (LogPosition::offset(1, 40), None));
    assert_eq!((entry.time, &entry.line[..]), (START + Duration::from_secs(7), &b"one"[..]));
    Ok(())
}

async fn any_bytes_are_found_as_they_were(bed: Bed) -> Result<()> {
    let lines: [&[u8]; 5] = [b"", b"\0\xff\xfe\r", "größe 😀".as_bytes(), b"\x1b[31mred", &[b'x'; 70_000]];
    let text = lines.map(|line| [line, b"\n"].concat()).concat();
    let position = LogPosition::offset(1, 0);
    store(&bed, &[LogBatch::new(origin(&bed.world)?, text.into(), START, position)]).await?;
    let mut query = all(&bed);
    query.order = LogOrder::Oldest;
    let entries = search(&bed, &query).await?;
    let given: Vec<&[u8]> = entries.iter().map(|entry| &entry.line[..]).collect();
    assert_eq!(given, lines);
    Ok(())
}

async fn the_newest_lines_come_first(bed: Bed) -> Result<()> {
    let (first, second) = (origin(&bed.world)?, origin(&bed.world)?);
    store(&bed, &[batch(&first, 0, 0, &["0", "1", "2"]), batch(&second, 0, 1, &["1b", "2b"])]).await?;
    store(&bed, &[batch(&first, 6, 5, &["5"])]).await?;
    store(&bed, &[batch(&second, 6, 4, &["4b"])]).await?;
    let given = found(&bed, &all(&bed)).await?;
    let seconds: Vec<&str> = given.iter().map(|text| &text[..1]).collect();
    assert_eq!(seconds, ["5", "4", "2", "2", "1", "1", "0"]);
    Ok(())
}

async fn the_oldest_lines_come_first_where_that_is_asked_for(bed: Bed) -> Result<()> {
    let origin = origin(&bed.world)?;
    store(&bed, &[batch(&origin, 0, 0, &["0", "1", "2"]), batch(&origin, 6, 3, &["3"])]).await?;
    let mut query = all(&bed);
    query.order = LogOrder::Oldest;
    assert_eq!(found(&bed, &query).await?, ["0", "1", "2", "3"]);
    Ok(())
}

async fn lines_of_one_moment_come_in_the_order_of_their_output(bed: Bed) -> Result<()> {
    let (text, position) = ("a\nb\nc\n", LogPosition::offset(1, 0));
    store(&bed, &[LogBatch::new(origin(&bed.world)?, text.into(), START, position)]).await?;
    assert_eq!(found(&bed, &all(&bed)).await?, ["c", "b", "a"]);
    Ok(())
}

async fn a_batch_that_is_stored_again_is_stored_once(bed: Bed) -> Result<()> {
    let origin = origin(&bed.world)?;
    let batches = [batch(&origin, 0, 0, &["0", "1"]), batch(&origin, 4, 2, &["2"])];
    for _ in 0..3 {
        store(&bed, &batches).await?;
    }
    store(&bed, &batches[..1]).await?;
    assert_eq!(found(&bed, &all(&bed)).await?, ["2", "1", "0"]);
    Ok(())
}

async fn of_a_batch_that_overlaps_what_is_new_is_stored(bed: Bed) -> Result<()> {
    let origin = origin(&bed.world)?;
    store(&bed, &[batch(&origin, 0, 0, &["0", "1"])]).await?;
    // Whoever read it again did so later.
    store(&bed, &[batch(&origin, 2, 11, &["1", "2"])]).await?;
    assert_eq!(found(&bed, &all(&bed)).await?, ["2", "1", "0"]);
    Ok(())
}

async fn where_an_origin_ends_is_told(bed: Bed) -> Result<()> {
    let (first, second) = (origin(&bed.world)?, origin(&bed.world)?);
    let ends = async |resource| bed.port.ends(&bed.world.platform(), &resource).await;
    assert_eq!(ends(first.resource()).await?, []);
    store(&bed, &[batch(&first, 10, 0, &["0", "1"]), batch(&second, 0, 0, &["0"])]).await?;
    assert_eq!(ends(first.resource()).await?, [(first.clone(), LogPosition::offset(1, 14))]);
    store(&bed, &[batch(&first, 14, 0, &["2"])]).await?;
    store(&bed, &[batch(&first, 10, 0, &["0"])]).await?;
    assert_eq!(ends(first.resource()).await?, [(first, LogPosition::offset(1, 16))]);
    assert_eq!(ends(Resource::Tenant(bed.world.tenant.clone())).await?.len(), 2);
    assert_eq!(ends(Resource::Tenant(bed.world.other.clone())).await?, []);
    Ok(())
}

/// The same lines, as what is left of longer ones: each began at one of these offsets, and all of them ended there.
fn changed(mut batch: LogBatch, offsets: &[u64], end: u64) -> LogBatch {
    let lines = offsets.iter().map(|offset| LogPosition::offset(1, *offset)).collect();
    batch.places = Some(LogPlaces { lines, end: LogPosition::offset(1, end) });
    batch
}

async fn lines_that_were_changed_are_found_in_their_places(bed: Bed) -> Result<()> {
    let origin = origin(&bed.world)?;
    let first = changed(batch(&origin, 0, 0, &["a", "b\n  of two"]), &[0, 20], 90);
    store(&bed, std::slice::from_ref(&first)).await?;
    let overlapping = changed(batch(&origin, 20, 1, &["b", "c"]), &[20, 90], 100);
    store(&bed, &[first, overlapping]).await?;
    let mut query = all(&bed);
    query.order = LogOrder::Oldest;
    let entries = search(&bed, &query).await?;
    let places: Vec<_> = entries.iter().map(|entry| entry.position.sequence).collect();
    assert_eq!(
        (texts(&entries), places),
        (vec!["a".into(), "b\n  of two".into(), "c".into()], vec![0, 20, 90])
    );
    let ends = bed.port.ends(&bed.world.platform(), &origin.resource()).await?;
    assert_eq!(ends, [(origin, LogPosition::offset(1, 100))]);
    Ok(())
}

async fn a_batch_of_which_nothing_is_left_still_ends(bed: Bed) -> Result<()> {
    let origin = origin(&bed.world)?;
    let nothing = changed(batch(&origin, 0, 0, &[]), &[], 50);
    store(&bed, &[nothing.clone(), nothing]).await?;
    let tail = changed(batch(&origin, 50, 0, &["a"]), &[50], 80);
    store(&bed, &[tail.clone(), changed(batch(&origin, 50, 0, &["a"]), &[50], 95)]).await?;
    assert_eq!(found(&bed, &all(&bed)).await?, ["a"]);
    let ends = bed.port.ends(&bed.world.platform(), &origin.resource()).await?;
    assert_eq!(ends, [(origin, LogPosition::offset(1, 95))]);
    Ok(())
}

async fn a_search_of_a_tenant_shows_nothing_of_others(bed: Bed) -> Result<()> {
    let others = bed.world.of_other();
    store(&bed, &[batch(&origin(&others)?, 0, 0, &["secret"]), batch(&origin(&bed.world)?, 0, 0, &["own"])])
        .await?;
    assert_eq!(found(&bed, &all(&bed)).await?, ["own"]);
    let other = LogQuery::of(Resource::Tenant(bed.world.other.clone()));
    assert_eq!(found(&bed, &other).await?, ["secret"]);
    for query in ["*", "-own", "own OR secret", "/.*/", "-level:>=trace"] {
        let given = found(&bed, &all(&bed).matching(query.parse()?)).await?;
        assert!(given.iter().all(|line| line == "own"), "{query}: {given:?}");
    }
    Ok(())
}

async fn a_search_of_everybody_is_refused(bed: Bed) -> Result<()> {
    let (query, scope) = (LogQuery::of(Resource::Platform), bed.world.platform());
    refused(bed.port.search(&scope, &query).await, ErrorKind::Invalid);
    refused(bed.port.histogram(&scope, &query, Duration::from_secs(1)).await, ErrorKind::Invalid);
    refused(bed.port.top(&scope, &query, &FieldName::new("a")?, 5).await, ErrorKind::Invalid);
    Ok(())
}

async fn a_search_of_a_service_shows_no_other(bed: Bed) -> Result<()> {
    let (first, second) = (origin(&bed.world)?, origin(&bed.world)?);
    let elsewhere = origin(&bed.world.another_app())?;
    let lines = [(&first, "first"), (&second, "second"), (&elsewhere, "elsewhere")];
    store(&bed, &lines.map(|(origin, line)| batch(origin, 0, 0, &[line]))).await?;
    assert_eq!(found(&bed, &LogQuery::of(first.resource())).await?, ["first"]);
    let mut of_app = found(&bed, &LogQuery::of(bed.world.app_resource())).await?;
    of_app.sort();
    assert_eq!(of_app, ["first", "second"]);
    Ok(())
}

async fn a_search_of_an_instance_shows_no_other(bed: Bed) -> Result<()> {
    let first = origin(&bed.world)?;
    let mut second = first.clone();
    second.instance = bed.world.instance();
    store(&bed, &[batch(&first, 0, 0, &["first"]), batch(&second, 0, 0, &["second"])]).await?;
    let mut query = LogQuery::of(first.resource());
    query.instance = Some(second.instance.clone());
    assert_eq!(found(&bed, &query).await?, ["second"]);
    let named = format!("instance:={}", first.instance);
    assert_eq!(found(&bed, &all(&bed).matching(named.parse()?)).await?, ["first"]);
    Ok(())
}

async fn a_search_takes_times_from_and_before(bed: Bed) -> Result<()> {
    store(&bed, &[batch(&origin(&bed.world)?, 0, 0, &["0", "1", "2", "3"])]).await?;
    let mut query = all(&bed);
    (query.from, query.to) = (START + Duration::from_secs(1), START + Duration::from_secs(3));
    assert_eq!(found(&bed, &query).await?, ["2", "1"]);
    Ok(())
}

async fn a_search_finds_what_the_filter_matches(bed: Bed) -> Result<()> {
    let lines = [
        r#"{"status":500,"msg":"Connection refused"}"#,
        r#"{"status":200,"msg":"health"}"#,
        "status=503 msg=\"upstream timeout\" ms=120",
        "plain error of the service",
    ];
    store(&bed, &[batch(&origin(&bed.world)?, 0, 0, &lines)]).await?;
    for (query, expected) in [
        ("status:5*", &[2, 0][..]),
        ("status:>=500 -timeout", &[0]),
        ("\"connection refused\" OR error", &[3, 0]),
        ("-status:*", &[3]),
        ("/ms=\\d{3}/", &[2]),
        ("*eal*", &[1]),
        ("stream:=stdout revision:3 error", &[3]),
        ("nothing", &[]),
    ] {
        let expected: Vec<&str> = expected.iter().map(|number| lines[*number]).collect();
        assert_eq!(found(&bed, &all(&bed).matching(query.parse()?)).await?, expected, "{query}");
    }
    Ok(())
}

async fn a_level_is_kept_with_its_line(bed: Bed) -> Result<()> {
    let mut batch = batch(&origin(&bed.world)?, 0, 0, &["a", "b", "c"]);
    batch.levels = vec![Some(Level::Info), None, Some(Level::Fatal)];
    store(&bed, &[batch]).await?;
    assert_eq!(found(&bed, &all(&bed).matching("level:>=warn".parse()?)).await?, ["c"]);
    let levels: Vec<_> = search(&bed, &all(&bed)).await?.iter().map(|entry| entry.level).collect();
    assert_eq!(levels, [Some(Level::Fatal), None, Some(Level::Info)]);
    Ok(())
}

async fn what_is_known_of_a_line_is_kept_and_found(bed: Bed) -> Result<()> {
    let lines = ["GET /cart 502", "GET /cart 200", "status=404 by itself"];
    let mut batch = batch(&origin(&bed.world)?, 0, 0, &lines);
    let fields = ["status=502 path=\"/my cart\"", "", "status=500"];
    fields.iter().for_each(|pairs| batch.fields.push(pairs.as_bytes()));
    store(&bed, &[batch]).await?;
    for (query, expected) in [
        // What is known counts before what a line says itself.
        ("status:>=500", &[2, 0][..]),
        ("status:404", &[]),
        ("path:\"my cart\"", &[0]),
        // It is no part of the line.
        ("path", &[]),
        ("/status=50/", &[]),
    ] {
        let expected: Vec<&str> = expected.iter().map(|number| lines[*number]).collect();
        assert_eq!(found(&bed, &all(&bed).matching(query.parse()?)).await?, expected, "{query}");
    }
    let known: Vec<_> = search(&bed, &all(&bed)).await?.into_iter().map(|entry| entry.fields).collect();
    assert_eq!(known, [fields[2], fields[1], fields[0]]);
    let field = FieldName::new("status")?;
    let top = bed.port.top(&bed.world.platform(), &all(&bed), &field, 5).await?;
    assert_eq!(top, [LogCount::new("500", 1), LogCount::new("502", 1)]);
    Ok(())
}

/// All pages of a query, each of at most this many lines.
async fn pages(bed: &Bed, mut query: LogQuery, limit: usize) -> Result<Vec<String>> {
    query.limit = limit;
    let mut given = Vec::new();
    loop {
        let page = bed.port.search(&bed.world.platform(), &query).await?;
        assert!(page.entries.len() <= limit);
        given.extend(texts(&page.entries));
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(given),
        }
    }
}

async fn pages_give_every_line_once(bed: Bed) -> Result<()> {
    let lines: Vec<String> = (0..25).map(|number| format!("{number:02}")).collect();
    let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (first, second) = (origin(&bed.world)?, origin(&bed.world)?);
    // Half of them at one moment.
    let mut same = batch(&second, 0, 5, &texts);
    same.times.fill(START + Duration::from_secs(9));
    store(&bed, &[batch(&first, 0, 0, &texts), same]).await?;
    for order in [LogOrder::Newest, LogOrder::Oldest] {
        let mut query = all(&bed);
        query.order = order;
        let whole = found(&bed, &query).await?;
        assert_eq!(whole.len(), 50);
        for limit in [1, 7, 50] {
            assert_eq!(pages(&bed, query.clone(), limit).await?, whole, "{order:?} by {limit}");
        }
    }
    Ok(())
}

async fn pages_stay_exact_while_lines_arrive(bed: Bed) -> Result<()> {
    let origin = origin(&bed.world)?;
    store(&bed, &[batch(&origin, 0, 0, &["0", "1", "2", "3"])]).await?;
    let mut query = all(&bed);
    query.limit = 2;
    let first = bed.port.search(&bed.world.platform(), &query).await?;
    store(&bed, &[batch(&origin, 8, 4, &["4", "5"])]).await?;
    query.after = first.next;
    assert_eq!(
        (texts(&first.entries), found(&bed, &query).await?),
        (vec!["3".into(), "2".into()], vec!["1".into(), "0".into()])
    );
    Ok(())
}

async fn many(bed: &Bed, count: usize) -> Result<()> {
    let position = LogPosition::offset(1, 0);
    let lines = "x\n".repeat(count);
    store(bed, &[LogBatch::new(origin(&bed.world)?, lines.into(), START, position)]).await
}

async fn a_search_without_a_limit_gives_a_hundred(bed: Bed) -> Result<()> {
    many(&bed, 120).await?;
    assert_eq!(found(&bed, &all(&bed)).await?.len(), 100);
    Ok(())
}

async fn a_search_never_gives_more_than_five_thousand(bed: Bed) -> Result<()> {
    many(&bed, 5_100).await?;
    let mut query = all(&bed);
    query.limit = usize::MAX;
    assert_eq!(found(&bed, &query).await?.len(), 5_000);
    Ok(())
}

async fn a_histogram_counts_what_matches_by_time(bed: Bed) -> Result<()> {
    let (origin, others) = (origin(&bed.world)?, origin(&bed.world.of_other())?);
    let lines = ["a", "b", "a", "a", "b", "a"];
    store(&bed, &[batch(&origin, 0, 1, &lines), batch(&others, 0, 1, &lines)]).await?;
    let query = all(&bed).matching("a".parse()?);
    let spans = bed.port.histogram(&bed.world.platform(), &query, Duration::from_secs(2)).await?;
    let counts: Vec<_> = spans.iter().map(|span| (span.from.since(START).as_secs(), span.count)).collect();
    assert_eq!(counts, [(0, 1), (2, 1), (4, 1), (6, 1)]);
    Ok(())
}

async fn a_step_that_is_none_is_refused(bed: Bed) -> Result<()> {
    for step in [Duration::ZERO, Duration::from_micros(1_500)] {
        let outcome = bed.port.histogram(&bed.world.platform(), &all(&bed), step).await;
        refused(outcome, ErrorKind::Invalid);
    }
    Ok(())
}

async fn a_histogram_of_too_many_spans_is_refused(bed: Bed) -> Result<()> {
    let lines = vec!["x"; 10_001];
    store(&bed, &[batch(&origin(&bed.world)?, 0, 0, &lines)]).await?;
    let histogram = async |seconds| {
        let step = Duration::from_secs(seconds);
        bed.port.histogram(&bed.world.platform(), &all(&bed), step).await
    };
    refused(histogram(1).await, ErrorKind::Invalid);
    assert_eq!(histogram(2).await?.iter().map(|span| span.count).sum::<u64>(), 10_001);
    Ok(())
}

async fn the_most_frequent_values_come_first(bed: Bed) -> Result<()> {
    let lines = [
        "status=500 a",
        "status=200",
        "status=200 a",
        "{\"status\":404}",
        "none",
        "status=404 b",
        "status=7",
    ];
    let others = origin(&bed.world.of_other())?;
    store(&bed, &[batch(&origin(&bed.world)?, 0, 0, &lines), batch(&others, 0, 0, &["status=7 a"])]).await?;
    let top = async |query: &LogQuery, most| {
        let field = FieldName::new("status")?;
        let values = bed.port.top(&bed.world.platform(), query, &field, most).await?;
        Ok(values.into_iter().map(|value| (value.value, value.count)).collect::<Vec<_>>())
    };
    let value = |value: &str, count| (value.to_owned(), count);
    let values = [value("200", 2), value("404", 2), value("500", 1), value("7", 1)];
    assert_eq!(top(&all(&bed), 10).await?, values);
    assert_eq!(top(&all(&bed), 1).await?, values[..1]);
    assert_eq!(top(&all(&bed).matching("a".parse()?), 10).await?, [value("200", 1), value("500", 1)]);
    Ok(())
}

async fn what_is_purged_is_not_found_any_more(bed: Bed) -> Result<()> {
    let (own, other) = (origin(&bed.world)?, origin(&bed.world.of_other())?);
    let lines = ["0", "1", "2", "3"];
    store(&bed, &[batch(&own, 0, 0, &lines), batch(&other, 0, 0, &lines)]).await?;
    let before = Some(START + Duration::from_secs(2));
    for _ in 0..2 {
        bed.port.purge(&bed.world.platform(), &bed.world.tenant, before).await?;
        assert_eq!(found(&bed, &all(&bed)).await?, ["3", "2"]);
    }
    let other = LogQuery::of(Resource::Tenant(bed.world.other.clone()));
    assert_eq!(found(&bed, &other).await?.len(), 4);
    Ok(())
}

async fn what_is_purged_does_not_come_back_with_its_batch(bed: Bed) -> Result<()> {
    let lines = [batch(&origin(&bed.world)?, 0, 0, &["0", "1"])];
    store(&bed, &lines).await?;
    let before = Some(START + Duration::from_secs(1));
    bed.port.purge(&bed.world.platform(), &bed.world.tenant, before).await?;
    store(&bed, &lines).await?;
    assert_eq!(found(&bed, &all(&bed)).await?, ["1"]);
    Ok(())
}

async fn a_purged_tenant_is_gone_and_no_other(bed: Bed) -> Result<()> {
    let (own, other) = (origin(&bed.world)?, origin(&bed.world.of_other())?);
    store(&bed, &[batch(&own, 0, 0, &["own"]), batch(&other, 0, 0, &["other"])]).await?;
    for _ in 0..2 {
        bed.port.purge(&bed.world.platform(), &bed.world.tenant, None).await?;
        assert!(found(&bed, &all(&bed)).await?.is_empty());
    }
    assert_eq!(bed.port.ends(&bed.world.platform(), &own.resource()).await?, []);
    let other = LogQuery::of(Resource::Tenant(bed.world.other.clone()));
    assert_eq!(found(&bed, &other).await?, ["other"]);
    Ok(())
}

async fn lines_survive_a_restart(bed: Bed) -> Result<()> {
    let origin = origin(&bed.world)?;
    let lines = [batch(&origin, 0, 0, &["0", "1"])];
    store(&bed, &lines).await?;
    let bed = bed.reopened().await?;
    assert_eq!(found(&bed, &all(&bed)).await?, ["1", "0"]);
    store(&bed, &lines).await?;
    assert_eq!(found(&bed, &all(&bed)).await?, ["1", "0"]);
    let ends = bed.port.ends(&bed.world.platform(), &origin.resource()).await?;
    assert_eq!(ends, [(origin, LogPosition::offset(1, 4))]);
    Ok(())
}
