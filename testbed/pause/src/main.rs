//! What holds a pod's namespaces: it waits for the signal to end. Linked statically, so that its image holds nothing else.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> std::io::Result<()> {
    Signals::new([SIGINT, SIGTERM])?.forever().next();
    Ok(())
}
