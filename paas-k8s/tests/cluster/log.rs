//! What instances write, while everything changes.

mod tally;

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use paas_core::memory::MemorySecretStore;
use paas_core::model::{
    Command, ExecRequest, InstanceStatus, LogItem, LogPosition, LogSelector, LogStream, RevisionNumber,
    Template, Workload,
};
use paas_core::port::{Exec, LogSource, Scheduler};
use paas_k8s::{Connection, KubeLogSource, KubeScheduler, SchedulerConfig};
use paas_testkit::suite::scheduler::SchedulerFixture;
use paas_testkit::{Fixture, World};

use super::*;
use crate::fixture::logs::post;
use crate::fixture::rooms::broken;
use crate::fixture::scheduler::{Schedulers, listening};
use crate::proxy::{Fault, Proxy, Rule, WATCHES};
use tally::Tally;

cases![
    a_rolled_service_is_read_without_loss_or_doubling,
    the_last_lines_of_a_crashed_container_come_before_those_of_the_next,
    more_than_a_file_holds_is_given_in_full_or_with_a_gap,
    a_reader_that_is_behind_is_told_what_it_missed,
    a_reader_goes_on_where_another_ended,
    a_connection_that_is_cut_again_and_again_costs_no_line,
    a_line_that_is_cut_in_the_middle_is_given_once_and_whole,
    more_instances_than_streams_have_their_turns,
    the_pod_that_takes_the_name_of_another_is_not_it,
];

type Items = BoxStream<'static, Result<LogItem>>;

/// A service that writes, and whoever runs and reads it.
struct Play {
    world: World,
    rooms: Schedulers,
    scheduler: KubeScheduler,
    workload: Workload,
}

async fn scheduler(connection: Connection) -> Result<KubeScheduler> {
    let mut config = SchedulerConfig::default();
    config.drain = Duration::ZERO;
    KubeScheduler::open(connection, Arc::new(MemorySecretStore::default()), config).await
}

/// One that reaches the cluster through a proxy only.
async fn through(proxy: &Proxy) -> Result<KubeScheduler> {
    let file = proxy.kubeconfig();
    let mut config = ConnectionConfig::default().platform(PLATFORM);
    config.kubeconfig = Some(file.path().to_owned());
    scheduler(Connection::connect(config).await?).await
}

/// Writes so many numbered lines a second, each with so many bytes more.
fn counting(rate: u32, pad: usize) -> Template {
    let mut template = listening("count");
    template.env.insert("RATE".into(), rate.to_string());
    template.env.insert("PAD".into(), pad.to_string());
    template.grace = Duration::from_secs(5);
    template
}

/// Writes so many numbered lines to each output at once.
fn printing(lines: u32) -> Template {
    let mut template = listening("print");
    template.env.insert("LINES".into(), lines.to_string());
    template
}

impl Play {
    async fn new(template: Template, replicas: u32) -> Result<Self> {
        let (world, rooms) = (World::new(), Schedulers::default());
        let workload = world.workload(template, replicas)?;
        rooms.prepare(&world, &workload).await?;
        let scheduler = scheduler(connect().await?).await?;
        let play = Self { world, rooms, scheduler, workload };
        play.apply().await?;
        Ok(play)
    }

    async fn apply(&self) -> Result<()> {
        self.scheduler.apply(&self.world.scope(), &self.workload).await.map(drop)
    }

    async fn instances(&self) -> Result<Vec<InstanceStatus>> {
        let listed = self.scheduler.list(&self.world.scope(), &self.world.selector()).await?;
        Ok(listed.into_iter().flat_map(|status| status.instances).collect())
    }

    /// Where its only instance is reached, once it is ready.
    async fn address(&self) -> Result<SocketAddr> {
        loop {
            let ready = self.instances().await?.into_iter().find(InstanceStatus::is_ready);
            if let Some(endpoint) = ready.and_then(|ready| ready.endpoint) {
                return Ok(endpoint.address);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn selector(&self) -> LogSelector {
        LogSelector::follow(self.workload.key.resource())
    }

    async fn read(&self, source: &KubeLogSource, selector: LogSelector) -> Result<Items> {
        source.lines(&self.world.scope(), selector).await
    }

    async fn existing(&self, selector: LogSelector) -> Result<Tally> {
        let source = KubeLogSource::new(&self.scheduler);
        let mut selector = selector;
        selector.follow = false;
        let mut tally = Tally::default();
        tally.take_until(&mut self.read(&source, selector).await?, |_| false).await?;
        Ok(tally)
    }

    async fn end(self) -> Result<()> {
        self.rooms.close().await;
        Ok(())
    }
}

async fn a_rolled_service_is_read_without_loss_or_doubling() -> Result<()> {
    let mut play = Play::new(counting(200, 0), 2).await?;
    let source = KubeLogSource::new(&play.scheduler);
    let mut items = play.read(&source, play.selector()).await?;
    let mut tally = Tally::default();
    tally.take_until(&mut items, |tally| tally.with(50) == 2).await?;
    play.workload.template.env.insert("VERSION".into(), "2".into());
    play.workload.revision = RevisionNumber(2);
    play.apply().await?;
    // The old ones end, each after its last line, and the new ones have written some.
    tally.take_until(&mut items, |tally| tally.ended() == 2 && tally.with(50) == 4).await?;
    tally.assert_exact();
    for (origin, is_over) in tally.origins() {
        assert_eq!(origin.revision, RevisionNumber(if is_over { 1 } else { 2 }));
    }
    play.end().await
}

/// What was written to one of two outputs, which come in any order.
fn of_stream<'a>(lines: &'a [String], word: &str) -> Vec<&'a str> {
    lines.iter().map(String::as_str).filter(|line| line.starts_with(word)).collect()
}

async fn the_last_lines_of_a_crashed_container_come_before_those_of_the_next() -> Result<()> {
    let play = Play::new(printing(200), 1).await?;
    let source = KubeLogSource::new(&play.scheduler);
    let mut items = play.read(&source, play.selector()).await?;
    let mut tally = Tally::default();
    tally.take_until(&mut items, |tally| tally.lines() == 400).await?;
    let address = play.address().await?;
    post(address, "/err", b"last words").await?;
    drop(post(address, "/die", b"").await);
    tally.take_until(&mut items, |tally| tally.lines() == 801).await?;
    assert_eq!(tally.gaps(), 0);
    let (crashed, next) = tally.only().split_at(401);
    let numbered = |word: &str| (0..200).map(|n| format!("{word} {n}")).collect::<Vec<_>>();
    assert_eq!(of_stream(crashed, "out"), numbered("out"));
    assert_eq!(of_stream(crashed, "err"), numbered("err"));
    assert!(crashed.iter().any(|line| line == "last words"));
    assert_eq!(of_stream(next, "out"), numbered("out"));
    assert_eq!(of_stream(next, "err"), numbered("err"));
    // Who comes later gets the same, also from somewhere in the crashed one's output on.
    assert!(play.existing(play.selector()).await?.only() == tally.only());
    let mut selector = play.selector();
    selector.after = vec![tally.after(150)];
    assert!(play.existing(selector).await?.only() == &tally.only()[150..]);
    play.end().await
}

async fn more_than_a_file_holds_is_given_in_full_or_with_a_gap() -> Result<()> {
    // Raw, that is 4 MB, of which a file has 1.
    let play = Play::new(printing(40_000), 1).await?;
    let source = KubeLogSource::new(&play.scheduler);
    let mut items = play.read(&source, play.selector()).await?;
    let mut tally = Tally::default();
    // It serves once all is written. What was thrown away unread shows as a gap before whatever comes later.
    let address = play.address().await?;
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    let later = async {
        loop {
            every_second.tick().await;
            if let Err(error) = post(address, "/out", b"later").await {
                break error;
            }
        }
    };
    tokio::select! {
        read = tally.take_until(&mut items, |tally| tally.ends_with(&["later"])) => read?,
        error = later => return Err(error),
    }
    let is_whole = tally.ends_with(&["out 39999", "err 39999"]);
    assert!(is_whole || tally.gaps() > 0, "lines are missing, and nothing says so");
    tally.assert_exact_between_gaps(&["out", "err"]);
    play.end().await
}

async fn a_reader_that_is_behind_is_told_what_it_missed() -> Result<()> {
    let play = Play::new(counting(1_000, 2_000), 1).await?;
    let source = KubeLogSource::new(&play.scheduler);
    let mut items = play.read(&source, play.selector()).await?;
    let mut tally = Tally::default();
    tally.take_until(&mut items, |tally| tally.lines() >= 100).await?;
    // Nobody reads while the kubelet begins a few files.
    let name = paas_k8s::namespace(PLATFORM, &play.world.tenant, &play.world.environment);
    let pods: Api<Pod> = Api::namespaced(client().await?, &name);
    let stamp = LogParams { limit_bytes: Some(30), timestamps: true, ..LogParams::default() };
    let instance = tally.origins()[0].0.instance.clone();
    let mut files = std::collections::BTreeSet::new();
    while files.len() < 6 {
        files.insert(pods.logs(instance.as_str(), &stamp).await.map_err(broken)?);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let behind = tally.lines();
    tally.take_until(&mut items, |tally| tally.gaps() > 0 && tally.lines() > behind + 3_000).await?;
    tally.assert_exact_between_gaps(&["line"]);
    play.end().await
}

async fn a_reader_goes_on_where_another_ended() -> Result<()> {
    let play = Play::new(counting(500, 0), 2).await?;
    let mut tally = Tally::default();
    for round in 1..=10 {
        // Nothing is known of the one before but its positions.
        let other = scheduler(connect().await?).await?;
        let source = KubeLogSource::new(&other);
        let mut selector = play.selector();
        selector.after = tally.positions();
        let mut items = play.read(&source, selector).await?;
        tally.take_until(&mut items, |tally| tally.with(round * 60) == 2).await?;
    }
    tally.assert_exact();
    play.end().await
}

async fn a_connection_that_is_cut_again_and_again_costs_no_line() -> Result<()> {
    let play = Play::new(counting(500, 0), 2).await?;
    let proxy = Proxy::start(client().await?).await;
    let own = through(&proxy).await?;
    let source = KubeLogSource::new(&own);
    let mut items = play.read(&source, play.selector()).await?;
    let mut tally = Tally::default();
    let mut opened = 0;
    for round in 1..=10 {
        // Both are read again, of which each asks for two outputs, before they are cut off the next time.
        let is_read = |tally: &Tally| {
            opened += proxy.take_calls().iter().filter(|call| call.subresource == "log").count();
            opened >= 4 * round && tally.with(round * 100) == 2
        };
        tally.take_until(&mut items, is_read).await?;
        proxy.cut();
    }
    tally.assert_exact();
    play.end().await
}

async fn a_line_that_is_cut_in_the_middle_is_given_once_and_whole() -> Result<()> {
    // It is over long before the file is full: who was cut off right before a new one cannot know that it has all of the old.
    let play = Play::new(counting(50, 1_000), 1).await?;
    let proxy = Proxy::start(client().await?).await;
    let own = through(&proxy).await?;
    let source = KubeLogSource::new(&own);
    // Each time a little later than before.
    let tears =
        (1..=20).map(|number| Rule::new(&["get"], Fault::Tear(number * 10_007)).about(&["pods"]).times(1));
    proxy.set(tears);
    let mut items = play.read(&source, play.selector()).await?;
    let mut tally = Tally::default();
    tally.take_until(&mut items, |tally| tally.lines() >= 400).await?;
    let opened = proxy.take_calls().iter().filter(|call| call.subresource == "log").count();
    assert!(opened > 20, "nothing was cut: {opened} streams");
    tally.assert_exact();
    play.end().await
}

async fn more_instances_than_streams_have_their_turns() -> Result<()> {
    let play = Play::new(counting(50, 0), 3).await?;
    let mut config = paas_k8s::LogsConfig::default();
    config.streams = 1;
    let source = KubeLogSource::with_config(&play.scheduler, &config);
    let mut items = play.read(&source, play.selector()).await?;
    let mut tally = Tally::default();
    // Each has a turn of ten seconds: all of them twice.
    tally.take_until(&mut items, |tally| tally.with(1_200) == 3).await?;
    tally.assert_exact();
    play.end().await
}

/// The pods of a StatefulSet follow each other under one name, and the watches that tell of it may be behind.
async fn the_pod_that_takes_the_name_of_another_is_not_it() -> Result<()> {
    let mut template = counting(20, 0);
    template.mounts = Schedulers::default().with_volume().mounts;
    let play = Play::new(template, 1).await?;
    play.address().await?;
    let proxy = Proxy::start(client().await?).await;
    let behind = through(&proxy).await?;
    let source = KubeLogSource::new(&behind);
    let mut items = play.read(&source, play.selector()).await?;
    let mut tally = Tally::default();
    tally.take_until(&mut items, |tally| tally.lines() >= 20).await?;
    proxy.set([Rule::new(WATCHES, Fault::Hang)]);
    proxy.cut();
    let old = play.instances().await?.remove(0);
    replaced(&play, old.id.as_str()).await?;
    // The next one writes, and whoever is behind holds it for the one that is gone.
    let read = tally.take_until(&mut items, |_| false);
    drop(tokio::time::timeout(Duration::from_secs(5), read).await);
    tally.assert_exact();
    let mut late = play.selector();
    late.follow = false;
    let mut there = Tally::default();
    there.take_until(&mut play.read(&source, late).await?, |_| false).await?;
    assert_eq!(there.lines(), 0, "{there:?}");
    let request = ExecRequest::new(Command::new(["/instance", "both"])?);
    let refusal = behind.exec(&play.world.scope(), &play.workload.key, &old.id, &request).await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::NotFound, "{refusal:?}");
    play.end().await
}

/// Deletes the pod of an instance, and waits until the next one is ready.
async fn replaced(play: &Play, instance: &str) -> Result<()> {
    let namespace = paas_k8s::namespace(PLATFORM, &play.world.tenant, &play.world.environment);
    let pods: Api<Pod> = Api::namespaced(client().await?, &namespace);
    let name = instance.rsplit_once('-').unwrap().0;
    pods.delete(name, &DeleteParams::default()).await.map_err(broken)?;
    while !play.instances().await?.iter().any(|own| own.is_ready() && own.id.as_str() != instance) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
