//! Which files the journal has: those that are full and kept until a checkpoint makes them unnecessary, the one being
//! written, and spare ones. The writer begins files, the keeper of checkpoints retires them. What is in them is
//! not known here.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::JournalOptions;
use super::format::{self, FILE_HEADER_BYTES, FileHeader};
use super::replay::ReplayEnd;
use crate::disk::{Disk, DiskFile, read_exact_at, write_all_at};

/// Octets read and written at once.
const REWRITE_BYTES: u64 = 1 << 20;

/// All files of a journal.
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes: u64,
    spare_files: usize,
    /// Full ones, oldest first.
    full: Vec<FullFile>,
    /// Start of the one being written.
    current: Option<u64>,
    /// Numbers of spare files.
    spares: Vec<u64>,
    next_spare: u64,
}

struct FullFile {
    start: u64,
    end: u64,
    /// A file with a failed sync is not: the system may believe that what it holds is on the disk.
    can_be_spare: bool,
}

impl Files {
    /// Takes over what recovery found: removes what does not count, and makes safe what does, since everything
    /// written from now on says that it is.
    pub(super) fn take_over(
        disk: Arc<dyn Disk>,
        options: &JournalOptions,
        replayed: &ReplayEnd,
    ) -> io::Result<Self> {
        let dir = options.dir.clone();
        disk.create_dir(&dir)?;
        let above =
            dir.parent().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
        above.map_or(Ok(()), |above| disk.sync_dir(above))?;
        let spares =
            disk.list(&dir)?.iter().filter_map(|name| format::parse_spare_name(name)).collect::<Vec<_>>();
        let next_spare = spares.iter().max().map_or(1, |number| number.saturating_add(1));
        let full = replayed.kept.iter().map(|(start, end)| FullFile {
            start: start.0,
            end: end.0,
            can_be_spare: true,
        });
        let full = full.collect();
        let (file_bytes, spare_files) = (options.file_bytes, options.spare_files);
        let mut files = Self { disk, dir, file_bytes, spare_files, full, current: None, spares, next_spare };
        for (start, end) in &replayed.kept {
            files.make_safe(start.0, end.0, replayed.synced)?;
        }
        for name in &replayed.discarded {
            files.disk.remove(&files.dir.join(name))?;
        }
        while files.spares.len() > files.spare_files {
            if let Some(number) = files.spares.pop() {
                files.disk.remove(&files.dir.join(format::spare_name(number)))?;
            }
        }
        files.disk.sync_dir(&files.dir)?;
        Ok(files)
    }

    /// Makes a file safe up to `end`. From `synced` on it is not known to be: the process before this one may have
    /// ended after a sync that failed, and since then the system may believe that what it shows us is on the disk.
    /// Only what is written once more will be, and since it is the same nothing can be torn by that.
    fn make_safe(&self, start: u64, end: u64, synced: u64) -> io::Result<()> {
        let file = self.disk.open(&self.path(start))?;
        let mut at = synced.max(start);
        let mut octets = Vec::new();
        while at < end {
            octets.resize((end - at).min(REWRITE_BYTES) as usize, 0);
            let offset = FILE_HEADER_BYTES + (at - start);
            read_exact_at(&*file, &mut octets, offset)?;
            write_all_at(&*file, &mut [IoSlice::new(&octets)], offset)?;
            at += octets.len() as u64;
        }
        file.sync()
    }

    fn path(&self, start: u64) -> PathBuf {
        self.dir.join(format::file_name(start))
    }

    /// Begins the file that is written from now on; it takes the place of one of the same start. Its header is
    /// safe before it gets its name, so that nothing an earlier use left in it is ever taken for the journal.
    pub(super) fn begin(&mut self, header: &FileHeader) -> io::Result<Box<dyn DiskFile>> {
        let (number, file) = self.prepare(header)?;
        let spare = self.dir.join(format::spare_name(number));
        let named = self.disk.rename(&spare, &self.path(header.start));
        if let Err(error) = named.and_then(|()| self.disk.sync_dir(&self.dir)) {
            let _ = self.disk.remove(&spare);
            return Err(error);
        }
        self.current = Some(header.start);
        Ok(file)
    }

    /// A spare file with this header. One that fails is removed, which also gives its room back.
    fn prepare(&mut self, header: &FileHeader) -> io::Result<(u64, Box<dyn DiskFile>)> {
        let (number, opened) = match self.spares.pop() {
            Some(number) => (number, self.disk.open(&self.dir.join(format::spare_name(number)))),
            None => {
                let number = self.next_spare;
                self.next_spare += 1;
                (number, self.disk.create(&self.dir.join(format::spare_name(number))))
            }
        };
        let prepared = opened.and_then(|file| {
            write_all_at(&*file, &mut [IoSlice::new(&header.encode())], 0)?;
            file.sync()?;
            Ok(file)
        });
        match prepared {
            Ok(file) => Ok((number, file)),
            Err(error) => {
                let _ = self.disk.remove(&self.dir.join(format::spare_name(number)));
                Err(error)
            }
        }
    }

    /// The file being written holds nothing more than what is below `end`.
    pub(super) fn end_current(&mut self, end: u64, can_be_spare: bool) {
        // One that ends where it starts is left as it is: the next file has the same name and takes its place. Until
        // then it says where the journal goes on.
        if let Some(start) = self.current.take()
            && start < end
        {
            self.full.push(FullFile { start, end, can_be_spare });
        }
    }

    /// Lets files that end at or below `position` become spare ones or go.
    pub(super) fn retire_below(&mut self, position: u64) -> io::Result<()> {
        // One file always stays, to say how far the journal reaches: after a failure there may be none but full ones.
        let stay = usize::from(self.current.is_none());
        while let Some(oldest) = self.full.first()
            && oldest.end <= position
            && self.full.len() > stay
        {
            let path = self.path(oldest.start);
            let usual_size = oldest.end - oldest.start <= 2 * self.file_bytes;
            if oldest.can_be_spare && usual_size && self.spares.len() < self.spare_files {
                let number = self.next_spare;
                self.next_spare += 1;
                self.disk.rename(&path, &self.dir.join(format::spare_name(number)))?;
                self.spares.push(number);
            } else {
                self.disk.remove(&path)?;
            }
            self.full.remove(0);
        }
        Ok(())
    }

    pub(super) fn begins_at(&self) -> Option<u64> {
        self.full.first().map(|file| file.start).or(self.current)
    }

    pub(super) fn full(&self) -> Vec<(u64, u64)> {
        self.full.iter().map(|file| (file.start, file.end)).collect()
    }
}
