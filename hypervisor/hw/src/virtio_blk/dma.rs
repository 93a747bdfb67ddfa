//! The memory that the driver shares with its device: [`DmaMemory`].

use super::MAX_TRANSFER;
use core::ptr::{NonNull, addr_of, addr_of_mut};
use spin::Mutex;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// Pages that the queue takes: two at once for a legacy device, twice one for a modern one.
const QUEUE_PAGES: usize = 2;

/// All memory that the device may use. Boot keeps it in a `static`, and hands it over for ever:
/// `MutexGuard::leak(DMA.lock())` of a `static DMA: spin::Mutex<DmaMemory>` does it without unsafe.
#[repr(C)]
pub struct DmaMemory {
    queue: [Page; QUEUE_PAGES],
    shared: Shared,
}

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_SIZE]);

const _: () = assert!(align_of::<Page>() == PAGE_SIZE);

/// The buffers of the one request that is under way.
#[repr(C, align(64))]
pub(super) struct Shared {
    data: [u8; MAX_TRANSFER],
    header: [u8; 16],
    status: [u8; 1],
}

impl DmaMemory {
    /// Memory for a disk, for a `static`.
    pub const fn new() -> Self {
        Self {
            queue: [Page([0; PAGE_SIZE]); QUEUE_PAGES],
            shared: Shared { data: [0; MAX_TRANSFER], header: [0; 16], status: [0; 1] },
        }
    }

    /// Leaves the queue's pages to [`Identity`], the rest to the driver: all of it, and the rest.
    pub(super) fn hand_over(&'static mut self) -> (NonNull<Self>, NonNull<Shared>) {
        self.queue = [Page([0; PAGE_SIZE]); QUEUE_PAGES];
        let all = NonNull::from(self);
        // SAFETY: within an allocation that lives for ever, and nobody else has.
        let (queue, shared) =
            unsafe { (addr_of_mut!((*all.as_ptr()).queue), addr_of_mut!((*all.as_ptr()).shared)) };
        // SAFETY: as above. Whoever takes all of it back has ended the driver before, and the queue with it.
        *FREE_PAGES.lock() = unsafe { &mut *queue };
        // SAFETY: it points into a reference's place.
        (all, unsafe { NonNull::new_unchecked(shared) })
    }
}

impl Default for DmaMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    /// The first `len` bytes of the data.
    ///
    /// # Safety
    ///
    /// `this` came from [`DmaMemory::hand_over`], and neither the device nor another reference uses
    /// its data as long as the returned one lives.
    pub(super) unsafe fn data<'a>(this: NonNull<Self>, len: usize) -> &'a mut [u8] {
        // SAFETY: within an allocation that lives for ever.
        let data = unsafe { addr_of_mut!((*this.as_ptr()).data) };
        // SAFETY: valid, aligned and initialized; nobody else uses it, as our caller says.
        let data: &'a mut [u8; MAX_TRANSFER] = unsafe { &mut *data };
        &mut data[..len]
    }

    /// Header, status and data.
    ///
    /// # Safety
    ///
    /// As of [`data`](Self::data), for all three.
    pub(super) unsafe fn parts<'a>(
        this: NonNull<Self>,
    ) -> (&'a mut [u8; 16], &'a mut [u8; 1], &'a mut [u8]) {
        // SAFETY: valid, aligned and initialized; nobody else uses it, as our caller says.
        let this: &'a mut Self = unsafe { &mut *this.as_ptr() };
        (&mut this.header, &mut this.status, &mut this.data)
    }

    /// What the device answered. Volatile: the compiler knows only of what the driver wrote there.
    ///
    /// # Safety
    ///
    /// `this` came from [`DmaMemory::hand_over`], and the device is through with it.
    pub(super) unsafe fn status(this: NonNull<Self>) -> u8 {
        // SAFETY: within an allocation that lives for ever.
        let status = unsafe { addr_of!((*this.as_ptr()).status) };
        // SAFETY: valid and initialized, and nobody writes to it now.
        unsafe { status.cast::<u8>().read_volatile() }
    }
}

/// What is left of the queue's pages.
static FREE_PAGES: Mutex<&'static mut [Page]> = Mutex::new(&mut []);

/// `virtio-drivers`' view of a machine whose devices see memory where EL2 does.
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
            // Address 0 says that there is none.
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        // All of it is given back at once: `VirtioBlk::release`.
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
