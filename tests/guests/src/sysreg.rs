//! System registers by name.

/// Reads a system register: `mrs!("CNTVCT_EL0")`. Names that the assembler lacks are
/// `S3_0_C0_C4_0`.
#[macro_export]
macro_rules! mrs {
    ($name:expr) => {{
        let value: u64;
        // SAFETY: Reading a system register touches no memory. One that traps ends in the vectors.
        unsafe {
            core::arch::asm!(concat!("isb\nmrs {}, ", $name), out(reg) value,
                options(nostack, preserves_flags));
        }
        value
    }};
}

/// Writes a system register, one that does not change what memory means.
#[macro_export]
macro_rules! msr {
    ($name:expr, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: The register is one of those that the guests play with; none of them changes the
        // mapping of memory or the stack.
        unsafe {
            core::arch::asm!(concat!("msr ", $name, ", {}\nisb"), in(reg) value,
                options(nostack, preserves_flags));
        }
    }};
}

/// Lets IRQs in.
#[inline(always)]
pub fn unmask_irqs() {
    // SAFETY: The vectors stand since the entry.
    unsafe { core::arch::asm!("msr daifclr, #2", "isb", options(nostack)) }
}

/// Keeps IRQs out.
#[inline(always)]
pub fn mask_irqs() {
    // SAFETY: Masking an exception harms nothing.
    unsafe { core::arch::asm!("msr daifset, #2", "isb", options(nostack)) }
}

/// Waits for an interrupt, which need not be one that is let in.
#[inline(always)]
pub fn wfi() {
    // SAFETY: It only waits.
    unsafe { core::arch::asm!("dsb sy", "wfi", options(nostack)) }
}
