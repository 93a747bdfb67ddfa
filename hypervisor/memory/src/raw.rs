//! Memory that others write, by its address: [`Raw`]. The methods check what they are asked for, and are safe.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use stasis_state::{OutOfRange, PAGE_SIZE};

use crate::access::AccessError;
use crate::machine::Machine;

/// Memory that its owner shares with guests. It is whole pages, and never a reference. Of the hypervisor, its owner alone writes it, and a snapshot
/// may read it.
pub struct Raw<M> {
    start: NonNull<u8>,
    len: usize,
    machine: PhantomData<fn() -> M>,
}

// SAFETY: `Raw` owns its memory, which is mapped on every core, and its methods depend on no state of one core.
unsafe impl<M> Send for Raw<M> {}
// SAFETY: methods that take `&self` access the memory by volatile or atomic accesses or by assembly alone, so two cores may call them at once.
unsafe impl<M> Sync for Raw<M> {}

impl<M> Raw<M> {
    /// Returns memory without a byte.
    pub const fn none() -> Self {
        Self { start: NonNull::<PageAligned>::dangling().cast(), len: 0, machine: PhantomData }
    }

    /// Takes `len` bytes at `start`.
    ///
    /// # Safety
    ///
    /// As of [`GuestRam::new`](crate::GuestRam::new).
    ///
    /// # Panics
    ///
    /// If `start` or `len` is no multiple of a page.
    pub unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        assert!(start.addr().get().is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE));
        Self { start, len, machine: PhantomData }
    }

    /// Returns its bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns the address of its first byte.
    pub fn address(&self) -> usize {
        self.start.addr().get()
    }

    /// Returns a pointer to `width` bytes at `offset`, which are there and aligned.
    fn aligned(&self, offset: usize, width: usize) -> Result<*mut u8, AccessError> {
        OutOfRange::check_len(offset, width, self.len)?;
        if !offset.is_multiple_of(width) {
            return Err(AccessError::Misaligned { offset, width });
        }
        // The start is a page's, so this is a multiple of the width, too.
        Ok(self.start.as_ptr().wrapping_add(offset))
    }
}

impl<M: Machine> Raw<M> {
    /// Fills `into` with the bytes at `offset`.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        OutOfRange::check_len(offset, into.len(), self.len)?;
        // SAFETY: 1. The bytes lie within `len`, as was just checked, and `new`'s caller promised all of those mapped as normal memory. 2. `new`'s
        // caller promised that nobody has a reference to them. 3. The bytes that are not shared are borrowed by this method's caller, so they are
        // apart from the shared ones.
        unsafe { M::load(self.start.as_ptr().add(offset), into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Makes the bytes from `offset` on these.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        OutOfRange::check_len(offset, bytes.len(), self.len)?;
        // SAFETY: 1. The bytes lie within `len`, as was just checked, and `new`'s caller promised all of those mapped as normal memory. 2. `new`'s
        // caller promised that nobody has a reference to them. 3. The bytes that are not shared are borrowed by this method's caller, so they are
        // apart from the shared ones.
        unsafe { M::store(bytes.as_ptr(), self.start.as_ptr().add(offset), bytes.len()) };
        Ok(())
    }

    /// Makes the `len` bytes from `at` on those that `from`, which is other memory, has from `from_at` on. Both begin at a multiple of 8.
    ///
    /// # Panics
    ///
    /// If they begin elsewhere, or `from` is this memory.
    pub fn copy(
        &self,
        at: usize,
        from: &Self,
        from_at: usize,
        len: usize,
    ) -> Result<(), OutOfRange> {
        OutOfRange::check_len(at, len, self.len)?;
        OutOfRange::check_len(from_at, len, from.len)?;
        assert!((at | from_at).is_multiple_of(8) && (len == 0 || self.start != from.start));
        let (from, to) = (from.start.as_ptr(), self.start.as_ptr());
        // SAFETY: 1. The bytes lie within both memories, as was just checked, and the callers of `new` promised all of those mapped as normal memory.
        // The pages begin at a multiple of 8, as was asserted: each start is a page's. 2. The callers of `new` promised that nobody has a reference to
        // them. 3. Each memory has one owner, and these are two, as was asserted; so they do not overlap.
        unsafe { M::copy(from.add(from_at), to.add(at), len) };
        Ok(())
    }

    /// Makes `bytes` 0.
    pub fn zero(&self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        let len = OutOfRange::check(&bytes, self.len)?;
        // SAFETY: 1. The bytes lie within `len`, as was just checked, and `new`'s caller promised all of those mapped as normal memory. 2. `new`'s
        // caller promised that nobody has a reference to them. 3. No other bytes are accessed.
        unsafe { M::zero(self.start.as_ptr().add(bytes.start), len) };
        Ok(())
    }

    /// Returns the CRC-32C of a sequence that goes on with `bytes`.
    pub fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        let len = OutOfRange::check(&bytes, self.len)?;
        // SAFETY: 1. The bytes lie within `len`, as was just checked, and `new`'s caller promised all of those mapped as normal memory. 2. `new`'s
        // caller promised that nobody has a reference to them. 3. No other bytes are accessed.
        Ok(unsafe { M::crc32c(crc, self.start.as_ptr().add(bytes.start), len) })
    }

    /// Returns which of `count` pages, 64 at the most, from the one on that begins at `offset` or before it are not all zeros.
    pub fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        let start = offset - offset % PAGE_SIZE;
        let count = count.min(u64::BITS as usize);
        OutOfRange::check_len(start, count * PAGE_SIZE, self.len)?;
        // SAFETY: 1. The pages lie within `len`, as was just checked, and `new`'s caller promised all of those mapped as normal memory. They begin at
        // a page, so at a multiple of 8. 2. `new`'s caller promised that nobody has a reference to them. 3. No other bytes are accessed.
        Ok(unsafe { M::pages_with_content(self.start.as_ptr().add(start), count) })
    }

    /// Writes `bytes`, as far as they are there, back to the point of coherency and drops them from the data caches.
    #[inline(always)]
    pub fn clean_and_invalidate(&self, bytes: Range<usize>) {
        let (start, end) = (self.address(), bytes.end.min(self.len));
        if bytes.start < end {
            M::clean_and_invalidate(start + bytes.start..start + end);
        }
    }
}

/// Gives [`Raw`] a load and a store of one width.
macro_rules! accesses {
    ($($load:ident, $store:ident: $number:ty, $atomic:ty;)*) => {
        impl<M> Raw<M> {$(
            /// Returns the little-endian number at `offset`, by one access.
            pub fn $load(&self, offset: usize) -> Result<$number, AccessError> {
                let place = self.aligned(offset, size_of::<$number>())?;
                // SAFETY: 1. `aligned` checked that the bytes lie within `len` and are aligned; `new`'s caller promised all of those mapped. 2. The
                // reference to the atomic does not leave this function, and `self` outlives that. 3. `new`'s caller promised that nobody has another
                // reference, and that others access the bytes atomically.
                let place = unsafe { <$atomic>::from_ptr(place.cast()) };
                Ok(<$number>::from_le(place.load(Ordering::SeqCst)))
            }

            /// Makes `value` the little-endian number at `offset`, by one access.
            pub fn $store(&self, offset: usize, value: $number) -> Result<(), AccessError> {
                let place = self.aligned(offset, size_of::<$number>())?;
                // SAFETY: 1. `aligned` checked that the bytes lie within `len` and are aligned; `new`'s caller promised all of those mapped. 2. The
                // reference to the atomic does not leave this function, and `self` outlives that. 3. `new`'s caller promised that nobody has another
                // reference, and that others access the bytes atomically.
                let place = unsafe { <$atomic>::from_ptr(place.cast()) };
                place.store(value.to_le(), Ordering::SeqCst);
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
        write!(f, "{:#x} bytes at {:p}", self.len, self.start)
    }
}

/// Aligned as a page is.
#[repr(align(4096))]
struct PageAligned;

const _: () = assert!(align_of::<PageAligned>() == PAGE_SIZE);
