//! Search for pages that are not zero, or one word over and over, by the vector registers (DDI
//! 0487, C7.2, LD1 of four registers); and the CRC-32C of those that are neither, in the same look.
//!
//! The vector registers may hold the state of the guest that is loaded on this core, so those that
//! are used are restored.

use core::arch::global_asm;

/// Bytes of a page.
const PAGE_SIZE: usize = 4096;

/// Bytes of the first test: most pages that are not zero show it there.
const FIRST: usize = 256;
/// Bytes between two further tests.
const BLOCK: usize = (PAGE_SIZE - FIRST) / 2;

/// Bytes of the CRC between two branches.
const STEP: usize = 1024;

/// Most pages of one call: the bits of its result.
const MOST: usize = u64::BITS as usize;

unsafe extern "C" {
    fn stasis_with_content(pages: *const u8, count: usize) -> u64;
    fn stasis_is_repeated(page: *const u8) -> bool;
    fn stasis_look(page: *const u8) -> Look;
}

/// What a page holds, as the assembly returns it in X0 and X1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Look {
    kind: u64,
    value: u64,
}

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Zeros.
    Zero,
    /// The word that is there over and over, which is not 0.
    Word(u64),
    /// Anything else. This is the page's CRC-32C.
    Content(u32),
}

impl Look {
    const ZERO: u64 = 0;
    const WORD: u64 = 1;
    const CONTENT: u64 = 2;

    /// Returns what the page holds.
    #[inline]
    const fn held(self) -> Held {
        match self.kind {
            Self::ZERO => Held::Zero,
            Self::WORD => Held::Word(self.value),
            _ => Held::Content(self.value as u32),
        }
    }
}

/// Returns what a page holds. Others may write the page meanwhile: what is returned is then that of
/// no instant.
///
/// Only where the CPU [has the CRC32 instructions](crate::crc::is_present): elsewhere one is
/// UNDEFINED.
///
/// # Safety
///
/// The page is mapped as normal memory.
#[inline]
pub unsafe fn look(page: *const u8) -> Held {
    // SAFETY: 1. The assembly reads bytes of the page alone, which is mapped, by the caller. 2. It
    // clobbers X0 to X5, which the C ABI lets it, and restores the vector registers that it uses.
    // 3. It returns both words of a `Look` in X0 and X1, as the C ABI has it.
    unsafe { stasis_look(page) }.held()
}

/// Returns which of the `count` pages at `pages` are not zero: one bit for each page, the lowest
/// for the first. Looks at the first 64 pages alone. Others may write the pages meanwhile: each
/// byte is loaded once at the most.
///
/// # Safety
///
/// The `count` pages are mapped as normal memory.
pub unsafe fn with_content(pages: *const u8, count: usize) -> u64 {
    // SAFETY: 1. The assembly reads bytes of these pages alone, which are mapped, by the caller. 2.
    // The assembly clobbers X0 to X5, which the C ABI lets it, and restores the vector registers
    // that it uses.
    unsafe { stasis_with_content(pages, count.min(MOST)) }
}

/// Returns whether all 512 words of a page are the same. Others may write the page meanwhile: each
/// byte but the first 16 is loaded once at the most.
///
/// # Safety
///
/// The page is mapped as normal memory.
pub unsafe fn is_repeated(page: *const u8) -> bool {
    // SAFETY: 1. The assembly reads bytes of the page alone, which is mapped, by the caller. 2. It
    // clobbers X0 to X5, which the C ABI lets it, and restores the vector registers that it uses.
    unsafe { stasis_is_repeated(page) }
}

global_asm!(
    r#"
    .arch_extension fp
    .arch_extension simd

    // Takes 64 bytes from x0 on into v4 and v5, which keep every bit that was set.
    .macro take_64_bytes
    ld1     {{v0.2d, v1.2d, v2.2d, v3.2d}}, [x0], #64
    orr     v4.16b, v4.16b, v0.16b
    orr     v5.16b, v5.16b, v1.16b
    orr     v4.16b, v4.16b, v2.16b
    orr     v5.16b, v5.16b, v3.16b
    .endm

    // Goes to a label if one was.
    .macro if_set label
    orr     v0.16b, v4.16b, v5.16b
    umaxp   v0.4s, v0.4s, v0.4s
    mov     x5, v0.d[0]
    cbnz    x5, \label
    .endm

    .section .text.zero, "ax"
    .global stasis_with_content
    // x0: the pages, x1: their number. x2: their bits, x3: this one's, x4: its end.
stasis_with_content:
    mov     x2, xzr
    mov     x3, #1
    cbz     x1, 5f
    stp     q0, q1, [sp, #-96]!
    stp     q2, q3, [sp, #32]
    stp     q4, q5, [sp, #64]
1:  add     x4, x0, #{page}
    ld1     {{v0.2d, v1.2d, v2.2d, v3.2d}}, [x0], #64
    orr     v4.16b, v0.16b, v2.16b
    orr     v5.16b, v1.16b, v3.16b
    .rept   {first} / 64 - 1
    take_64_bytes
    .endr
    if_set  4f
2:  .rept   {block} / 64
    take_64_bytes
    .endr
    if_set  4f
    cmp     x0, x4
    b.ne    2b
3:  lsl     x3, x3, #1
    subs    x1, x1, #1
    b.ne    1b
    ldp     q4, q5, [sp, #64]
    ldp     q2, q3, [sp, #32]
    ldp     q0, q1, [sp], #96
5:  mov     x0, x2
    ret
4:  orr     x2, x2, x3
    mov     x0, x4
    b       3b

    // Takes into v5 each bit by which the 64 bytes from x0 on differ from v4.
    .macro compare_64_bytes
    ld1     {{v0.2d, v1.2d, v2.2d, v3.2d}}, [x0], #64
    eor     v0.16b, v0.16b, v4.16b
    eor     v1.16b, v1.16b, v4.16b
    eor     v2.16b, v2.16b, v4.16b
    eor     v3.16b, v3.16b, v4.16b
    orr     v0.16b, v0.16b, v1.16b
    orr     v2.16b, v2.16b, v3.16b
    orr     v5.16b, v5.16b, v0.16b
    orr     v5.16b, v5.16b, v2.16b
    .endm

    .global stasis_is_repeated
    // x0: the page. x2: its first word, x4: its end.
stasis_is_repeated:
    add     x4, x0, #{page}
    ldp     x2, x3, [x0]
    cmp     x2, x3
    cset    x1, eq
    b.ne    9f
    stp     q0, q1, [sp, #-96]!
    stp     q2, q3, [sp, #32]
    stp     q4, q5, [sp, #64]
    dup     v4.2d, x2
    movi    v5.2d, #0
6:  .rept   {first} / 64
    compare_64_bytes
    .endr
    umaxp   v0.4s, v5.4s, v5.4s
    mov     x5, v0.d[0]
    cbnz    x5, 7f
    cmp     x0, x4
    b.ne    6b
7:  cmp     x5, #0
    cset    x1, eq
    ldp     q4, q5, [sp, #64]
    ldp     q2, q3, [sp, #32]
    ldp     q0, q1, [sp], #96
9:  mov     x0, x1
    ret

    .arch_extension crc
    .global stasis_look
    // x0: the page. Returns the kind in x0 and the value in x1. x2: its first word, x4: its end. A
    // page that is of one word, or of zeros, shows it in its first two words.
stasis_look:
    ldp     x2, x3, [x0]
    add     x4, x0, #{page}
    cmp     x2, x3
    b.ne    16f
    stp     q0, q1, [sp, #-96]!
    stp     q2, q3, [sp, #32]
    stp     q4, q5, [sp, #64]
    movi    v5.2d, #0
    cbnz    x2, 20f
    movi    v4.2d, #0
22: .rept   {first} / 64
    take_64_bytes
    .endr
    if_set  14f
    cmp     x0, x4
    b.ne    22b
    mov     x5, #{zero}
    b       13f
20: dup     v4.2d, x2
21: .rept   {first} / 64
    compare_64_bytes
    .endr
    umaxp   v0.4s, v5.4s, v5.4s
    mov     x5, v0.d[0]
    cbnz    x5, 14f
    cmp     x0, x4
    b.ne    21b
    mov     x5, #{word}
13: mov     x0, x5
    mov     x1, x2
    ldp     q4, q5, [sp, #64]
    ldp     q2, q3, [sp, #32]
    ldp     q0, q1, [sp], #96
    ret
14: sub     x0, x4, #{page}
    ldp     q4, q5, [sp, #64]
    ldp     q2, q3, [sp, #32]
    ldp     q0, q1, [sp], #96
16: mov     w1, #-1
17: .rept   {step} / 16
    ldp     x2, x3, [x0], #16
    crc32cx w1, w1, x2
    crc32cx w1, w1, x3
    .endr
    cmp     x0, x4
    b.ne    17b
    mvn     w1, w1
    mov     x0, #{content}
    ret

    .purgem compare_64_bytes
    .purgem take_64_bytes
    .purgem if_set
    "#,
    // What follows may use what the target has, and nothing else.
    #[cfg(not(target_feature = "crc"))]
    ".arch_extension nocrc",
    #[cfg(not(target_feature = "neon"))]
    ".arch_extension nosimd",
    #[cfg(not(target_feature = "neon"))]
    ".arch_extension nofp",
    page = const PAGE_SIZE,
    first = const FIRST,
    block = const BLOCK,
    step = const STEP,
    zero = const Look::ZERO,
    word = const Look::WORD,
    content = const Look::CONTENT,
);

const _: () = assert!(
    BLOCK.is_multiple_of(64)
        && FIRST.is_multiple_of(64)
        && PAGE_SIZE.is_multiple_of(FIRST)
        && PAGE_SIZE.is_multiple_of(STEP)
);
