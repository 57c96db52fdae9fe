//! Nodes that a test puts things on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;

use super::lock;
use crate::model::{Blocked, Drain, Node, NodeName, NodeResources, Occupant, Scope};
use crate::port::Cluster;
use crate::{Error, Result};

/// Remembers nodes and what runs on them. A test puts both there, and says when what was asked to leave has left.
#[derive(Clone, Debug, Default)]
pub struct MemoryCluster {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<NodeName, Node>,
    /// By name.
    placed: BTreeMap<String, Placed>,
    /// How many of each budget may be away.
    budgets: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Placed {
    node: NodeName,
    placement: Placement,
    leaves: bool,
}

/// Something on a node of a [`MemoryCluster`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placement {
    /// What it is.
    pub occupant: Occupant,
    /// What it was promised.
    pub resources: NodeResources,
    /// Whether it belongs to the node itself.
    pub daemon: bool,
    /// The budget that must have room before it leaves.
    pub budget: Option<String>,
    /// Why it can't leave at all, as in [`Blocked`].
    pub held: Option<String>,
}

impl Placement {
    /// Something that may leave at any time.
    #[must_use]
    pub fn new(occupant: Occupant, resources: NodeResources) -> Self {
        Self { occupant, resources, daemon: false, budget: None, held: None }
    }
}

impl MemoryCluster {
    /// A cluster without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Adds a node, or makes it this.
    pub fn put(&self, node: Node) {
        self.state().nodes.insert(node.name.clone(), node);
    }

    /// Puts something on a node.
    pub fn place(&self, node: &NodeName, placement: Placement) {
        let placed = Placed { node: node.clone(), placement, leaves: false };
        self.state().placed.insert(placed.placement.occupant.name.clone(), placed);
    }

    /// Says how many of what has this budget may be on their way out at once; none unless said.
    pub fn allow(&self, budget: impl Into<String>, away: usize) {
        self.state().budgets.insert(budget.into(), away);
    }

    /// What was asked to leave under this name has left.
    ///
    /// # Errors
    /// `Conflict` where it was not asked.
    pub fn leave(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        if !state.placed.get(name).is_some_and(|placed| placed.leaves) {
            return Err(Error::conflict("it was not asked to leave").with("occupant", name));
        }
        state.placed.remove(name);
        Ok(())
    }
}

impl State {
    fn node(&mut self, name: &NodeName) -> Result<&mut Node> {
        self.nodes.get_mut(name).ok_or_else(|| Error::not_found("no such node").with("node", name))
    }

    fn told(&self, node: &Node) -> Node {
        let of_node = self.placed.values().filter(|placed| placed.node == node.name);
        let resources = of_node.map(|placed| placed.placement.resources);
        Node { allocated: resources.fold(NodeResources::none(), NodeResources::plus), ..node.clone() }
    }

    /// Why something can't leave now.
    fn block(&self, placement: &Placement) -> Option<Blocked> {
        let blocked = |reason, passes| Some(Blocked::new(placement.occupant.clone(), reason, passes));
        if let Some(held) = &placement.held {
            return blocked(held.clone(), false);
        }
        let budget = placement.budget.as_ref()?;
        let away = self.placed.values().filter(|other| other.leaves);
        let away = away.filter(|other| other.placement.budget.as_ref() == Some(budget)).count();
        if away < self.budgets.get(budget).copied().unwrap_or(0) {
            return None;
        }
        blocked(format!("the budget {budget} has no room"), true)
    }
}

#[async_trait]
impl Cluster for MemoryCluster {
    async fn nodes(&self, _: &Scope) -> Result<Vec<Node>> {
        let state = self.state();
        Ok(state.nodes.values().map(|node| state.told(node)).collect())
    }

    async fn cordon(&self, _: &Scope, node: &NodeName) -> Result<()> {
        self.state().node(node)?.cordoned = true;
        Ok(())
    }

    async fn uncordon(&self, _: &Scope, node: &NodeName) -> Result<()> {
        self.state().node(node)?.cordoned = false;
        Ok(())
    }

    async fn drain(&self, _: &Scope, node: &NodeName) -> Result<Drain> {
        let mut state = self.state();
        state.node(node)?.cordoned = true;
        let mut drain = Drain::new(node.clone());
        let there = state.placed.iter().filter(|(_, placed)| placed.node == *node);
        let names: Vec<String> = there.map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(placed) = state.placed.get(&name) else { continue };
            if placed.placement.daemon {
                drain.staying += 1;
                continue;
            }
            if !placed.leaves
                && let Some(blocked) = state.block(&placed.placement)
            {
                drain.blocked.push(blocked);
                continue;
            }
            drain.leaving.push(placed.placement.occupant.clone());
            if let Some(placed) = state.placed.get_mut(&name) {
                placed.leaves = true;
            }
        }
        Ok(drain)
    }
}
