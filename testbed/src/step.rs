//! Long work shows what it is at, and how long it took.

use std::time::Instant;

use crate::Result;

/// Does one step, and says so.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("... {name}");
    let began = Instant::now();
    let outcome = work();
    let seconds = began.elapsed().as_secs_f64();
    match &outcome {
        Ok(_) => println!("    {name}: {seconds:.1} s"),
        Err(_) => println!("    {name}: failed after {seconds:.1} s"),
    }
    outcome
}
