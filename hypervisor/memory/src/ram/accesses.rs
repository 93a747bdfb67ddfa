//! The accesses of the owner: what it reads, writes and marks, by the traits of the format
//! ([`ReadRam`], [`WriteRam`]) and of devices ([`GuestMemory`]).

use core::ops::Range;
use stasis_state::block::Content;
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{OutOfRange, PAGE_SIZE, ReadRam, WriteRam};

use super::GuestRam;
use super::sharing::Sharing;
use crate::access::{AccessError, GuestMemory};
use crate::machine::Machine;

impl<M: Machine> GuestRam<M> {
    /// Returns whether all that a write to these bytes needs is to store them: they lie in a page
    /// that is marked as written and changed already, of memory that is all there, and that neither
    /// a snapshot nor another guest shares. A block that was written has nothing stale.
    #[inline]
    fn is_open(&self, offset: usize, len: usize) -> bool {
        let is_plain = self.missing.is_none() && self.snapshot.is_none() && self.sharing.is_none();
        let within = offset % PAGE_SIZE + len;
        is_plain && len != 0 && within <= PAGE_SIZE && self.is_page_marked(offset)
    }

    /// Notes that the hypervisor has written bytes.
    fn note(&mut self, bytes: Range<usize>) {
        self.mark_changed(bytes);
        self.is_finished = false;
    }
}

impl<M: Machine> ReadRam for GuestRam<M> {
    fn len(&self) -> usize {
        self.raw.len()
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        // The last block may reach beyond the memory.
        self.written.next(offset).filter(|next| *next < self.raw.len())
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        self.check_there(offset..offset.saturating_add(into.len()))?;
        self.raw.read(offset, into)
    }

    fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        self.check_there(bytes.clone())?;
        self.raw.crc32c(crc, bytes)
    }

    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        self.check_there(offset..offset.saturating_add(count.saturating_mul(PAGE_SIZE)))?;
        self.raw.pages_with_content(offset, count)
    }

    fn word(&self, offset: usize) -> Result<Option<u64>, OutOfRange> {
        let start = offset - offset % PAGE_SIZE;
        self.check_there(start..start.saturating_add(PAGE_SIZE))?;
        self.raw.word(offset)
    }

    fn look(&self, offset: usize, contents: &mut [Content]) -> Result<(), OutOfRange> {
        self.check_there(offset..offset.saturating_add(contents.len() * PAGE_SIZE))?;
        self.raw.look(offset, contents)
    }
}

impl<M: Machine> WriteRam for GuestRam<M> {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        if self.is_open(offset, bytes.len()) {
            self.is_finished = false;
            return self.raw.write(offset, bytes);
        }
        self.check_there(offset..offset.saturating_add(bytes.len()))?;
        let all = offset..offset.saturating_add(bytes.len());
        self.keep(all.clone());
        self.make_all_own(all)?;
        self.raw.write(offset, bytes)?;
        self.note(offset..offset + bytes.len());
        Ok(())
    }

    fn zero(&mut self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        OutOfRange::check(&bytes, self.raw.len())?;
        self.check_there(bytes.clone())?;
        let mut at = bytes.start;
        while at < bytes.end {
            let end = bytes.end.min((at + 1).next_multiple_of(BLOCK_SIZE));
            if self.written.contains(at) {
                self.keep(at..end);
                self.make_all_own(at..end)?;
                self.raw.zero(at..end)?;
                self.note(at..end);
            }
            at = end;
        }
        Ok(())
    }

    fn fill(&mut self, bytes: Range<usize>, word: u64) -> Result<(), OutOfRange> {
        self.check_there(bytes.clone())?;
        self.keep(bytes.clone());
        self.make_all_own(bytes.clone())?;
        self.raw.fill(bytes.clone(), word)?;
        self.note(bytes);
        Ok(())
    }
}

/// Gives [`GuestRam`] the accesses of one width.
macro_rules! accesses {
    ($($load:ident, $store:ident: $number:ty;)*) => {
        impl<M: Machine> GuestMemory for GuestRam<M> {
            fn lacks_frame(&self) -> bool {
                self.sharing.as_ref().is_some_and(Sharing::lacks_frame)
            }

            fn ask_for(&self, bytes: Range<usize>) -> bool {
                self.missing().is_some_and(|missing| missing.ask_all(bytes))
            }

            $(
            fn $load(&self, offset: usize) -> Result<$number, AccessError> {
                self.check_there(offset..offset.saturating_add(size_of::<$number>()))?;
                self.raw.$load(offset)
            }

            fn $store(&mut self, offset: usize, value: $number) -> Result<(), AccessError> {
                if self.is_open(offset, size_of::<$number>()) {
                    self.is_finished = false;
                    return self.raw.$store(offset, value);
                }
                self.check_there(offset..offset.saturating_add(size_of::<$number>()))?;
                let all = offset..offset.saturating_add(size_of::<$number>());
                self.keep(all.clone());
                self.make_all_own(all)?;
                self.raw.$store(offset, value)?;
                self.note(offset..offset + size_of::<$number>());
                Ok(())
            }
            )*
        }
    };
}

accesses! {
    load_u16, store_u16: u16;
    load_u32, store_u32: u32;
    load_u64, store_u64: u64;
}
