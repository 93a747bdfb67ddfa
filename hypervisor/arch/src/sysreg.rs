//! MRS and MSR by name, for registers that aarch64-cpu does not have, and for those whose write must
//! not be moved: these are not `nomem`, so the compiler keeps them in order with memory.

/// Reads a system register, whose name may be given in pieces.
macro_rules! mrs {
    ($($name:expr),+) => {{
        let value: u64;
        // SAFETY: reading a system register that exists at EL2 has no effect.
        unsafe {
            core::arch::asm!(concat!("mrs {0}, ", $($name),+), out(reg) value, options(nostack, preserves_flags));
        }
        value
    }};
}

/// Writes a system register, whose name may be given in pieces. The caller answers for what it means.
macro_rules! msr {
    ($($name:expr),+; $value:expr) => {{
        let value: u64 = $value;
        core::arch::asm!(concat!("msr ", $($name,)+ ", {0}"), in(reg) value, options(nostack, preserves_flags));
    }};
    ($name:literal, $value:expr) => {
        msr!($name; $value)
    };
}
