//! The way of log lines, from where they are taken in to where they are searched.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod codec;
mod disk;
mod error;
mod export;
mod store;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use store::fuzzing;

pub use export::{LogExport, LogExportProgress};
pub use store::{
    EmbeddedLogStore, LogLoss, LogStoreConfig, LogStoreFinding, LogStoreReader, LogStoreRepair,
    LogStoreRepaired, LogStoreReport, LogStoreSeverity,
};
