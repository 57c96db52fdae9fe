//! Long work shows what it is at, and how long it took.

use std::time::Instant;

use crate::Result;

/// Says something, as long as somebody listens: Ctrl-C ends the reader of a pipe, too, and then there is still work to do.
macro_rules! say {
    ($($words:tt)*) => { drop(std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($words)*)))) };
}
pub(crate) use say;

/// Does one step, and says so.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say!("... {name}");
    let began = Instant::now();
    let outcome = work();
    let seconds = began.elapsed().as_secs_f64();
    match &outcome {
        Ok(_) => say!("    {name}: {seconds:.1} s"),
        Err(_) => say!("    {name}: failed after {seconds:.1} s"),
    }
    outcome
}
