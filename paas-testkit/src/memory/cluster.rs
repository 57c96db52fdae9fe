//! The nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::BoxFuture;
use paas_core::Result;
use paas_core::memory::{MemoryCluster, Placement};
use paas_core::model::{Node, NodeName, NodeResources, Occupant};
use paas_core::port::Cluster;

use crate::Fixture;
use crate::suite::cluster::{ClusterFixture, Placing, TAINT, TROUBLE, ZONE, capacity, promised};

/// [`MemoryCluster`].
#[derive(Debug, Default)]
pub struct Clusters {
    backend: MemoryCluster,
    placed: AtomicU32,
}

/// The one budget of a case.
const BUDGET: &str = "quorum";

impl Fixture for Clusters {
    type Port = dyn Cluster;
    type Capabilities = ();

    fn capabilities(&self) {}

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Cluster>>> {
        let backend: Arc<dyn Cluster> = Arc::new(self.backend.clone());
        Box::pin(async move { Ok(backend) })
    }
}

fn node(name: &NodeName) -> Node {
    let mut node = Node::new(name.clone(), capacity());
    node.taints.push(TAINT.into());
    node.zone = Some(ZONE.into());
    node
}

impl ClusterFixture for Clusters {
    fn node<'a>(&'a self, name: &'a NodeName) -> BoxFuture<'a, Result<()>> {
        self.backend.put(node(name));
        Box::pin(async { Ok(()) })
    }

    fn break_down<'a>(&'a self, name: &'a NodeName) -> BoxFuture<'a, Result<()>> {
        let mut broken = node(name);
        broken.ready = false;
        broken.troubles.push(TROUBLE.into());
        self.backend.put(broken);
        Box::pin(async { Ok(()) })
    }

    fn place<'a>(&'a self, node: &'a NodeName, what: Placing) -> BoxFuture<'a, Result<String>> {
        let name = format!("occupant-{}", self.placed.fetch_add(1, Ordering::Relaxed));
        let mut placement = Placement::new(Occupant::new(name.clone()), promised());
        match what {
            Placing::Movable => {}
            Placing::Budgeted => placement.budget = Some(BUDGET.into()),
            Placing::Daemon => {
                placement.daemon = true;
                placement.resources = NodeResources::none();
            }
            Placing::Alone => placement.held = Some("nothing would start it anew".into()),
        }
        self.backend.place(node, placement);
        Box::pin(async { Ok(name) })
    }

    fn budget(&self) -> BoxFuture<'_, Result<String>> {
        self.backend.allow(BUDGET, 1);
        Box::pin(async { Ok(BUDGET.into()) })
    }

    fn left<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        let outcome = self.backend.leave(name);
        Box::pin(async { outcome })
    }
}
