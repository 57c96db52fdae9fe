//! Sees and empties the machines that instances run on.

use async_trait::async_trait;

use super::Backend;
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{Drain, Node, NodeName, Resource, Scope};

/// Knows the nodes that a scheduler places instances on.
///
/// Nodes belong to no app and to no tenant: whoever acts on them needs a scope of the whole platform. The engine never
/// does, so calls have no term: whoever is allowed to may act through any replica, and what two do at once ends as one of
/// them wished.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Cluster: Backend {
    /// All nodes by name, with what is allocated there, by one list of nodes and one of what runs, however many they are.
    /// Idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn nodes(&self, scope: &Scope) -> Result<Vec<Node>>;

    /// Says that a node takes no new instances; those there stay. Idempotent.
    ///
    /// # Errors
    /// `NotFound` where there is no such node.
    async fn cordon(&self, scope: &Scope, node: &NodeName) -> Result<()>;

    /// Says that a node takes new instances again. Idempotent.
    ///
    /// # Errors
    /// `NotFound` where there is no such node.
    async fn uncordon(&self, scope: &Scope, node: &NodeName) -> Result<()>;

    /// Takes one step towards an empty node and tells how far it is: cordons it, and asks all that can leave now to do so,
    /// each in its own time. Called again and again it ends with [`Drain::is_done`]; whoever stops calling leaves the node
    /// cordoned and what has left elsewhere. Idempotent.
    ///
    /// - Budgets are honoured: what one has no room for is asked another time, and told as blocked by that budget.
    /// - A task of the platform runs once: it is waited for.
    /// - What belongs to the node itself, like a daemon, stays.
    /// - What nothing would start anew, and what holds data of its own on the node, is told as blocked and left alone.
    ///
    /// Nothing is ever ended by force.
    ///
    /// # Errors
    /// `NotFound` where there is no such node.
    async fn drain(&self, scope: &Scope, node: &NodeName) -> Result<Drain>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<C: Cluster + ?Sized> Cluster for Guarded<C> {
    async fn nodes(&self, scope: &Scope) -> Result<Vec<Node>> {
        let call = call!(self, scope, "cluster", "nodes", Read, Resource::Platform, idempotent);
        self.guard.run(call, || self.inner.nodes(scope)).await
    }

    async fn cordon(&self, scope: &Scope, node: &NodeName) -> Result<()> {
        let call = call!(self, scope, "cluster", "cordon", Operate, Resource::Platform, idempotent);
        self.guard.run(call, || self.inner.cordon(scope, node)).await
    }

    async fn uncordon(&self, scope: &Scope, node: &NodeName) -> Result<()> {
        let call = call!(self, scope, "cluster", "uncordon", Operate, Resource::Platform, idempotent);
        self.guard.run(call, || self.inner.uncordon(scope, node)).await
    }

    async fn drain(&self, scope: &Scope, node: &NodeName) -> Result<Drain> {
        let call = call!(self, scope, "cluster", "drain", Operate, Resource::Platform, idempotent);
        self.guard.run(call, || self.inner.drain(scope, node)).await
    }
}
