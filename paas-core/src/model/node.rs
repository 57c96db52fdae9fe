//! The machines that instances run on.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::InstanceId;
use super::name::excerpt;
use super::quantity::{ByteSize, CpuQuantity};
use super::workload::WorkloadKey;
use crate::{Error, Result};

/// Longest name of a node, in bytes: that of a host.
const LONGEST: usize = 253;

/// What a node is called where it is: lower-case letters, digits, inner dashes and dots.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Box<str>);

impl NodeName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// `Invalid` for what is no host's name.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let label = |label: &str| {
            let bytes = label.as_bytes();
            let edges = [bytes.first(), bytes.last()];
            edges.iter().all(|b| b.is_some_and(u8::is_ascii_alphanumeric)) && bytes.iter().all(inner)
        };
        if text.len() <= LONGEST && text.split('.').all(label) {
            return Ok(Self(text.into()));
        }
        Err(Error::invalid("a node's name is lower-case letters, digits, inner dashes and dots")
            .with("name", excerpt(text))
            .with("longest", LONGEST))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl TryFrom<String> for NodeName {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0.into()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Processor time, memory and places, as a node has or gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeResources {
    /// Processor time.
    pub cpu: CpuQuantity,
    /// Memory.
    pub memory: ByteSize,
    /// How many instances, whoever's.
    pub instances: u32,
}

impl NodeResources {
    /// So much of each.
    #[must_use]
    pub fn new(cpu: CpuQuantity, memory: ByteSize, instances: u32) -> Self {
        Self { cpu, memory, instances }
    }

    /// Nothing of anything.
    #[must_use]
    pub fn none() -> Self {
        Self::new(CpuQuantity { millis: 0 }, ByteSize(0), 0)
    }

    /// Both together; what is too much to count stays at the most.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: CpuQuantity { millis: self.cpu.millis.saturating_add(other.cpu.millis) },
            memory: ByteSize(self.memory.0.saturating_add(other.memory.0)),
            instances: self.instances.saturating_add(other.instances),
        }
    }

    /// What is left of this once the other is taken away; never less than nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            cpu: CpuQuantity { millis: self.cpu.millis.saturating_sub(other.cpu.millis) },
            memory: ByteSize(self.memory.0.saturating_sub(other.memory.0)),
            instances: self.instances.saturating_sub(other.instances),
        }
    }
}

/// A node: how it is, what it has, and what of that is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Whether it runs what it is given.
    pub ready: bool,
    /// Whether somebody has said that it takes no new instances.
    pub cordoned: bool,
    /// What else keeps instances away that do not ask for such a node, like `gpu=yes`.
    pub taints: Vec<String>,
    /// What a person should know: what is wrong with it, one sentence each.
    pub troubles: Vec<String>,
    /// What it has.
    pub capacity: NodeResources,
    /// What of that is for instances; the rest is the machine's own.
    pub allocatable: NodeResources,
    /// What of that is promised to the instances there, the platform's and others'.
    pub allocated: NodeResources,
    /// The part of a region that fails as one, where it is known.
    pub zone: Option<String>,
    /// The kind of its processor, like `amd64`, where it is known.
    pub architecture: Option<String>,
    /// The version of what makes it a node, where it is known.
    pub version: Option<String>,
}

impl Node {
    /// A node that is ready, takes instances and has none yet.
    #[must_use]
    pub fn new(name: NodeName, capacity: NodeResources) -> Self {
        Self {
            name,
            ready: true,
            cordoned: false,
            taints: Vec::new(),
            troubles: Vec::new(),
            capacity,
            allocatable: capacity,
            allocated: NodeResources::none(),
            zone: None,
            architecture: None,
            version: None,
        }
    }

    /// Whether it takes new instances that ask for no special node.
    #[must_use]
    pub fn takes_instances(&self) -> bool {
        self.ready && !self.cordoned && self.taints.is_empty()
    }

    /// What new instances may still be promised.
    #[must_use]
    pub fn free(&self) -> NodeResources {
        self.allocatable.minus(self.allocated)
    }
}

/// Something that runs on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Occupant {
    /// What the node's cluster calls it, like `namespace/pod`.
    pub name: String,
    /// The workload and the instance that it is, where it is the platform's.
    pub instance: Option<(WorkloadKey, InstanceId)>,
}

impl Occupant {
    /// Something that is not the platform's.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), instance: None }
    }
}

/// Something that cannot leave a node now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Blocked {
    /// What it is.
    pub occupant: Occupant,
    /// Why: which budget has no room for it, or what would be lost.
    pub reason: String,
    /// Whether that passes by itself: others become ready, a task ends. Otherwise somebody has to do something.
    pub passes: bool,
}

impl Blocked {
    /// Something that cannot leave for this reason.
    #[must_use]
    pub fn new(occupant: Occupant, reason: impl Into<String>, passes: bool) -> Self {
        Self { occupant, reason: reason.into(), passes }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.occupant.name, self.reason)
    }
}

/// How far the draining of a node has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Drain {
    /// Which node.
    pub node: NodeName,
    /// What was asked to leave and has not left yet.
    pub leaving: Vec<Occupant>,
    /// What could not be asked to leave.
    pub blocked: Vec<Blocked>,
    /// How many belong to the node itself, and stay.
    pub staying: u32,
    /// When it is worth asking again, where the backend was told.
    pub again: Option<Duration>,
}

impl Drain {
    /// A node that nothing has to leave any more.
    #[must_use]
    pub fn new(node: NodeName) -> Self {
        Self { node, leaving: Vec::new(), blocked: Vec::new(), staying: 0, again: None }
    }

    /// Whether the node has nothing left but what belongs to it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.leaving.is_empty() && self.blocked.is_empty()
    }

    /// Whether nothing more happens until somebody does something about what is blocked.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.leaving.is_empty()
            && !self.blocked.is_empty()
            && self.blocked.iter().all(|blocked| !blocked.passes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_as_a_host() {
        for good in ["a", "node-1", "ip-10-0-0-1.eu-west-1.compute.internal", "1.2.3.4", &"a".repeat(253)] {
            assert!(NodeName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a.", "a..b", "A", "-a", "a-", "a_b", "a/b", "ä", &"a".repeat(254)] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_does_not_pass_is_stuck() {
        let blocked = |passes| Blocked::new(Occupant::new("a"), "why", passes);
        let of = |leaving: &[&str], passes: &[bool]| Drain {
            leaving: leaving.iter().map(|name| Occupant::new(*name)).collect(),
            blocked: passes.iter().map(|passes| blocked(*passes)).collect(),
            ..Drain::new(NodeName::new("n").unwrap())
        };
        assert!(of(&[], &[]).is_done() && !of(&[], &[]).is_stuck());
        assert!(of(&[], &[false, false]).is_stuck());
        for going_on in [of(&["b"], &[false]), of(&[], &[false, true]), of(&["b"], &[])] {
            assert!(!going_on.is_stuck() && !going_on.is_done());
        }
    }
}
