//! The cases of [`Notifier`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use paas_core::model::{
    Alert, AlertLine, AppName, Digest, EnvironmentName, Notification, ServiceName, TenantName, Timestamp,
};
use paas_core::port::Notifier;
use paas_core::{Error, ErrorKind, Result};

use crate::bench::refused;
use crate::case::{Case, cases, suites};
use crate::{Bench, Fixture};

/// What notifiers are told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotifierTraits {
    /// Whether whoever is told can say when to come again.
    pub asks: bool,
    /// Whether it waits only so long for an answer.
    pub deadline: bool,
}

/// What whoever is told does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recipient {
    /// It takes everything.
    #[default]
    Takes,
    /// It will never take what comes now.
    Refuses,
    /// It cannot take anything now.
    IsBusy,
    /// It cannot take anything now, and says when it can.
    Asks(Duration),
    /// It does not answer.
    IsSilent,
}

/// A notifier, and somebody who is told.
pub trait NotifierFixture: Fixture<Port = dyn Notifier, Capabilities = NotifierTraits> {
    /// What was taken, each alert once, the oldest first.
    fn taken(&self) -> BoxFuture<'_, Result<Vec<Notification>>>;

    /// What whoever is told does with each call that comes from now on. Only what is declared is asked for.
    fn recipient(&self, recipient: Recipient);
}

suites!("notifier", Notifier, NotifierFixture);

type Bed = Bench<dyn NotifierFixture>;

fn cases() -> Vec<Case<dyn NotifierFixture>> {
    cases![dyn NotifierFixture:
        the_backend_says_that_it_can_work,
        what_is_taken_is_taken_with_all_that_it_says,
        any_text_is_taken,
        an_alert_of_an_app_without_lines_is_taken,
        what_was_taken_may_be_told_again,
        alerts_that_differ_in_their_ids_only_are_taken_each,
        many_are_taken_at_once,
        what_is_never_taken_is_invalid,
        what_is_not_taken_now_may_be_told_later,
        who_cannot_take_it_now_may_say_when needs asks,
        who_does_not_answer_meets_the_deadline needs deadline,
        who_does_not_answer_holds_up_no_other_alert needs deadline,
        a_call_that_is_given_up_harms_no_later_one needs deadline,
    ]
}

const AT: Timestamp = Timestamp(1_800_000_000_123);

/// An alert that nobody else has.
fn alert(bed: &Bed, number: u32) -> Result<Notification> {
    let id = Digest::of(&(bed.world.app.to_string(), number)).to_string();
    let mut alert = Alert::new(id, AT, "oncall".into(), "level:>=error".into());
    (alert.count, alert.within, alert.held_back) = (3, Duration::from_secs(90), 7);
    let [tenant, environment, app] = ["acme", "production", "shop"];
    let (tenant, environment) = (TenantName::new(tenant)?, EnvironmentName::new(environment)?);
    Ok(Notification::new(tenant, environment, AppName::new(app)?, alert))
}

async fn tell(bed: &Bed, notification: &Notification) -> Result<()> {
    bed.port.notify(&bed.world.platform(), notification).await
}

async fn taken(bed: &Bed) -> Result<Vec<Notification>> {
    bed.fixture.taken().await
}

async fn the_backend_says_that_it_can_work(bed: Bed) -> Result<()> {
    bed.port.check().await
}

async fn what_is_taken_is_taken_with_all_that_it_says(bed: Bed) -> Result<()> {
    let mut told = alert(&bed, 1)?;
    told.service = Some(ServiceName::new("web")?);
    told.instance = Some(bed.world.instance());
    for number in 0..3 {
        let mut line = AlertLine::new(AT, bed.world.instance(), format!("ERROR {number}"));
        line.before = vec!["one".into(), "two".into()];
        told.alert.lines.push(line);
    }
    tell(&bed, &told).await?;
    assert_eq!(taken(&bed).await?, [told]);
    Ok(())
}

async fn any_text_is_taken(bed: Bed) -> Result<()> {
    let mut told = alert(&bed, 1)?;
    for text in
        ["", "\"quoted\" \\ {}", "\u{0}\u{1b}[31m\r\n\t", "größer \u{1f4a5} \u{fffd}", &"long ".repeat(2_000)]
    {
        told.alert.lines.push(AlertLine::new(AT, bed.world.instance(), text.to_owned()));
    }
    told.alert.query = "\"a b\" OR /x\\d+/".into();
    tell(&bed, &told).await?;
    assert_eq!(taken(&bed).await?, [told]);
    Ok(())
}

async fn an_alert_of_an_app_without_lines_is_taken(bed: Bed) -> Result<()> {
    let told = alert(&bed, 1)?;
    tell(&bed, &told).await?;
    assert_eq!(taken(&bed).await?, [told]);
    Ok(())
}

async fn what_was_taken_may_be_told_again(bed: Bed) -> Result<()> {
    let told = alert(&bed, 1)?;
    for _ in 0..3 {
        tell(&bed, &told).await?;
    }
    assert_eq!(taken(&bed).await?, [told]);
    Ok(())
}

async fn alerts_that_differ_in_their_ids_only_are_taken_each(bed: Bed) -> Result<()> {
    let told = [alert(&bed, 1)?, alert(&bed, 2)?];
    for one in &told {
        tell(&bed, one).await?;
    }
    assert_eq!(taken(&bed).await?, told);
    Ok(())
}

async fn many_are_taken_at_once(bed: Bed) -> Result<()> {
    let told: Vec<_> = (0..50).map(|number| alert(&bed, number)).collect::<Result<_>>()?;
    join_all(told.iter().map(|one| tell(&bed, one))).await.into_iter().collect::<Result<()>>()?;
    let taken = taken(&bed).await?;
    assert_eq!(taken.len(), told.len());
    assert!(told.iter().all(|one| taken.contains(one)));
    Ok(())
}

async fn what_is_never_taken_is_invalid(bed: Bed) -> Result<()> {
    bed.fixture.recipient(Recipient::Refuses);
    let told = alert(&bed, 1)?;
    refused(tell(&bed, &told).await, ErrorKind::Invalid);
    assert_eq!(taken(&bed).await?, []);
    bed.fixture.recipient(Recipient::Takes);
    let other = alert(&bed, 2)?;
    tell(&bed, &other).await?;
    assert_eq!(taken(&bed).await?, [other]);
    Ok(())
}

/// Why an alert was not taken this time.
async fn not_taken(bed: &Bed, told: &Notification) -> Result<Error> {
    let Err(error) = tell(bed, told).await else { return Err(Error::internal("it was taken")) };
    assert_ne!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert_eq!(taken(bed).await?, []);
    Ok(error)
}

async fn what_is_not_taken_now_may_be_told_later(bed: Bed) -> Result<()> {
    let told = alert(&bed, 1)?;
    bed.fixture.recipient(Recipient::IsBusy);
    for _ in 0..2 {
        not_taken(&bed, &told).await?;
    }
    bed.fixture.recipient(Recipient::Takes);
    tell(&bed, &told).await?;
    assert_eq!(taken(&bed).await?, [told]);
    Ok(())
}

async fn who_cannot_take_it_now_may_say_when(bed: Bed) -> Result<()> {
    let (told, pause) = (alert(&bed, 1)?, Duration::from_secs(77));
    bed.fixture.recipient(Recipient::Asks(pause));
    assert_eq!(not_taken(&bed, &told).await?.retry_after(), Some(pause));
    Ok(())
}

async fn who_does_not_answer_meets_the_deadline(bed: Bed) -> Result<()> {
    let told = alert(&bed, 1)?;
    bed.fixture.recipient(Recipient::IsSilent);
    let error = bed.soon("the deadline is met", not_taken(&bed, &told)).await??;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    bed.fixture.recipient(Recipient::Takes);
    tell(&bed, &told).await?;
    assert_eq!(taken(&bed).await?, [told]);
    Ok(())
}

async fn who_does_not_answer_holds_up_no_other_alert(bed: Bed) -> Result<()> {
    bed.fixture.recipient(Recipient::IsSilent);
    let silent: Vec<_> = (0..20).map(|number| alert(&bed, number)).collect::<Result<_>>()?;
    let mut waiting = join_all(silent.iter().map(|one| tell(&bed, one))).boxed();
    // They are on their way, so that whoever is told treats them as it does now.
    let on_their_way = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(on_their_way.is_err(), "nobody answers, and yet there are outcomes");
    bed.fixture.recipient(Recipient::Takes);
    let told = alert(&bed, 100)?;
    tell(&bed, &told).await?;
    assert!(waiting.now_or_never().is_none());
    assert_eq!(taken(&bed).await?, [told]);
    Ok(())
}

async fn a_call_that_is_given_up_harms_no_later_one(bed: Bed) -> Result<()> {
    let told = alert(&bed, 1)?;
    bed.fixture.recipient(Recipient::IsSilent);
    for _ in 0..3 {
        let given_up = tokio::time::timeout(Duration::from_millis(20), tell(&bed, &told)).await;
        assert!(given_up.is_err());
    }
    bed.fixture.recipient(Recipient::Takes);
    tell(&bed, &told).await?;
    assert_eq!(taken(&bed).await?, [told]);
    Ok(())
}
