//! The EL2 vector table.
//!
//! An exception from a lower EL is a guest's exit: it returns from
//! [`Loaded::enter`](crate::world::Loaded::enter). A call, an access to a system register, an
//! abort, and an interrupt are looked at first, before all registers are saved
//! ([`FirstLook`](crate::world::FirstLook)); if that answers the exit, the guest goes on at once.
//! An exception from EL2 itself is a bug of ours: interrupts are always masked here, so none is
//! expected. It moves to the core's emergency stack, for its own may be what overflowed, and ends
//! in the boot crate's `stasis_fatal_exception`.

use crate::boot::EMERGENCY_STACK_SIZE;
use crate::world::{Class, FIRST_CLASS, Looked, SERROR};
use core::arch::global_asm;
use core::mem::offset_of;
use stasis_state::register::VALUE_OFFSET;
use stasis_state::vcpu::Core;

/// Registers at a fatal exception. The assembly below stores them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FatalFrame {
    /// X0 to X30.
    pub x: [u64; 31],
    /// The stack pointer.
    pub sp: u64,
    /// ELR_EL2.
    pub elr: u64,
    /// SPSR_EL2.
    pub spsr: u64,
    /// ESR_EL2.
    pub esr: u64,
    /// FAR_EL2.
    pub far: u64,
    /// Number of the entry of the vector table that was taken, 0 to 7: synchronous, IRQ, FIQ,
    /// SError with SP_EL0, then the same with SP_EL2.
    pub vector: u64,
    reserved: u64,
}

const _: () = assert!(size_of::<FatalFrame>().is_multiple_of(16), "SP stays aligned");
const _: () = assert!(Looked::Leave as u64 == 0, "compared with zero, and the kind of the exit");
const _: () = assert!(Looked::Again as u64 == 2, "the only one that is even, but for 0");
const _: () = assert!(EMERGENCY_STACK_SIZE.is_power_of_two(), "found by a shift");

/// Gives the offset of a register's value in [`Core`].
macro_rules! core_offset {
    ($field:ident) => {
        offset_of!(Core, $field) + VALUE_OFFSET
    };
}

global_asm!(
    r#"
    .macro fatal number
    .balign 0x80
    msr     tpidr_el1, x0
    mov     x0, #\number
    b       fatal_exception
    .endm

    .macro synchronous
    .balign 0x80
    stp     x0, x1, [sp, #-16]!
    mrs     x1, esr_el2
    tbz     w1, #31, first_look     // EC is below 0x20: no abort of the guest's
    b       abort_look
    .endm

    .macro interrupt
    .balign 0x80
    stp     x0, x1, [sp, #-16]!
    b       interrupt_look
    .endm

    // Saves X2 to X19, of a guest whose x0 and x1 are on the stack, and behind them the frame of
    // stasis_enter_guest. \core: *mut Core from then on.
    .macro save_x2_to_x19 core
    ldr     \core, [sp, #{frame_core} + 16]
    stp     x2, x3, [\core, #{x} + 16 * 1]
    stp     x4, x5, [\core, #{x} + 16 * 2]
    stp     x6, x7, [\core, #{x} + 16 * 3]
    stp     x8, x9, [\core, #{x} + 16 * 4]
    stp     x10, x11, [\core, #{x} + 16 * 5]
    stp     x12, x13, [\core, #{x} + 16 * 6]
    stp     x14, x15, [\core, #{x} + 16 * 7]
    stp     x16, x17, [\core, #{x} + 16 * 8]
    stp     x18, x19, [\core, #{x} + 16 * 9]
    .endm

    // Saves what the function of a first look may change, X0 to X18 and X30, and what the vectors
    // need then. The guest's x0 and x1 are on the stack, and behind them the frame of
    // stasis_enter_guest. x1 and x19: *mut Core; x0 stays.
    .macro save_for_look
    save_x2_to_x19 x1
    stp     x29, x30, [x1, #{x} + 8 * 29]
    ldp     x4, x5, [sp], #16
    stp     x4, x5, [x1, #{x}]
    mov     x19, x1
    mov     x29, sp
    .endm

    .macro serror
    .balign 0x80
    stp     x0, x1, [sp, #-16]!
    mov     x1, #{serror}
    b       guest_exit
    .endm

    // Saves the registers that save_for_look does not: X20 to X28 are the guest's.
    .macro save_rest
    stp     x20, x21, [x19, #{x} + 16 * 10]
    stp     x22, x23, [x19, #{x} + 16 * 11]
    stp     x24, x25, [x19, #{x} + 16 * 12]
    stp     x26, x27, [x19, #{x} + 16 * 13]
    str     x28, [x19, #{x} + 16 * 14]
    .endm

    .section .text.vectors, "ax"
    .balign 0x800
    .global stasis_vectors
stasis_vectors:
    fatal 0
    fatal 1
    fatal 2
    fatal 3
    fatal 4
    fatal 5
    fatal 6
    fatal 7
    synchronous                     // AArch64
    interrupt                       // IRQ
    interrupt                       // FIQ: IMO and FMO come together
    serror
    synchronous                     // the same four from AArch32 at EL0
    interrupt
    interrupt
    serror

    // Never returns, so the guest's thread registers may hold X0 to X2: the stack, which may have
    // overflowed, is not touched.
fatal_exception:
    msr     tpidr_el0, x1
    msr     tpidrro_el0, x2
    mov     x2, sp
    msr     spsel, #1
    mrs     x1, tpidr_el2           // the core's number
    add     x1, x1, #1
    lsl     x1, x1, #{emergency_shift}
    msr     elr_el1, x3
    adrp    x3, __emergency_stacks_start
    add     x1, x1, x3
    mov     sp, x1
    mrs     x3, elr_el1
    sub     sp, sp, #{frame_size}
    str     x0, [sp, #{vector}]
    str     x2, [sp, #{sp_offset}]
    mrs     x0, tpidr_el1
    mrs     x1, tpidr_el0
    mrs     x2, tpidrro_el0
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16 * 1]
    stp     x4, x5, [sp, #16 * 2]
    stp     x6, x7, [sp, #16 * 3]
    stp     x8, x9, [sp, #16 * 4]
    stp     x10, x11, [sp, #16 * 5]
    stp     x12, x13, [sp, #16 * 6]
    stp     x14, x15, [sp, #16 * 7]
    stp     x16, x17, [sp, #16 * 8]
    stp     x18, x19, [sp, #16 * 9]
    stp     x20, x21, [sp, #16 * 10]
    stp     x22, x23, [sp, #16 * 11]
    stp     x24, x25, [sp, #16 * 12]
    stp     x26, x27, [sp, #16 * 13]
    stp     x28, x29, [sp, #16 * 14]
    str     x30, [sp, #16 * 15]
    mrs     x0, elr_el2
    mrs     x1, spsr_el2
    stp     x0, x1, [sp, #{elr}]
    mrs     x0, esr_el2
    mrs     x1, far_el2
    stp     x0, x1, [sp, #{esr}]
    mov     x0, sp
    mov     x29, xzr
    bl      stasis_fatal_exception
8:  wfi
    b       8b

    // x0: *mut Core. x1 to x4: the argument of the first look, and its functions: for calls and
    // system registers, for aborts, for interrupts. Returns the kind of the exit in x0; clobbers
    // all registers but x19, x29 and sp.
    .section .text.world, "ax"
    .balign 64
    .global stasis_enter_guest
stasis_enter_guest:
    stp     x29, x30, [sp, #-64]!
    stp     x0, x19, [sp, #{frame_core}]
    stp     x2, x1, [sp, #{frame_call}]
    stp     x3, x4, [sp, #{frame_abort}]
    ldr     x2, [x0, #{pc}]
    ldr     x3, [x0, #{pstate}]
    msr     elr_el2, x2
    and     x3, x3, #~(1 << 3)      // M[3] clear: EL1 or EL0, whatever has got past all checks
    msr     spsr_el2, x3
    ldp     x2, x3, [x0, #{x} + 16 * 1]
    ldp     x4, x5, [x0, #{x} + 16 * 2]
    ldp     x6, x7, [x0, #{x} + 16 * 3]
    ldp     x8, x9, [x0, #{x} + 16 * 4]
    ldp     x10, x11, [x0, #{x} + 16 * 5]
    ldp     x12, x13, [x0, #{x} + 16 * 6]
    ldp     x14, x15, [x0, #{x} + 16 * 7]
    ldp     x16, x17, [x0, #{x} + 16 * 8]
    ldp     x18, x19, [x0, #{x} + 16 * 9]
    ldp     x20, x21, [x0, #{x} + 16 * 10]
    ldp     x22, x23, [x0, #{x} + 16 * 11]
    ldp     x24, x25, [x0, #{x} + 16 * 12]
    ldp     x26, x27, [x0, #{x} + 16 * 13]
    ldp     x28, x29, [x0, #{x} + 16 * 14]
    ldr     x30, [x0, #{x} + 16 * 15]
    ldp     x0, x1, [x0, #{x}]
    eret
    dsb     nsh                     // nothing runs on speculatively behind the eret
    isb

    // x1: ESR_EL2; the guest's x0 and x1, then the frame of stasis_enter_guest, on the stack.
first_look:
    ubfx    x0, x1, #26, #6         // EC
    sub     x0, x0, #{first_class}
    cmp     x0, #{last_class}
    b.hi    5f
    save_for_look
    mov     x2, x0
    ldp     x3, x0, [sp, #{frame_call}]
    blr     x3
    cmp     x0, #{go_on}
    b.ne    3f
2:  ldp     x2, x3, [x19, #{x} + 16 * 1]
    ldp     x4, x5, [x19, #{x} + 16 * 2]
    ldp     x6, x7, [x19, #{x} + 16 * 3]
    ldp     x8, x9, [x19, #{x} + 16 * 4]
    ldp     x10, x11, [x19, #{x} + 16 * 5]
    ldp     x12, x13, [x19, #{x} + 16 * 6]
    ldp     x14, x15, [x19, #{x} + 16 * 7]
    ldp     x16, x17, [x19, #{x} + 16 * 8]
    ldp     x29, x30, [x19, #{x} + 8 * 29]
    ldp     x0, x1, [x19, #{x}]
    ldp     x18, x19, [x19, #{x} + 16 * 9]
    eret
    dsb     nsh
    isb

    // Does for an abort, or an exception of debugging, what first_look does, with the same stack.
abort_look:
    save_for_look
    mov     x2, #{abort}
    ldp     x0, x3, [sp, #{frame_look}]
    blr     x3
    cmp     x0, #{go_on}
    b.eq    2b
    save_rest
    cmp     x0, #{again}
    b.ne    4f
    mov     x2, #{abort_again}
    ldr     x3, [sp, #{frame_abort}]
    b       look_again

    // Does for an interrupt what first_look does, with the same stack.
interrupt_look:
    save_for_look
    ldr     x0, [sp, #{frame_look}]
    ldr     x3, [sp, #{frame_interrupt}]
    blr     x3
    cmp     x0, #{go_on}
    b.eq    2b
    save_rest
    b       4f

    // Looks again, or leaves.
3:  save_rest
    cbz     x0, 4f
    mov     x2, #{again_class}
    ldr     x3, [sp, #{frame_call}]
look_again:
    mov     x1, x19
    ldr     x0, [sp, #{frame_look}]
    blr     x3
    cmp     x0, #{go_on}
    b.ne    4f
    ldp     x20, x21, [x19, #{x} + 16 * 10]
    ldp     x22, x23, [x19, #{x} + 16 * 11]
    ldp     x24, x25, [x19, #{x} + 16 * 12]
    ldp     x26, x27, [x19, #{x} + 16 * 13]
    ldr     x28, [x19, #{x} + 16 * 14]
    b       2b

    // Leaves. What the look has said, in x0, is the kind.
4:
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    str     x2, [x19, #{pc}]
    str     x3, [x19, #{pstate}]
    ldr     x19, [sp, #{frame_core} + 8]
    ldp     x29, x30, [sp], #64
    ret

5:  mov     x1, #0
    b       guest_exit

    // x1: kind; the guest's x0 and x1, then the frame of stasis_enter_guest, on the stack.
guest_exit:
    save_x2_to_x19 x0
    stp     x20, x21, [x0, #{x} + 16 * 10]
    stp     x22, x23, [x0, #{x} + 16 * 11]
    stp     x24, x25, [x0, #{x} + 16 * 12]
    stp     x26, x27, [x0, #{x} + 16 * 13]
    stp     x28, x29, [x0, #{x} + 16 * 14]
    str     x30, [x0, #{x} + 16 * 15]
    ldp     x2, x3, [sp], #16
    stp     x2, x3, [x0, #{x}]
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    str     x2, [x0, #{pc}]
    str     x3, [x0, #{pstate}]
    mov     x0, x1
    ldr     x19, [sp, #{frame_core} + 8]
    ldp     x29, x30, [sp], #64
    ret
    "#,
    emergency_shift = const EMERGENCY_STACK_SIZE.trailing_zeros(),
    frame_size = const size_of::<FatalFrame>(),
    sp_offset = const offset_of!(FatalFrame, sp),
    elr = const offset_of!(FatalFrame, elr),
    esr = const offset_of!(FatalFrame, esr),
    vector = const offset_of!(FatalFrame, vector),
    x = const core_offset!(x),
    pc = const core_offset!(pc),
    pstate = const core_offset!(pstate),
    first_class = const FIRST_CLASS,
    last_class = const Class::SystemRegister as u64,
    abort = const Class::Abort as u64,
    abort_again = const Class::AbortAgain as u64,
    again_class = const Class::SystemRegisterAgain as u64,
    again = const Looked::Again as u64,
    serror = const SERROR,
    go_on = const Looked::GoOn as u64,
    // The frame of stasis_enter_guest: X29 and X30 of its caller; *mut Core and X19; the first
    // look's argument between the functions for calls and for aborts, so that one instruction
    // loads it with either; the function for interrupts.
    frame_core = const 16,
    frame_call = const 32,
    frame_look = const 40,
    frame_abort = const 48,
    frame_interrupt = const 56,
);
