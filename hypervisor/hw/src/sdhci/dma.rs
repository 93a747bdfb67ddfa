//! The memory that a controller reads and writes by itself: [`CardMemory`], and the way there,
//! [`Dma`].
//!
//! A controller is told of no other memory: what a caller reads or writes is copied through the
//! buffer there. So whoever calls may have its bytes anywhere, in memory that the controller does
//! not reach too, and a controller that goes wrong hurts nobody.
//!
//! Controllers know memory under addresses of their bus, and by their own way, past the caches. So
//! each transfer begins and ends with the caches written back and emptied, for the lines of the
//! buffer. Where a device tree is wrong about that way, a controller moves data elsewhere and
//! reports success. So the first read after a start must [reach](Transfer::is_reached) the buffer,
//! and what is compared with the card's data must have come from the card. Memory that a controller
//! may still be using after a failure is not used again.

use crate::sd::{BLOCK, Data, MAX_BLOCKS};
use core::fmt;
use core::mem::offset_of;
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// Bytes of the buffer: those of the largest command.
const BUFFER: usize = MAX_BLOCKS * BLOCK;
/// Bytes that one descriptor is about. Some controllers don't take the most that ADMA2 has, 64 KiB.
const PIECE: usize = 32 * 1024;
/// Bytes of a cache line, at the most.
const LINE: usize = 64;

/// A descriptor of ADMA2 for addresses of 32 bits (1.13.3.1), little-endian.
#[derive(Clone, Copy)]
#[repr(C)]
struct Descriptor {
    attributes: u16,
    /// Bytes.
    length: u16,
    address: u32,
}

impl Descriptor {
    /// Valid, Act = Tran: move these bytes.
    const MOVE: u16 = 0b10_0001;
    /// End: there is no descriptor after this one.
    const END: u16 = 0b10;
    const NONE: Self = Self { attributes: 0, length: 0, address: 0 };
}

/// Each byte of the buffer before a read that must show that DMA reaches it.
const MARK: u8 = 0x5a;
/// Bytes at either end of a read that must not all stay [`MARK`].
const MARKED: usize = 8;

/// All memory that controllers may use, for one transfer at a time.
#[repr(C, align(64))]
pub struct CardMemory {
    data: [u8; BUFFER],
    table: Table,
    /// Fills the table's last line, so that no byte of the memory is without a value.
    _rest: [u8; REST],
}

/// Descriptors for the whole buffer.
type Table = [Descriptor; BUFFER / PIECE];
const REST: usize = size_of::<Table>().next_multiple_of(LINE) - size_of::<Table>();

const _: () = assert!(align_of::<CardMemory>() == LINE && size_of::<Descriptor>() == 8);
const _: () = assert!(offset_of!(CardMemory, table).is_multiple_of(LINE));
const _: () = assert!(PIECE <= u16::MAX as usize && BUFFER.is_multiple_of(PIECE));

impl CardMemory {
    /// Returns zeroed memory.
    pub const fn new() -> Self {
        Self { data: [0; BUFFER], table: [Descriptor::NONE; BUFFER / PIECE], _rest: [0; REST] }
    }
}

impl Default for CardMemory {
    fn default() -> Self {
        Self::new()
    }
}

/// The way by which a controller reaches its memory. Several controllers can have the same memory:
/// a transfer takes it, and another one that would begin meanwhile has none.
#[derive(Clone, Copy)]
pub struct Dma {
    memory: &'static SpinMutex<CardMemory>,
    /// Address of the memory on the controller's bus.
    address: u32,
    flush_caches: fn(usize, usize),
}

impl Dma {
    /// Returns the way to `memory`; `None` if the controller does not reach it. `to_bus` returns
    /// the address on the controller's bus of so many bytes at a physical address, if all of them
    /// are within reach. `flush_caches` writes the data caches' lines of so many bytes at an
    /// address back to the point of coherency, and drops them.
    ///
    /// # Safety
    ///
    /// 1. What the controller reads and writes at the address that `to_bus` returns is `memory`,
    ///    which the MMU maps at its physical address.
    /// 2. `flush_caches` does what is said above.
    pub unsafe fn new(
        memory: &'static SpinMutex<CardMemory>,
        to_bus: impl FnOnce(usize, usize) -> Option<u64>,
        flush_caches: fn(usize, usize),
    ) -> Option<Self> {
        let start = memory.as_mut_ptr().expose_provenance();
        let address = to_bus(start, size_of::<CardMemory>())?;
        // Controllers are told addresses of 32 bits, and of words (1.13.4).
        let end = u32::try_from(address.checked_add(size_of::<CardMemory>() as u64 - 1)?);
        let address = end.ok().and(u32::try_from(address).ok()).filter(|at| at.is_multiple_of(4));
        Some(Self { memory, address: address?, flush_caches })
    }

    /// Returns whether a transfer could begin now: no other one has the memory, and none has
    /// [lost](Transfer::lose) it.
    pub(super) fn is_free(self) -> bool {
        !self.memory.is_locked()
    }

    /// Takes the memory for a transfer of `data`, and prepares it. Returns `None` if it is in use,
    /// or lost.
    ///
    /// Before data come from the card, the buffer has other bytes than are expected: bytes that
    /// stayed from before must not pass for the card's.
    pub(super) fn begin(self, data: &Data<'_>) -> Option<Transfer> {
        let mut memory = self.memory.try_lock()?;
        let buffer = &mut memory.data[..data.len()];
        match data {
            Data::Write(bytes) => buffer.copy_from_slice(bytes),
            Data::Compare(expected) => {
                buffer.iter_mut().zip(*expected).for_each(|(there, byte)| *there = !byte);
            }
            Data::Read(_) | Data::None => {}
        }
        self.describe(&mut memory.table, data.len());
        let transfer = Transfer { memory, dma: self };
        transfer.flush(0, data.len());
        transfer.flush(offset_of!(CardMemory, table), size_of::<Table>());
        Some(transfer)
    }

    /// Makes `table` describe the first `len` bytes of the buffer.
    fn describe(self, table: &mut [Descriptor], len: usize) {
        let pieces = (0..len).step_by(PIECE).zip(table);
        for (offset, descriptor) in pieces {
            let length = PIECE.min(len - offset);
            let end = if offset + length == len { Descriptor::END } else { 0 };
            *descriptor = Descriptor {
                attributes: (Descriptor::MOVE | end).to_le(),
                length: (length as u16).to_le(),
                address: (self.address + offset as u32).to_le(),
            };
        }
    }
}

impl fmt::Debug for Dma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dma").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The memory while a transfer uses it.
///
/// From [`Dma::begin`] to [`end`](Self::end) or [`lose`](Self::lose) nobody refers to the buffer or
/// the table: the controller may be using them.
pub(super) struct Transfer {
    memory: SpinMutexGuard<'static, CardMemory>,
    dma: Dma,
}

impl Transfer {
    /// Returns the address of the buffer on the controller's bus.
    pub(super) fn data_address(&self) -> u32 {
        self.dma.address
    }

    /// Returns the address of the table of descriptors on the controller's bus.
    pub(super) fn table_address(&self) -> u32 {
        self.dma.address + offset_of!(CardMemory, table) as u32
    }

    /// Marks the buffer for a read of `len` bytes, so that [`is_reached`](Self::is_reached) can
    /// tell. The controller must not have been started yet.
    pub(super) fn mark(&mut self, len: usize) {
        self.memory.data[..len].fill(MARK);
        self.flush(0, len);
    }

    /// Returns whether the controller has written to both ends of the first `len` bytes of the
    /// buffer, which were [marked](Self::mark), after it has finished. A controller that has really
    /// read these bytes from the card passes for one that has not: none is likely there.
    pub(super) fn is_reached(&self, len: usize) -> bool {
        self.flush(0, len);
        let found = &self.memory.data[..len];
        let is_marked = |end: &[u8]| end.iter().all(|byte| *byte == MARK);
        let most = MARKED.min(len);
        !is_marked(&found[..most]) && !is_marked(&found[len - most..])
    }

    /// Takes what the controller has read into `data`, after the controller has finished. Returns
    /// whether the bytes that are compared are equal.
    pub(super) fn end(self, data: &mut Data<'_>) -> bool {
        // What the caches have of the buffer may be from before.
        self.flush(0, data.len());
        let found = &self.memory.data[..data.len()];
        match data {
            Data::Read(buf) => buf.copy_from_slice(found),
            Data::Compare(expected) => return found == *expected,
            Data::Write(_) | Data::None => {}
        }
        true
    }

    /// Gives the memory up for ever: the controller does not stop using it.
    pub(super) fn lose(self) {
        core::mem::forget(self);
    }

    /// Writes the caches' lines of `len` bytes at `offset` of the memory back, and drops them.
    fn flush(&self, offset: usize, len: usize) {
        (self.dma.flush_caches)(self.dma.memory.as_mut_ptr().addr() + offset, len);
    }
}
