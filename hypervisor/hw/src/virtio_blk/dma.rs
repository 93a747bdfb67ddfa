//! The memory that the driver shares with its device: [`DmaMemory`].

use super::MAX_TRANSFER;
use core::ptr::{NonNull, addr_of, addr_of_mut};
use spin::Mutex;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// Pages that the queue takes: two at once for a legacy device, one twice for a modern one.
const QUEUE_PAGES: usize = 2;

/// All memory that the device may use. Boot keeps it in a `static DMA: spin::Mutex<DmaMemory>`, and hands it over for ever by
/// `MutexGuard::leak(DMA.lock())`, without unsafe code.
#[repr(C)]
pub struct DmaMemory {
    queue: [Page; QUEUE_PAGES],
    shared: Shared,
}

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_SIZE]);

const _: () = assert!(align_of::<Page>() == PAGE_SIZE);

/// Buffers of the one request that is under way.
#[repr(C, align(64))]
pub(super) struct Shared {
    data: [u8; MAX_TRANSFER],
    header: [u8; 16],
    status: [u8; 1],
}

impl DmaMemory {
    /// Returns zeroed memory for a disk.
    pub const fn new() -> Self {
        Self {
            queue: [Page([0; PAGE_SIZE]); QUEUE_PAGES],
            shared: Shared { data: [0; MAX_TRANSFER], header: [0; 16], status: [0; 1] },
        }
    }

    /// Gives the queue's pages to [`Identity`], and returns pointers to all of the memory, for [`VirtioBlk::release`](super::VirtioBlk::release), and
    /// to the buffers, for the driver.
    pub(super) fn hand_over(&'static mut self) -> (NonNull<Self>, NonNull<Shared>) {
        self.queue = [Page([0; PAGE_SIZE]); QUEUE_PAGES];
        let all = NonNull::from(self);
        // SAFETY: the pointers stay within the memory that `all` points to, which lives for ever.
        let (queue, shared) =
            unsafe { (addr_of_mut!((*all.as_ptr()).queue), addr_of_mut!((*all.as_ptr()).shared)) };
        // SAFETY: 1. The pages are valid, aligned and initialised, and live for ever. 2. Nobody else has a reference to them: `self` became a
        // pointer, and `shared` does not overlap them. Whoever makes a reference of `all` again has ended the driver before, and the queue with it.
        *FREE_PAGES.lock() = unsafe { &mut *queue };
        // SAFETY: the pointer points to a field of what a reference referred to, so it is not null.
        (all, unsafe { NonNull::new_unchecked(shared) })
    }
}

impl Default for DmaMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    /// Returns the first `len` bytes of the data.
    ///
    /// # Safety
    ///
    /// `this` came from [`DmaMemory::hand_over`], and neither the device nor another reference uses
    /// its data as long as the returned one lives.
    pub(super) unsafe fn data<'a>(this: NonNull<Self>, len: usize) -> &'a mut [u8] {
        // SAFETY: `this` came from `hand_over`, by the caller, so the pointer stays within memory that lives for ever.
        let data = unsafe { addr_of_mut!((*this.as_ptr()).data) };
        // SAFETY: 1. `this` came from `hand_over`, by the caller, so the memory is valid, aligned and initialised for ever. 2. Neither the device nor
        // another reference uses it as long as the returned references live, by the caller.
        let data: &'a mut [u8; MAX_TRANSFER] = unsafe { &mut *data };
        &mut data[..len]
    }

    /// Returns header, status and data.
    ///
    /// # Safety
    ///
    /// `this` came from [`DmaMemory::hand_over`], and neither the device nor another reference uses header, status or data as long as the returned
    /// references live.
    pub(super) unsafe fn parts<'a>(
        this: NonNull<Self>,
    ) -> (&'a mut [u8; 16], &'a mut [u8; 1], &'a mut [u8]) {
        // SAFETY: 1. `this` came from `hand_over`, by the caller, so the memory is valid, aligned and initialised for ever. 2. Neither the device nor
        // another reference uses it as long as the returned references live, by the caller.
        let this: &'a mut Self = unsafe { &mut *this.as_ptr() };
        (&mut this.header, &mut this.status, &mut this.data)
    }

    /// Returns the status that the device answered. The read is volatile: the compiler knows only of what the driver wrote there.
    ///
    /// # Safety
    ///
    /// `this` came from [`DmaMemory::hand_over`], and the device is through with it.
    pub(super) unsafe fn status(this: NonNull<Self>) -> u8 {
        // SAFETY: `this` came from `hand_over`, by the caller, so the pointer stays within memory that lives for ever.
        let status = unsafe { addr_of!((*this.as_ptr()).status) };
        // SAFETY: the status is valid and initialised, and nobody writes to it now: the device is through with it, by the caller.
        unsafe { status.cast::<u8>().read_volatile() }
    }
}

/// Pages that `hand_over` gave to the queue, and that the queue has not taken yet.
static FREE_PAGES: Mutex<&'static mut [Page]> = Mutex::new(&mut []);

/// The `Hal` of `virtio-drivers` for a machine whose devices see memory where EL2 does.
pub(super) enum Identity {}

// SAFETY: each method keeps its conditions:
// - `dma_alloc` hands out pages that it takes from a `&'static mut`, so they are valid and aligned, and
//   no one else has them. They are zero, for `DmaMemory::hand_over` made them so and they are never given back here.
// - `mmio_phys_to_virt` is not called by the MMIO transport.
// - `share` and `unshare` have nothing to do: the caller of `VirtioBlk::find` vouches for physical
//   addresses being virtual ones, and the device is coherent with the caches.
unsafe impl Hal for Identity {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let mut free = FREE_PAGES.lock();
        match core::mem::take(&mut *free).split_at_mut_checked(pages) {
            Some((taken, rest)) => {
                *free = rest;
                let start = NonNull::from(taken).cast::<u8>();
                (start.addr().get() as PhysAddr, start)
            }
            // Address 0 says that there is no memory.
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        // `VirtioBlk::release` gives all pages back at once.
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        let pointer = core::ptr::with_exposed_provenance_mut(address as usize);
        NonNull::new(pointer).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().expose_provenance().get() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
