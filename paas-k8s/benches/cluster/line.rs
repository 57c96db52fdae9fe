//! The lines that are printed.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many have met their goals, and how many are short of theirs.
static MET: AtomicUsize = AtomicUsize::new(0);
static SHORT: AtomicUsize = AtomicUsize::new(0);

/// What a figure has to be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// Ours, at most.
    AtMost(f64),
    /// Ours, at least.
    AtLeast(f64),
    /// Ours by the peer's, at most.
    RatioAtMost(f64),
    /// Ours by the peer's, at least.
    RatioAtLeast(f64),
    /// It is told, and nothing is asked of it.
    None,
}

pub(crate) fn head() {
    println!("{:60} {:>12} {:>12} {:>7} {:>9}  met|short", "name", "ours", "peer", "ratio", "goal");
}

/// Prints what has become of all of them; how many are short.
pub(crate) fn tail() -> usize {
    let [met, short] = [&MET, &SHORT].map(|count| count.load(Ordering::Relaxed));
    println!("{met} met, {short} short");
    short
}

/// Prints one figure.
pub(crate) fn line(name: &str, ours: f64, peer: Option<f64>, goal: Goal) {
    print(name, ours, peer, peer.map(|peer| ours / peer), goal, "");
}

/// Prints the middle of several rounds in each of which the two took turns, and how far their ratios lie apart.
pub(crate) fn rounds(name: &str, rounds: &[(f64, f64)], goal: Goal) {
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let ratios: Vec<f64> = rounds.iter().map(|(ours, peer)| ours / peer).collect();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    let spread = format!("  ({least:.2} to {most:.2} in {} rounds)", rounds.len());
    let ours = middle(rounds.iter().map(|(ours, _)| *ours).collect());
    let peer = middle(rounds.iter().map(|(_, peer)| *peer).collect());
    print(name, ours, Some(peer), Some(middle(ratios)), goal, &spread);
}

fn print(name: &str, ours: f64, peer: Option<f64>, ratio: Option<f64>, goal: Goal, note: &str) {
    let (met, shown) = match goal {
        Goal::AtMost(most) => (ours <= most, format!("<= {most}")),
        Goal::AtLeast(least) => (ours >= least, format!(">= {least}")),
        Goal::RatioAtMost(most) => (ratio.is_some_and(|own| own <= most), format!("<= {most}x")),
        Goal::RatioAtLeast(least) => (ratio.is_some_and(|own| own >= least), format!(">= {least}x")),
        Goal::None => (true, "-".to_owned()),
    };
    let verdict = match goal {
        Goal::None => "told",
        _ => {
            let (verdict, count) = if met { ("met", &MET) } else { ("short", &SHORT) };
            count.fetch_add(1, Ordering::Relaxed);
            verdict
        }
    };
    let text = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    println!("{name:60} {ours:>12.2} {:>12} {:>7} {shown:>9}  {verdict}{note}", text(peer), text(ratio));
}

/// The value that this share of all is not above, in percent.
pub(crate) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) * percent / 100]
}
