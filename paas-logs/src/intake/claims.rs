//! Whose lines a record says that they are.

/// Instances and files that a record names, each behind a 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Claims(Vec<u8>);

impl Claims {
    /// What is longer is nobody's name.
    const LONGEST: usize = 512;

    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn add(&mut self, claim: &[u8]) {
        if !claim.is_empty() && claim.len() <= Self::LONGEST {
            self.0.push(0);
            self.0.extend_from_slice(claim);
        }
    }

    /// Names of instances, those in paths of files included.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &str> {
        let claims = self.0.split(|byte| *byte == 0).skip(1);
        let names = claims.filter_map(|claim| std::str::from_utf8(claim).ok()).flat_map(of_path);
        names.filter(|name| !name.is_empty())
    }

    /// For people.
    pub(crate) fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(self.0.get(1..).unwrap_or_default()).replace('\0', " ");
        text.chars().filter(|c| !c.is_control()).take(200).collect()
    }
}

/// A name, or those in the path of a file as the kubelet names it: `/var/log/pods/NAMESPACE_POD_UID/…` and
/// `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`.
fn of_path(claim: &str) -> [&str; 2] {
    // As runtimes write ids: `containerd://ID`.
    let claim = claim.split_once("://").map_or(claim, |(_, id)| id);
    if !claim.contains('/') {
        return [claim, ""];
    }
    if let Some((_, rest)) = claim.split_once("/pods/") {
        let folder = rest.split('/').next().unwrap_or_default();
        let mut parts = folder.split('_').skip(1);
        return [parts.next().unwrap_or_default(), parts.next().unwrap_or_default()];
    }
    if let Some((_, file)) = claim.split_once("/containers/") {
        let pod = file.split('_').next().unwrap_or_default();
        let id = file.rsplit('-').next().and_then(|id| id.strip_suffix(".log"));
        return [pod, id.unwrap_or_default()];
    }
    ["", ""]
}
