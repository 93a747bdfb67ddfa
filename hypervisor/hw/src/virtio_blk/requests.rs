//! The requests that the device has: [`Requests`].
//!
//! Each request has one of [`DEPTH`] buffers, which is the device's from
//! [`submit`](Requests::submit) until [`poll`](Requests::poll) has found the request among what the
//! device gives back, in any order, or until the device was reset. The driver touches no buffer
//! meanwhile, so all of this is safe to use.

use super::dma::{Buffer, DiskMemory};
use super::request::Request;
use super::{DEPTH, SECTOR};
use crate::virtio_dma::{Identity, with_pages};
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, Transport};

/// Number of the only queue (5.2.2).
const QUEUE: u16 = 0;
/// Length of the queue: a power of two, with room for the three descriptors of each request.
const QUEUE_LEN: usize = (3 * DEPTH).next_power_of_two();
/// Most reads of the status that a reset may take (4.2.2.1). Miri takes too long for many.
const RESET_READS: usize = if cfg!(miri) { 100 } else { 1_000_000 };

/// Status of a request that the device has not ended: it writes 0, 1 or 2 (5.2.6).
const NO_STATUS: u8 = 0xff;

/// A request that the device has.
#[derive(Clone, Copy)]
struct UnderWay {
    request: Request,
    /// The queue's number of the request.
    token: u16,
}

/// The device's queue, and what the device has of it.
pub(super) struct Requests<T: Transport> {
    transport: T,
    queue: VirtQueue<Identity, QUEUE_LEN>,
    memory: NonNull<DiskMemory>,
    /// The request in each buffer; `None`: the buffer is the driver's.
    under_way: [Option<UnderWay>; DEPTH],
}

// SAFETY: 1. `memory` points to memory that nobody but this driver and its device uses, and that is
// mapped on every core. 2. The queue depends on no state of one core.
unsafe impl<T: Transport + Send> Send for Requests<T> {}

/// Calls `act` with the parts of `buffer` that make up `request`: what the device reads, and what
/// it writes.
fn with_parts<R>(
    buffer: &mut Buffer,
    request: Request,
    act: impl for<'a> FnOnce(&'a [&'a [u8]], &'a mut [&'a mut [u8]]) -> R,
) -> R {
    let Buffer { data, header, status } = buffer;
    let (reads, writes) = match request {
        Request::Read(_, sectors) => (0, sectors * SECTOR),
        Request::Write(_, sectors) => (sectors * SECTOR, 0),
        Request::Flush => (0, 0),
    };
    let (read, rest) = data.split_at_mut(reads);
    let inputs: [&[u8]; 2] = [header, read];
    let mut outputs: [&mut [u8]; 2] = [&mut rest[..writes], status];
    // A part must not be empty.
    act(&inputs[..1 + usize::from(reads > 0)], &mut outputs[usize::from(writes == 0)..])
}

impl<T: Transport> Requests<T> {
    /// Sets up the device's queue in `memory`.
    ///
    /// # Errors
    ///
    /// What the queue of the device lacks.
    pub(super) fn new(
        mut transport: T,
        memory: &'static mut DiskMemory,
    ) -> Result<Self, virtio_drivers::Error> {
        let (memory, pages) = memory.hand_over();
        let mut queue = with_pages(pages, || VirtQueue::new(&mut transport, QUEUE, false, false))?;
        queue.set_dev_notify(false);
        Ok(Self { transport, queue, memory, under_way: [None; DEPTH] })
    }

    /// Returns the transport, to set the device's status.
    pub(super) fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Returns a buffer that is the driver's, if there is one.
    pub(super) fn free(&self) -> Option<usize> {
        self.under_way.iter().position(Option::is_none)
    }

    /// Returns whether buffer `n` is the driver's.
    pub(super) fn is_free(&self, n: usize) -> bool {
        self.under_way[n].is_none()
    }

    /// Returns a request that the device has, if it has one.
    pub(super) fn any(&self) -> Option<Request> {
        self.under_way.iter().flatten().next().map(|it| it.request)
    }

    /// Returns the first `len` bytes of data in buffer `n`.
    ///
    /// # Panics
    ///
    /// If the device has the buffer.
    pub(super) fn data(&mut self, n: usize, len: usize) -> &mut [u8] {
        assert!(self.is_free(n), "the device has buffer {n}");
        // SAFETY: 1. `memory` came from `hand_over`. 2. The device does not have the buffer, as was
        // asserted. 3. `self` is borrowed for as long as the reference lives, and nothing but the
        // methods of `self` makes references to buffers.
        &mut unsafe { Buffer::of(self.memory, n) }.data[..len]
    }

    /// Gives the device a request, with the data that is in buffer `n`, or that the device puts
    /// there.
    ///
    /// # Errors
    ///
    /// The queue's error, if it has no room; the buffer is the driver's then.
    ///
    /// # Panics
    ///
    /// If the device has the buffer.
    pub(super) fn submit(
        &mut self,
        n: usize,
        request: Request,
    ) -> Result<(), virtio_drivers::Error> {
        assert!(self.is_free(n), "the device has buffer {n}");
        // SAFETY: 1. `memory` came from `hand_over`. 2. The device does not have the buffer, as was
        // asserted. 3. Nothing else uses the buffer before this reference ends, below.
        let buffer = unsafe { Buffer::of(self.memory, n) };
        buffer.header = request.header();
        buffer.status = [NO_STATUS];
        let token = with_parts(buffer, request, |inputs, outputs| {
            // SAFETY: 1. The buffer lies in `DiskMemory`, which lives for ever. 2. From now on it
            // is `under_way`, and not accessed before `poll` has popped the token; if that never
            // comes, it is never accessed again.
            unsafe { self.queue.add(inputs, outputs) }
        })?;
        self.under_way[n] = Some(UnderWay { request, token });
        // The device must see the request in memory before it is notified; and the request must be
        // there before it is asked whether it wants that.
        fence(Ordering::SeqCst);
        if self.queue.should_notify() {
            self.transport.notify(QUEUE);
        }
        Ok(())
    }

    /// Takes back the next request that the device has ended, and returns it with its status;
    /// `None` if it has ended none.
    ///
    /// # Errors
    ///
    /// The queue's error if the device gives back what it does not have, or has not ended. It must
    /// be reset then.
    pub(super) fn poll(&mut self) -> Result<Option<(Request, u8)>, virtio_drivers::Error> {
        let Some(token) = self.queue.peek_used() else { return Ok(None) };
        let mut under_way = self.under_way.iter().zip(0..);
        let found = under_way
            .find_map(|(it, n)| it.filter(|it| it.token == token).map(|it| (n, it.request)));
        let (n, request) = found.ok_or(virtio_drivers::Error::WrongToken)?;
        // SAFETY: 1. `memory` came from `hand_over`. 2. The device has given the buffer back.
        let status = unsafe { Buffer::status(self.memory, n) };
        if status == NO_STATUS {
            return Err(virtio_drivers::Error::NotReady);
        }
        // SAFETY: 1. `memory` came from `hand_over`. 2. The device has given the buffer back. 3.
        // Nothing else uses the buffer before this reference ends.
        let buffer = unsafe { Buffer::of(self.memory, n) };
        with_parts(buffer, request, |inputs, outputs| {
            // SAFETY: these are the buffers that were added under this token, which was not popped
            // before: it was under way.
            unsafe { self.queue.pop_used(token, inputs, outputs) }
        })?;
        self.under_way[n] = None;
        Ok(Some((request, status)))
    }

    /// Makes the device interrupt when it ends a request, and ends its interrupt for those that it
    /// has ended before. Returns whether it has still ended none that was not [taken
    /// back](Self::poll): else no interrupt may come.
    pub(super) fn prepare_to_sleep(&mut self) -> bool {
        self.queue.set_dev_notify(true);
        self.transport.ack_interrupt();
        // The device must see the wish before the driver looks for what it has ended.
        fence(Ordering::SeqCst);
        !self.queue.can_pop()
    }

    /// Lets the device end requests without an interrupt.
    pub(super) fn stay_awake(&mut self) {
        self.queue.set_dev_notify(false);
    }

    /// Resets the device, which ends its use of the memory, and waits until it says so, or for a
    /// while. Returns whether it has said so: the device may be using the memory until then. What
    /// it has of the memory stays its own.
    pub(super) fn reset(&mut self) -> bool {
        self.transport.set_status(DeviceStatus::empty());
        (0..RESET_READS).any(|_| self.transport.get_status().is_empty())
    }

    /// Resets the device, and returns the memory; `None` if the device does not say that it was
    /// reset: the memory is not used again then.
    pub(super) fn release(mut self) -> Option<&'static mut DiskMemory> {
        let mut memory = self.memory;
        let was_reset = self.reset();
        drop(self);
        if !was_reset {
            return None;
        }
        // SAFETY: 1. The pointer is that of the `&'static mut` that was handed over, so it is valid
        // for ever. 2. The driver was dropped, and the device has said that it was reset (4.2.2.1)
        // and was not set up again since, so neither uses the memory any more.
        Some(unsafe { memory.as_mut() })
    }
}

impl<T: Transport> Drop for Requests<T> {
    fn drop(&mut self) {
        // The memory stays the device's if it does not end the reset: only `release` makes a
        // reference to it again.
        let _ = self.reset();
    }
}
