//! Device registers, each by one instruction that leaves a valid syndrome.
//!
//! A volatile access may compile into a load or store with writeback, whose abort tells a
//! hypervisor neither register nor size; so these are written in assembly.

use core::arch::asm;

/// RAM begins here; what is below is devices, or nothing.
pub const RAM_START: usize = 0x4000_0000;

macro_rules! access {
    ($read:ident, $write:ident, $t:ty, $load:literal, $store:literal) => {
        /// Reads a device register.
        #[inline(always)]
        pub fn $read(address: usize) -> $t {
            assert!(address < RAM_START);
            let value: u32;
            // SAFETY: There is no memory of Rust's below RAM_START.
            unsafe {
                asm!(concat!($load, " {value:w}, [{address}]"), value = out(reg) value,
                    address = in(reg) address, options(nostack, preserves_flags));
            }
            value as $t
        }

        /// Writes a device register.
        #[inline(always)]
        pub fn $write(address: usize, value: $t) {
            assert!(address < RAM_START);
            // SAFETY: There is no memory of Rust's below RAM_START, and no device of the machine
            // has DMA set up.
            unsafe {
                asm!(concat!($store, " {value:w}, [{address}]"), value = in(reg) u32::from(value),
                    address = in(reg) address, options(nostack, preserves_flags));
            }
        }
    };
}
access!(read8, write8, u8, "ldrb", "strb");
access!(read16, write16, u16, "ldrh", "strh");
access!(read32, write32, u32, "ldr", "str");
