//! Lines that others send, over a real socket and into a real store.
#![allow(clippy::unwrap_used)]

#[path = "intake/agents.rs"]
mod agents;
#[path = "intake/bed.rs"]
mod bed;
#[path = "intake/bounds.rs"]
mod bounds;
#[path = "intake/client.rs"]
mod client;
#[path = "intake/senders.rs"]
mod senders;
