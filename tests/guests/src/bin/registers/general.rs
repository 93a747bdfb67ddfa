//! The general registers, the vector registers and the flags, all of which hold something of the
//! vCPU's own while it spins.

use crate::values::word;
use core::arch::global_asm;
use core::mem::offset_of;

/// What is in the registers. The assembly relies on the layout.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Words {
    /// X0 to X30. X0 counts the turns of the loop, and is 0 at its end.
    x: [u64; 31],
    fpsr: u64,
    fpcr: u64,
    nzcv: u64,
    v: [u64; 64],
}

const WORDS: usize = size_of::<Words>() / 8;

/// What is loaded, and what was found.
#[repr(C)]
pub struct General {
    held: Words,
    found: Words,
}

impl General {
    /// Returns values for the vCPU `cpu` in this round.
    pub fn new(cpu: u64, round: u64) -> Self {
        /// FPSR: QC and the cumulative exceptions. FPCR: AHP, DN, FZ and RMode (DDI 0487, C5.2).
        const FPSR: u64 = 1 << 27 | 0x9f;
        const FPCR: u64 = 0x1f << 22;
        const NZCV: u64 = 0xf << 28;
        let own = |number: usize| word((number as u64) << 40 | 1 << 39 | round << 1 | cpu);
        let mut held = Words {
            x: core::array::from_fn(own),
            fpsr: own(31) & FPSR,
            fpcr: own(32) & FPCR,
            nzcv: own(33) & NZCV,
            v: core::array::from_fn(|number| own(34 + number)),
        };
        held.x[0] = 0;
        Self { held, found: held }
    }

    /// Spins for some 100 us or more with the values in the registers. Returns the first that has
    /// changed, by its place in [`Words`], with what it held and what it holds.
    pub fn spin(&mut self) -> Option<(usize, u64, u64)> {
        // SAFETY: the assembly keeps what a C function must keep, and writes to `found` alone.
        unsafe { registers_spin(self) };
        let (held, found) = (self.held.words(), self.found.words());
        (0..WORDS).find(|&n| held[n] != found[n]).map(|n| (n, held[n], found[n]))
    }
}

impl Words {
    fn words(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        words[..31].copy_from_slice(&self.x);
        words[31..34].copy_from_slice(&[self.fpsr, self.fpcr, self.nzcv]);
        words[34..].copy_from_slice(&self.v);
        words
    }
}

unsafe extern "C" {
    fn registers_spin(general: *mut General);
}

global_asm!(
    r#"
    .macro general instruction
    \instruction x1, x2, [x0, #8 * 1]
    \instruction x3, x4, [x0, #8 * 3]
    \instruction x5, x6, [x0, #8 * 5]
    \instruction x7, x8, [x0, #8 * 7]
    \instruction x9, x10, [x0, #8 * 9]
    \instruction x11, x12, [x0, #8 * 11]
    \instruction x13, x14, [x0, #8 * 13]
    \instruction x15, x16, [x0, #8 * 15]
    \instruction x17, x18, [x0, #8 * 17]
    \instruction x19, x20, [x0, #8 * 19]
    \instruction x21, x22, [x0, #8 * 21]
    \instruction x23, x24, [x0, #8 * 23]
    \instruction x25, x26, [x0, #8 * 25]
    \instruction x27, x28, [x0, #8 * 27]
    \instruction x29, x30, [x0, #8 * 29]
    .endm
    .macro vectors instruction
    .irp n, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
    vector_pair \instruction, \n, %(\n + 1)
    .endr
    .endm
    .macro vector_pair instruction, a, b
    \instruction q\a, q\b, [x1, #16 * \a]
    .endm
    .altmacro

    .text
registers_spin:
    stp     x29, x30, [sp, #-16]!
    stp     x27, x28, [sp, #-16]!
    stp     x25, x26, [sp, #-16]!
    stp     x23, x24, [sp, #-16]!
    stp     x21, x22, [sp, #-16]!
    stp     x19, x20, [sp, #-16]!
    stp     d14, d15, [sp, #-16]!
    stp     d12, d13, [sp, #-16]!
    stp     d10, d11, [sp, #-16]!
    stp     d8, d9, [sp, #-16]!
    stp     x0, xzr, [sp, #-16]!
    add     x1, x0, #{v}
    vectors ldp
    ldr     x1, [x0, #{fpsr}]
    msr     fpsr, x1
    ldr     x1, [x0, #{fpcr}]
    msr     fpcr, x1
    ldr     x1, [x0, #{nzcv}]
    msr     nzcv, x1
    general ldp
    mov     x0, #(4 << 16)
0:  sub     x0, x0, #1
    cbnz    x0, 0b
    ldr     x0, [sp]
    add     x0, x0, #{found}
    general stp
    str     xzr, [x0]
    mrs     x1, nzcv
    str     x1, [x0, #{nzcv}]
    mrs     x1, fpcr
    str     x1, [x0, #{fpcr}]
    mrs     x1, fpsr
    str     x1, [x0, #{fpsr}]
    add     x1, x0, #{v}
    vectors stp
    msr     fpcr, xzr
    add     sp, sp, #16
    ldp     d8, d9, [sp], #16
    ldp     d10, d11, [sp], #16
    ldp     d12, d13, [sp], #16
    ldp     d14, d15, [sp], #16
    ldp     x19, x20, [sp], #16
    ldp     x21, x22, [sp], #16
    ldp     x23, x24, [sp], #16
    ldp     x25, x26, [sp], #16
    ldp     x27, x28, [sp], #16
    ldp     x29, x30, [sp], #16
    ret
    .noaltmacro
"#,
    v = const offset_of!(Words, v),
    fpsr = const offset_of!(Words, fpsr),
    fpcr = const offset_of!(Words, fpcr),
    nzcv = const offset_of!(Words, nzcv),
    found = const offset_of!(General, found),
);
