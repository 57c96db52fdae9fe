//! Finds what is whole in a file that is not.

use memchr::memmem;
use paas_core::model::Timestamp;

use super::block::{Block, HEADER, MAGIC, Unread};
use super::lines::Lines;
use super::report::LogLoss;
use crate::disk::DiskFile;

/// So much of a file is looked at at once.
const WINDOW: u64 = 1 << 20;

/// Calls `each` with the blocks whose headers are whole, and with their lines where these are, too. The headers of a sealed
/// segment are its index, so nothing else of it is needed.
pub(super) fn blocks(
    file: &dyn DiskFile,
    from: u64,
    all: u64,
    mut each: impl FnMut(u64, &Block, Option<Lines>),
) -> Result<(), Unread> {
    let finder = memmem::Finder::new(&MAGIC.to_le_bytes()).into_owned();
    let (mut start, mut window) = (from, Vec::new());
    while start + HEADER as u64 <= all {
        let end = all.min(start + WINDOW + HEADER as u64 - 1);
        window.resize((end - start) as usize, 0);
        file.read_at(&mut window, start).map_err(Unread::Io)?;
        for place in finder.find_iter(&window) {
            let Some(header) = window.get(place..place + HEADER) else { continue };
            let Ok(block) = Block::of_header(header) else { continue };
            let lines = if block.end() > all { Ok(None) } else { whole(&block, file) };
            each(start + place as u64, &block, lines?);
        }
        start += WINDOW;
    }
    Ok(())
}

/// The lines of a block; `None` where they are not whole.
fn whole(block: &Block, file: &dyn DiskFile) -> Result<Option<Lines>, Unread> {
    match block.read(file) {
        Ok(lines) => Ok(Some(lines)),
        Err(Unread::Damaged(_)) => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// The lines of a block of a file are lost.
pub(super) fn lose(loss: &mut LogLoss, block: &Block, file: &dyn DiskFile) {
    let summary = &block.summary;
    loss.add_lines(summary.lines.into(), Timestamp(summary.first), Timestamp(summary.last));
    // Of lines whose text is lost it may still be known whose they were.
    if let Ok(lines) = block.read_rows(file) {
        lines.origins().iter().for_each(|(origin, _)| loss.add_origin(origin));
    }
}
