//! Whether a page is zero, by the vector registers (DDI 0487, C7.2, LD1 of four registers).
//!
//! They may be a guest's that is loaded on this core, so those that are used are put back.

use core::arch::global_asm;

/// Bytes of a page.
const PAGE_SIZE: usize = 4096;

/// Bytes between two tests: a page that is not zero mostly shows it in the first.
const BLOCK: usize = 1024;

unsafe extern "C" {
    fn stasis_is_zero(page: *const [u8; PAGE_SIZE]) -> bool;
}

/// Whether every byte of the page is 0.
pub fn is_zero(page: &[u8; PAGE_SIZE]) -> bool {
    // SAFETY: the assembly reads the page's bytes, and restores all registers that the C ABI of a target without
    // vector registers does not give it.
    unsafe { stasis_is_zero(page) }
}

global_asm!(
    r#"
    .arch_extension fp
    .arch_extension simd
    .section .text.zero, "ax"
    .global stasis_is_zero
stasis_is_zero:
    stp     q0, q1, [sp, #-96]!
    stp     q2, q3, [sp, #32]
    stp     q4, q5, [sp, #64]
    add     x1, x0, #{page}
1:  movi    v4.2d, #0
    movi    v5.2d, #0
    .rept   {block} / 64
    ld1     {{v0.2d, v1.2d, v2.2d, v3.2d}}, [x0], #64
    orr     v4.16b, v4.16b, v0.16b
    orr     v5.16b, v5.16b, v1.16b
    orr     v4.16b, v4.16b, v2.16b
    orr     v5.16b, v5.16b, v3.16b
    .endr
    orr     v4.16b, v4.16b, v5.16b
    umaxp   v4.4s, v4.4s, v4.4s
    mov     x2, v4.d[0]
    cbnz    x2, 2f
    cmp     x0, x1
    b.ne    1b
2:  cmp     x2, #0
    cset    w0, eq
    ldp     q4, q5, [sp, #64]
    ldp     q2, q3, [sp, #32]
    ldp     q0, q1, [sp], #96
    ret
    .arch_extension nosimd
    .arch_extension nofp
    "#,
    page = const PAGE_SIZE,
    block = const BLOCK,
);
