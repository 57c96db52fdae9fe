//! The cases of [`Cluster`].

use std::sync::Arc;

use futures_util::future::BoxFuture;
use paas_core::model::{
    ByteSize, CpuQuantity, Drain, EnvironmentId, Node, NodeName, NodeResources, Occupant, Resource, Scope,
};
use paas_core::port::Cluster;
use paas_core::{ErrorKind, Result};

use crate::bench::refused;
use crate::case::{Case, cases, suites};
use crate::{Bench, Fixture};

/// What a fixture puts on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placing {
    /// Something that is started anew elsewhere once it leaves.
    Movable,
    /// The same, under the budget of the case.
    Budgeted,
    /// Something that belongs to the node.
    Daemon,
    /// Something that nothing would start anew.
    Alone,
}

/// A cluster to which a case adds nodes of its own, where nobody else's instances get.
pub trait ClusterFixture: Fixture<Port = dyn Cluster, Capabilities = ()> {
    /// Adds a node of [`capacity`] in [`ZONE`], ready, with the taint [`TAINT`].
    fn node<'a>(&'a self, name: &'a NodeName) -> BoxFuture<'a, Result<()>>;

    /// Makes a node not ready, for [`TROUBLE`].
    fn break_down<'a>(&'a self, name: &'a NodeName) -> BoxFuture<'a, Result<()>>;

    /// Puts something on a node, which was promised [`promised`] and leaves only once the fixture says so, and gives its
    /// [`Occupant::name`]. Only daemons may be promised something else.
    fn place<'a>(&'a self, node: &'a NodeName, what: Placing) -> BoxFuture<'a, Result<String>>;

    /// Lets no more than one of what is [`Placing::Budgeted`] be away at once, once all of it is there, and gives the
    /// budget's name.
    fn budget(&self) -> BoxFuture<'_, Result<String>>;

    /// What was asked to leave has left, and runs elsewhere.
    fn left<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>>;
}

/// What the nodes of cases have.
#[must_use]
pub fn capacity() -> NodeResources {
    NodeResources::new(CpuQuantity { millis: 4_000 }, ByteSize(8 << 30), 20)
}

/// What everything on them was promised.
#[must_use]
pub fn promised() -> NodeResources {
    NodeResources::new(CpuQuantity { millis: 100 }, ByteSize(64 << 20), 1)
}

/// Where the nodes of cases are.
pub const ZONE: &str = "z-1";
/// What keeps others away from them.
pub const TAINT: &str = "paas-sdk.dev/conformance=own";
/// What is said of one that is broken.
pub const TROUBLE: &str = "the disk is on fire";

suites!("cluster", Cluster, ClusterFixture);

type Bed = Bench<dyn ClusterFixture>;

fn cases() -> Vec<Case<dyn ClusterFixture>> {
    cases![dyn ClusterFixture:
        every_node_is_listed_with_what_it_has,
        what_is_promised_is_allocated,
        a_node_that_is_not_ready_says_why,
        a_cordoned_node_is_told_until_it_is_uncordoned,
        a_missing_node_is_not_found,
        draining_an_empty_node_cordons_it_and_is_done,
        draining_asks_what_is_there_to_leave_and_is_done_once_it_has,
        a_budget_is_honoured_and_named,
        what_belongs_to_the_node_stays,
        what_nothing_would_start_anew_is_left_alone,
        draining_a_node_touches_no_other,
    ]
}

fn scope() -> Scope {
    Scope::testing(Resource::Platform)
}

/// A node's name that no other case has.
fn name(bed: &Bed) -> Result<NodeName> {
    NodeName::new(format!("conformance-{}", EnvironmentId::generate(&bed.world.ids)))
}

async fn node(bed: &Bed) -> Result<NodeName> {
    let name = name(bed)?;
    bed.fixture.node(&name).await?;
    Ok(name)
}

/// How a node is told of, once it is as `wanted` says.
async fn told(bed: &Bed, name: &NodeName, what: &str, wanted: fn(&Node) -> bool) -> Result<Node> {
    bed.eventually(what, async || {
        let found = bed.port.nodes(&scope()).await?.into_iter().find(|node| node.name == *name);
        Ok(found.filter(wanted))
    })
    .await
}

async fn drained(bed: &Bed, name: &NodeName) -> Result<Drain> {
    bed.port.drain(&scope(), name).await
}

fn names(occupants: &[Occupant]) -> Vec<&str> {
    let mut names: Vec<&str> = occupants.iter().map(|occupant| &*occupant.name).collect();
    names.sort_unstable();
    names
}

async fn every_node_is_listed_with_what_it_has(bed: Bed) -> Result<()> {
    bed.port.check().await?;
    let names = [node(&bed).await?, node(&bed).await?];
    for name in &names {
        let node = told(&bed, name, "it is listed", |node| node.ready).await?;
        assert_eq!((node.capacity, node.allocatable), (capacity(), capacity()));
        assert_eq!(node.allocated, NodeResources::none());
        assert_eq!(node.free(), capacity());
        assert_eq!(node.zone.as_deref(), Some(ZONE));
        assert_eq!(node.taints, [TAINT]);
        assert!(!node.cordoned && node.troubles.is_empty(), "{node:?}");
    }
    let all = bed.port.nodes(&scope()).await?;
    assert!(all.is_sorted_by(|a, b| a.name < b.name), "{all:?}");
    Ok(())
}

async fn what_is_promised_is_allocated(bed: Bed) -> Result<()> {
    let (name, other) = (node(&bed).await?, node(&bed).await?);
    bed.fixture.place(&name, Placing::Movable).await?;
    bed.fixture.place(&name, Placing::Movable).await?;
    let node = told(&bed, &name, "both count", |node| node.allocated.instances == 2).await?;
    assert_eq!(node.allocated, promised().plus(promised()));
    assert_eq!(node.free(), capacity().minus(promised()).minus(promised()));
    let other = told(&bed, &other, "it is listed", |_| true).await?;
    assert_eq!(other.allocated, NodeResources::none());
    Ok(())
}

async fn a_node_that_is_not_ready_says_why(bed: Bed) -> Result<()> {
    let name = node(&bed).await?;
    bed.fixture.break_down(&name).await?;
    let node = told(&bed, &name, "it is not ready", |node| !node.ready).await?;
    assert!(node.troubles.iter().any(|trouble| trouble.contains(TROUBLE)), "{node:?}");
    assert!(!node.takes_instances());
    Ok(())
}

async fn a_cordoned_node_is_told_until_it_is_uncordoned(bed: Bed) -> Result<()> {
    let name = node(&bed).await?;
    for _ in 0..2 {
        bed.port.cordon(&scope(), &name).await?;
    }
    let node = told(&bed, &name, "it is cordoned", |node| node.cordoned).await?;
    // It is said once: not as a taint again.
    assert_eq!(node.taints, [TAINT]);
    for _ in 0..2 {
        bed.port.uncordon(&scope(), &name).await?;
    }
    told(&bed, &name, "it is not cordoned", |node| !node.cordoned).await?;
    Ok(())
}

async fn a_missing_node_is_not_found(bed: Bed) -> Result<()> {
    let missing = name(&bed)?;
    refused(bed.port.cordon(&scope(), &missing).await, ErrorKind::NotFound);
    refused(bed.port.uncordon(&scope(), &missing).await, ErrorKind::NotFound);
    refused(bed.port.drain(&scope(), &missing).await, ErrorKind::NotFound);
    Ok(())
}

async fn draining_an_empty_node_cordons_it_and_is_done(bed: Bed) -> Result<()> {
    let name = node(&bed).await?;
    let drain = drained(&bed, &name).await?;
    assert!(drain.is_done(), "{drain:?}");
    assert_eq!(drain, Drain::new(name.clone()));
    told(&bed, &name, "it is cordoned", |node| node.cordoned).await?;
    Ok(())
}

async fn draining_asks_what_is_there_to_leave_and_is_done_once_it_has(bed: Bed) -> Result<()> {
    let name = node(&bed).await?;
    let mut there = vec![
        bed.fixture.place(&name, Placing::Movable).await?,
        bed.fixture.place(&name, Placing::Movable).await?,
    ];
    there.sort_unstable();
    for _ in 0..2 {
        // Called again, it waits further.
        let drain = drained(&bed, &name).await?;
        assert_eq!(names(&drain.leaving), there);
        assert!(drain.blocked.is_empty() && !drain.is_done(), "{drain:?}");
    }
    for occupant in &there {
        bed.fixture.left(occupant).await?;
    }
    let done = || async { Ok(Some(drained(&bed, &name).await?).filter(Drain::is_done)) };
    bed.eventually("the node is empty", done).await?;
    Ok(())
}

async fn a_budget_is_honoured_and_named(bed: Bed) -> Result<()> {
    let name = node(&bed).await?;
    let mut left = Vec::new();
    for _ in 0..3 {
        bed.fixture.place(&name, Placing::Budgeted).await?;
    }
    let budget = bed.fixture.budget().await?;
    while left.len() < 3 {
        let one = || async {
            let drain = drained(&bed, &name).await?;
            assert!(drain.leaving.len() <= 1, "more than one leaves at once: {drain:?}");
            Ok(Some(drain).filter(|drain| drain.leaving.len() == 1))
        };
        let drain = bed.eventually("there is room for one", one).await?;
        assert_eq!(drain.blocked.len(), 2 - left.len(), "{drain:?}");
        for blocked in &drain.blocked {
            assert!(blocked.passes && blocked.reason.contains(&budget), "{blocked:?} by {budget}");
        }
        bed.fixture.left(&drain.leaving[0].name).await?;
        left.push(drain.leaving[0].name.clone());
    }
    left.sort_unstable();
    left.dedup();
    assert_eq!(left.len(), 3);
    assert!(drained(&bed, &name).await?.is_done());
    Ok(())
}

async fn what_belongs_to_the_node_stays(bed: Bed) -> Result<()> {
    let name = node(&bed).await?;
    bed.fixture.place(&name, Placing::Daemon).await?;
    for _ in 0..2 {
        let drain = drained(&bed, &name).await?;
        assert_eq!(drain.staying, 1);
        assert!(drain.is_done(), "{drain:?}");
    }
    Ok(())
}

async fn what_nothing_would_start_anew_is_left_alone(bed: Bed) -> Result<()> {
    let name = node(&bed).await?;
    let alone = bed.fixture.place(&name, Placing::Alone).await?;
    for _ in 0..2 {
        let drain = drained(&bed, &name).await?;
        assert_eq!(drain.blocked.len(), 1, "{drain:?}");
        assert_eq!(drain.blocked[0].occupant.name, alone);
        assert!(drain.is_stuck() && !drain.is_done(), "{drain:?}");
    }
    told(&bed, &name, "it is still there", |node| node.allocated.instances == 1).await?;
    Ok(())
}

async fn draining_a_node_touches_no_other(bed: Bed) -> Result<()> {
    let (name, other) = (node(&bed).await?, node(&bed).await?);
    let theirs = bed.fixture.place(&other, Placing::Movable).await?;
    assert!(drained(&bed, &name).await?.is_done());
    let node = told(&bed, &other, "it is listed", |node| node.allocated.instances == 1).await?;
    assert!(!node.cordoned);
    let drain = drained(&bed, &other).await?;
    assert_eq!(names(&drain.leaving), [theirs]);
    Ok(())
}
