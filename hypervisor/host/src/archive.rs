//! Reads the archive that the boot loader hands over: the guests' images beside their
//! configuration.
//!
//! The archive is a cpio in the "new ASCII" format (`070701`), as `cpio -H newc` writes it and
//! Linux takes it for its initramfs. [`Archive::open`] walks the whole of it once, so that a
//! damaged archive is known before the first guest starts. Format: cpio(5), "New ASCII Format".

use alloc::string::String;
use core::ops::Range;

use stasis_console::text::quoted;
use stasis_guest::magic::{self, Found};

const MAGIC: &[u8] = b"070701";
/// Magic number of the format with a checksum, which nothing writes today.
const MAGIC_CRC: &[u8] = b"070702";
const HEADER_LEN: usize = 110;
const TRAILER: &str = "TRAILER!!!";
/// How many names an error lists.
const LISTED: usize = 16;

/// Where the fields stand that matter here: eight hexadecimal digits each.
const INODE: Range<usize> = 6..14;
const MODE: Range<usize> = 14..22;
const LINKS: Range<usize> = 38..46;
const FILE_SIZE: Range<usize> = 54..62;
const DEVICE_MAJOR: Range<usize> = 62..70;
const DEVICE_MINOR: Range<usize> = 70..78;
const NAME_SIZE: Range<usize> = 94..102;

const MODE_TYPE: u32 = 0o170_000;
const MODE_REGULAR: u32 = 0o100_000;

/// What can be wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Nothing at all.
    #[error("no archive: the boot loader handed over no initrd")]
    Empty,
    /// Something else stands where an entry should begin.
    #[error("the archive is no cpio of format newc: found {found} at offset {offset:#x}")]
    BadMagic {
        /// Offset of the entry.
        offset: usize,
        /// What its first bytes look like.
        found: Found,
    },
    /// A header's field is no number.
    #[error("the archive's entry at offset {offset:#x} has a header that is not hexadecimal")]
    BadHeader {
        /// Offset of the entry.
        offset: usize,
    },
    /// A name is empty, not terminated, or not UTF-8.
    #[error("the archive's entry at offset {offset:#x} has an unreadable name")]
    BadName {
        /// Offset of the entry.
        offset: usize,
    },
    /// The archive ends within a file.
    #[error("the archive is cut short in file {name}: {missing} of {size} bytes are missing")]
    FileCutShort {
        /// The file, in quotes.
        name: String,
        /// The file's size, as its header has it.
        size: usize,
        /// How many of them are not there.
        missing: usize,
    },
    /// The archive ends in a header, or with no trailer.
    #[error("the archive is cut short: it ends at offset {offset:#x} without a trailer")]
    CutShort {
        /// Where it ends.
        offset: usize,
    },
    /// A file that was asked for is not there.
    #[error("the archive has no file {name}; it has {there_are}")]
    NoSuchFile {
        /// The name, in quotes.
        name: String,
        /// The names that are there.
        there_are: String,
    },
}

/// An archive, checked from end to end.
#[derive(Clone, Copy, Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
}

/// A regular file in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'a> {
    /// The file's name, without a leading `./`.
    pub name: &'a str,
    /// The file's contents.
    pub data: &'a [u8],
}

/// An entry that is a regular file.
#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    file: File<'a>,
    link: Option<Link>,
}

/// What the names of a file with several of them have in common: hard links. One of their entries
/// has the contents, mostly the last one (cpio(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    /// Which of several archives it is in: each counts its files anew.
    archive: usize,
    inode: u32,
    device: (u32, u32),
}

impl Link {
    /// The link that a header tells of; none for a file with one name, or where the numbers are
    /// none.
    fn of(header: &[u8], archive: usize) -> Option<Self> {
        let field = |range: Range<usize>| hex(&header[range]);
        let device = (field(DEVICE_MAJOR)?, field(DEVICE_MINOR)?);
        (field(LINKS)? > 1).then_some(Self { archive, inode: field(INODE)?, device })
    }
}

impl<'a> Archive<'a> {
    /// Checks the archive in `bytes`. Several archives may follow one another, as for Linux.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        if bytes.is_empty() {
            return Err(ArchiveError::Empty);
        }
        let mut entries = Entries::new(bytes);
        if entries.skip_padding() == bytes.len() {
            // All zeros: memory that nothing was loaded to.
            let found = magic::identify(bytes);
            return Err(ArchiveError::BadMagic { offset: 0, found });
        }
        while entries.next_entry()?.is_some() {}
        Ok(Self { bytes })
    }

    /// Returns the regular files, in the archive's order.
    pub fn files(&self) -> impl Iterator<Item = File<'a>> + use<'a> {
        let archive = *self;
        self.entries().map(move |entry| File { data: archive.contents(&entry), ..entry.file })
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let mut entries = Entries::new(self.bytes);
        // `open` has seen every entry: there is no error left to meet.
        core::iter::from_fn(move || entries.next_entry().ok().flatten()).flatten()
    }

    /// What is in a file: where its own entry has nothing, what another of its names has.
    fn contents(&self, entry: &Entry<'a>) -> &'a [u8] {
        let Some(link) = entry.link.filter(|_| entry.file.data.is_empty()) else {
            return entry.file.data;
        };
        let mut names = self.entries().filter(|other| other.link == Some(link));
        names.find(|other| !other.file.data.is_empty()).map_or(&[], |other| other.file.data)
    }

    /// Returns the contents of the file called `name`: the last one, should there be several, as
    /// for Linux.
    pub fn file(&self, name: &str) -> Result<&'a [u8], ArchiveError> {
        let wanted = name.trim_start_matches("./");
        match self.entries().filter(|entry| entry.file.name == wanted).last() {
            Some(entry) => Ok(self.contents(&entry)),
            None => Err(ArchiveError::NoSuchFile { name: quoted(name), there_are: self.list() }),
        }
    }

    fn list(&self) -> String {
        let mut list = String::new();
        for Entry { file, .. } in self.entries().take(LISTED) {
            if !list.is_empty() {
                list.push_str(", ");
            }
            list.push_str(&quoted(file.name));
        }
        match self.entries().count() {
            0 => list.push_str("none"),
            count if count > LISTED => list.push_str(", ..."),
            _ => {}
        }
        list
    }
}

/// Walks the entries.
struct Entries<'a> {
    bytes: &'a [u8],
    offset: usize,
    /// At the very beginning, or behind a trailer: here the archive may end, and zeros may pad it.
    between_archives: bool,
    /// Trailers that were met.
    archive: usize,
}

impl<'a> Entries<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0, between_archives: true, archive: 0 }
    }

    /// The next entry, which may be no regular file: `Some(None)`. `None` at the end.
    fn next_entry(&mut self) -> Result<Option<Option<Entry<'a>>>, ArchiveError> {
        if self.between_archives && self.skip_padding() == self.bytes.len() {
            return Ok(None);
        }
        let offset = self.offset;
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let known = rest.len().min(MAGIC.len());
        if !rest.starts_with(MAGIC_CRC) && rest[..known] != MAGIC[..known] {
            return Err(ArchiveError::BadMagic { offset, found: magic::identify(rest) });
        }
        let cut_short = ArchiveError::CutShort { offset: self.bytes.len() };
        let Some(header) = rest.get(..HEADER_LEN) else {
            return Err(cut_short);
        };
        let field = |range| hex(&header[range]).ok_or(ArchiveError::BadHeader { offset });
        let (mode, size, name_size) = (field(MODE)?, field(FILE_SIZE)?, field(NAME_SIZE)?);

        // The offsets cannot overflow: each number has 32 bits, and so far it all lies within the
        // slice.
        let name_end = offset + HEADER_LEN + name_size as usize;
        let Some(name) = self.bytes.get(offset + HEADER_LEN..name_end) else {
            return Err(cut_short);
        };
        let name = name
            .strip_suffix(b"\0")
            .and_then(|name| core::str::from_utf8(name).ok())
            .filter(|name| !name.is_empty() && !name.contains('\0'))
            .ok_or(ArchiveError::BadName { offset })?;
        let start = name_end.next_multiple_of(4);
        let end = start + size as usize;
        let Some(data) = self.bytes.get(start..end) else {
            return Err(ArchiveError::FileCutShort {
                name: quoted(name),
                size: size as usize,
                missing: end - self.bytes.len().max(start),
            });
        };
        self.offset = end.next_multiple_of(4);
        self.between_archives = name == TRAILER;
        let link = Link::of(header, self.archive);
        self.archive += usize::from(self.between_archives);
        let is_file = mode & MODE_TYPE == MODE_REGULAR && !self.between_archives;
        let file = File { name: name.trim_start_matches("./"), data };
        Ok(Some(is_file.then_some(Entry { file, link })))
    }

    fn skip_padding(&mut self) -> usize {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        self.offset = match rest.iter().position(|&byte| byte != 0) {
            Some(zeros) => self.offset + zeros,
            None => self.bytes.len(),
        };
        self.offset
    }
}

/// Eight hexadecimal digits. `from_str_radix` alone would take a sign too.
fn hex(digits: &[u8]) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
pub(crate) mod tests;
