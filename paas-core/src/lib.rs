//! The model, the ports, the guard, the engine and the memory backends of the paas SDK.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod error;

pub use error::{BoxError, Error, ErrorKind, Result};
