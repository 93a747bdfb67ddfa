//! Memory that others write, by its address: [`Raw`]. The methods check what they are asked for,
//! and are safe. It is in one place, or its [`Map`](map::Map) says where each page is.

pub mod map;

use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use stasis_state::{OutOfRange, PAGE_SIZE};

use crate::access::AccessError;
use crate::frames::{Frames, NoFrame};
use crate::machine::Machine;
use crate::pages::NoMemory;
use map::{Map, Own};
use stasis_state::block::Content;
use stasis_state::written::BLOCK_SIZE;

/// Memory that its owner shares with guests. It is whole pages, and never a reference. Of the
/// hypervisor, its owner alone writes it, and a snapshot may read it.
pub struct Raw<M> {
    place: Backing,
    len: usize,
    machine: PhantomData<fn() -> M>,
}

/// Where memory is.
enum Backing {
    /// In one place, from this byte on.
    Together(NonNull<u8>),
    /// Where the map says.
    Mapped(Map),
}

// SAFETY: `Raw` owns its memory, which is mapped on every core, and its methods depend on no state
// of one core.
unsafe impl<M> Send for Raw<M> {}
// SAFETY: methods that take `&self` access the memory by volatile or atomic accesses or by assembly
// alone, so two cores may call them at once.
unsafe impl<M> Sync for Raw<M> {}

impl<M> Raw<M> {
    /// Returns memory without a byte.
    pub const fn none() -> Self {
        let start = NonNull::<PageAligned>::dangling().cast();
        Self { place: Backing::Together(start), len: 0, machine: PhantomData }
    }

    /// Takes `len` bytes at `start`.
    ///
    /// # Safety
    ///
    /// The conditions of [`GuestRam::new`](crate::GuestRam::new).
    ///
    /// # Panics
    ///
    /// If `start` or `len` is no multiple of a page.
    pub unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        assert!(start.addr().get().is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE));
        Self { place: Backing::Together(start), len, machine: PhantomData }
    }

    /// Takes the pages of a map, which is of `len` bytes.
    pub fn mapped(map: Map, len: usize) -> Self {
        Self { place: Backing::Mapped(map), len, machine: PhantomData }
    }

    /// Gives back all frames, in pieces between which it calls `pause`.
    pub fn release(&mut self, pause: &mut dyn FnMut()) {
        if let Backing::Mapped(map) = &mut self.place {
            map.release(pause);
        }
    }

    /// Takes a frame for the page at `offset`, if it has none and the memory has a map. The frame
    /// is not cleared. Nobody reaches the page, or looks for it, before the caller says so.
    ///
    /// # Errors
    ///
    /// [`NoFrame`] if there is none.
    pub fn claim(&self, offset: usize) -> Result<(), NoFrame> {
        match &self.place {
            Backing::Together(_) => Ok(()),
            // What it has left goes back at once: nobody reaches it here.
            Backing::Mapped(map) => map.make_own(offset, |_, _| ()).map(drop),
        }
    }

    /// Returns whether each page of `bytes` is in a frame, or the memory has no map.
    pub fn has_frames(&self, bytes: Range<usize>) -> bool {
        let mut pages = (bytes.start - bytes.start % PAGE_SIZE..bytes.end).step_by(PAGE_SIZE);
        self.map().is_none_or(|map| pages.all(|page| map.has_frame(page)))
    }

    /// Returns the map; `None` if all is in one place.
    pub fn map(&self) -> Option<&Map> {
        match &self.place {
            Backing::Together(_) => None,
            Backing::Mapped(map) => Some(map),
        }
    }

    /// Returns the memory, which is whole blocks in one place, with a map, so that it can be
    /// shared. The blocks go to `frames` when nobody uses them any more.
    ///
    /// # Errors
    ///
    /// The memory as it is, if there is no room for the map.
    ///
    /// # Panics
    ///
    /// If it is not whole blocks, or has a map.
    pub fn into_mapped(self, frames: &'static dyn Frames) -> Result<Self, (NoMemory, Self)> {
        let Backing::Together(start) = self.place else { panic!("it has a map") };
        assert!(self.len.is_multiple_of(BLOCK_SIZE));
        let (start, count) = (start.as_ptr().expose_provenance(), self.len / BLOCK_SIZE);
        // SAFETY: 1. The caller of `new` promised that the memory is mapped, and ours alone, for as
        // long as `self` lives, which the map takes the place of. 2. The caller of `new` promised
        // that nobody has a reference to it.
        match unsafe { Map::of_blocks(start as u64, count, frames) } {
            Ok(map) => Ok(Self::mapped(map, self.len)),
            Err(why) => Err((why, self)),
        }
    }

    /// Returns its bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns the address of its first byte; 0 if it is not in one place.
    pub fn address(&self) -> usize {
        match &self.place {
            Backing::Together(start) => start.addr().get(),
            Backing::Mapped(_) => 0,
        }
    }

    /// Returns the physical address of the byte at `offset`. The rest of its page follows, and,
    /// without a map, all that is behind it.
    ///
    /// # Panics
    ///
    /// If it has no such byte, and a map.
    pub fn address_of(&self, offset: usize) -> u64 {
        match &self.place {
            Backing::Together(start) => (start.addr().get() + offset) as u64,
            Backing::Mapped(map) => map.address_of(offset),
        }
    }

    /// Calls `each` with a pointer to each piece of `bytes`, which are in the memory, that is in
    /// one place, and with the piece.
    #[inline(always)]
    fn each(&self, bytes: Range<usize>, mut each: impl FnMut(*mut u8, Range<usize>)) {
        match &self.place {
            Backing::Together(start) => each(start.as_ptr().wrapping_add(bytes.start), bytes),
            Backing::Mapped(map) => each_page(map, bytes, &mut each),
        }
    }

    /// Returns a pointer to `width` bytes at `offset`, which are there and aligned.
    fn aligned(&self, offset: usize, width: usize) -> Result<*mut u8, AccessError> {
        OutOfRange::check_len(offset, width, self.len)?;
        if !offset.is_multiple_of(width) {
            return Err(AccessError::Misaligned { offset, width });
        }
        // The start is a page's, so this is a multiple of the width, too.
        Ok(match &self.place {
            Backing::Together(start) => start.as_ptr().wrapping_add(offset),
            Backing::Mapped(map) => map.place(offset),
        })
    }
}

impl<M: Machine> Raw<M> {
    /// Fills `into` with the bytes at `offset`.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        OutOfRange::check_len(offset, into.len(), self.len)?;
        self.each(offset..offset + into.len(), |from, part| {
            let into = &mut into[part.start - offset..part.end - offset];
            // SAFETY: 1. The bytes lie within `len`, as was just checked, and `new`'s caller, or
            // `Frames`, promised all of those mapped as normal memory. 2. They promised that nobody
            // has a reference to them. 3. The bytes that are not shared are borrowed by this
            // method's caller, so they are apart from the shared ones.
            unsafe { M::load(from, into.as_mut_ptr(), into.len()) };
        });
        Ok(())
    }

    /// Makes the bytes from `offset` on these.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        OutOfRange::check_len(offset, bytes.len(), self.len)?;
        self.each(offset..offset + bytes.len(), |to, part| {
            let bytes = &bytes[part.start - offset..part.end - offset];
            // SAFETY: 1. The bytes lie within `len`, as was just checked, and `new`'s caller, or
            // `Frames`, promised all of those mapped as normal memory. 2. They promised that nobody
            // has a reference to them. 3. The bytes that are not shared are borrowed by this
            // method's caller, so they are apart from the shared ones.
            unsafe { M::store(bytes.as_ptr(), to, bytes.len()) };
        });
        Ok(())
    }

    /// Makes the page at `at` the one that `from`, which is other memory, has at `from_at`. That
    /// has left the data caches then.
    ///
    /// # Panics
    ///
    /// If they are no pages, `from` is this memory, or this one is not in one place.
    pub fn take_page(&self, at: usize, from: &Self, from_at: usize) -> Result<(), OutOfRange> {
        OutOfRange::check_len(at, PAGE_SIZE, self.len)?;
        OutOfRange::check_len(from_at, PAGE_SIZE, from.len)?;
        let Backing::Together(start) = self.place else { panic!("it has a map") };
        let is_other = !matches!(from.place, Backing::Together(from) if from == start);
        assert!((at | from_at).is_multiple_of(PAGE_SIZE) && is_other);
        from.each(from_at..from_at + PAGE_SIZE, |from, _| {
            // SAFETY: 1. Both pages lie within their memories, as was just checked, and the callers
            // of `new`, or `Frames`, promised all of those mapped as normal memory. They are pages,
            // as was asserted: each memory begins with one. 2. They promised that nobody has a
            // reference to them. 3. Each memory has one owner, and these are two, as was asserted,
            // of which one has no map; so they do not overlap.
            unsafe { M::take_page(from, start.as_ptr().wrapping_add(at)) };
        });
        Ok(())
    }

    /// Makes `bytes` 0.
    pub fn zero(&self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        OutOfRange::check(&bytes, self.len)?;
        self.each(bytes, |at, part| {
            // SAFETY: 1. The bytes lie within `len`, as was just checked, and `new`'s caller, or
            // `Frames`, promised all of those mapped as normal memory. 2. They promised that nobody
            // has a reference to them. 3. No other bytes are accessed.
            unsafe { M::zero(at, part.len()) };
        });
        Ok(())
    }

    /// Makes each word of `bytes` this one.
    ///
    /// # Panics
    ///
    /// If `bytes` begin or end elsewhere than at a multiple of 8.
    pub fn fill(&self, bytes: Range<usize>, word: u64) -> Result<(), OutOfRange> {
        let len = OutOfRange::check(&bytes, self.len)?;
        assert!((bytes.start | len).is_multiple_of(8));
        self.each(bytes, |at, part| {
            // SAFETY: 1. The bytes lie within `len`, as was just checked, and `new`'s caller, or
            // `Frames`, promised all of those mapped as normal memory. They begin and end at
            // multiples of 8, as was asserted: pieces begin at a page's start or where the bytes
            // do. 2. They promised that nobody has a reference to them. 3. No other bytes are
            // accessed.
            unsafe { M::fill(at, word, part.len()) };
        });
        Ok(())
    }

    /// Returns the CRC-32C of a sequence that goes on with `bytes`.
    pub fn crc32c(&self, mut crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        OutOfRange::check(&bytes, self.len)?;
        self.each(bytes, |at, part| {
            // SAFETY: 1. The bytes lie within `len`, as was just checked, and `new`'s caller, or
            // `Frames`, promised all of those mapped as normal memory. 2. They promised that nobody
            // has a reference to them. 3. No other bytes are accessed.
            crc = unsafe { M::crc32c(crc, at, part.len()) };
        });
        Ok(crc)
    }

    /// Returns which of `count` pages, 64 at the most, from the one on that begins at `offset` or
    /// before it are not all zeros.
    pub fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        let start = offset - offset % PAGE_SIZE;
        let count = count.min(u64::BITS as usize);
        OutOfRange::check_len(start, count * PAGE_SIZE, self.len)?;
        let mut content = 0;
        self.each(start..start + count * PAGE_SIZE, |at, part| {
            let first = (part.start - start) / PAGE_SIZE;
            // SAFETY: 1. The pages lie within `len`, as was just checked, and `new`'s caller, or
            // `Frames`, promised all of those mapped as normal memory. They begin at a page, so at
            // a multiple of 8. 2. They promised that nobody has a reference to them. 3. No other
            // bytes are accessed.
            content |= unsafe { M::pages_with_content(at, part.len() / PAGE_SIZE) } << first;
        });
        Ok(content)
    }

    /// Makes the page at `offset` one that this memory alone uses: it moves, if others use it where
    /// it is. What a guest has stored past its caches moves with it.
    ///
    /// # Errors
    ///
    /// [`NoFrame`] if there is no frame for it.
    pub fn make_own(&self, offset: usize) -> Result<Own, NoFrame> {
        let Backing::Mapped(map) = &self.place else { return Ok(Own::Block) };
        map.make_own(offset, |from, to| {
            let bytes = |at: *const u8| at.addr()..at.addr() + PAGE_SIZE;
            M::clean_and_invalidate(bytes(from));
            // SAFETY: 1. Both are pages, which the callers of `new`, or `Frames`, promised mapped
            // as normal memory. 2. They promised that nobody has a reference to them. 3. The frame
            // was just taken, so it is no part of any memory: they do not overlap.
            unsafe { M::take_page(from, to) };
            M::clean_and_invalidate(bytes(to));
        })
    }

    /// Returns the word that the page with the byte at `offset` is over and over; `None` if it is
    /// anything else.
    pub fn word(&self, offset: usize) -> Result<Option<u64>, OutOfRange> {
        let start = offset - offset % PAGE_SIZE;
        OutOfRange::check_len(start, PAGE_SIZE, self.len)?;
        let mut word = None;
        self.each(start..start + PAGE_SIZE, |at, _| {
            // SAFETY: 1. The page lies within `len`, as was just checked, and `new`'s caller, or
            // `Frames`, promised all of those mapped as normal memory. A page is in one piece, and
            // begins at a multiple of 8. 2. They promised that nobody has a reference to it. 3. No
            // other bytes are accessed.
            word = unsafe { M::is_repeated(at).then(|| M::first_word(at)) };
        });
        Ok(word)
    }

    /// Finds out what the pages from the one on that begins at `offset` or before it are: as many
    /// as there are `contents`, at most 64.
    pub fn look(&self, offset: usize, contents: &mut [Content]) -> Result<(), OutOfRange> {
        let start = offset - offset % PAGE_SIZE;
        let len = contents.len() * PAGE_SIZE;
        OutOfRange::check_len(start, len, self.len)?;
        self.each(start..start + len, |at, part| {
            let pages = (part.start - start) / PAGE_SIZE..(part.end - start) / PAGE_SIZE;
            // SAFETY: 1. The pages lie within `len`, as was just checked, and `new`'s caller, or
            // `Frames`, promised all of those mapped as normal memory. They begin at a page, so at
            // a multiple of 8. 2. They promised that nobody has a reference to them. 3. No other
            // bytes are accessed.
            unsafe { M::look(at, &mut contents[pages]) };
        });
        Ok(())
    }

    /// Writes `bytes`, as far as they are there, back to the point of coherency and drops them from
    /// the data caches.
    #[inline(always)]
    pub fn clean_and_invalidate(&self, bytes: Range<usize>) {
        let end = bytes.end.min(self.len);
        if bytes.start < end {
            self.each(bytes.start..end, |at, part| {
                M::clean_and_invalidate(at.addr()..at.addr() + part.len());
            });
        }
    }
}

/// Calls `each` with a pointer to each page, or part of one, of `bytes`, and with the part.
#[cold]
#[inline(never)]
fn each_page(map: &Map, bytes: Range<usize>, each: &mut dyn FnMut(*mut u8, Range<usize>)) {
    let mut at = bytes.start;
    while at < bytes.end {
        let end = bytes.end.min(at - at % PAGE_SIZE + PAGE_SIZE);
        each(map.place(at), at..end);
        at = end;
    }
}

/// Gives [`Raw`] a load and a store of one width.
macro_rules! accesses {
    ($($load:ident, $store:ident: $number:ty, $atomic:ty;)*) => {
        impl<M> Raw<M> {$(
            /// Returns the little-endian number at `offset`, by one access.
            pub fn $load(&self, offset: usize) -> Result<$number, AccessError> {
                let place = self.aligned(offset, size_of::<$number>())?;
                // SAFETY: 1. `aligned` checked that the bytes lie within `len` and are aligned;
                // `new`'s caller promised all of those mapped. 2. The reference to the atomic does
                // not leave this function, and `self` outlives that. 3. `new`'s caller promised
                // that nobody has another reference, and that others access the bytes atomically.
                let place = unsafe { <$atomic>::from_ptr(place.cast()) };
                Ok(<$number>::from_le(place.load(Ordering::Acquire)))
            }

            /// Makes `value` the little-endian number at `offset`, by one access.
            pub fn $store(&self, offset: usize, value: $number) -> Result<(), AccessError> {
                let place = self.aligned(offset, size_of::<$number>())?;
                // SAFETY: 1. `aligned` checked that the bytes lie within `len` and are aligned;
                // `new`'s caller promised all of those mapped. 2. The reference to the atomic does
                // not leave this function, and `self` outlives that. 3. `new`'s caller promised
                // that nobody has another reference, and that others access the bytes atomically.
                let place = unsafe { <$atomic>::from_ptr(place.cast()) };
                place.store(value.to_le(), Ordering::Release);
                // STLR and the LDAR of a load behind it would do (DDI 0487, B2.3), but QEMU on x86
                // exchanges these two (`findings/qemu-stlr-ldar.sh`).
                fence(Ordering::SeqCst);
                Ok(())
            }
        )*}
    };
}

accesses! {
    load_u16, store_u16: u16, AtomicU16;
    load_u32, store_u32: u32, AtomicU32;
    load_u64, store_u64: u64, AtomicU64;
}

impl<M> fmt::Debug for Raw<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Backing::Together(start) => write!(f, "{:#x} bytes at {start:p}", self.len),
            Backing::Mapped(map) => write!(f, "{:#x} bytes in {map:?}", self.len),
        }
    }
}

/// Aligned as a page is.
#[repr(align(4096))]
struct PageAligned;

const _: () = assert!(align_of::<PageAligned>() == PAGE_SIZE);
