//! Where the image's regions are in memory: what the linker script says of them, as a table.
//!
//! The table is read and not part of the code, since the image is built for the tiny code model: its code reaches 1 MiB in either
//! direction, which is enough for all but the stacks and the heap.

use core::arch::global_asm;

/// A region of the image, in whole pages.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Region {
    /// The first address.
    pub start: u64,
    /// The first address past it.
    pub end: u64,
}

/// The regions, in the table's order.
#[repr(C)]
pub struct Regions {
    /// All of them, and the rest of the image.
    pub image: Region,
    /// The code.
    pub text: Region,
    /// Constants.
    pub rodata: Region,
    /// Variables.
    pub data: Region,
    /// The cores' stacks, [`crate::boot::STACK_STRIDE`] bytes each.
    pub stacks: Region,
    /// Their stacks for fatal exceptions.
    pub emergency_stacks: Region,
    /// What the allocator hands out.
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

/// The image's regions.
pub fn regions() -> &'static Regions {
    unsafe extern "C" {
        static stasis_regions: Regions;
    }
    // SAFETY: the table above has the layout of `Regions`, and nothing writes it after the relocations.
    unsafe { &stasis_regions }
}
