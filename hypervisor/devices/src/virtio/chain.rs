//! The buffers of one request: [`Chain`]. VIRTIO 1.2, 2.7.5.
//!
//! A chain is walked anew for each copy, and nothing of it is kept: so a request has no state of its own, and takes no memory, however many
//! descriptors it has. A driver that changes descriptors meanwhile gets what it then says, within its own RAM.

use stasis_state::virtio::MAX_QUEUE;

use super::queue::{Broken, View};
use crate::device::Memory;

/// Bytes of a descriptor.
const DESCRIPTOR: u64 = 16;

/// The bits of a descriptor's `flags`.
mod flag {
    /// Another descriptor follows.
    pub const NEXT: u16 = 1;
    /// The device writes the buffer.
    pub const WRITE: u16 = 2;
    /// The buffer has a table of descriptors.
    pub const INDIRECT: u16 = 4;
}

/// A request, by its first descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Guest-physical address of the table.
    pub(super) table: u64,
    /// Number of descriptors in the table.
    pub(super) num: u16,
    /// Number of the first descriptor, which is below `num`.
    pub head: u16,
}

/// A buffer of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Guest-physical address. It may be anywhere.
    pub address: u64,
    /// Bytes.
    pub len: u32,
    /// Whether the device writes the buffer; else it reads it.
    pub is_written: bool,
}

/// The bytes of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Bytes that the device reads.
    pub read: u64,
    /// Bytes that the device may write.
    pub written: u64,
    /// Guest-physical address of the last byte that the device may write; 0 if there is none. It may be anywhere.
    pub last: u64,
}

/// A walk over the descriptors of a chain.
struct Walk {
    /// Address of the table that is walked, and the number of its descriptors.
    table: u64,
    len: u32,
    /// Number of the next descriptor.
    next: Option<u32>,
    is_indirect: bool,
    /// Descriptors that may still come.
    left: u16,
    /// A buffer that the device writes has come.
    has_written: bool,
}

impl Walk {
    /// Returns the next buffer; None behind the last one.
    fn advance(&mut self, memory: &impl View) -> Result<Option<Piece>, Broken> {
        while let Some(number) = self.next {
            if number >= self.len {
                return Err(Broken::NoDescriptor(number));
            }
            let mut bytes = [0; DESCRIPTOR as usize];
            let at = self.table.wrapping_add(u64::from(number) * DESCRIPTOR);
            memory.read(at, &mut bytes)?;
            let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = bytes;
            let address = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
            let len = u32::from_le_bytes([l0, l1, l2, l3]);
            let flags = u16::from_le_bytes([f0, f1]);
            let has_next = flags & flag::NEXT != 0;
            if flags & flag::INDIRECT != 0 {
                self.enter(address, len, has_next)?;
                continue;
            }
            self.left = self.left.checked_sub(1).ok_or(Broken::Endless)?;
            self.next = has_next.then_some(u16::from_le_bytes([n0, n1]).into());
            let is_written = flags & flag::WRITE != 0;
            if self.has_written && !is_written {
                return Err(Broken::Order);
            }
            self.has_written = is_written;
            return Ok(Some(Piece { address, len, is_written }));
        }
        Ok(None)
    }

    /// Goes on in a table of indirect descriptors, which must be the chain's first and only descriptor outside of it, or its last.
    fn enter(&mut self, table: u64, bytes: u32, has_next: bool) -> Result<(), Broken> {
        let is_whole = bytes != 0 && bytes.is_multiple_of(DESCRIPTOR as u32);
        if self.is_indirect || has_next || !is_whole {
            return Err(Broken::Indirect(bytes));
        }
        (self.is_indirect, self.table, self.len) = (true, table, bytes / DESCRIPTOR as u32);
        self.next = Some(0);
        Ok(())
    }
}

/// The parts of a chain's bytes, of those that the device writes or of those that it reads.
struct Parts {
    walk: Walk,
    is_written: bool,
    /// Bytes that come first and are left out.
    skip: u64,
    /// Bytes that are wanted.
    left: usize,
}

impl Parts {
    /// Returns the address and the bytes of the next part; None if nothing more is wanted, or there.
    fn advance(&mut self, memory: &Memory<'_>) -> Result<Option<(u64, usize)>, Broken> {
        while self.left > 0
            && let Some(piece) = self.walk.advance(memory)?
        {
            let there = u64::from(piece.len);
            if piece.is_written != self.is_written {
                continue;
            }
            if self.skip >= there {
                self.skip -= there;
                continue;
            }
            let address = piece.address.wrapping_add(self.skip);
            let count = (there - self.skip).min(self.left as u64) as usize;
            (self.skip, self.left) = (0, self.left - count);
            return Ok(Some((address, count)));
        }
        Ok(None)
    }
}

impl Chain {
    fn walk(&self) -> Walk {
        Walk {
            table: self.table,
            len: self.num.into(),
            next: Some(self.head.into()),
            is_indirect: false,
            left: MAX_QUEUE,
            has_written: false,
        }
    }

    fn parts(&self, is_written: bool, skip: u64, left: usize) -> Parts {
        Parts { walk: self.walk(), is_written, skip, left }
    }

    /// Returns the bytes of the request. Whether they are in RAM, the copy tells.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the chain can't be walked to its end.
    pub fn lengths(&self, memory: &Memory<'_>) -> Result<Lengths, Broken> {
        let mut lengths = Lengths::default();
        self.pieces(memory, |piece| match piece.is_written {
            true => {
                let len = u64::from(piece.len);
                lengths.written += len;
                if len > 0 {
                    lengths.last = piece.address.wrapping_add(len - 1);
                }
            }
            false => lengths.read += u64::from(piece.len),
        })?;
        Ok(lengths)
    }

    /// Calls `look` with each buffer of the request, in their order. They may be anywhere.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the chain can't be walked to its end.
    pub fn pieces(&self, memory: &impl View, mut look: impl FnMut(Piece)) -> Result<(), Broken> {
        let mut walk = self.walk();
        while let Some(piece) = walk.advance(memory)? {
            look(piece);
        }
        Ok(())
    }

    /// Copies bytes that the device reads, from the byte `skip` on, and returns their number: fewer than `into` has if the request has no more.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the chain is, or a buffer is not in RAM.
    pub fn read(&self, memory: &Memory<'_>, skip: u64, into: &mut [u8]) -> Result<usize, Broken> {
        let (mut done, mut parts) = (0, self.parts(false, skip, into.len()));
        while let Some((address, count)) = parts.advance(memory)? {
            memory.read(address, &mut into[done..done + count])?;
            done += count;
        }
        Ok(done)
    }

    /// Writes `from` to the bytes that the device writes, from the byte `skip` on, and returns the number of bytes that there was room for.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the chain is, or a buffer is not in RAM. Some of it may have been written.
    pub fn write(&self, memory: &mut Memory<'_>, skip: u64, from: &[u8]) -> Result<usize, Broken> {
        let (mut done, mut parts) = (0, self.parts(true, skip, from.len()));
        while let Some((address, count)) = parts.advance(memory)? {
            memory.write(address, &from[done..done + count])?;
            done += count;
        }
        Ok(done)
    }
}
