//! The addresses of the image's regions: the symbols of the linker script, as a table.
//!
//! The addresses stand in a table in memory, not in the code: the image is built for the tiny code
//! model, whose code reaches 1 MiB in either direction. That is enough for all but the stacks and
//! the heap.

use core::arch::global_asm;

/// A region of the image, in whole pages.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Region {
    /// First address of the region.
    pub start: u64,
    /// First address past the region.
    pub end: u64,
}

/// Regions of the image, in the order of the assembly's table.
#[repr(C)]
pub struct Regions {
    /// The whole image: the regions below, and what else it has.
    pub image: Region,
    /// The code.
    pub text: Region,
    /// Constants.
    pub rodata: Region,
    /// Variables.
    pub data: Region,
    /// The cores' stacks, [`crate::boot::STACK_STRIDE`] bytes each.
    pub stacks: Region,
    /// The cores' stacks for fatal exceptions, [`crate::boot::EMERGENCY_STACK_SIZE`] bytes each.
    pub emergency_stacks: Region,
    /// Memory of the allocator.
    pub heap: Region,
}

const _: () = assert!(size_of::<Regions>() == 14 * size_of::<u64>());

global_asm!(
    r#"
    .section .data.rel.ro.stasis_regions, "aw"
    .balign 8
    .global stasis_regions
stasis_regions:
    .quad   __image_start, __image_end
    .quad   __text_start, __text_end
    .quad   __rodata_start, __rodata_end
    .quad   __data_start, __data_end
    .quad   __stacks_start, __stacks_end
    .quad   __emergency_stacks_start, __emergency_stacks_end
    .quad   __heap_start, __heap_end
    "#
);

/// Returns the image's regions.
pub fn regions() -> &'static Regions {
    unsafe extern "C" {
        static stasis_regions: Regions;
    }
    // SAFETY: 1. The assembly's table has the layout of `Regions`: seven pairs of words, as is
    // asserted above. 2. It is initialised: the relocations are applied before Rust runs. 3.
    // Nothing writes it after them.
    unsafe { &stasis_regions }
}
