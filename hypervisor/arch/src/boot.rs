//! From the firmware's entry to Rust.
//!
//! The image is an arm64 Linux `Image` (Documentation/arch/arm64/booting.rst) that runs wherever it
//! is loaded: it is linked as a position-independent executable at address 0, and EL2 is mapped one
//! to one. Before any Rust runs, the image and the device tree are mapped with 2 MiB blocks, the
//! MMU and the caches are on, .bss is clear and the relocations are applied. The boot crate then
//! builds the final tables, with W^X and guard pages, and installs them by [`crate::mmu::install`].

mod secondary;

pub use secondary::prepare_secondaries;

use core::arch::{asm, global_asm};
use secondary::SECONDARY_BOOT;

/// Most cores that Stasis uses.
pub const MAX_CORES: usize = 8;
/// Bytes from one core's stack to the next; the lowest page of each is its guard. The deepest path
/// is a command that starts a guest anew: some 35 KiB of core 0's stack, 16 of them in the largest
/// frame, `Guest::restored`'s. A guest that runs while a command waits takes less than 8 KiB more.
pub const STACK_STRIDE: usize = 0x2_0000;
/// Bytes of a core's stack for fatal exceptions.
pub const EMERGENCY_STACK_SIZE: usize = 0x2000;

/// SCTLR_EL2: RES1 bits, and MMU, data cache, stack alignment check, instruction cache.
pub(crate) const SCTLR: u64 = 0x30c5_0830 | 1 | 1 << 2 | 1 << 3 | 1 << 12;
/// SCTLR_EL2 as an Image is entered: RES1 bits only, MMU and caches off.
pub(crate) const SCTLR_OFF: u64 = 0x30c5_0830;
/// CPTR_EL2: RES1 bits only; FP and SIMD do not trap.
const CPTR: u64 = 0x33ff;
/// MAIR_EL2: attribute 0 is normal write-back memory, attribute 1 Device-nGnRE.
pub(crate) const MAIR: u64 = 0x04ff;
/// TCR_EL2 without PS: RES1 bits, 39-bit addresses, 4 KiB granule, write-back inner-shareable
/// walks.
pub(crate) const TCR: u64 = 1 << 31 | 1 << 23 | 0b11 << 12 | 0b01 << 10 | 0b01 << 8 | (64 - 39);
/// A 2 MiB block of normal memory: valid, AP[1] (RES1 at EL2), inner shareable, AF.
const EARLY_BLOCK: u64 = 0b01 | 1 << 6 | 0b11 << 8 | 1 << 10;

/// A 2 MiB block of normal memory at EL1, where AP[1] would take the right to execute away.
const EARLY_BLOCK_EL1: u64 = EARLY_BLOCK & !(1 << 6);
/// A block of a device's registers at EL1, never executable.
const EARLY_DEVICE_EL1: u64 = 0b01 | 1 << 2 | 1 << 10 | 0b11 << 53;
/// TCR_EL1 without IPS, of the same meaning as [`TCR`]; there is no TTBR1.
const TCR_EL1: u64 = 1 << 23 | 0b11 << 12 | 0b01 << 10 | 0b01 << 8 | (64 - 39);
/// SCTLR_EL1, of the same meaning as [`SCTLR`].
const SCTLR_EL1: u64 = SCTLR_EL1_OFF | 1 | 1 << 2 | 1 << 3 | 1 << 12;
/// SCTLR_EL1: RES1 bits only, MMU and caches off.
pub(crate) const SCTLR_EL1_OFF: u64 = 0x30d0_0800;

/// Maps the device at physical address `address`, one to one. For an image that was started at EL1,
/// where there is no translation but the early one.
///
/// # Safety
///
/// The caller is the boot crate's `stasis_at_el1`, on the only core that runs.
pub unsafe fn map_device_at_el1(address: u64) {
    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;
    unsafe extern "C" {
        static __early_tables_start: u8;
    }
    let root = (&raw const __early_tables_start).cast::<u64>().cast_mut();
    // SAFETY: 1. The tables are the entry code's, mapped one to one, and used by this core alone,
    // by the caller. 2. An index into a table is less than 512. 3. Only an entry that maps nothing
    // is written, so no access of the program changes its meaning.
    unsafe {
        let mut entry = root.add((address / GIB) as usize % 512);
        let mut block = address & !(GIB - 1);
        if *entry & 0b10 != 0 {
            let next = (*entry & !0xfff) as *mut u64;
            entry = next.add((address / (2 * MIB)) as usize % 512);
            block = address & !(2 * MIB - 1);
        }
        if *entry == 0 {
            *entry = block | EARLY_DEVICE_EL1;
        }
        asm!("dsb sy", "isb", options(nostack, preserves_flags));
    }
}

global_asm!(
    r#"
    .section .head.text, "ax"
    .global _start
_start:
    b       primary                 // code0
    nop                             // code1
    .quad   0                       // text_offset: any 2 MiB-aligned address
    .quad   __image_size            // image_size
    .quad   0xa                     // flags: little-endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

    .section .text.boot, "ax"
    // x0: device tree. Keeps x20: device tree, x21: image, x22: early tables.
primary:
    msr     daifset, #0xf
    mov     x20, x0
    adrp    x21, __image_start
    mrs     x1, CurrentEL
    cmp     x1, #(2 << 2)
    b.ne    not_at_el2
    bl      begin_at_el2
    mov     x24, #{block}
    bl      map_early
    bl      physical_size
    ldr     x2, ={tcr}
    orr     x2, x2, x1, lsl #16
    mov     x1, x22
    bl      enable_mmu
    bl      prepare_image
    mov     x19, xzr
    bl      set_up_core
    mov     x0, x20
    mov     x1, x21
    bl      stasis_primary
    b       park

    // At EL1 there is just enough done to say so; at EL3 nothing.
not_at_el2:
    cmp     x1, #(1 << 2)
    b.ne    park
    msr     spsel, #1
    mov     x24, #{el1_block}
    bl      map_early
    bl      physical_size
    ldr     x2, ={el1_tcr}
    orr     x2, x2, x1, lsl #32
    ldr     x1, ={mair}
    msr     mair_el1, x1
    msr     tcr_el1, x2
    msr     ttbr0_el1, x22
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    ldr     x1, ={el1_sctlr}
    msr     sctlr_el1, x1
    mov     x1, #(3 << 20)          // CPACR_EL1.FPEN: what copies uses the vector registers.
    msr     cpacr_el1, x1
    isb
    bl      prepare_image
    adrp    x1, __stacks_start
    mov     x2, #{stack_stride}
    add     sp, x1, x2
    mov     x0, x20
    bl      stasis_at_el1
    b       park

    // What a firmware, or the reset, has left there is unknown: HCR_EL2.E2H, SCTLR_EL2.EE, the
    // stack pointer in use. Clobbers x1.
begin_at_el2:
    mov     x1, #(1 << 31)          // HCR_EL2: E2H off, EL1 is AArch64
    msr     hcr_el2, x1
    isb
    mov     x1, #({sctlr_off} & 0xffff)
    movk    x1, #({sctlr_off} >> 16), lsl #16
    msr     sctlr_el2, x1
    msr     spsel, #1
    isb
    ret

    // Drops what the caches hold of the early tables. The barriers order it between accesses that
    // go past the caches. Clobbers x1.
    .macro  drop_early_tables
    dmb     sy
    mov     x1, x22
0:  dc      ivac, x1
    add     x1, x1, #16             // no line is shorter
    cmp     x1, x23
    b.lo    0b
    dsb     sy
    .endm

    // Maps the image and the device tree with 2 MiB blocks of attributes x24. Leaves the tables in
    // x22. Clobbers x1 to x7, x23.
map_early:
    adrp    x22, __early_tables_start
    adrp    x23, __early_tables_end
    // Lines that a firmware has left dirty would be written back over these stores, which go past
    // the caches.
    drop_early_tables
    mov     x1, x22
0:  stp     xzr, xzr, [x1], #16
    cmp     x1, x23
    b.lo    0b

    // x2: the image's level 2 table
    add     x2, x22, #0x1000
    lsr     x1, x21, #30
    orr     x3, x2, #0b11
    str     x3, [x22, x1, lsl #3]
    adrp    x4, __image_end
    lsr     x5, x21, #21
    lsl     x5, x5, #21
1:  orr     x6, x5, x24
    ubfx    x7, x5, #21, #9
    str     x6, [x2, x7, lsl #3]
    add     x5, x5, #0x200000
    cmp     x5, x4
    b.lo    1b

    // The device tree: at most 2 MiB long, anywhere within its GiB.
    lsr     x3, x20, #30
    cmp     x3, x1
    b.eq    2f
    add     x2, x22, #0x2000
    orr     x6, x2, #0b11
    str     x6, [x22, x3, lsl #3]
2:  lsr     x5, x20, #21
    lsl     x5, x5, #21
    orr     x6, x5, x24
    ubfx    x7, x5, #21, #9
    str     x6, [x2, x7, lsl #3]
    cmp     x7, #511
    b.eq    3f
    add     x6, x6, #0x200000
    add     x7, x7, #1
    str     x6, [x2, x7, lsl #3]

    // Lines that were fetched ahead of time meanwhile are stale; the table walker would find them.
3:  drop_early_tables
    ret
    .purgem drop_early_tables

    // x1: ID_AA64MMFR0_EL1.PARange, at most 48 bits. Clobbers x2.
physical_size:
    mrs     x1, id_aa64mmfr0_el1
    and     x1, x1, #0xf
    mov     x2, #5
    cmp     x1, x2
    csel    x1, x1, x2, lo
    ret

    // Clears .bss and applies the relocations, once: they are added. Clobbers x1 to x6.
prepare_image:
    adrp    x1, __bss_start
    adrp    x2, __bss_end
5:  stp     xzr, xzr, [x1], #16
    cmp     x1, x2
    b.lo    5b

    // The relocations: what an address of the image is added to, as a list of words (System V gABI,
    // "Relative Relocation Table"). An even word is the place of one, and each bit of an odd one
    // stands for one of the 63 that follow the last.
    adrp    x1, __relr_start
    add     x1, x1, :lo12:__relr_start
    adrp    x2, __relr_end
    add     x2, x2, :lo12:__relr_end
6:  cmp     x1, x2
    b.hs    10f
    ldr     x3, [x1], #8
    tbnz    x3, #0, 7f
    add     x4, x3, x21
    ldr     x5, [x4]
    add     x5, x5, x21
    str     x5, [x4], #8
    b       6b
7:  mov     x6, x4
8:  lsr     x3, x3, #1
    cbz     x3, 9f
    tbz     x3, #0, 11f
    ldr     x5, [x6]
    add     x5, x5, x21
    str     x5, [x6]
11: add     x6, x6, #8
    b       8b
9:  add     x4, x4, #(63 * 8)
    b       6b
10: ret

    .global stasis_secondary_entry
    // Keeps x19: the core's number, which is the place of its MPIDR_EL1 in the list.
stasis_secondary_entry:
    msr     daifset, #0xf
    bl      begin_at_el2
    adrp    x3, {secondary}
    add     x3, x3, :lo12:{secondary}
    mrs     x1, mpidr_el1
    ldr     x2, =0xff00ffffff       // Aff3, Aff2, Aff1, Aff0
    and     x1, x1, x2
    add     x4, x3, #16
    mov     x19, xzr
8:  ldr     x2, [x4, x19, lsl #3]
    cmp     x2, x1
    b.eq    9f
    add     x19, x19, #1
    cmp     x19, #{cores}
    b.lo    8b
    b       park
9:  ldp     x1, x2, [x3]            // TTBR0_EL2, TCR_EL2
    bl      enable_mmu
    bl      set_up_core
    mov     x0, x19
    bl      stasis_secondary
park:
    wfi
    b       park

    // x1: TTBR0_EL2, x2: TCR_EL2. Clobbers x3.
enable_mmu:
    ldr     x3, ={mair}
    msr     mair_el2, x3
    msr     tcr_el2, x2
    msr     ttbr0_el2, x1
    isb
    tlbi    alle2
    tlbi    alle1                   // of whatever guests there were before, stage 2 included
    ic      iallu
    dsb     nsh
    isb
    ldr     x3, ={sctlr}
    msr     sctlr_el2, x3
    isb
    ret

    // x19: the core's number. Clobbers x1, x2.
set_up_core:
    adrp    x1, __stacks_start
    mov     x2, #{stack_stride}
    madd    x1, x19, x2, x1
    add     sp, x1, x2
    adrp    x1, stasis_vectors
    add     x1, x1, :lo12:stasis_vectors
    msr     vbar_el2, x1
    mov     x1, #{cptr}             // What copies uses the vector registers.
    msr     cptr_el2, x1
    msr     tpidr_el2, x19
    isb
    ret
    .ltorg

    .section .early_tables, "aw", %nobits
    .skip   3 * 0x1000

    .section .stacks, "aw", %nobits
    .skip   {cores} * {stack_stride}

    .section .emergency_stacks, "aw", %nobits
    .skip   {cores} * {emergency}
    "#,
    block = const EARLY_BLOCK,
    el1_block = const EARLY_BLOCK_EL1,
    tcr = const TCR,
    el1_tcr = const TCR_EL1,
    el1_sctlr = const SCTLR_EL1,
    mair = const MAIR,
    sctlr = const SCTLR,
    sctlr_off = const SCTLR_OFF,
    cptr = const CPTR,
    secondary = sym SECONDARY_BOOT,
    cores = const MAX_CORES,
    stack_stride = const STACK_STRIDE,
    emergency = const EMERGENCY_STACK_SIZE,
);
