//! Accesses to device memory, each by one instruction (DDI 0487, C6.2).

macro_rules! accesses {
    ($($t:ident $load:literal $store:literal;)*) => {
        /// Loads, one function for each width.
        pub mod load { $(
            #[doc = concat!("Returns what `", stringify!($t), "` a device has at `address`.")]
            ///
            /// # Safety
            ///
            /// 1. `address` is aligned, and an address in mapped device memory.
            /// 2. What the device does at the read changes no memory that the program uses.
            #[inline(always)]
            pub unsafe fn $t(address: usize) -> $t {
                #[cfg(target_arch = "aarch64")]
                {
                    let value: $t;
                    // SAFETY: 1. The address is aligned and mapped, by condition 1. 2. What the
                    // device does changes nothing that the compiler relies on, by condition 2.
                    unsafe {
                        core::arch::asm!($load, value = out(reg) value, address = in(reg) address, options(nostack, preserves_flags));
                    }
                    value
                }
                #[cfg(not(target_arch = "aarch64"))]
                super::no_device(address)
            }
        )* }

        /// Stores, one function for each width.
        pub mod store { $(
            #[doc = concat!("Writes what `", stringify!($t), "` a device has at `address`.")]
            ///
            /// # Safety
            ///
            /// 1. `address` is aligned, and an address in mapped device memory.
            /// 2. What the device does at the write changes no memory that the program uses.
            #[inline(always)]
            pub unsafe fn $t(address: usize, value: $t) {
                #[cfg(target_arch = "aarch64")]
                // SAFETY: 1. The address is aligned and mapped, by condition 1. 2. What the device
                // does changes nothing that the compiler relies on, by condition 2.
                unsafe {
                    core::arch::asm!($store, value = in(reg) value, address = in(reg) address, options(nostack, preserves_flags));
                }
                #[cfg(not(target_arch = "aarch64"))]
                { let _ = value; super::no_device(address) }
            }
        )* }
    };
}

/// Returns what a device has `AT` bytes behind `base`.
///
/// # Safety
///
/// 1. `base` and `AT` are multiples of 4, `AT` is at most 0x3ffc, and they are those of a register
///    in mapped device memory.
/// 2. What the device does at the read changes no memory that the program uses.
#[inline(always)]
pub unsafe fn load_at<const AT: usize>(base: usize) -> u32 {
    #[cfg(target_arch = "aarch64")]
    {
        let value: u32;
        // SAFETY: 1. The address is aligned and mapped, by condition 1. 2. What the device does
        // changes nothing that the compiler relies on, by condition 2.
        unsafe {
            core::arch::asm!("ldr {value:w}, [{base}, #{at}]", value = out(reg) value, base = in(reg) base, at = const AT, options(nostack, preserves_flags));
        }
        value
    }
    #[cfg(not(target_arch = "aarch64"))]
    no_device(base + AT)
}

/// Writes what a device has `AT` bytes behind `base`.
///
/// # Safety
///
/// 1. `base` and `AT` are multiples of 4, `AT` is at most 0x3ffc, and they are those of a register
///    in mapped device memory.
/// 2. What the device does at the write changes no memory that the program uses.
#[inline(always)]
pub unsafe fn store_at<const AT: usize>(base: usize, value: u32) {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: 1. The address is aligned and mapped, by condition 1. 2. What the device does changes
    // nothing that the compiler relies on, by condition 2.
    unsafe {
        core::arch::asm!("str {value:w}, [{base}, #{at}]", value = in(reg) value, base = in(reg) base, at = const AT, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "aarch64"))]
    {
        let _ = value;
        no_device(base + AT)
    }
}

/// Panics: a host has no device memory. Tests use models of devices on a bus of their own.
#[cfg(not(target_arch = "aarch64"))]
fn no_device(address: usize) -> ! {
    panic!("there is no device at {address:#x}: this is not the machine");
}

accesses! {
    u8 "ldrb {value:w}, [{address}]" "strb {value:w}, [{address}]";
    u16 "ldrh {value:w}, [{address}]" "strh {value:w}, [{address}]";
    u32 "ldr {value:w}, [{address}]" "str {value:w}, [{address}]";
    u64 "ldr {value:x}, [{address}]" "str {value:x}, [{address}]";
}
