//! Those that ours are held against.

#[cfg(hyperscan)]
pub(crate) mod hyperscan;
