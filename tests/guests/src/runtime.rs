//! Entry, MMU, exception vectors and panic.
//!
//! The MMU and the caches go on before anything is written, through a table that is part of the
//! image: so nothing that was written past the caches is ever read through them.

use crate::exception::Frame;
use crate::{println, psci, uart};
use core::arch::{asm, global_asm};
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The table of translation level 1 for 39 bits of address.
#[repr(C, align(4096))]
struct Table([u64; 512]);

/// The first GiB is devices; all the others are memory, executable like the first, so that a jump
/// to where there is nothing reaches the bus.
#[unsafe(no_mangle)]
static mut GUEST_TABLE: Table = {
    const BLOCK: u64 = 1;
    const ACCESSED: u64 = 1 << 10;
    // Attribute 0, inner shareable.
    const NORMAL: u64 = 3 << 8;
    // Attribute 1.
    const DEVICE: u64 = 1 << 2;
    let mut table = [0; 512];
    table[0] = BLOCK | ACCESSED | DEVICE;
    let mut gib = 1;
    while gib < table.len() {
        table[gib] = (gib as u64) << 30 | BLOCK | ACCESSED | NORMAL;
        gib += 1;
    }
    Table(table)
};

/// The address at which EL0 finds the first GiB of RAM, once that is mapped.
pub const EL0_ALIAS: usize = 511 << 30;

/// Maps the first GiB of RAM for EL0 at [`EL0_ALIAS`].
pub fn map_for_el0() {
    /// AP[1]: EL0 may access it; and so EL1 does not execute it.
    const EL0: u64 = 1 << 6;
    let table = (&raw const GUEST_TABLE).cast::<u64>().cast_mut();
    // SAFETY: 1. The entry is one of the table's. 2. Nothing is in use that it maps before or after
    // this.
    unsafe {
        let entry = table.add(EL0_ALIAS >> 30);
        let block = (*table.add(1)) | EL0;
        if entry.read_volatile() != block {
            entry.write_volatile(0);
            asm!("dsb ishst", "tlbi vmalle1", "dsb ish", "isb");
            entry.write_volatile(block);
            asm!("dsb ishst", "isb");
        }
    }
}

/// MAIR_EL1: attribute 0 is write-back memory, attribute 1 is Device-nGnRE.
const MAIR: u64 = 0x04ff;
/// TCR_EL1: 39 bits through TTBR0, walks through the caches, inner shareable; none through TTBR1;
/// 40 bits out.
pub const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32;
/// SCTLR_EL1: its RES1 bits, MMU, caches, stack alignment checks.
const SCTLR: u64 = 0x30d0_0800 | 1 | 1 << 2 | 1 << 3 | 1 << 12;

global_asm!(
    r#"
    .section .text.entry, "ax"
    .globl _start
_start:
    msr     daifset, #0xf
    mov     x1, #(3 << 20)              // CPACR_EL1.FPEN: FP and SIMD do not trap.
    msr     cpacr_el1, x1
    adrp    x1, guest_vectors
    add     x1, x1, :lo12:guest_vectors
    msr     vbar_el1, x1
    adrp    x1, GUEST_TABLE
    add     x1, x1, :lo12:GUEST_TABLE
    msr     ttbr0_el1, x1
    ldr     x1, ={MAIR}
    msr     mair_el1, x1
    ldr     x1, ={TCR}
    msr     tcr_el1, x1
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    ldr     x1, ={SCTLR}
    msr     sctlr_el1, x1
    isb
    msr     spsel, #1
    adrp    x1, __stack_end
    add     x1, x1, :lo12:__stack_end
    mov     sp, x1
    adrp    x1, __bss_start
    add     x1, x1, :lo12:__bss_start
    adrp    x2, __bss_end
    add     x2, x2, :lo12:__bss_end
0:  cmp     x1, x2
    b.hs    1f
    stp     xzr, xzr, [x1], #16
    b       0b
1:  bl      guest_start
2:  wfi
    b       2b

    .text
    .macro  vector number
    .balign 0x80
    sub     sp, sp, #{FRAME}
    stp     x0, x1, [sp]
    mov     x0, #\number
    b       guest_save
    .endm

    .balign 0x800
guest_vectors:
    vector  0
    vector  1
    vector  2
    vector  3
    vector  4
    vector  5
    vector  6
    vector  7
    vector  8
    vector  9
    vector  10
    vector  11
    vector  12
    vector  13
    vector  14
    vector  15

guest_save:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x1, elr_el1
    stp     x30, x1, [sp, #240]
    mrs     x2, spsr_el1
    str     x2, [sp, #256]
    add     x3, sp, #{V}
    stp     q0, q1, [x3, #0]
    stp     q2, q3, [x3, #32]
    stp     q4, q5, [x3, #64]
    stp     q6, q7, [x3, #96]
    stp     q8, q9, [x3, #128]
    stp     q10, q11, [x3, #160]
    stp     q12, q13, [x3, #192]
    stp     q14, q15, [x3, #224]
    stp     q16, q17, [x3, #256]
    stp     q18, q19, [x3, #288]
    stp     q20, q21, [x3, #320]
    stp     q22, q23, [x3, #352]
    stp     q24, q25, [x3, #384]
    stp     q26, q27, [x3, #416]
    stp     q28, q29, [x3, #448]
    stp     q30, q31, [x3, #480]
    mrs     x1, fpsr
    mrs     x2, fpcr
    str     x1, [sp, #{FPSR}]
    str     x2, [sp, #{FPCR}]
    mov     x1, sp
    bl      guest_exception
    ldr     x1, [sp, #{FPSR}]
    ldr     x2, [sp, #{FPCR}]
    msr     fpsr, x1
    msr     fpcr, x2
    add     x3, sp, #{V}
    ldp     q0, q1, [x3, #0]
    ldp     q2, q3, [x3, #32]
    ldp     q4, q5, [x3, #64]
    ldp     q6, q7, [x3, #96]
    ldp     q8, q9, [x3, #128]
    ldp     q10, q11, [x3, #160]
    ldp     q12, q13, [x3, #192]
    ldp     q14, q15, [x3, #224]
    ldp     q16, q17, [x3, #256]
    ldp     q18, q19, [x3, #288]
    ldp     q20, q21, [x3, #320]
    ldp     q22, q23, [x3, #352]
    ldp     q24, q25, [x3, #384]
    ldp     q26, q27, [x3, #416]
    ldp     q28, q29, [x3, #448]
    ldp     q30, q31, [x3, #480]
    ldr     x2, [sp, #256]
    msr     spsr_el1, x2
    ldp     x30, x1, [sp, #240]
    msr     elr_el1, x1
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldp     x0, x1, [sp]
    add     sp, sp, #{FRAME}
    eret
"#,
    MAIR = const MAIR,
    TCR = const TCR,
    SCTLR = const SCTLR,
    FRAME = const size_of::<Frame>(),
    V = const offset_of!(Frame, v),
    FPSR = const offset_of!(Frame, fpsr),
    FPCR = const offset_of!(Frame, fpcr),
);

const _: () = assert!(offset_of!(Frame, elr) == 248);
const _: () = assert!(offset_of!(Frame, spsr) == 256);

unsafe extern "Rust" {
    /// The guest itself, which [`entry!`](crate::entry) names.
    safe fn guest_main();
}

/// The value of X0 at the entry.
static X0: AtomicU64 = AtomicU64::new(0);

/// Returns what X0 held at the entry: where the device tree is, if the guest was loaded like a
/// kernel.
pub fn x0() -> u64 {
    X0.load(Relaxed)
}

/// Called by the entry, once there is a stack, with X0 as it was.
#[unsafe(no_mangle)]
extern "C" fn guest_start(x0: u64) {
    X0.store(x0, Relaxed);
    uart::init();
    guest_main();
    println!("done");
    psci::system_off();
}

/// Names the guest's main function and its IRQ handler.
#[macro_export]
macro_rules! entry {
    ($main:path, $irq:path) => {
        #[unsafe(no_mangle)]
        fn guest_main() {
            $main()
        }

        #[unsafe(no_mangle)]
        fn guest_irq() {
            $irq()
        }
    };
}

/// An IRQ handler for guests that let no IRQ in.
pub fn no_irq() {
    panic!("an IRQ that was not let in");
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    println!("PANIC {}", info.message());
    if let Some(at) = info.location() {
        println!("PANIC at {}:{}", at.file(), at.line());
    }
    psci::system_off();
}
