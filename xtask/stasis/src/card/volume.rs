//! [`Volume`]: a part of a file as [`fatfs`] wants it, with what is written again and again in memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// A volume in a file. Its beginning, where the tables of a FAT are, is in memory until
/// [`finish`](Self::finish): each cluster that gets contents changes four bytes here and there in
/// them.
pub(super) struct Volume<'f> {
    file: &'f File,
    /// Bytes of the file before the volume.
    start: u64,
    len: u64,
    /// The offset in the volume at which the next byte is read or written.
    at: u64,
    beginning: Vec<u8>,
}

impl<'f> Volume<'f> {
    /// Most bytes of the beginning.
    const MOST: u64 = 16 << 20;
    /// Bytes of a volume for each byte of its two tables: a cluster has 512 bytes at the least, and
    /// 4 in each of them.
    const RATIO: u64 = 512 / (2 * 4);
    /// Bytes before the tables, and some more.
    const RESERVED: u64 = 1 << 16;

    /// Returns the volume that lies in these bytes of a file, all of which are zeros.
    pub(super) fn new(file: &'f File, range: Range<u64>) -> Self {
        let len = range.end - range.start;
        let beginning = (len / Self::RATIO).min(Self::MOST) + Self::RESERVED;
        Self { beginning: vec![0; beginning.min(len) as usize], ..Self::open(file, range) }
    }

    /// Returns the volume that lies in these bytes of a file, with what is there.
    pub(super) fn open(file: &'f File, range: Range<u64>) -> Self {
        let len = range.end - range.start;
        Self { file, start: range.start, len, at: 0, beginning: Vec::new() }
    }

    /// Writes the beginning to the file, but for what is zero there anyhow.
    pub(super) fn finish(self) -> io::Result<()> {
        const PIECE: usize = 1 << 16;
        for (offset, piece) in (self.start..).step_by(PIECE).zip(self.beginning.chunks(PIECE)) {
            if piece.iter().any(|byte| *byte != 0) {
                self.file.write_all_at(piece, offset)?;
            }
        }
        Ok(())
    }

    /// Returns how many of `wanted` bytes can be read or written at once, and whether they are in
    /// memory.
    fn next(&self, wanted: usize) -> (usize, bool) {
        let beginning = self.beginning.len() as u64;
        let in_memory = self.at < beginning;
        let end = if in_memory { beginning } else { self.len };
        let left = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        (wanted.min(left), in_memory)
    }
}

impl Read for Volume<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.next(buffer.len()) {
            (count, true) => (&self.beginning[self.at as usize..]).read(&mut buffer[..count])?,
            (count, false) => self.file.read_at(&mut buffer[..count], self.start + self.at)?,
        };
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Volume<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match self.next(bytes.len()) {
            (count, true) => (&mut self.beginning[self.at as usize..]).write(&bytes[..count])?,
            (count, false) => self.file.write_at(&bytes[..count], self.start + self.at)?,
        };
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Volume<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
