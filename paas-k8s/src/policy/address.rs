//! Which addresses ranges come to together.

use std::net::IpAddr;

/// Where clusters have their pods, but for few: the private ranges of RFC 1918, the shared one of RFC 6598, and the unique
/// local one of RFC 4193.
const CLUSTERS: [&str; 5] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// Addresses: of each family, ranges from the first to the last, in order and apart from each other.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl Addresses {
    /// Those of a range but for some. `None` where it is none; of an exception that is none, nothing is left out.
    pub(super) fn of<'a>(range: &str, except: impl Iterator<Item = &'a str>) -> Option<Self> {
        let (is_v4, own) = parse(range)?;
        let mut left = vec![own];
        for (of_v4, (first, last)) in except.filter_map(parse) {
            if of_v4 == is_v4 {
                left = left.into_iter().flat_map(|own| without(own, first, last)).collect();
            }
        }
        Some(if is_v4 { Self { v4: left, v6: Vec::new() } } else { Self { v4: Vec::new(), v6: left } })
    }

    pub(super) fn add(&mut self, other: Self) {
        join(&mut self.v4, other.v4);
        join(&mut self.v6, other.v6);
    }

    /// Whether more than half of a range is among them.
    fn has_most_of(&self, range: &str) -> bool {
        let Some((is_v4, (first, last))) = parse(range) else { return false };
        let own = if is_v4 { &self.v4 } else { &self.v6 };
        let within = own.iter().filter(|(from, to)| *from <= last && *to >= first);
        let sum: u128 = within.map(|(from, to)| (*to).min(last) - (*from).max(first)).sum();
        sum > (last - first) / 2
    }
}

/// Whether they are most of what there is, of either family.
pub(super) fn is_most(addresses: &Addresses) -> bool {
    addresses.has_most_of("0.0.0.0/0") || addresses.has_most_of("::/0")
}

/// Whether pods are among them, wherever a cluster may have them. Nobody but whoever runs it knows where that is: they leave
/// out that range as a whole, and what leaves out less is taken for everybody.
pub(super) fn has_all_clusters(addresses: &Addresses) -> bool {
    let (v4, v6): (Vec<&str>, Vec<&str>) = CLUSTERS.iter().partition(|range| !range.contains(':'));
    [v4, v6].iter().any(|family| family.iter().all(|range| addresses.has_most_of(range)))
}

/// Whether it is of the older family, and its first and last address. Bits after the prefix count as little as they do for
/// the cluster.
fn parse(range: &str) -> Option<(bool, (u128, u128))> {
    let (address, bits) = range.split_once('/')?;
    let bits: u32 = bits.parse().ok()?;
    let (address, width): (u128, u32) = match address.parse().ok()? {
        IpAddr::V4(address) => (address.to_bits().into(), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let rest = u128::MAX.unbounded_shr(128 - width.checked_sub(bits)?);
    Some((width == 32, (address & !rest, address | rest)))
}

/// What is left of a range without another.
fn without((from, to): (u128, u128), first: u128, last: u128) -> impl Iterator<Item = (u128, u128)> {
    let before = (from < first).then(|| (from, to.min(first.saturating_sub(1))));
    let after = (to > last).then(|| (from.max(last.saturating_add(1)), to));
    before.into_iter().chain(after)
}

fn join(own: &mut Vec<(u128, u128)>, more: Vec<(u128, u128)>) {
    own.extend(more);
    own.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (from, to) in own.drain(..) {
        match joined.last_mut() {
            Some((_, last)) if from <= last.saturating_add(1) => *last = to.max(*last),
            _ => joined.push((from, to)),
        }
    }
    *own = joined;
}
