//! Nobody waits for somebody else, and whoever is slow reads later.

use std::collections::HashSet;

use super::*;

/// The output of a service of another tenant.
fn of_tenant(number: u32) -> LogOrigin {
    let own = origin();
    let mut other = own.clone();
    other.tenant = format!("t-{number}").parse().unwrap();
    other.app = format!("a-{number}").parse().unwrap();
    other.instance = format!("i-{number}").parse().unwrap();
    other
}

async fn stored_of(bed: &Bed, origin: &LogOrigin) -> Vec<String> {
    let mut query = LogQuery::of(Resource::Tenant(origin.tenant.clone()));
    (query.order, query.limit) = (LogOrder::Oldest, 5_000);
    let page = bed.store.inner.search(&bed.ports.scope, &query).await.unwrap();
    page.entries
        .iter()
        .map(|entry| entry.line.slice(..entry.line.len().min(12)))
        .map(|line| text(&line))
        .collect()
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}

/// Waits until so many lines of an output are stored.
async fn wait_for(bed: &Bed, origin: &LogOrigin, count: usize) -> Vec<String> {
    let stored = async {
        loop {
            let stored = stored_of(bed, origin).await;
            if stored.len() >= count {
                return stored;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(600), stored).await.expect("the lines are stored in time")
}

/// A line of 10 KiB.
fn long(number: u32) -> String {
    format!("{:12}{}", format!("line {number}"), "x".repeat(10_000))
}

fn push_long(bed: &Bed, origin: &LogOrigin, lines: std::ops::Range<u32>) {
    lines.for_each(|number| bed.source.push(origin, long(number)));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_whom_the_store_refuses_holds_up_no_other_and_loses_nothing() {
    let bed = bed("{}");
    let (refused, other) = (of_tenant(1), of_tenant(2));
    bed.store.refuses.lock().unwrap().insert(refused.tenant.clone());
    let _collecting = bed.collect();
    // Much more than may wait for it.
    for round in 0..20 {
        push_long(&bed, &refused, round * 100..round * 100 + 100);
        bed.source.push(&other, format!("line {round}"));
        assert_eq!(wait_for(&bed, &other, round as usize + 1).await.len(), round as usize + 1);
    }
    assert!(stored_of(&bed, &refused).await.is_empty());
    bed.store.refuses.lock().unwrap().clear();
    assert_eq!(wait_for(&bed, &refused, 2_000).await, numbered(0..2_000));
    push_long(&bed, &refused, 2_000..2_100);
    assert_eq!(wait_for(&bed, &refused, 2_100).await, numbered(0..2_100));
}

#[tokio::test(start_paused = true)]
async fn an_app_whose_rules_cannot_be_read_holds_up_no_other() {
    let bed = bed("{}");
    let (broken, other) = (of_tenant(1), of_tenant(2));
    bed.services.unreadable.lock().unwrap().insert(broken.app.clone());
    let _collecting = bed.collect();
    for round in 0..10 {
        bed.source.push(&broken, format!("line {round}"));
        bed.source.push(&other, format!("line {round}"));
        wait_for(&bed, &other, round as usize + 1).await;
    }
    assert!(stored_of(&bed, &broken).await.is_empty());
    bed.services.unreadable.lock().unwrap().clear();
    assert_eq!(wait_for(&bed, &broken, 10).await, numbered(0..10));
}

#[tokio::test(start_paused = true)]
async fn alerts_are_exact_where_an_app_was_held_up() {
    let bed = bed(ALERT);
    let held_up = of_tenant(1);
    let _collecting = bed.collect();
    for (number, line) in ["ERROR 1", "a", "ERROR 2", "b", "ERROR 3", "c", "ERROR 4"].iter().enumerate() {
        if number % 2 == 1 {
            bed.services.unreadable.lock().unwrap().insert(held_up.app.clone());
            bed.services.changes.send(held_up.app.clone()).unwrap();
        }
        bed.source.push(&held_up, line);
        tokio::time::sleep(Duration::from_millis(300)).await;
        bed.services.unreadable.lock().unwrap().clear();
        wait_for(&bed, &held_up, number + 1).await;
    }
    let raised = bed.services.raised.lock().unwrap().clone();
    let last: Vec<_> = raised.iter().map(|(_, alert)| alert.lines.last().unwrap().line.clone()).collect();
    assert_eq!(last, ["ERROR 3"]);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_comes_back_after_a_rest_is_taken_in() {
    let bed = bed(ALERT);
    let _collecting = bed.collect();
    for round in 0..3 {
        bed.source.push(&origin(), "ERROR");
        bed.wait_for(round + 1).await;
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
    assert!(bed.services.raised.lock().unwrap().is_empty());
    (0..3).for_each(|_| bed.source.push(&origin(), "ERROR"));
    bed.wait_for(6).await;
    assert_eq!(bed.services.raised.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_watches_the_same_shares_one_reading() {
    let bed = bed("{}");
    let mut tails = Vec::new();
    for number in 0..50 {
        let filter = format!("line -{number}");
        tails.push(bed.tail(LogTail::follow(service()).matching(filter.parse().unwrap())).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    bed.push(0..60);
    for (number, tail) in tails.iter_mut().enumerate() {
        let expected: Vec<_> =
            (0..60).filter(|own| *own != number).map(|own| format!("line {own}")).collect();
        assert_eq!(lines(tail, 59).await, expected);
    }
    assert_eq!(bed.reading.following.load(Ordering::Relaxed), 1);
    // Whoever reads everything to store it reads for those, too, who come later.
    let _collecting = bed.collect();
    bed.wait_for(60).await;
    tails.clear();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut tail = bed.tail(LogTail::follow(service())).await;
    bed.push(60..70);
    assert_eq!(lines(&mut tail, 10).await, numbered(60..70));
    assert_eq!(bed.reading.following.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_reads_everything_once() {
    let bed = bed("{}");
    let mut tail = bed.tail(LogTail::follow(service())).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut seen = Vec::new();
    for round in 0..20 {
        push_long(&bed, &origin(), round * 100..round * 100 + 100);
        tokio::time::sleep(Duration::from_millis(10)).await;
        if round % 7 == 6 {
            seen.extend(lines(&mut tail, 50).await);
        }
    }
    while seen.len() < 2_000 {
        seen.extend(lines(&mut tail, 1).await);
    }
    let seen: Vec<String> = seen.iter().map(|line| line[..12].trim_end().to_owned()).collect();
    assert_eq!(seen, numbered(0..2_000));
}

#[tokio::test(start_paused = true)]
async fn a_tail_goes_on_where_the_collector_whose_reading_it_shares_ends() {
    let bed = bed("{}");
    let mut collecting = bed.collect();
    bed.push(0..10);
    bed.wait_for(10).await;
    let mut tail = bed.tail(LogTail::since(service(), Timestamp(0)).and_on()).await;
    let mut seen = lines(&mut tail, 10).await;
    for round in 1..10 {
        bed.push(round * 10..round * 10 + 5);
        drop(collecting);
        bed.push(round * 10 + 5..round * 10 + 10);
        seen.extend(lines(&mut tail, 10).await);
        collecting = bed.collect();
    }
    assert_eq!(seen, numbered(0..100));
    drop(collecting);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_shown_the_lines_of_others() {
    let bed = bed("{}");
    let _collecting = bed.collect();
    let origins: Vec<LogOrigin> = (1..9).map(of_tenant).collect();
    let mut tails = Vec::new();
    for own in &origins {
        tails.push(bed.tail(LogTail::follow(own.resource())).await);
    }
    for number in 0..100 {
        origins.iter().for_each(|own| bed.source.push(own, format!("{} {number}", own.tenant)));
    }
    for (own, tail) in origins.iter().zip(&mut tails) {
        let seen: HashSet<String> = lines(tail, 100).await.into_iter().collect();
        assert_eq!(seen, (0..100).map(|number| format!("{} {number}", own.tenant)).collect());
    }
}
