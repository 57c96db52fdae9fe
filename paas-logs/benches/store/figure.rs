//! What the benches share.

use std::time::Duration;

/// A figure: how it is, what it is to be, and whether less is better.
pub(crate) fn print(name: &str, ours: f64, unit: &str, goal: f64, less: bool) {
    let met = if (ours <= goal) == less { "met" } else { "short" };
    println!("{name:<44} {ours:>9.3} {unit:<10} {:>9} {goal:>8} {met}", "-");
}

/// How long this process has had a processor.
pub(crate) fn processor() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
