//! `memcpy` and `memset`, which the compiler calls to copy and set memory. Those of its own library
//! move 8 bytes at a time.
//!
//! Large pieces, such as a guest's page, are moved by the vector registers (DDI 0487, C7.2, LD1 and
//! ST1 of four registers). These may hold the state of the guest that is loaded on this core, so
//! those that are used are restored. All accesses are to normal memory, where they may be
//! unaligned: EL2 has the MMU on while Rust runs, and accesses devices by single loads and stores
//! alone.

use core::arch::global_asm;

unsafe extern "C" {
    fn stasis_copy(to: *mut u8, from: *const u8, len: usize) -> *mut u8;
    fn stasis_set(to: *mut u8, byte: i32, len: usize) -> *mut u8;
    fn stasis_fill(to: *mut u8, word: u64, len: usize) -> *mut u8;
    fn stasis_take_page(to: *mut u8, from: *const u8);
}

/// Copies `len` bytes. Others may write either memory meanwhile. The compiler knows what `memcpy`
/// does, and may assume that nobody else writes. It knows nothing of this function.
///
/// # Safety
///
/// 1. The `len` bytes at `from` and those at `to` are mapped as normal memory, and do not overlap.
/// 2. The bytes at `to` are the caller's, or memory that has no Rust reference to it.
pub unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: 1. The assembly reads and writes these `len` bytes alone, which are mapped and do not
    // overlap, by condition 1. 2. The caller may write them, by condition 2. 3. The assembly keeps
    // to the C ABI, and restores the vector registers.
    unsafe { stasis_copy(to, from, len) };
}

/// Bytes of the smallest cache line for which [`take_page`] drops all lines of a page.
pub const LINE: usize = 64;

/// Copies a page. Each line of the page at `from` is written back to the point of coherency, and
/// dropped from the caches, as soon as it was copied: the maintenance comes behind the loads of its
/// line, and is complete on return (DDI 0487, D7.5). Others may write either page meanwhile.
///
/// # Safety
///
/// 1. Both are whole pages that are mapped as normal memory, and not the same one.
/// 2. The page at `to` is the caller's, or memory that has no Rust reference to it.
/// 3. No data cache line has fewer than [`LINE`] bytes.
pub unsafe fn take_page(from: *const u8, to: *mut u8) {
    // SAFETY: 1. The assembly reads the one page and writes the other one, which are mapped and do
    // not overlap, by condition 1. 2. The caller may write it, by condition 2. 3. Cache maintenance
    // changes no data that a core with caches sees. 4. The assembly keeps to the C ABI, and
    // restores the vector registers.
    unsafe { stasis_take_page(to, from) };
}

/// Makes `len` bytes 0. Others may write them meanwhile.
///
/// # Safety
///
/// 1. The `len` bytes at `to` are mapped as normal memory.
/// 2. They are the caller's, or memory that has no Rust reference to it.
pub unsafe fn zero(to: *mut u8, len: usize) {
    // SAFETY: 1. The assembly writes these `len` bytes alone, which are mapped, by condition 1. 2.
    // The caller may write them, by condition 2. 3. The assembly keeps to the C ABI, and restores
    // the vector registers.
    unsafe { stasis_set(to, 0, len) };
}

/// Makes each word of `len` bytes this one. Others may write them meanwhile.
///
/// # Safety
///
/// 1. The `len` bytes at `to` are mapped as normal memory.
/// 2. They are the caller's, or memory that has no Rust reference to it.
///
/// # Panics
///
/// In debug builds, if `len` is no multiple of 8: its last bytes would be those of another word.
pub unsafe fn fill(to: *mut u8, word: u64, len: usize) {
    debug_assert!(len.is_multiple_of(size_of::<u64>()));
    // SAFETY: 1. The assembly writes these `len` bytes alone, which are mapped, by condition 1. 2.
    // The caller may write them, by condition 2. 3. The assembly keeps to the C ABI, and restores
    // the vector registers.
    unsafe { stasis_fill(to, word, len) };
}

/// Bytes of a page.
const PAGE: usize = 4096;

/// Lines that [`take_page`] copies between two branches.
const LINES: usize = 16;

/// Bytes from which on the vector registers are faster, though they must be saved and restored.
const LARGE: usize = 256;

global_asm!(
    r#"
    .arch_extension fp
    .arch_extension simd
    .section .text.copy, "ax"

    // x0: to, x1: from, x2: bytes. Returns x0. What does not fill a step to its end is moved as the
    // last bytes of all, again.
    .global memcpy
    .type   memcpy, %function
    .global stasis_copy
memcpy:
stasis_copy:
    add     x4, x1, x2
    add     x5, x0, x2
    cmp     x2, #16
    b.lo    2f
    mov     x3, x0
    cmp     x2, #{large}
    b.hs    5f
    sub     x2, x2, #16
1:  ldp     x6, x7, [x1], #16
    stp     x6, x7, [x3], #16
    subs    x2, x2, #16
    b.hi    1b
    ldp     x6, x7, [x4, #-16]
    stp     x6, x7, [x5, #-16]
    ret
2:  tbz     x2, #3, 3f
    ldr     x6, [x1]
    ldr     x7, [x4, #-8]
    str     x6, [x0]
    str     x7, [x5, #-8]
    ret
3:  tbz     x2, #2, 4f
    ldr     w6, [x1]
    ldr     w7, [x4, #-4]
    str     w6, [x0]
    str     w7, [x5, #-4]
    ret
4:  cbz     x2, 9f
    lsr     x8, x2, #1
    ldrb    w6, [x1]
    ldrb    w7, [x1, x8]
    ldrb    w9, [x4, #-1]
    strb    w6, [x0]
    strb    w7, [x0, x8]
    strb    w9, [x5, #-1]
    ret
5:  stp     q0, q1, [sp, #-64]!
    stp     q2, q3, [sp, #32]
    sub     x2, x2, #{large}
6:  .rept   {large} / 64
    ld1     {{v0.16b, v1.16b, v2.16b, v3.16b}}, [x1], #64
    st1     {{v0.16b, v1.16b, v2.16b, v3.16b}}, [x3], #64
    .endr
    subs    x2, x2, #{large}
    b.hs    6b
    adds    x2, x2, #{large} - 64
    b.lo    8f
7:  ld1     {{v0.16b, v1.16b, v2.16b, v3.16b}}, [x1], #64
    st1     {{v0.16b, v1.16b, v2.16b, v3.16b}}, [x3], #64
    subs    x2, x2, #64
    b.hs    7b
8:  sub     x4, x4, #64
    sub     x5, x5, #64
    ld1     {{v0.16b, v1.16b, v2.16b, v3.16b}}, [x4]
    st1     {{v0.16b, v1.16b, v2.16b, v3.16b}}, [x5]
    ldp     q2, q3, [sp, #32]
    ldp     q0, q1, [sp], #64
9:  ret
    .size   memcpy, . - memcpy

    // x0: to, x1: from, which are pages. x2: the end.
    .global stasis_take_page
stasis_take_page:
    stp     q0, q1, [sp, #-64]!
    stp     q2, q3, [sp, #32]
    add     x2, x1, #{page}
3:  .rept   {lines}
    ld1     {{v0.16b, v1.16b, v2.16b, v3.16b}}, [x1]
    dc      civac, x1
    add     x1, x1, #{line}
    st1     {{v0.16b, v1.16b, v2.16b, v3.16b}}, [x0], #{line}
    .endr
    cmp     x1, x2
    b.ne    3b
    dsb     sy
    ldp     q2, q3, [sp, #32]
    ldp     q0, q1, [sp], #64
    ret

    // x0: to, w1: the byte, x2: bytes. Returns x0. What does not fill a step to its end is set as
    // the last bytes of all, again.
    .global memset
    .type   memset, %function
    .global stasis_set
memset:
stasis_set:
    and     x1, x1, #0xff
    orr     x1, x1, x1, lsl #8
    orr     x1, x1, x1, lsl #16
    orr     x1, x1, x1, lsl #32
    // Here x1 is a word, and x2 a multiple of 8: then the last bytes of all begin at a word, too.
    .global stasis_fill
stasis_fill:
    add     x5, x0, x2
    cmp     x2, #16
    b.lo    2f
    mov     x3, x0
    cmp     x2, #{large}
    b.hs    5f
    sub     x2, x2, #16
1:  stp     x1, x1, [x3], #16
    subs    x2, x2, #16
    b.hi    1b
    stp     x1, x1, [x5, #-16]
    ret
2:  tbz     x2, #3, 3f
    str     x1, [x0]
    str     x1, [x5, #-8]
    ret
3:  tbz     x2, #2, 4f
    str     w1, [x0]
    str     w1, [x5, #-4]
    ret
4:  cbz     x2, 9f
    lsr     x8, x2, #1
    strb    w1, [x0]
    strb    w1, [x0, x8]
    strb    w1, [x5, #-1]
    ret
5:  stp     q0, q1, [sp, #-64]!
    stp     q2, q3, [sp, #32]
    dup     v0.2d, x1
    dup     v1.2d, x1
    dup     v2.2d, x1
    dup     v3.2d, x1
    sub     x2, x2, #{large}
6:  .rept   {large} / 64
    st1     {{v0.16b, v1.16b, v2.16b, v3.16b}}, [x3], #64
    .endr
    subs    x2, x2, #{large}
    b.hs    6b
    adds    x2, x2, #{large} - 64
    b.lo    8f
7:  st1     {{v0.16b, v1.16b, v2.16b, v3.16b}}, [x3], #64
    subs    x2, x2, #64
    b.hs    7b
8:  sub     x5, x5, #64
    st1     {{v0.16b, v1.16b, v2.16b, v3.16b}}, [x5]
    ldp     q2, q3, [sp, #32]
    ldp     q0, q1, [sp], #64
9:  ret
    .size   memset, . - memset
    "#,
    // What follows may use what the target has, and nothing else.
    #[cfg(not(target_feature = "neon"))]
    ".arch_extension nosimd",
    #[cfg(not(target_feature = "neon"))]
    ".arch_extension nofp",
    large = const LARGE,
    page = const PAGE,
    line = const LINE,
    lines = const LINES,
);

const _: () = assert!(LINE == 64 && PAGE.is_multiple_of(LINES * LINE));
