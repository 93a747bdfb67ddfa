//! MRS and MSR by name: for registers that aarch64-cpu does not have, and for those whose write
//! must not be moved. The macros' assembly is not `nomem`, so the compiler keeps it in order with
//! accesses to memory.

/// Returns the value of a system register, whose name may be given in pieces.
macro_rules! mrs {
    ($($name:expr),+) => {{
        let value: u64;
        // SAFETY: no register that this crate reads has an effect when it is read at EL2, and the
        // assembly changes nothing but `value`.
        unsafe {
            core::arch::asm!(concat!("mrs {0}, ", $($name),+), out(reg) value, options(nostack, preserves_flags));
        }
        value
    }};
}

/// Writes a system register, whose name may be given in pieces. The caller's `unsafe` block proves
/// what the new value means.
macro_rules! msr {
    ($($name:expr),+; $value:expr) => {{
        let value: u64 = $value;
        core::arch::asm!(concat!("msr ", $($name,)+ ", {0}"), in(reg) value, options(nostack, preserves_flags));
    }};
    ($name:literal, $value:expr) => {
        msr!($name; $value)
    };
}
