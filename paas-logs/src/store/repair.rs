//! Makes a damaged store one that opens again: what is whole in a damaged file is written anew, and the file put aside.
//!
//! A crash may come between any two steps. A file is replaced by a rename only after what it was stands in `damaged`, so each
//! step finds either what there was or what there is to be; whatever is left half done is done again.

use std::path::{Path, PathBuf};

use paas_core::Result;

use super::Sizes;
use super::check::journal::{self, Walked};
use super::check::segment::{self, Seen};
use super::check::{self, Journaled, OfLife};
use super::folder::Folder;
use super::journal::put_frame;
use super::keep;
use super::lines::{Encoder, Lines};
use super::report::{LogLoss, LogStoreRepair, LogStoreRepaired};
use super::salvage;
use super::sealing::Sealing;
use super::segment::unread;
use crate::disk::Disk;
use crate::error::failed;

/// The folder of files that were put aside.
const DAMAGED: &str = "damaged";
/// So much is copied at once.
const PIECE: u64 = 1 << 20;

struct Repair<'a> {
    disk: &'a dyn Disk,
    folder: &'a Path,
    sizes: Sizes,
    encoder: Encoder,
    done: LogStoreRepair,
}

/// Repairs a store that nobody has open.
pub(super) fn store(disk: &dyn Disk, folder: &Path, sizes: Sizes) -> Result<LogStoreRepair> {
    let encoder = Encoder::new().map_err(|cause| failed("begin to compress", folder, cause))?;
    let mut repair = Repair { disk, folder, sizes, encoder, done: LogStoreRepair::default() };
    let mut journaled = Journaled::default();
    for path in journal::files(disk, folder)? {
        if journal::check(disk, &path, &mut journaled)?.is_damaged() {
            repair.journal(&path)?;
        }
    }
    for (life, journaled) in check::lives(disk, folder, journaled)? {
        repair.life(&life, &journaled)?;
    }
    Ok(repair.done)
}

impl Repair<'_> {
    fn life(&mut self, folder: &Path, journaled: &OfLife) -> Result<()> {
        if check::check_kept(self.disk, folder)?.is_damaged() {
            let path = folder.join(keep::NAME);
            let moved_to = self.put_aside(&path)?;
            self.remove(&path)?;
            self.tell(&path, moved_to, 0, LogLoss::default());
        }
        let found = Folder::list(self.disk, folder)?;
        for (number, path) in found.sealed.iter().chain(&found.open) {
            let (checked, _) = segment::check(self.disk, path, journaled)?;
            if checked.is_damaged() {
                self.segment(folder, *number, path, checked.bytes, journaled)?;
            }
        }
        Ok(())
    }

    /// Writes what is whole in a segment as a sealed one of the same number.
    fn segment(
        &mut self,
        folder: &Path,
        number: u64,
        path: &Path,
        bytes: u64,
        journaled: &OfLife,
    ) -> Result<()> {
        let (draft, sealed) =
            (folder.join(format!("{number:010}.new")), folder.join(format!("{number:010}.sealed")));
        let open = folder.join(format!("{number:010}.open"));
        let broken = |cause| failed("replace a segment", path, cause);
        // The segment that it was made of is still there after a crash: it is the better one.
        let has_open = path != open && self.disk.open(&open).is_ok();
        if has_open {
            let moved_to = self.put_aside(path)?;
            self.remove(path)?;
            self.tell(path, moved_to, 0, LogLoss::default());
            let (checked, _) = segment::check(self.disk, &open, journaled)?;
            return if checked.is_damaged() {
                self.segment(folder, number, &open, checked.bytes, journaled)
            } else {
                Ok(())
            };
        }
        let (kept, loss) = self.salvage(path, &draft, bytes)?;
        let moved_to = self.put_aside(path)?;
        self.disk.rename(&draft, &sealed).map_err(broken)?;
        self.disk.sync_folder(folder).map_err(broken)?;
        if path == open {
            self.remove(path)?;
        }
        self.tell(path, moved_to, kept, loss);
        Ok(())
    }

    /// Writes what is whole in a segment; each line once. Gives how many there are, and what is lost.
    fn salvage(&mut self, path: &Path, draft: &Path, all: u64) -> Result<(u64, LogLoss)> {
        let broken = |cause| failed("read a segment", path, cause);
        let file = self.disk.open(path).map_err(broken)?;
        let mut sealing = Sealing::new(self.disk, draft)?;
        let (mut seen, mut loss, mut kept, mut bytes) = (Seen::default(), LogLoss::default(), 0, all);
        let (mut small, mut written) = (Lines::default(), Ok(()));
        let (sizes, encoder) = (self.sizes, &mut self.encoder);
        salvage::blocks(&*file, 0, all, |_, block, lines| {
            let Some(lines) = lines else { return salvage::lose(&mut loss, block, &*file) };
            bytes = bytes.saturating_sub(u64::from(block.rows.length) + u64::from(block.text.length));
            let before = small.rows().len();
            small.join(&lines, |row| seen.is_new(lines.origin(row), row.position));
            kept += (small.rows().len() - before) as u64;
            if small.size() >= sizes.block && written.is_ok() {
                written = sealing.add(&std::mem::take(&mut small), encoder);
            }
        })
        .map_err(|cause| unread(path, cause))?;
        written?;
        if !small.is_empty() {
            sealing.add(&small, encoder)?;
        }
        sealing.finish()?;
        loss.bytes = bytes;
        Ok((kept, loss))
    }

    /// Writes the frames that are whole as a file of the same number.
    fn journal(&mut self, path: &Path) -> Result<()> {
        let mut kept = 0;
        let walked = journal::walk(self.disk, path, |frame| kept += journal::lines(&frame))?;
        let loss = journal::loss(&walked);
        let Walked { content, whole, .. } = walked;
        let mut frames = Vec::with_capacity(content.len());
        whole.iter().for_each(|(from, to)| put_frame(&mut frames, &content[*from..*to]));
        let draft = path.with_extension("new");
        let broken = |cause| failed("replace a journal", path, cause);
        self.disk.remove(&draft).map_err(broken)?;
        let file = self.disk.create(&draft).map_err(broken)?;
        file.write_at(&frames, 0).and_then(|()| file.sync()).map_err(broken)?;
        let moved_to = self.put_aside(path)?;
        self.disk.rename(&draft, path).map_err(broken)?;
        self.disk.sync_folder(self.folder).map_err(broken)?;
        self.tell(path, moved_to, kept, loss);
        Ok(())
    }

    /// Copies a file to where nobody reads it, and gives its name there.
    fn put_aside(&self, path: &Path) -> Result<PathBuf> {
        let (disk, damaged) = (self.disk, self.folder.join(DAMAGED));
        let broken = |cause| failed("put a damaged file aside", path, cause);
        let made = disk.ensure_folder(&damaged).and_then(|()| disk.sync_folder(self.folder));
        made.map_err(broken)?;
        let own = path.strip_prefix(self.folder).unwrap_or(path).display().to_string().replace('/', ".");
        let names = disk.names(&damaged).map_err(broken)?;
        let name = (0..).map(|count| format!("{own}.{count}")).find(|name| !names.contains(name));
        let to = damaged.join(name.unwrap_or_default());
        let draft = damaged.join("draft.new");
        let copied = || {
            disk.remove(&draft)?;
            let (from, copy) = (disk.open(path)?, disk.create(&draft)?);
            let (all, mut at, mut piece) = (from.length()?, 0, Vec::new());
            while at < all {
                piece.resize(PIECE.min(all - at) as usize, 0);
                from.read_at(&mut piece, at)?;
                copy.write_at(&piece, at)?;
                at += piece.len() as u64;
            }
            copy.sync()?;
            disk.rename(&draft, &to)?;
            disk.sync_folder(&damaged)
        };
        copied().map_err(broken)?;
        Ok(to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let folder = path.parent().unwrap_or(path);
        let removed = self.disk.remove(path).and_then(|()| self.disk.sync_folder(folder));
        removed.map_err(|cause| failed("remove a damaged file", path, cause))
    }

    fn tell(&mut self, path: &Path, moved_to: PathBuf, kept: u64, loss: LogLoss) {
        self.done.files.push(LogStoreRepaired { file: path.to_owned(), moved_to, kept, loss });
    }
}
