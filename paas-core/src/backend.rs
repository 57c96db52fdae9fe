//! What backends have in common, for those who write one.

mod feed;
mod fence;

pub use feed::{Feed, HintFeed};
pub use fence::Fence;
