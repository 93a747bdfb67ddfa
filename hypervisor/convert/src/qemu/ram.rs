//! The memory in a migration stream (migration/ram.c, version 4), between its head and the sections
//! of the devices: [`Ram`] finds it, [`RamWriter`] writes it.
//!
//! The memory is in parts. A part is a row of entries, each a word of 64 bits that is an address in
//! a block of RAM with flags in its lower bits, and what they announce. A page may be there more
//! than once; the last one counts. [`Ram`] notes where in the stream each page is, and reads no
//! page: 4 KiB for each 2 MiB of which there is any page, so that a stream can't claim more memory
//! than it is long.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use stasis_state::{PAGE_SIZE, Source};

use super::cursor::Cursor;
pub use super::cursor::ReadError;
use super::sections::{CONFIGURATION, EOF, FOOTER, MAGIC, SECTION_FULL};
use super::stream::SUBSECTION;
use crate::error::Error;

const SECTION_START: u8 = 0x01;
const SECTION_PART: u8 = 0x02;
const SECTION_END: u8 = 0x03;
const COMMAND: u8 = 0x08;

/// The names of the versions of QEMU's `virt` begin with this.
const VIRT: &[u8] = b"virt-";
const NAME: &str = "ram";
const VERSION: u32 = 4;

/// The lower bits of an entry's word are flags.
const FLAGS: u64 = PAGE_SIZE as u64 - 1;
const ZERO: u64 = 0x02;
const MEM_SIZE: u64 = 0x04;
const PAGE: u64 = 0x08;
const EOS: u64 = 0x10;
/// The entry is about the block of the entry before it, and has no name.
const CONTINUE: u64 = 0x20;

/// Most blocks of RAM of a machine.
const MAX_BLOCKS: usize = 64;
/// Most bytes of a block: more than QEMU's `virt` can have.
const MAX_BLOCK: u64 = 1 << 40;
/// Pages of a chunk, for which there is one list of places.
const CHUNK: u64 = 512;

type Result<T, S> = core::result::Result<T, ReadError<<S as Source>::Error>>;

/// A block of a machine's RAM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// QEMU's name for it.
    pub name: String,
    /// Bytes.
    pub len: u64,
    /// Where in the stream each page of a chunk is; 0 for a page of zeros.
    chunks: BTreeMap<u64, Box<[u64; CHUNK as usize]>>,
}

impl Block {
    /// Returns the offset in the stream of the page at `address`; `None` if that is zeros.
    pub fn page(&self, address: u64) -> Option<u64> {
        let page = address / PAGE_SIZE as u64;
        let at = self.chunks.get(&(page / CHUNK))?[(page % CHUNK) as usize];
        (at != 0).then_some(at)
    }

    /// Returns the address of the first page from `address` on that is not zeros; `None` if there
    /// is none.
    pub fn next(&self, address: u64) -> Option<u64> {
        let first = address / PAGE_SIZE as u64;
        self.chunks.range(first / CHUNK..).find_map(|(chunk, places)| {
            let start = first.saturating_sub(chunk * CHUNK).min(CHUNK);
            let found = places[start as usize..].iter().position(|&at| at != 0)?;
            Some((chunk * CHUNK + start + found as u64) * PAGE_SIZE as u64)
        })
    }

    /// Returns the addresses of the pages that are not zeros, and where in the stream they are, in
    /// ascending order.
    pub fn pages(&self) -> impl Iterator<Item = (u64, u64)> {
        self.chunks.iter().flat_map(|(chunk, places)| {
            let pages = (0..).zip(places.iter()).filter(|(_, at)| **at != 0);
            pages.map(move |(n, at)| ((chunk * CHUNK + n) * PAGE_SIZE as u64, *at))
        })
    }

    /// Notes where the page at `address` is: 0 if it is zeros.
    fn note(&mut self, address: u64, at: u64) {
        let page = address / PAGE_SIZE as u64;
        let chunk = page / CHUNK;
        if at == 0 && !self.chunks.contains_key(&chunk) {
            return;
        }
        let places = self.chunks.entry(chunk).or_insert_with(|| Box::new([0; CHUNK as usize]));
        places[(page % CHUNK) as usize] = at;
    }
}

/// The memory of a machine in a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ram {
    /// The blocks, as the stream announces them.
    pub blocks: Vec<Block>,
    /// The number of the memory's section in the stream.
    section: u32,
    /// Offset behind the part that announces the blocks.
    announced: u64,
    /// The block of the last entry, also of one in an earlier part.
    current: Option<usize>,
    /// The commands between the parts, as they stand there.
    commands: Vec<u8>,
    /// Offset behind all parts, where the devices' sections begin.
    pub end: u64,
}

impl Ram {
    /// Finds the memory of a stream, which begins behind the first `head` bytes.
    ///
    /// # Errors
    ///
    /// [`ReadError::Source`] if the source fails; [`ReadError::Stream`] with the rule that is
    /// broken.
    pub fn find<S: Source>(source: &mut S, head: u64) -> Result<Self, S> {
        let mut cursor = Cursor::new(source);
        if cursor.take::<8>()? != MAGIC {
            return Err(Error::NotAStream.into());
        }
        if head > MAGIC.len() as u64 {
            if cursor.take()? != [CONFIGURATION] {
                let at = MAGIC.len() as u64;
                return Err(Error::Memory { at, what: "no configuration" }.into());
            }
            configuration(&mut cursor)?;
        }
        cursor.skip_to(head)?;
        let mut ram = Self::default();
        loop {
            let at = cursor.at();
            match cursor.take()? {
                [SECTION_START] => ram.start(&mut cursor)?,
                [part @ (SECTION_PART | SECTION_END)] if !ram.blocks.is_empty() => {
                    let section = cursor.u32()?;
                    if section != ram.section {
                        return Err(Error::Memory { at, what: "a part of something else" }.into());
                    }
                    ram.part(&mut cursor)?;
                    if part == SECTION_END {
                        ram.end = cursor.at();
                        return Ok(ram);
                    }
                }
                [COMMAND] => ram.command(&mut cursor)?,
                [CONFIGURATION] if at == MAGIC.len() as u64 => configuration(&mut cursor)?,
                [SUBSECTION] if ram.blocks.is_empty() => page_bits(&mut cursor)?,
                [SECTION_FULL | EOF] => {
                    return Err(Error::Memory { at, what: "the end of the memory" }.into());
                }
                _ => return Err(Error::Memory { at, what: "a record of no known kind" }.into()),
            }
        }
    }

    /// Returns the block of this name.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlock`] if the machine has none.
    pub fn block(&self, name: &'static str) -> core::result::Result<&Block, Error> {
        self.blocks.iter().find(|block| block.name == name).ok_or(Error::NoBlock { name })
    }

    /// Reads the first part: what memory there is.
    fn start<S: Source>(&mut self, cursor: &mut Cursor<'_, S>) -> Result<(), S> {
        let at = cursor.at();
        self.section = cursor.u32()?;
        let name = cursor.name()?;
        let (_instance, version) = (cursor.u32()?, cursor.u32()?);
        if name != NAME.as_bytes() {
            let name = String::from_utf8_lossy(&name).into_owned();
            return Err(Error::UnknownDevice { name }.into());
        }
        if version != VERSION || !self.blocks.is_empty() {
            return Err(Error::Memory { at, what: "memory of another version, or twice" }.into());
        }
        self.part(cursor)?;
        self.announced = cursor.at();
        Ok(())
    }

    /// Keeps a command for the machine that loads the stream.
    fn command<S: Source>(&mut self, cursor: &mut Cursor<'_, S>) -> Result<(), S> {
        let at = cursor.at();
        let head: [u8; 4] = cursor.take()?;
        let len = u16::from_be_bytes([head[2], head[3]]);
        // The one that QEMU sends before the end is empty. Those of other ways to migrate have no
        // place here.
        if len != 0 || self.commands.len() > PAGE_SIZE {
            return Err(Error::Memory { at, what: "a command that is not known" }.into());
        }
        self.commands.push(COMMAND);
        self.commands.extend(head);
        Ok(())
    }

    /// Reads entries up to the end of a part, and its footer.
    fn part<S: Source>(&mut self, cursor: &mut Cursor<'_, S>) -> Result<(), S> {
        loop {
            let at = cursor.at();
            let word = cursor.u64()?;
            let (address, flags) = (word & !FLAGS, word & FLAGS);
            if flags == EOS {
                break;
            }
            if flags == MEM_SIZE && self.blocks.is_empty() {
                self.announce(cursor, address)?;
                continue;
            }
            let (ZERO | PAGE) = flags & !CONTINUE else {
                return Err(Error::Memory { at, what: "pages in a form that is not known" }.into());
            };
            if flags & CONTINUE == 0 {
                let name = cursor.name()?;
                self.current = self.blocks.iter().position(|block| block.name.as_bytes() == name);
            }
            let found = self.current.and_then(|n| self.blocks.get_mut(n));
            let found = found.filter(|block| address < block.len);
            let block = found.ok_or(Error::Memory { at, what: "a page of no memory" })?;
            if flags & PAGE != 0 {
                block.note(address, cursor.at());
                let end = cursor.at() + PAGE_SIZE as u64;
                cursor.skip_to(end)?;
            } else if cursor.take()? == [0] {
                block.note(address, 0);
            } else {
                return Err(Error::Memory { at, what: "a page of one byte that is not 0" }.into());
            }
        }
        let at = cursor.at();
        let footer: [u8; 5] = cursor.take()?;
        if footer[0] != FOOTER || footer[1..] != self.section.to_be_bytes() {
            return Err(Error::Memory { at, what: "no footer behind a part" }.into());
        }
        Ok(())
    }

    /// Reads the list of the blocks, which have `total` bytes together.
    fn announce<S: Source>(&mut self, cursor: &mut Cursor<'_, S>, total: u64) -> Result<(), S> {
        let mut left = total;
        while left > 0 {
            let at = cursor.at();
            let name = cursor.name()?;
            let len = cursor.u64()?;
            let is_good =
                (1..=left.min(MAX_BLOCK)).contains(&len) && len.is_multiple_of(PAGE_SIZE as u64);
            if !is_good || self.blocks.len() == MAX_BLOCKS {
                return Err(Error::Memory { at, what: "memory of no possible size" }.into());
            }
            left -= len;
            let name = String::from_utf8_lossy(&name).into_owned();
            self.blocks.push(Block { name, len, chunks: BTreeMap::new() });
        }
        Ok(())
    }
}

/// Reads the name of the machine, with which a configuration begins, and checks that it is a
/// `virt`. It is all of the configuration in a stream whose description does not say how long that
/// is (QEMU before 8.0).
fn configuration<S: Source>(cursor: &mut Cursor<'_, S>) -> Result<(), S> {
    let (at, len) = (cursor.at(), cursor.u32()?);
    let len = u8::try_from(len);
    let len = len.map_err(|_| Error::Memory { at, what: "a machine of no possible name" })?;
    let name = cursor.bytes(len)?;
    if name.starts_with(VIRT) {
        return Ok(());
    }
    Err(Error::OtherBoard { name: String::from_utf8_lossy(&name).into_owned() }.into())
}

/// Skips the only subsection of a configuration that a machine `virt` has: the size of its pages.
fn page_bits<S: Source>(cursor: &mut Cursor<'_, S>) -> Result<(), S> {
    let at = cursor.at();
    let (name, _version, _bits) = (cursor.name()?, cursor.u32()?, cursor.u32()?);
    if name != b"configuration/target-page-bits" {
        return Err(Error::Memory { at, what: "a configuration that is not known" }.into());
    }
    Ok(())
}

/// Writes the memory of a stream that has the head, and so the blocks, of another one: the `base`.
#[derive(Debug)]
pub struct RamWriter<'r> {
    base: &'r Ram,
    /// The block of the page that was written last.
    block: Option<&'r str>,
}

impl<'r> RamWriter<'r> {
    /// Returns the writer, and the number of bytes of the base with which the stream must begin.
    pub fn new(base: &'r Ram) -> (Self, u64) {
        (Self { base, block: None }, base.announced)
    }

    /// Returns the bytes that must follow: the head of the part that has all pages.
    pub fn begin(&self) -> Vec<u8> {
        let mut bytes = Vec::from([SECTION_PART]);
        bytes.extend(self.base.section.to_be_bytes());
        bytes
    }

    /// Appends what must stand before the 4096 bytes of the page at `address` of a block.
    pub fn page(&mut self, block: &'r Block, address: u64, out: &mut Vec<u8>) {
        if self.block == Some(&block.name) {
            out.extend((address | PAGE | CONTINUE).to_be_bytes());
            return;
        }
        self.block = Some(&block.name);
        out.extend((address | PAGE).to_be_bytes());
        out.push(block.name.len() as u8);
        out.extend(block.name.bytes());
    }

    /// Returns the bytes between the last page and the devices' sections.
    pub fn finish(self) -> Vec<u8> {
        let section = self.base.section.to_be_bytes();
        let end = |bytes: &mut Vec<u8>| {
            bytes.extend(EOS.to_be_bytes());
            bytes.push(FOOTER);
            bytes.extend(section);
        };
        let mut bytes = Vec::new();
        end(&mut bytes);
        bytes.extend(&self.base.commands);
        bytes.push(SECTION_END);
        bytes.extend(section);
        end(&mut bytes);
        bytes
    }
}
