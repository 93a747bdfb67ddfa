//! One direction of a network card: a queue, and the buffers of its frames ([`Lane`]).
//!
//! A buffer is the driver's, and a reference; or it is the device's from when it is offered until
//! [`Lane::take_back`] has found it among what the device gives back, and a pointer that nobody
//! follows.

use crate::network_card::MAX_FRAME;
use crate::virtio_dma::Identity;
use arrayvec::ArrayVec;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};
use virtio_drivers::Error;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;

/// Buffers of a lane, and entries of its queue: a power of two.
pub const LANE: usize = if cfg!(miri) { 4 } else { 32 };
/// Bytes of a buffer: at least 1526 for what comes (5.1.6.3.1), with room for the header and
/// [`MAX_FRAME`].
pub const BUFFER: usize = 1536;
const _: () = assert!(BUFFER >= super::HEADER + MAX_FRAME);

/// A frame behind its header.
#[repr(C, align(64))]
pub struct Buffer([u8; BUFFER]);

impl Buffer {
    /// Returns a buffer of zeros.
    pub const fn new() -> Self {
        Self([0; BUFFER])
    }
}

/// A queue and its buffers.
pub struct Lane {
    queue: VirtQueue<Identity, LANE>,
    number: u16,
    /// Buffers of the driver's.
    own: ArrayVec<&'static mut Buffer, LANE>,
    /// Buffers of the device's, by the queue's number of each: a buffer is one descriptor.
    lent: [Option<NonNull<Buffer>>; LANE],
}

// SAFETY: 1. `lent` points to memory that nobody but this lane and its device uses, and that is
// mapped on every core. 2. The queue depends on no state of one core.
unsafe impl Send for Lane {}

impl Lane {
    /// Sets up queue `number` of the device, whose memory
    /// [`with_pages`](crate::virtio_dma::with_pages) lends. All buffers are the driver's.
    ///
    /// # Errors
    ///
    /// What the device's queue lacks.
    pub fn new(
        transport: &mut impl Transport,
        number: u16,
        buffers: &'static mut [Buffer; LANE],
    ) -> Result<Self, Error> {
        let queue = VirtQueue::new(transport, number, false, false)?;
        Ok(Self { queue, number, own: buffers.iter_mut().collect(), lent: [None; LANE] })
    }

    /// Asks the device for no interrupts of this lane.
    pub fn be_quiet(&mut self) {
        self.queue.set_dev_notify(false);
    }

    /// Returns the buffer that is offered next, if there is one: of those that were taken back, the
    /// last one.
    pub fn next(&mut self) -> Option<&mut [u8]> {
        self.own.last_mut().map(|buffer| &mut buffer.0[..])
    }

    /// Gives the device the first `len` bytes of the buffer that [`next`](Self::next) returns: to
    /// send them, or, of the lane for what comes, to fill them. Returns whether there was a buffer.
    ///
    /// # Errors
    ///
    /// The queue's error.
    pub fn offer(&mut self, len: usize) -> Result<bool, Error> {
        let Some(buffer) = self.own.pop() else { return Ok(false) };
        let mut buffer = NonNull::from(buffer);
        // SAFETY: 1. The pointer came from a `&'static mut` just now, so this is the only
        // reference, to memory that lives for ever. 2. The reference ends with `add`, below; only
        // `take_back` makes another one, when the device has given the buffer back.
        let bytes = &mut unsafe { buffer.as_mut() }.0[..len];
        let token = match self.number {
            // SAFETY: 1. The buffer lives for ever. 2. Nobody accesses it before `take_back` has
            // popped the token.
            super::RECEIVE => unsafe { self.queue.add(&[], &mut [bytes]) },
            // SAFETY: 1. The buffer lives for ever. 2. Nobody accesses it before `take_back` has
            // popped the token.
            _ => unsafe { self.queue.add(&[bytes], &mut []) },
        }?;
        self.lent[usize::from(token)] = Some(buffer);
        Ok(true)
    }

    /// Takes back the next buffer that the device has done with, and returns how many bytes the
    /// device says it has written, at most all of them; `None` if there is none.
    ///
    /// # Errors
    ///
    /// The queue's error if the device gives back what it does not have. It must be reset then.
    pub fn take_back(&mut self) -> Result<Option<usize>, Error> {
        let Some(token) = self.queue.peek_used() else { return Ok(None) };
        let lent = self.lent.get_mut(usize::from(token)).and_then(Option::take);
        let mut buffer = lent.ok_or(Error::WrongToken)?;
        // SAFETY: 1. The pointer came from a `&'static mut`, and this is the only reference that is
        // made of it again: `lent` has it no more. 2. The device has given the buffer back.
        let buffer = unsafe { buffer.as_mut() };
        let written = match self.number {
            // SAFETY: this is the buffer that was added under this token, as one that the device
            // writes.
            super::RECEIVE => unsafe { self.queue.pop_used(token, &[], &mut [&mut buffer.0[..]]) },
            // SAFETY: this is the buffer that was added under this token, as one that the device
            // reads.
            _ => unsafe { self.queue.pop_used(token, &[&buffer.0[..]], &mut []) },
        }?;
        self.own.push(buffer);
        Ok(Some((written as usize).min(BUFFER)))
    }

    /// Tells the device that it was offered something, if it wants that.
    pub fn notify(&mut self, transport: &mut impl Transport) {
        // The device must see the offer in memory before it is notified; and the offer must be
        // there before it is asked whether it wants that.
        fence(Ordering::SeqCst);
        if self.queue.should_notify() {
            transport.notify(self.number);
        }
    }
}
