//! Which service a host and a path belong to, on one shared listener.

use std::collections::HashMap;
use std::sync::Arc;

use super::route::{HostRule, MAX_DOMAIN};

/// The rules of one listener, compiled: exact names first, then the longest wildcard, then `*`; of each the longest
/// path prefix at a segment's end.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Hosts {
    exact: HashMap<Box<str>, Paths>,
    /// Keyed by what follows the `*.`.
    wild: HashMap<Box<str>, Paths>,
    any: Paths,
}

#[derive(Debug, Default, PartialEq)]
struct Paths {
    /// Prefixes without the trailing slash; the root is the empty string.
    prefixes: HashMap<Box<str>, Arc<str>>,
    /// The longest prefix, so that longer paths are not looked up in vain.
    longest: usize,
}

impl Hosts {
    /// Adds a rule; an equal rule of another service is in the way and returned.
    pub(crate) fn insert(&mut self, rule: &HostRule, service: &Arc<str>) -> Result<(), Arc<str>> {
        let domain = rule.domain.to_ascii_lowercase();
        let paths = match domain.strip_prefix("*.") {
            _ if domain == "*" => &mut self.any,
            Some(suffix) => self.wild.entry(suffix.into()).or_default(),
            None => self.exact.entry(domain.into()).or_default(),
        };
        let prefix = rule.path.trim_end_matches('/');
        if let Some(holder) = paths.prefixes.get(prefix).filter(|holder| *holder != service) {
            return Err(holder.clone());
        }
        paths.longest = paths.longest.max(prefix.len());
        paths.prefixes.insert(prefix.into(), service.clone());
        Ok(())
    }

    /// The service of a `Host` header's value and a path.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&Arc<str>> {
        let mut buffer = [0u8; MAX_DOMAIN + 1];
        if let Some(host) = lower(name_of(host), &mut buffer) {
            if let Some(service) = self.exact.get(host).and_then(|paths| paths.find(path)) {
                return Some(service);
            }
            if !self.wild.is_empty() {
                let suffixes = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
                let found =
                    suffixes.filter_map(|suffix| self.wild.get(suffix)).find_map(|paths| paths.find(path));
                if found.is_some() {
                    return found;
                }
            }
        }
        self.any.find(path)
    }
}

impl Paths {
    fn find(&self, path: &str) -> Option<&Arc<str>> {
        if self.longest == 0 {
            return self.prefixes.get("");
        }
        let bytes = path.as_bytes();
        let mut end = bytes.len();
        loop {
            if end <= self.longest
                && let Some(service) = self.prefixes.get(&path[..end])
            {
                return Some(service);
            }
            end = bytes[..end].iter().rposition(|b| *b == b'/')?;
        }
    }
}

/// The name in `name:port`, `[v6]:port` or `name.`.
fn name_of(host: &str) -> &str {
    let name = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

fn lower<'a>(name: &str, buffer: &'a mut [u8]) -> Option<&'a str> {
    let target = buffer.get_mut(..name.len())?;
    target.copy_from_slice(name.as_bytes());
    target.make_ascii_lowercase();
    std::str::from_utf8(target).ok()
}
