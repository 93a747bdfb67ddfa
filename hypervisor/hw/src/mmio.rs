//! The MMIO cell: a device's register as a raw pointer, never as a reference.
//!
//! A reference to device memory lets the compiler read it whenever it likes; so [`Register`] holds an
//! address, and each access is one `ldr` or `str`. Volatile accesses will not do: the compiler may
//! choose forms with writeback for them, which a hypervisor below us could not emulate.
//! tock-registers' field accessors work on it through [`Readable`] and [`Writeable`].

use core::marker::PhantomData;
use tock_registers::RegisterLongName;
use tock_registers::interfaces::{Readable, Writeable};

/// The frame of a device: `LEN` bytes of device memory. The compiler knows how many, so that it can check the bounds of
/// a register whose offset it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<const LEN: usize> {
    base: usize,
}

// SAFETY: a frame is an address; what it may be used for does not depend on the core.
unsafe impl<const LEN: usize> Send for Frame<LEN> {}
// SAFETY: as above. Its accesses are single instructions.
unsafe impl<const LEN: usize> Sync for Frame<LEN> {}

impl<const LEN: usize> Frame<LEN> {
    /// The frame at `base`.
    ///
    /// # Safety
    ///
    /// For as long as any copy of the frame is used, `base..base + LEN` must be mapped as device
    /// memory (or belong to the caller as ordinary memory), and reading or writing its registers must
    /// not break what the rest of the program relies on.
    pub const unsafe fn new(base: usize) -> Self {
        Self { base }
    }

    /// Where the frame starts.
    pub const fn base(self) -> usize {
        self.base
    }

    /// The register at `offset`.
    ///
    /// # Panics
    ///
    /// If it does not lie within the frame, or is not aligned.
    #[inline(always)]
    pub fn at<T, R: RegisterLongName>(self, offset: Offset<T, R>) -> Register<T, R> {
        assert!(
            offset.bytes.is_multiple_of(size_of::<T>()) && offset.bytes + size_of::<T>() <= LEN
        );
        Register { address: self.base + offset.bytes, kind: PhantomData }
    }
}

/// Where in its frame a register stands, and of what width and layout it is.
pub struct Offset<T, R: RegisterLongName = ()> {
    bytes: usize,
    kind: PhantomData<(T, R)>,
}

impl<T, R: RegisterLongName> Offset<T, R> {
    /// The register `bytes` behind the start of its frame.
    pub const fn new(bytes: usize) -> Self {
        Self { bytes, kind: PhantomData }
    }

    /// Element `index` of an array of registers that starts here.
    #[inline(always)]
    pub const fn index(self, index: usize) -> Self {
        Self::new(self.bytes + index * size_of::<T>())
    }
}

/// One register of a device.
pub struct Register<T, R: RegisterLongName = ()> {
    address: usize,
    kind: PhantomData<(T, R)>,
}

macro_rules! access {
    ($t:ty, $load:literal, $store:literal) => {
        impl<R: RegisterLongName> Readable for Register<$t, R> {
            type T = $t;
            type R = R;

            #[inline(always)]
            fn get(&self) -> $t {
                #[cfg(target_arch = "aarch64")]
                {
                    let value: $t;
                    // SAFETY: `Frame::new`'s caller answers for the address, `Frame::at` for the
                    // bounds and the alignment.
                    unsafe {
                        core::arch::asm!($load, value = out(reg) value, address = in(reg) self.address,
                            options(nostack, preserves_flags));
                    }
                    value
                }
                #[cfg(not(target_arch = "aarch64"))]
                // SAFETY: as above; on a host the frame is ordinary memory of a test.
                unsafe {
                    (self.address as *const $t).read_volatile()
                }
            }
        }

        impl<R: RegisterLongName> Writeable for Register<$t, R> {
            type T = $t;
            type R = R;

            #[inline(always)]
            fn set(&self, value: $t) {
                #[cfg(target_arch = "aarch64")]
                // SAFETY: as in `get`.
                unsafe {
                    core::arch::asm!($store, value = in(reg) value, address = in(reg) self.address,
                        options(nostack, preserves_flags));
                }
                #[cfg(not(target_arch = "aarch64"))]
                // SAFETY: as in `get`.
                unsafe {
                    (self.address as *mut $t).write_volatile(value);
                }
            }
        }
    };
}

access!(u8, "ldrb {value:w}, [{address}]", "strb {value:w}, [{address}]");
access!(u16, "ldrh {value:w}, [{address}]", "strh {value:w}, [{address}]");
access!(u32, "ldr {value:w}, [{address}]", "str {value:w}, [{address}]");
access!(u64, "ldr {value:x}, [{address}]", "str {value:x}, [{address}]");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_read_and_written_where_its_offset_says() {
        let mut memory = [0u32; 4];
        // SAFETY: the array outlives the frame, and is touched through nothing else meanwhile.
        let frame = unsafe { Frame::<16>::new(memory.as_mut_ptr() as usize) };
        const THIRD: Offset<u32> = Offset::new(8);
        frame.at(THIRD).set(7);
        assert_eq!(frame.at(THIRD).get(), 7);
        assert_eq!(memory, [0, 0, 7, 0]);
    }

    #[test]
    #[should_panic]
    fn a_register_beyond_its_frame_is_refused() {
        // SAFETY: nothing is accessed.
        let frame = unsafe { Frame::<16>::new(0x1000) };
        frame.at(Offset::<u32>::new(16));
    }
}
