//! What backends have in common, for those who write one.

mod drift;
mod feed;
mod fence;
mod file;
mod steps;
mod tally;

pub use drift::Drift;
pub use feed::{Feed, HintFeed};
pub use fence::Fence;
pub use file::file_error;
pub use steps::Steps;
pub use tally::{SpanCounts, ValueCounts};
