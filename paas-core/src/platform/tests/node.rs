//! Nodes, for those who run the platform.

use std::sync::Mutex;

use super::*;
use crate::memory::{MemoryCluster, Placement};
use crate::model::{
    AuditQuery, ByteSize, CpuQuantity, Drain, Node, NodeName, NodeResources, Occupant, Resource, Scope,
};

fn some() -> NodeResources {
    NodeResources::new(CpuQuantity { millis: 100 }, ByteSize(1 << 20), 1)
}

struct Ward {
    platform: Platform,
    cluster: MemoryCluster,
    audit: MemoryAuditLog,
    node: NodeName,
}

async fn ward(authorizer: MemoryAuthorizer) -> Ward {
    let clock = Clock::runtime(Timestamp(1_000_000));
    let (cluster, audit) = (MemoryCluster::new(), MemoryAuditLog::new());
    let node = NodeName::new("node-1").unwrap();
    cluster.put(Node::new(node.clone(), some()));
    let platform = compose(&clock)
        .scheduler(Arc::new(MemoryScheduler::new(clock.clone())))
        .router(Arc::new(MemoryRouter::new().with_clock(clock.clone())))
        .volumes(Arc::new(MemoryVolumeStore::new()))
        .state(Arc::new(MemoryStateStore::new()))
        .audit(Arc::new(audit.clone()))
        .authorizer(Arc::new(authorizer))
        .cluster(Arc::new(cluster.clone()))
        .build()
        .await
        .unwrap();
    Ward { platform, cluster, audit, node }
}

fn operator() -> Principal {
    Principal::operator("ops")
}

#[tokio::test(start_paused = true)]
async fn a_drain_goes_on_until_the_node_is_empty_and_tells_how_far_it_is() {
    let ward = ward(MemoryAuthorizer::allow_all()).await;
    for name in ["a", "b"] {
        let mut placement = Placement::new(Occupant::new(name), some());
        placement.budget = Some("quorum".into());
        ward.cluster.place(&ward.node, placement);
    }
    ward.cluster.allow("quorum", 1);
    let seen = Mutex::new(Vec::new());
    let progress = |drain: &Drain| {
        seen.lock().unwrap().push((drain.leaving.len(), drain.blocked.len()));
        for occupant in &drain.leaving {
            ward.cluster.leave(&occupant.name).unwrap();
        }
    };
    let done = ward.platform.drain(&operator(), &ward.node, Duration::from_secs(60), progress).await.unwrap();
    assert!(done.is_done());
    assert_eq!(*seen.lock().unwrap(), [(1, 1), (1, 0), (0, 0)]);
    assert!(ward.platform.nodes(&operator()).await.unwrap()[0].cordoned);
    ward.platform.uncordon(&operator(), &ward.node).await.unwrap();
    assert!(!ward.platform.nodes(&operator()).await.unwrap()[0].cordoned);
    let scope = Scope::testing(Resource::Platform);
    let told = ward.audit.search(&scope, &AuditQuery::default()).await.unwrap();
    let said: Vec<&str> = told.iter().map(|record| &*record.entry.summary).collect();
    assert!(said.contains(&"drain node node-1") && said.contains(&"uncordon node node-1"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_meets_its_deadline_tells_what_is_left_and_why() {
    let ward = ward(MemoryAuthorizer::allow_all()).await;
    let mut placement = Placement::new(Occupant::new("shop/web-1"), some());
    placement.budget = Some("quorum".into());
    ward.cluster.place(&ward.node, placement);
    let began = tokio::time::Instant::now();
    let outcome = ward.platform.drain(&operator(), &ward.node, Duration::from_secs(30), |_| {}).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("shop/web-1: the budget quorum has no room"), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_once_where_somebody_has_to_do_something_first() {
    let ward = ward(MemoryAuthorizer::allow_all()).await;
    let mut placement = Placement::new(Occupant::new("alone"), some());
    placement.held = Some("nothing would start it anew".into());
    ward.cluster.place(&ward.node, placement);
    let outcome = ward.platform.drain(&operator(), &ward.node, Duration::from_secs(30), |_| {}).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("alone: nothing would start it anew"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn only_who_may_act_on_the_whole_platform_may_act_on_nodes() {
    let authorizer = MemoryAuthorizer::new();
    let tenant = TenantId::new("t-1").unwrap();
    let ann = Principal::user("ann", tenant.clone());
    authorizer.allow(&ann, &Action::ALL, Resource::Tenant(tenant));
    authorizer.allow(&operator(), &[Action::Read], Resource::Platform);
    let ward = ward(authorizer).await;
    assert_eq!(ward.platform.nodes(&ann).await.unwrap_err().kind(), ErrorKind::Denied);
    ward.platform.nodes(&operator()).await.unwrap();
    for who in [ann, operator()] {
        let outcomes = [
            ward.platform.cordon(&who, &ward.node).await,
            ward.platform.uncordon(&who, &ward.node).await,
            ward.platform.drain(&who, &ward.node, Duration::from_secs(1), |_| {}).await.map(drop),
        ];
        for outcome in outcomes {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Denied);
        }
    }
    assert!(!ward.platform.nodes(&operator()).await.unwrap()[0].cordoned);
}
