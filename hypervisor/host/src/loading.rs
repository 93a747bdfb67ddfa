//! Loading of a guest's memory while the guest runs: what becomes of one unit that is
//! [missing](stasis_memory::missing).
//!
//! A [`PageSource`] says what each page of the unit is, and has the bytes of those that are stored.
//! [`fill`] writes them to the guest's memory, where nobody reaches them yet, and checks there what
//! was written. So nothing that is wrong is ever shown to the guest: a unit that is not what its
//! checkpoint says is never mapped, and the guest stops, by name of the page's address
//! ([`NotLoaded`]). A source that fails for a while is tried again: [`Retry`] says when.
//!
//! Memory that guests share is no unit that is missing: others use it as soon as one of them runs.
//! [`fill_shared`] makes it what the source says, piece by piece, before the guest runs; and
//! [`check_shared`] finds out before that whether the source has all of it.

mod place;
mod retry;

use core::fmt::{self, Debug, Display};
use core::ops::Range;

use place::{Destination, Scratch, Shared};
pub use retry::{Kind, MOST_TRIES, Retry, Then};
use stasis_memory::frames::NoFrame;
use stasis_memory::missing::{Filling, UNIT_PAGES, UNIT_SIZE};
use stasis_memory::{Machine, WriteRam};
use stasis_state::PAGE_SIZE;

/// What a page of a checkpoint is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Page {
    /// All bytes are 0.
    #[default]
    Zero,
    /// A little-endian word over and over.
    Word(u64),
    /// The bytes in the checkpoint's file from this offset on.
    Stored {
        /// Offset in the file.
        offset: u64,
        /// CRC-32C of the bytes.
        crc: u32,
    },
}

/// Where the pages of a guest come from: its checkpoint.
pub trait PageSource {
    /// Why it was not read.
    type Error;

    /// Says what each of the pages from the guest-physical `address` on is, which lie in one block.
    ///
    /// # Errors
    ///
    /// Why that is not known: the source fails, or what it says of the pages breaks a rule.
    fn describe(&mut self, address: u64, pages: &mut [Page]) -> Result<(), Self::Error>;

    /// Passes the `len` bytes from `offset` of the file on to `take` in pieces, in their order.
    ///
    /// # Errors
    ///
    /// Whatever the source fails with; `take` may have had some pieces by then.
    fn read_with(
        &mut self,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Self::Error>;
}

/// Why a guest's memory was not loaded to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLoaded<E> {
    /// Guest-physical address of the page, or of the unit, that is not there.
    pub address: u64,
    /// What is wrong with it.
    pub why: Why<E>,
}

/// What is wrong with a page that was not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why<E> {
    /// The page was not read.
    Source(E),
    /// The page's bytes are not those that were stored.
    Damaged {
        /// CRC-32C that the checkpoint says.
        found: u32,
        /// CRC-32C of the bytes.
        computed: u32,
    },
    /// The source has passed on more or fewer bytes than it was asked for.
    Length,
    /// The memory takes frames as it is written, and there is none for the page.
    NoFrame,
}

impl<E: Display> Display for NotLoaded<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "its memory at {:#x} was not loaded: ", self.address)?;
        match &self.why {
            Why::Source(why) => why.fmt(out),
            Why::Damaged { found, computed } => {
                write!(out, "the page has CRC {computed:#010x} and should have {found:#010x}")
            }
            Why::Length => out.write_str("the store has passed on another number of bytes"),
            Why::NoFrame => out.write_str("no memory is free for it"),
        }
    }
}

/// Makes a unit of memory, which begins at the guest-physical `address`, what the source says, and
/// checks that. Returns whether it has any content: if not, all of it is zeros. The unit has left
/// the caches then, and may be mapped.
///
/// # Errors
///
/// [`NotLoaded`]: the unit is not what it should be, and must not be mapped.
// This is not inlined: `cargo xtask bench` finds it in the image by its name.
#[inline(never)]
pub fn fill<S: PageSource, M: Machine>(
    source: &mut S,
    mut filling: Filling<'_, M>,
    address: u64,
) -> Result<bool, NotLoaded<S::Error>> {
    let unit = filling.unit();
    let has_content = bring(source, &mut filling, unit, address)?;
    filling.finish();
    Ok(has_content)
}

/// Returns the pieces in which shared memory of `len` bytes is checked and filled. A piece lies in
/// one block if the memory begins at a multiple of a piece.
pub fn shared_pieces(len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(UNIT_SIZE).map(move |start| start..len.min(start + UNIT_SIZE))
}

/// Makes a [piece](shared_pieces) of memory that guests share, which begins at the guest-physical
/// `address`, what the source says, and checks that.
///
/// # Errors
///
/// [`NotLoaded`]: the piece is not what it should be.
pub fn fill_shared<S: PageSource>(
    source: &mut S,
    ram: &mut dyn WriteRam,
    piece: Range<usize>,
    address: u64,
) -> Result<(), NotLoaded<S::Error>> {
    bring(source, &mut Shared(ram), piece, address).map(drop)
}

/// Checks that the source has a [piece](shared_pieces) of `len` bytes, which begins at the
/// guest-physical `address`. Returns nothing of it.
///
/// # Errors
///
/// The errors of [`fill_shared`].
pub fn check_shared<S: PageSource>(
    source: &mut S,
    len: usize,
    address: u64,
    crc32c: fn(u32, &[u8]) -> u32,
) -> Result<(), NotLoaded<S::Error>> {
    let mut scratch = Scratch::new(len, crc32c);
    bring(source, &mut scratch, 0..len, address).map(drop)
}

/// Makes `unit` of a place, which begins at the guest-physical `address`, what the source says, and
/// checks that. Returns whether it has any content.
fn bring<S: PageSource, P: Destination>(
    source: &mut S,
    place: &mut P,
    unit: Range<usize>,
    address: u64,
) -> Result<bool, NotLoaded<S::Error>> {
    let mut pages = [Page::Zero; UNIT_PAGES];
    let pages = &mut pages[..unit.len() / PAGE_SIZE];
    let failed = |page: usize, why| NotLoaded { address: address + (page * PAGE_SIZE) as u64, why };
    source.describe(address, pages).map_err(|why| failed(0, Why::Source(why)))?;
    let mut page = 0;
    while page < pages.len() {
        let run = run(&pages[page..]);
        let bytes = unit.start + page * PAGE_SIZE..unit.start + (page + run) * PAGE_SIZE;
        if pages[page] != Page::Zero {
            place.claim(bytes.clone()).map_err(|NoFrame| failed(page, Why::NoFrame))?;
        }
        match pages[page] {
            Page::Zero => place.zero(bytes).map_err(|_| failed(page, Why::Length)),
            Page::Word(word) => place.fill(bytes, word).map_err(|_| failed(page, Why::Length)),
            Page::Stored { offset, .. } => {
                read_pages(source, place, offset, bytes).map_err(|(n, why)| failed(page + n, why))
            }
        }?;
        page += run;
    }
    // Look at the memory itself, not at what was written to it.
    for (page, content) in pages.iter().enumerate() {
        let Page::Stored { crc: found, .. } = *content else { continue };
        let start = unit.start + page * PAGE_SIZE;
        let computed =
            place.crc32c(start..start + PAGE_SIZE).map_err(|_| failed(page, Why::Length))?;
        if computed != found {
            return Err(failed(page, Why::Damaged { found, computed }));
        }
    }
    Ok(pages.iter().any(|page| *page != Page::Zero))
}

/// Returns how many of the first pages are written in one go: zeros, the same word, or what follows
/// each other in the file.
fn run(pages: &[Page]) -> usize {
    let follows = |pair: &&[Page]| match (pair[0], pair[1]) {
        (Page::Stored { offset, .. }, Page::Stored { offset: next, .. }) => {
            offset.checked_add(PAGE_SIZE as u64) == Some(next)
        }
        (one, other) => one == other,
    };
    1 + pages.windows(2).take_while(follows).count()
}

/// Makes the bytes of pages what the file has from `offset` on. If they can't be read at once, one
/// after the other, so that an error is that of a page, whose number it has.
fn read_pages<S: PageSource, P: Destination>(
    source: &mut S,
    place: &mut P,
    offset: u64,
    bytes: Range<usize>,
) -> Result<(), (usize, Why<S::Error>)> {
    if read(source, place, offset, bytes.clone()).is_ok() {
        return Ok(());
    }
    for (n, start) in bytes.step_by(PAGE_SIZE).enumerate() {
        let offset = offset + (n * PAGE_SIZE) as u64;
        let page = read(source, place, offset, start..start + PAGE_SIZE);
        page.map_err(|why| (n, why))?;
    }
    Ok(())
}

/// Makes the bytes what the file has from `offset` on.
fn read<S: PageSource, P: Destination>(
    source: &mut S,
    place: &mut P,
    offset: u64,
    bytes: Range<usize>,
) -> Result<(), Why<S::Error>> {
    let (mut at, mut written) = (bytes.start, Ok(()));
    let take = &mut |piece: &[u8]| {
        written = written.and_then(|()| place.write(at, piece));
        at = at.saturating_add(piece.len());
    };
    source.read_with(offset, bytes.len(), take).map_err(Why::Source)?;
    if written.is_ok() && at == bytes.end { Ok(()) } else { Err(Why::Length) }
}

#[cfg(test)]
mod tests;
