//! The lines that are printed: `name  ours  peer  ratio  goal  met|short`.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many have met their goals, how many are short of theirs, and how many have nothing to be held against.
static MET: AtomicUsize = AtomicUsize::new(0);
static SHORT: AtomicUsize = AtomicUsize::new(0);
static IGNORED: AtomicUsize = AtomicUsize::new(0);

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Ours, at most.
    AtMost(f64),
    /// Ours, at least.
    AtLeast(f64),
    /// Ours by the peer's, at least.
    RatioAtLeast(f64),
    /// It is told, and nothing is asked of it.
    None,
}

impl Goal {
    fn shown(self) -> String {
        match self {
            Self::AtMost(most) => format!("<= {most}"),
            Self::AtLeast(least) => format!(">= {least}"),
            Self::RatioAtLeast(least) => format!(">= {least}x"),
            Self::None => "-".to_owned(),
        }
    }

    fn verdict(self, ours: f64, ratio: Option<f64>) -> &'static str {
        let met = match self {
            Self::AtMost(most) => ours <= most,
            Self::AtLeast(least) => ours >= least,
            Self::RatioAtLeast(least) => ratio.is_some_and(|own| own >= least),
            Self::None => return "told",
        };
        let (verdict, count) = if met { ("met", &MET) } else { ("short", &SHORT) };
        count.fetch_add(1, Ordering::Relaxed);
        verdict
    }
}

pub(crate) fn head() {
    println!("{:58} {:>9} {:>9} {:>7} {:>9}  met|short", "name", "ours", "peer", "ratio", "goal");
}

/// Prints what has become of all of them; how many are short.
pub(crate) fn tail() -> usize {
    let [met, short, ignored] = [&MET, &SHORT, &IGNORED].map(|count| count.load(Ordering::Relaxed));
    println!("{met} met, {short} short, {ignored} ignored");
    short
}

/// The middle of some rounds, and how far they lie apart.
struct Spread {
    middle: f64,
    text: String,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let [least, most] = [values[0], values[values.len() - 1]].map(digits);
        let text = format!("  ({least} to {most} in {} rounds)", values.len());
        Self { middle: values[values.len() / 2], text }
    }
}

/// Prints the middle of several rounds.
pub(crate) fn alone(name: &str, ours: impl IntoIterator<Item = f64>, goal: Goal) {
    let ours = Spread::of(ours.into_iter().collect());
    let verdict = goal.verdict(ours.middle, None);
    print(name, &digits(ours.middle), "-", "-", &goal.shown(), verdict, &ours.text);
}

/// Prints the middle of several rounds in each of which the two took turns: their ratio is the middle of the rounds' own,
/// since times depend on what else the machine does.
pub(crate) fn beside(name: &str, rounds: &[(f64, f64)], goal: Goal) {
    let ratio = Spread::of(rounds.iter().map(|(ours, peer)| ours / peer).collect());
    let ours = Spread::of(rounds.iter().map(|(ours, _)| *ours).collect()).middle;
    let peer = Spread::of(rounds.iter().map(|(_, peer)| *peer).collect()).middle;
    let verdict = goal.verdict(ours, Some(ratio.middle));
    let shown = digits(ratio.middle);
    print(name, &digits(ours), &digits(peer), &shown, &goal.shown(), verdict, &ratio.text);
}

/// Says that there is no peer to be held against, and why.
pub(crate) fn ignored(name: &str, goal: Goal, reason: &str) {
    IGNORED.fetch_add(1, Ordering::Relaxed);
    print(name, "-", "-", "-", &goal.shown(), &format!("ignored: {reason}"), "");
}

fn print(name: &str, ours: &str, peer: &str, ratio: &str, goal: &str, verdict: &str, note: &str) {
    println!("{name:58} {ours:>9} {peer:>9} {ratio:>7} {goal:>9}  {verdict}{note}");
}

/// Three digits that count.
fn digits(value: f64) -> String {
    let decimals = match value {
        ..10.0 => 3,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}
