//! The way of log lines, from where they are taken in to where they are searched.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod alert;
mod codec;
mod counter;
mod disk;
mod error;
mod export;
mod fields;
mod folder;
/// What fuzzers call.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    #[cfg(feature = "intake")]
    pub use crate::intake::fuzzing::*;
    pub use crate::process::fuzzing::*;
    pub use crate::store::fuzzing::*;
}
#[cfg(feature = "intake")]
mod intake;
mod journal;
mod keyword;
mod level;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod measure;
mod pipeline;
mod process;
mod queue;
mod redact;
mod store;
#[cfg(test)]
mod testing;
#[cfg(feature = "webhook")]
mod webhook;
mod whole;

#[cfg(feature = "intake")]
pub use intake::IntakeConfig;
pub use pipeline::{Pipeline, PipelineConfig};
pub use process::ProcessConfig;
pub use queue::{WalConfig, WalLogQueue};

#[cfg(feature = "webhook")]
pub use webhook::{WebhookConfig, WebhookHeaders, WebhookNotifier, WebhookSecret, WebhookUrl};

pub use export::{LogExport, LogExportProgress};
pub use store::{
    EmbeddedLogStore, LogLoss, LogStoreConfig, LogStoreFinding, LogStoreReader, LogStoreRepair,
    LogStoreRepaired, LogStoreReport, LogStoreSeverity,
};
