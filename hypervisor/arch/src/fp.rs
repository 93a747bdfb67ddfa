//! The guest's FP and SIMD registers. EL2's Rust code is built without them, and the assembly that
//! uses some of them puts them back. So they stay the guest's from its loading to its unloading.

use core::arch::global_asm;
use core::mem::offset_of;
use stasis_state::register::VALUE_OFFSET;
use stasis_state::vcpu::FpSimd;

unsafe extern "C" {
    fn stasis_fp_save(to: *mut FpSimd);
    fn stasis_fp_load(from: *const FpSimd);
}

/// Saves V0 to V31, FPSR and FPCR into `registers`.
pub(crate) fn save(registers: &mut FpSimd) {
    // SAFETY: 1. The assembly stores at the offsets of fields of `FpSimd`, which is borrowed
    // mutably. 2. It clobbers X1 and X2 alone, which the C ABI lets it.
    unsafe { stasis_fp_save(registers) };
}

/// Loads V0 to V31, FPSR and FPCR from `registers`.
pub(crate) fn load(registers: &FpSimd) {
    // SAFETY: 1. The assembly loads from the offsets of fields of `FpSimd`, which is borrowed. 2.
    // EL2 is built without these registers, so they hold nothing of its own. 3. The assembly
    // clobbers X1 and X2 besides, which the C ABI lets it.
    unsafe { stasis_fp_load(registers) };
}

global_asm!(
    r#"
    .arch_extension fp
    .arch_extension simd
    .macro fp_bank instruction
    \instruction    q0, q1, [x1, #32 * 0]
    \instruction    q2, q3, [x1, #32 * 1]
    \instruction    q4, q5, [x1, #32 * 2]
    \instruction    q6, q7, [x1, #32 * 3]
    \instruction    q8, q9, [x1, #32 * 4]
    \instruction    q10, q11, [x1, #32 * 5]
    \instruction    q12, q13, [x1, #32 * 6]
    \instruction    q14, q15, [x1, #32 * 7]
    \instruction    q16, q17, [x1, #32 * 8]
    \instruction    q18, q19, [x1, #32 * 9]
    \instruction    q20, q21, [x1, #32 * 10]
    \instruction    q22, q23, [x1, #32 * 11]
    \instruction    q24, q25, [x1, #32 * 12]
    \instruction    q26, q27, [x1, #32 * 13]
    \instruction    q28, q29, [x1, #32 * 14]
    \instruction    q30, q31, [x1, #32 * 15]
    .endm

    .section .text.fp, "ax"
    .global stasis_fp_save
stasis_fp_save:
    add     x1, x0, #{v}
    fp_bank stp
    mrs     x1, fpsr
    mrs     x2, fpcr
    str     w1, [x0, #{fpsr}]
    str     w2, [x0, #{fpcr}]
    ret

    .global stasis_fp_load
stasis_fp_load:
    add     x1, x0, #{v}
    fp_bank ldp
    ldr     w1, [x0, #{fpsr}]
    ldr     w2, [x0, #{fpcr}]
    msr     fpsr, x1
    msr     fpcr, x2
    ret
    .arch_extension nosimd
    .arch_extension nofp
    "#,
    v = const offset_of!(FpSimd, v) + VALUE_OFFSET,
    fpsr = const offset_of!(FpSimd, fpsr) + VALUE_OFFSET,
    fpcr = const offset_of!(FpSimd, fpcr) + VALUE_OFFSET,
);
