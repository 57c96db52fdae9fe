//! The way of log lines, from where they are taken in to where they are searched.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod codec;
mod disk;
mod error;
mod folder;
mod journal;
mod queue;
mod store;
mod whole;

pub use queue::{WalConfig, WalLogQueue};
pub use store::{EmbeddedLogStore, LogStoreConfig};
