//! What a cluster has, besides its first node.

use std::path::Path;
use std::{fs, io};

use crate::Result;

/// The flag by which a cluster gets a second node that runs pods, too.
pub(crate) const TWO_NODES: &str = "--two-nodes";
/// The flag by which it gets any number of nodes that are there in name only.
pub(crate) const FAKE_NODES: &str = "--fake-nodes";
/// The flag by which it gets the image of a platform.
pub(crate) const PLATFORM: &str = "--platform";

/// All of them.
pub(crate) const FLAGS: [&str; 3] = [TWO_NODES, FAKE_NODES, PLATFORM];

/// The file in which a cluster that runs says what it has.
const FILE: &str = "shape";

/// The flags of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape(Vec<&'static str>);

impl Shape {
    /// That of the flags among these words.
    pub(crate) fn of(words: &[&str]) -> Self {
        Self(FLAGS.into_iter().filter(|flag| words.contains(flag)).collect())
    }

    pub(super) fn has(&self, flag: &str) -> bool {
        self.0.contains(&flag)
    }

    /// Notes it for who comes later.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        Ok(fs::write(folder.join(FILE), self.0.join("\n"))?)
    }

    /// That of the cluster which runs.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        match fs::read_to_string(folder.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            text => Ok(Self::of(&text?.lines().collect::<Vec<_>>())),
        }
    }

    /// Whether a cluster of this shape serves who asks for another.
    ///
    /// # Errors
    /// What it lacks.
    pub(super) fn serves(&self, asked: &Self) -> Result<()> {
        let lacks: Vec<_> = asked.0.iter().copied().filter(|flag| !self.has(flag)).collect();
        if lacks.is_empty() {
            return Ok(());
        }
        Err(format!("a cluster runs already that was started without {}: run `down` first", lacks.join(", "))
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_serves_who_asks_for_no_more_than_it_has() {
        let folder = std::env::temp_dir().join(format!("paas-testbed-shape-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(Shape::read(&folder).unwrap(), Shape::default());
        Shape::of(&[PLATFORM, "--other"]).write(&folder).unwrap();
        let running = Shape::read(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(running.serves(&Shape::default()).is_ok() && running.serves(&Shape::of(&[PLATFORM])).is_ok());
        let error = running.serves(&Shape::of(&FLAGS)).unwrap_err().to_string();
        assert!(error.contains("without --two-nodes, --fake-nodes: run `down` first"), "{error}");
    }
}
