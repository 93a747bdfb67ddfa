//! A guest's RAM as its virtio queues are read: [`View`], and what is not right there: [`Broken`].

use stasis_memory::AccessError;
use stasis_state::OutOfRange;

use crate::context::Memory;

/// What a driver has put into a queue and can't be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A ring, a descriptor or a buffer is not in the guest's RAM.
    #[error("{0:#x} is not in RAM")]
    NotInRam(u64),
    /// A ring is not at a multiple of its alignment.
    #[error("{0:#x} is not aligned")]
    Misaligned(u64),
    /// The available ring has more requests than entries.
    #[error("{0} requests are available, more than the queue has entries")]
    RunAway(u16),
    /// A descriptor's number is beyond the table's end.
    #[error("there is no descriptor {0}")]
    NoDescriptor(u32),
    /// A chain has more descriptors than the queue, or a loop.
    #[error("a chain does not end")]
    Endless,
    /// A table of indirect descriptors is in another one, in the midst of a chain, empty, or no
    /// whole number of descriptors.
    #[error("a table of indirect descriptors is not possible there, or has a length of {0}")]
    Indirect(u32),
    /// A buffer that the device reads stands behind one that it writes.
    #[error("the device reads behind what it writes")]
    Order,
    /// No frame is free for a page that the device writes, and that the guest shares with a clone.
    /// The driver has done nothing wrong: the request stays where it is, and is done when the guest
    /// has waited for memory.
    #[error("no memory is free for what the device writes")]
    NoFrame,
    /// Memory that the device reads or writes is still to be loaded, as its guest was resumed on
    /// demand. The driver has done nothing wrong: what is missing was asked for, and the queue
    /// stands still until something has arrived.
    #[error("memory is still to be loaded")]
    NotThere,
    /// A request is shorter than its type says.
    #[error("the request is too short")]
    Short,
}

/// A guest's RAM, of which a queue is read: [`Memory`], or what a checkpoint has of it.
pub trait View {
    /// Returns the number of 16 bits at a guest-physical address.
    ///
    /// # Errors
    ///
    /// [`Broken`], if it is not in RAM, or not aligned.
    fn u16(&self, address: u64) -> Result<u16, Broken>;

    /// Fills `into` with the bytes from a guest-physical address on.
    ///
    /// # Errors
    ///
    /// [`Broken`], if they are not in RAM.
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Broken>;
}

impl View for Memory<'_> {
    fn u16(&self, address: u64) -> Result<u16, Broken> {
        let loaded = self.ram.load_u16(self.offset(address));
        loaded.map_err(|error| self.not_read((address, 2), refused(address, &error)))
    }

    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Broken> {
        let read = self.ram.read(self.offset(address), into);
        let bytes = (address, into.len() as u64);
        read.map_err(|OutOfRange { .. }| self.not_read(bytes, Broken::NotInRam(address)))
    }
}

/// Writes of numbers by guest-physical address.
impl Memory<'_> {
    /// Returns the offset in RAM of `address`. An address below the RAM gives one that is in no
    /// RAM.
    pub(super) fn offset(&self, address: u64) -> usize {
        address.wrapping_sub(self.base) as usize
    }

    pub(super) fn set_u16(&mut self, address: u64, value: u16) -> Result<(), Broken> {
        let offset = self.offset(address);
        let stored = self.ram.store_u16(offset, value);
        stored.map_err(|error| self.not_written((address, 2), refused(address, &error)))
    }

    pub(super) fn write(&mut self, address: u64, from: &[u8]) -> Result<(), Broken> {
        let offset = self.offset(address);
        let written = self.ram.write(offset, from);
        let bytes = (address, from.len() as u64);
        written.map_err(|OutOfRange { .. }| self.not_written(bytes, Broken::NotInRam(address)))
    }

    /// Asks for what is still to be loaded of bytes, given by address and number. Returns whether
    /// anything is. Of bytes that are not all in RAM, nothing is: an access to them is refused
    /// whatever is loaded.
    pub(super) fn lacks(&self, (address, len): (u64, u64)) -> bool {
        let start = self.offset(address);
        let end = start.saturating_add(len as usize);
        end <= self.ram.len() && self.ram.ask_for(start..end)
    }

    /// Returns why a read of bytes was refused: by the rule of `broken`, unless they are still to
    /// be loaded. Those are asked for.
    #[cold]
    fn not_read(&self, bytes: (u64, u64), broken: Broken) -> Broken {
        if self.lacks(bytes) { Broken::NotThere } else { broken }
    }

    /// Returns why a write of bytes was refused: by the rule of `broken`, unless it lacked a frame,
    /// or they are still to be loaded.
    #[cold]
    fn not_written(&self, bytes: (u64, u64), broken: Broken) -> Broken {
        if self.ram.lacks_frame() { Broken::NoFrame } else { self.not_read(bytes, broken) }
    }
}

fn refused(address: u64, error: &AccessError) -> Broken {
    match error {
        AccessError::OutOfRange(_) => Broken::NotInRam(address),
        AccessError::Misaligned { .. } => Broken::Misaligned(address),
    }
}
