//! The way of log lines, from where they are taken in to where they are searched.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod alert;
mod codec;
mod counter;
mod disk;
mod error;
mod keyword;
mod level;
mod pipeline;
mod process;
mod redact;
mod store;
#[cfg(test)]
mod testing;

pub use pipeline::{Pipeline, PipelineConfig};
pub use process::ProcessConfig;
pub use store::{EmbeddedLogStore, LogStoreConfig};
