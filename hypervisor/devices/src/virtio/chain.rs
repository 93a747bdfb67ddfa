//! The buffers of one request: [`Chain`]. VIRTIO 1.2, 2.7.5.
//!
//! A chain is walked as its bytes are copied, and [`Bytes`] has no more than the place that a copy
//! has come to: so a request takes no memory, however many descriptors it has. A driver that
//! changes descriptors meanwhile gets what it says before or after that, within its own RAM.

use stasis_state::virtio::MAX_QUEUE;

use super::view::{Broken, View};
use crate::context::Memory;

/// Bytes of a descriptor.
const DESCRIPTOR: u64 = 16;
/// Descriptors that are read at once: most chains have no more, and stand together.
const WINDOW: usize = 4;

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
    /// Guest-physical address of the last byte that the device may write; 0 if there is none. It
    /// may be anywhere.
    pub last: u64,
}

/// A walk over the descriptors of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
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
    /// Descriptors of the table that were read together: the number of the first, how many there
    /// are, and what they are.
    first: u32,
    count: u32,
    window: [Descriptor; WINDOW],
}

/// A descriptor, as it stands in memory.
#[derive(Clone, Copy, Debug, Default)]
struct Descriptor {
    address: u64,
    /// The length, then the flags, then the number of the next one.
    rest: u64,
}

impl Descriptor {
    fn of(bytes: &[u8; DESCRIPTOR as usize]) -> Self {
        let [a0, a1, a2, a3, a4, a5, a6, a7, r0, r1, r2, r3, r4, r5, r6, r7] = *bytes;
        let address = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
        Self { address, rest: u64::from_le_bytes([r0, r1, r2, r3, r4, r5, r6, r7]) }
    }

    fn len(self) -> u32 {
        self.rest as u32
    }

    fn flags(self) -> u16 {
        (self.rest >> 32) as u16
    }

    fn next(self) -> u16 {
        (self.rest >> 48) as u16
    }
}

impl Walk {
    /// Returns the next buffer; None behind the last one.
    fn advance(&mut self, memory: &impl View) -> Result<Option<Piece>, Broken> {
        while let Some(number) = self.next {
            let descriptor = self.descriptor(number, memory)?;
            let (address, len, flags) = (descriptor.address, descriptor.len(), descriptor.flags());
            let has_next = flags & flag::NEXT != 0;
            if flags & flag::INDIRECT != 0 {
                self.enter(address, len, has_next)?;
                continue;
            }
            self.left = self.left.checked_sub(1).ok_or(Broken::Endless)?;
            self.next = has_next.then_some(descriptor.next().into());
            let is_written = flags & flag::WRITE != 0;
            if self.has_written && !is_written {
                return Err(Broken::Order);
            }
            self.has_written = is_written;
            return Ok(Some(Piece { address, len, is_written }));
        }
        Ok(None)
    }

    /// Returns a descriptor of the table.
    #[inline]
    fn descriptor(&mut self, number: u32, memory: &impl View) -> Result<Descriptor, Broken> {
        let within = number.wrapping_sub(self.first);
        if within >= self.count {
            self.look(number, memory)?;
            return Ok(self.window[0]);
        }
        Ok(self.window[within as usize])
    }

    /// Reads a descriptor of the table, and those behind it with it.
    fn look(&mut self, number: u32, memory: &impl View) -> Result<(), Broken> {
        if number >= self.len {
            return Err(Broken::NoDescriptor(number));
        }
        let mut bytes = [[0; DESCRIPTOR as usize]; WINDOW];
        let at = self.table.wrapping_add(u64::from(number) * DESCRIPTOR);
        let mut count = (self.len - number).min(WINDOW as u32);
        if memory.read(at, bytes[..count as usize].as_flattened_mut()).is_err() {
            // The rest of the table may be in no RAM: a driver that does not use it does nothing
            // wrong.
            memory.read(at, &mut bytes[0])?;
            count = 1;
        }
        self.window = bytes.each_ref().map(Descriptor::of);
        (self.first, self.count) = (number, count);
        Ok(())
    }

    /// Goes on in a table of indirect descriptors, which must be the chain's first and only
    /// descriptor outside of it, or its last.
    fn enter(&mut self, table: u64, bytes: u32, has_next: bool) -> Result<(), Broken> {
        let is_whole = bytes != 0 && bytes.is_multiple_of(DESCRIPTOR as u32);
        if self.is_indirect || has_next || !is_whole {
            return Err(Broken::Indirect(bytes));
        }
        (self.is_indirect, self.table, self.len) = (true, table, bytes / DESCRIPTOR as u32);
        (self.next, self.count) = (Some(0), 0);
        Ok(())
    }

    /// Returns the bytes that the device reads, from here on.
    pub fn to_read(self) -> Bytes {
        Bytes { walk: self, is_written: false, address: 0, left: 0 }
    }

    /// Returns the bytes that the device writes, from here on.
    pub fn to_write(self) -> Bytes {
        Bytes { walk: self, is_written: true, address: 0, left: 0 }
    }
}

/// The bytes of a request that the device reads, or those that it writes, from some place on: each
/// copy goes on where the one before has ended.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    walk: Walk,
    is_written: bool,
    /// Address of the rest of the buffer that was come to, and its bytes.
    address: u64,
    left: u64,
}

impl Bytes {
    /// Returns the address of the next part, of `most` bytes at most, and its bytes; None if there
    /// are no more.
    fn advance(&mut self, memory: &impl View, most: u64) -> Result<Option<(u64, u64)>, Broken> {
        while self.left == 0 {
            let Some(piece) = self.walk.advance(memory)? else { return Ok(None) };
            if piece.is_written == self.is_written {
                (self.address, self.left) = (piece.address, piece.len.into());
            }
        }
        let (address, count) = (self.address, self.left.min(most));
        self.address = address.wrapping_add(count);
        self.left -= count;
        Ok(Some((address, count)))
    }

    /// Leaves out `count` bytes, or all that are left.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the chain is.
    pub fn skip(&mut self, memory: &Memory<'_>, mut count: u64) -> Result<(), Broken> {
        while count > 0
            && let Some((_, skipped)) = self.advance(memory, count)?
        {
            count -= skipped;
        }
        Ok(())
    }

    /// Copies the next bytes, which the device reads, and returns their number: fewer than `into`
    /// has if the request has no more.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the chain is, or a buffer is not in RAM.
    pub fn read(&mut self, memory: &Memory<'_>, into: &mut [u8]) -> Result<usize, Broken> {
        let mut done = 0;
        while done < into.len()
            && let Some((address, count)) = self.advance(memory, (into.len() - done) as u64)?
        {
            memory.read(address, &mut into[done..][..count as usize])?;
            done += count as usize;
        }
        Ok(done)
    }

    /// Writes `from` to the next bytes, which the device writes, and returns the number of bytes
    /// that there was room for.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the chain is, or a buffer is not in RAM. Some of it may have been written.
    pub fn write(&mut self, memory: &mut Memory<'_>, from: &[u8]) -> Result<usize, Broken> {
        let mut done = 0;
        while done < from.len()
            && let Some((address, count)) = self.advance(memory, (from.len() - done) as u64)?
        {
            memory.write(address, &from[done..][..count as usize])?;
            done += count as usize;
        }
        Ok(done)
    }
}

impl Chain {
    /// Returns a walk over the chain, from its first descriptor on.
    pub fn walk(&self) -> Walk {
        Walk {
            table: self.table,
            len: self.num.into(),
            next: Some(self.head.into()),
            is_indirect: false,
            left: MAX_QUEUE,
            has_written: false,
            first: 0,
            count: 0,
            window: [Descriptor::default(); WINDOW],
        }
    }

    /// Returns the bytes of the request, and a walk over it that need not read the first
    /// descriptors again. Whether the bytes are in RAM, the copy tells.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the chain can't be walked to its end.
    pub fn measure(&self, memory: &impl View) -> Result<(Lengths, Walk), Broken> {
        let mut lengths = Lengths::default();
        let mut start = self.walk();
        start.descriptor(self.head.into(), memory)?;
        let mut walk = start;
        while let Some(piece) = walk.advance(memory)? {
            let len = u64::from(piece.len);
            if !piece.is_written {
                lengths.read += len;
            } else if len > 0 {
                lengths.written += len;
                lengths.last = piece.address.wrapping_add(len - 1);
            }
        }
        Ok((lengths, start))
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
}
