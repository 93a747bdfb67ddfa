//! The buffers of one request: [`Chain`]. VIRTIO 1.2, 2.7.5.
//!
//! A chain is walked as its bytes are copied, and [`Bytes`] has no more than the place that a copy
//! has come to: so a request takes no memory, however many descriptors it has. A walk reads some
//! descriptors at once, into a [`Window`] that it has no longer than it lasts. A driver that
//! changes descriptors meanwhile gets what it says before or after that, within its own RAM.

use zerocopy::IntoBytes;

use super::view::{Broken, View};
use crate::context::Memory;

/// The most descriptors of a chain, unless its queue has more entries: a longer chain has a loop,
/// or others would wait too long while it is walked.
pub(super) const LONG: u16 = 256;

/// Bytes of a descriptor.
pub(super) const DESCRIPTOR: u64 = 16;
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
    /// Whether the driver had published nothing behind it.
    pub(super) is_last: bool,
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

/// What a request has, as [`Chain::measure`] finds it.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The numbers of its bytes.
    pub lengths: Lengths,
    /// The bytes that the device reads, from their first one on.
    pub read: Bytes,
    /// The bytes that the device writes, from their first one on.
    pub written: Bytes,
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
struct Walk {
    /// Address of the table that is walked, and the number of its descriptors.
    table: u64,
    len: u32,
    /// Number of the next descriptor; [`END`] behind the last one.
    next: u32,
    /// Descriptors that may still come: at first [`LONG`], or as many as the queue has.
    left: u16,
    is_indirect: bool,
    /// A buffer that the device writes has come.
    has_written: bool,
}

/// The number that no descriptor has: [`Walk::next`] behind the last one.
const END: u32 = u32::MAX;

/// Descriptors that were read together.
pub(super) struct Window {
    /// Address of their table.
    table: u64,
    /// Number of the first one, and how many there are.
    first: u32,
    count: u32,
    descriptors: [Descriptor; WINDOW],
}

impl Window {
    /// A window without a descriptor.
    pub const EMPTY: Self = Self { table: 0, first: 0, count: 0, descriptors: [[0; 2]; WINDOW] };

    /// Returns a descriptor of a walk's table.
    #[inline]
    fn descriptor(
        &mut self,
        walk: &Walk,
        number: u32,
        memory: &impl View,
    ) -> Result<Descriptor, Broken> {
        let within = number.wrapping_sub(self.first);
        if within >= self.count || self.table != walk.table {
            self.look(walk, number, memory)?;
            return Ok(self.descriptors[0]);
        }
        Ok(self.descriptors[within as usize % WINDOW])
    }

    /// Reads a descriptor of a walk's table, and those behind it with it.
    fn look(&mut self, walk: &Walk, number: u32, memory: &impl View) -> Result<(), Broken> {
        if number >= walk.len {
            return Err(Broken::NoDescriptor(number));
        }
        let at = walk.table.wrapping_add(u64::from(number) * DESCRIPTOR);
        let mut count = (walk.len - number).min(WINDOW as u32);
        let descriptors = &mut self.descriptors;
        if memory.read(at, descriptors[..count as usize].as_mut_bytes()).is_err() {
            // The rest of the table may be in no RAM: a driver that does not use it does nothing
            // wrong.
            memory.read(at, descriptors[..1].as_mut_bytes())?;
            count = 1;
        }
        (self.table, self.first, self.count) = (walk.table, number, count);
        Ok(())
    }
}

/// A descriptor, as it stands in memory: the address; then the length, the flags, and the number of
/// the next one.
type Descriptor = [u64; 2];

/// Returns the address, the length, the flags and the number of the next one of a descriptor.
#[inline]
fn fields([address, rest]: Descriptor) -> (u64, u32, u16, u16) {
    let rest = u64::from_le(rest);
    (u64::from_le(address), rest as u32, (rest >> 32) as u16, (rest >> 48) as u16)
}

impl Walk {
    /// Returns the next buffer; None behind the last one.
    fn advance(
        &mut self,
        window: &mut Window,
        memory: &impl View,
    ) -> Result<Option<Piece>, Broken> {
        while self.next != END {
            let (address, len, flags, next) = fields(window.descriptor(self, self.next, memory)?);
            let has_next = flags & flag::NEXT != 0;
            if flags & flag::INDIRECT != 0 {
                self.enter(address, len, has_next)?;
                continue;
            }
            self.left = self.left.checked_sub(1).ok_or(Broken::Endless)?;
            self.next = if has_next { next.into() } else { END };
            let is_written = flags & flag::WRITE != 0;
            if self.has_written && !is_written {
                return Err(Broken::Order);
            }
            self.has_written = is_written;
            return Ok(Some(Piece { address, len, is_written }));
        }
        Ok(None)
    }

    /// Goes on in a table of indirect descriptors, which must be the chain's first and only
    /// descriptor outside of it, or its last.
    fn enter(&mut self, table: u64, bytes: u32, has_next: bool) -> Result<(), Broken> {
        let is_whole = bytes != 0 && bytes.is_multiple_of(DESCRIPTOR as u32);
        if self.is_indirect || has_next || !is_whole {
            return Err(Broken::Indirect(bytes));
        }
        (self.is_indirect, self.table, self.len) = (true, table, bytes / DESCRIPTOR as u32);
        self.next = 0;
        Ok(())
    }

    /// Returns the bytes that the device writes, or those that it reads, from here on.
    fn bytes(self, is_written: bool) -> Bytes {
        Bytes { walk: self, is_written, address: 0, left: 0 }
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
    /// Goes to the next byte, so that a copy of what is in its buffer needs no walk.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the chain is.
    pub(super) fn reach(&mut self, window: &mut Window, memory: &impl View) -> Result<(), Broken> {
        self.advance(window, memory, 0).map(drop)
    }

    /// Returns the address of the next part, of `most` bytes at most, and its bytes; None if there
    /// are no more.
    #[inline]
    fn advance(
        &mut self,
        window: &mut Window,
        memory: &impl View,
        most: u64,
    ) -> Result<Option<(u64, u64)>, Broken> {
        while self.left == 0 {
            let Some(piece) = self.walk.advance(window, memory)? else { return Ok(None) };
            if piece.is_written == self.is_written {
                (self.address, self.left) = (piece.address, piece.len.into());
            }
        }
        let (address, count) = (self.address, self.left.min(most));
        self.address = address.wrapping_add(count);
        self.left -= count;
        Ok(Some((address, count)))
    }

    /// Returns the address of the next `count` bytes, if there are to be some, and they are in the
    /// buffer that was come to.
    #[inline]
    fn within(&mut self, count: usize) -> Option<u64> {
        let left = self.left.checked_sub(count as u64).filter(|_| count != 0)?;
        let address = self.address;
        (self.address, self.left) = (address.wrapping_add(count as u64), left);
        Some(address)
    }

    /// Leaves out `count` bytes, or all that are left.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the chain is.
    pub fn skip(&mut self, memory: &Memory<'_>, mut count: u64) -> Result<(), Broken> {
        if self.within(count as usize).is_some() {
            return Ok(());
        }
        let mut window = Window::EMPTY;
        while count > 0
            && let Some((_, skipped)) = self.advance(&mut window, memory, count)?
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
        if let Some(address) = self.within(into.len()) {
            memory.read(address, into)?;
            return Ok(into.len());
        }
        let (mut window, mut done) = (Window::EMPTY, 0);
        while done < into.len()
            && let Some((address, count)) =
                self.advance(&mut window, memory, (into.len() - done) as u64)?
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
        if let Some(address) = self.within(from.len()) {
            memory.write(address, from)?;
            return Ok(from.len());
        }
        let (mut window, mut done) = (Window::EMPTY, 0);
        while done < from.len()
            && let Some((address, count)) =
                self.advance(&mut window, memory, (from.len() - done) as u64)?
        {
            memory.write(address, &from[done..][..count as usize])?;
            done += count as usize;
        }
        Ok(done)
    }
}

impl Chain {
    /// Returns a walk over the chain, from its first descriptor on.
    fn walk(&self) -> Walk {
        Walk {
            table: self.table,
            len: self.num.into(),
            next: self.head.into(),
            left: self.num.max(LONG),
            is_indirect: false,
            has_written: false,
        }
    }

    /// Returns the bytes that the device reads.
    pub fn to_read(&self) -> Bytes {
        self.walk().bytes(false)
    }

    /// Returns the bytes that the device writes.
    pub fn to_write(&self) -> Bytes {
        self.walk().bytes(true)
    }

    /// Returns the bytes of the request, and where those of each kind begin, which need not be
    /// walked to again. Whether they are in RAM, the copy tells.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the chain can't be walked to its end.
    pub fn measure(&self, memory: &impl View) -> Result<Measured, Broken> {
        let mut window = Window::EMPTY;
        self.measure_in(&mut window, memory)
    }

    /// Does as [`Self::measure`], and leaves the last descriptors that were read in the window.
    #[inline]
    pub(super) fn measure_in(
        &self,
        window: &mut Window,
        memory: &impl View,
    ) -> Result<Measured, Broken> {
        let mut walk = self.walk();
        let mut lengths = Lengths::default();
        let (mut read, mut written) = (self.to_read(), self.to_write());
        while let Some(piece) = walk.advance(window, memory)? {
            let Piece { address, len, is_written } = piece;
            let len = u64::from(len);
            let (bytes, sum) = match is_written {
                true => (&mut written, &mut lengths.written),
                false => (&mut read, &mut lengths.read),
            };
            if *sum == 0 {
                *bytes = Bytes { walk, is_written, address, left: len };
            }
            *sum += len;
            if is_written && len > 0 {
                lengths.last = address.wrapping_add(len - 1);
            }
        }
        Ok(Measured { lengths, read, written })
    }

    /// Calls `look` with each buffer of the request, in their order. They may be anywhere.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the chain can't be walked to its end.
    pub fn pieces(&self, memory: &impl View, mut look: impl FnMut(Piece)) -> Result<(), Broken> {
        let (mut window, mut walk) = (Window::EMPTY, self.walk());
        while let Some(piece) = walk.advance(&mut window, memory)? {
            look(piece);
        }
        Ok(())
    }
}
