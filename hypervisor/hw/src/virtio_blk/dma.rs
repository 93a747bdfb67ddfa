//! The memory that the driver shares with its device: [`DiskMemory`].

use super::{DEPTH, MAX_TRANSFER};
use crate::virtio_dma::Page;
use core::ptr::{NonNull, addr_of_mut};

/// Pages that the queue takes: two at once for a legacy device, one twice for a modern one.
const QUEUE_PAGES: usize = 2;

/// All memory that the device may use. Boot keeps it in a `static DMA: spin::Mutex<DiskMemory>`,
/// and hands it over for ever by `MutexGuard::leak(DMA.lock())`, without unsafe code.
#[repr(C)]
pub struct DiskMemory {
    queue: [Page; QUEUE_PAGES],
    buffers: [Buffer; DEPTH],
}

/// What one request needs.
#[repr(C, align(64))]
pub(super) struct Buffer {
    pub(super) data: [u8; MAX_TRANSFER],
    pub(super) header: [u8; 16],
    pub(super) status: [u8; 1],
}

impl DiskMemory {
    /// Returns zeroed memory for a disk.
    pub const fn new() -> Self {
        Self {
            queue: [Page::ZERO; QUEUE_PAGES],
            buffers: [const { Buffer { data: [0; MAX_TRANSFER], header: [0; 16], status: [0; 1] } };
                DEPTH],
        }
    }

    /// Returns a pointer to all of the memory, for [`Buffer::of`] and to make a reference of it
    /// again, and the queue's pages.
    pub(super) fn hand_over(&'static mut self) -> (NonNull<Self>, &'static mut [Page]) {
        let all = NonNull::from(self);
        // SAFETY: the pointer stays within the memory that `all` points to, which lives for ever.
        let queue = unsafe { addr_of_mut!((*all.as_ptr()).queue) };
        // SAFETY: 1. The pages are valid, aligned and initialised, and live for ever. 2. Nobody
        // else has a reference to them: `self` became a pointer, and the buffers do not overlap
        // them. Whoever makes a reference of `all` again has ended the driver before, and the queue
        // with it.
        (all, unsafe { &mut *queue })
    }
}

impl Default for DiskMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl Buffer {
    /// Returns buffer `n`. Panics if there is none of this number.
    ///
    /// # Safety
    ///
    /// 1. `memory` came from [`DiskMemory::hand_over`].
    /// 2. The device does not use the buffer as long as the reference lives.
    /// 3. There is no other reference to it as long.
    pub(super) unsafe fn of<'a>(memory: NonNull<DiskMemory>, n: usize) -> &'a mut Self {
        assert!(n < DEPTH);
        // SAFETY: 1. `memory` came from `hand_over`, by condition 1, so the pointer stays within
        // memory that is valid, aligned and initialised for ever: `n` was checked. 2. Neither the
        // device nor another reference uses it as long as the reference lives, by conditions 2
        // and 3.
        unsafe { &mut *addr_of_mut!((*memory.as_ptr()).buffers).cast::<Self>().add(n) }
    }

    /// Returns the status that the device answered in buffer `n`. The read is volatile: the
    /// compiler knows only of what the driver wrote there. Panics if there is no buffer of this
    /// number.
    ///
    /// # Safety
    ///
    /// 1. `memory` came from [`DiskMemory::hand_over`].
    /// 2. The device has given the buffer back.
    pub(super) unsafe fn status(memory: NonNull<DiskMemory>, n: usize) -> u8 {
        assert!(n < DEPTH);
        // SAFETY: 1. `memory` came from `hand_over`, by condition 1, so the status is valid and
        // initialised: `n` was checked. 2. Nobody writes to it now: the device has given the buffer
        // back, by condition 2.
        unsafe {
            let this = addr_of_mut!((*memory.as_ptr()).buffers).cast::<Self>().add(n);
            addr_of_mut!((*this).status).cast::<u8>().read_volatile()
        }
    }
}
