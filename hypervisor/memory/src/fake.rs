//! Memory for tests of devices, loaders, reader and writer: [`FakeRam`].

use alloc::boxed::Box;
use alloc::vec;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use stasis_state::PAGE_SIZE;

use crate::machine::Portable;
use crate::ram::GuestRam;

#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_SIZE]);

/// Memory of the host's heap, all zeros at first, by the same code as a guest's: it checks the
/// same, and marks what is written.
#[derive(Debug)]
pub struct FakeRam {
    ram: GuestRam<Portable>,
    pages: NonNull<[Page]>,
}

impl FakeRam {
    /// Returns `len` bytes, a whole number of pages.
    ///
    /// # Panics
    ///
    /// If they are not whole pages, or not to be had.
    pub fn new(len: usize) -> Self {
        let pages = Self::pages(len, 0);
        // SAFETY: 1. The pages were leaked, so they live until `drop` takes them back, after it has
        // dropped the `GuestRam`; nobody else knows of them. 2. The reference to them became a
        // pointer, which nobody uses before. 3. Nobody but the `GuestRam` accesses them.
        let ram = unsafe { GuestRam::new(pages.cast(), len, &mut || ()) };
        let ram = ram.expect("the heap has room for marks");
        Self { ram, pages }
    }

    /// Returns `len` bytes, a whole number of pages, that are zeros and not cleared: each byte is
    /// `old` where nobody has touched it.
    ///
    /// # Panics
    ///
    /// As [`Self::new`].
    pub fn stale(len: usize, old: u8) -> Self {
        let pages = Self::pages(len, old);
        // SAFETY: 1. The pages were leaked, so they live until `drop` takes them back, after it has
        // dropped the `GuestRam`; nobody else knows of them. 2. The reference to them became a
        // pointer, which nobody uses before. 3. Nobody but the `GuestRam` accesses them.
        let ram = unsafe { GuestRam::stale(pages.cast(), len) };
        let ram = ram.expect("the heap has room for marks");
        Self { ram, pages }
    }

    /// Returns pages of the heap with this in each byte, which are leaked.
    fn pages(len: usize, byte: u8) -> NonNull<[Page]> {
        assert!(len.is_multiple_of(PAGE_SIZE), "{len} bytes are not whole pages");
        let pages = vec![Page([byte; PAGE_SIZE]); len / PAGE_SIZE].into_boxed_slice();
        NonNull::from(Box::leak(pages))
    }
}

impl Drop for FakeRam {
    fn drop(&mut self) {
        self.ram = GuestRam::none();
        // SAFETY: 1. The pointer came from a box that `new` leaked, and it becomes a box again here
        // alone, once. 2. The `GuestRam` that accessed the pages was dropped in the line before.
        drop(unsafe { Box::from_raw(self.pages.as_ptr()) });
    }
}

impl Deref for FakeRam {
    type Target = GuestRam<Portable>;

    fn deref(&self) -> &Self::Target {
        &self.ram
    }
}

impl DerefMut for FakeRam {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.ram
    }
}
