//! The model, the ports, the guard, the engine and the memory backends of the paas SDK.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod backend;
pub mod engine;
pub mod error;
pub mod guard;
pub mod memory;
pub mod model;
pub mod platform;
pub mod port;

pub use error::{BoxError, Error, ErrorKind, Result};
pub use guard::{Guard, Guarded, RetryPolicy};
pub use platform::{Platform, PlatformBuilder};
