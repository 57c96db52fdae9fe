//! Those that ours are held against.

pub(crate) mod chdb;
#[cfg(hyperscan)]
pub(crate) mod hyperscan;
pub(crate) mod tantivy;
