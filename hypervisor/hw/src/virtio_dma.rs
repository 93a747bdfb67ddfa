//! The memory of virtio queues, for `virtio-drivers`: pages that a driver lends while it sets its
//! queues up ([`with_pages`]), and [`Identity`], which hands them to the queues. Used by
//! [`crate::virtio_blk`] and [`crate::virtio_net`].

use core::ptr::NonNull;
use spin::Mutex;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// A page of a queue.
#[derive(Clone, Copy)]
#[repr(C, align(4096))]
pub struct Page([u8; PAGE_SIZE]);

const _: () = assert!(align_of::<Page>() == PAGE_SIZE);

impl Page {
    /// A page of zeros.
    pub const ZERO: Self = Self([0; PAGE_SIZE]);
}

/// Held while the queues of one device are set up, so that no two devices take each other's pages.
static SETUP: Mutex<()> = Mutex::new(());
/// Pages that [`with_pages`] lends, and that no queue has taken yet. The lock is held for one
/// allocation.
static FREE_PAGES: Mutex<&'static mut [Page]> = Mutex::new(&mut []);

/// Calls `set_up`, whose queues take their memory from `pages`, and returns its result. Pages that
/// are left are lost. Must not be called from `set_up`.
pub fn with_pages<R>(pages: &'static mut [Page], set_up: impl FnOnce() -> R) -> R {
    let _one_at_a_time = SETUP.lock();
    pages.fill(Page::ZERO);
    *FREE_PAGES.lock() = pages;
    let result = set_up();
    *FREE_PAGES.lock() = &mut [];
    result
}

/// The `Hal` of `virtio-drivers` for a machine whose devices see memory where EL2 does.
pub enum Identity {}

// SAFETY: each method keeps its conditions:
// - `dma_alloc` hands out pages that it takes from a `&'static mut`, so they are valid and aligned,
//   and no one else has them. They are zero, for `with_pages` made them so and they are never given
//   back here.
// - `mmio_phys_to_virt` is not called by the MMIO transport.
// - `share` and `unshare` have nothing to do: the caller of each driver's `find` vouches for
//   physical addresses being virtual ones, and the device is coherent with the caches.
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
        // A driver gives all of its memory back at once, or never.
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
