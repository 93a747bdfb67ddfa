//! The MMIO cell: a device's register as an address, never as a reference.
//!
//! A reference to device memory lets the compiler read it whenever it likes; so [`Register`] holds an
//! address, and each access is one `ldr` or `str` (`machine`). Volatile accesses will not do: the compiler may
//! choose forms with writeback for them, which a hypervisor below us could not emulate.
//! tock-registers' field accessors work on it through [`Readable`] and [`Writeable`].
//!
//! In tests the accesses go to a bus with models of devices (`fake`).

#[cfg(test)]
pub(crate) mod fake;
#[cfg(not(test))]
mod machine;

#[cfg(test)]
use fake::{load, store};
#[cfg(not(test))]
use machine::{load, store};

use core::marker::PhantomData;
use tock_registers::RegisterLongName;
use tock_registers::interfaces::{Readable, Writeable};

/// The frame of a device: `LEN` bytes of device memory. The compiler knows how many, so that it can check the bounds of
/// a register whose offset it knows.
///
/// A frame is an address. So it is [`Send`] and [`Sync`]: what a core may do with it is up to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<const LEN: usize> {
    base: usize,
}

impl<const LEN: usize> Frame<LEN> {
    /// Returns the frame at the physical address `base`.
    ///
    /// # Safety
    ///
    /// For as long as any copy of the frame is used:
    ///
    /// 1. `base..base + LEN` is mapped one to one as device memory, and `base` is a multiple of 8.
    /// 2. What the frame's driver does to its registers changes no memory that the program uses.
    pub const unsafe fn new(base: usize) -> Self {
        Self { base }
    }

    /// Returns the physical address at which the frame starts.
    pub const fn base(self) -> usize {
        self.base
    }

    /// Returns the register at `offset`.
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
    /// Returns the place of the register `bytes` behind the start of its frame.
    pub const fn new(bytes: usize) -> Self {
        Self { bytes, kind: PhantomData }
    }

    /// Returns the place of element `index` of an array of registers that starts here.
    #[inline(always)]
    pub const fn index(self, index: usize) -> Self {
        Self::new(self.bytes + index * size_of::<T>())
    }
}

/// One register of a device. Each [`get`](Readable::get) is one load, and each [`set`](Writeable::set) one store.
pub struct Register<T, R: RegisterLongName = ()> {
    address: usize,
    kind: PhantomData<(T, R)>,
}

macro_rules! access {
    ($($t:ident),*) => { $(
        impl<R: RegisterLongName> Readable for Register<$t, R> {
            type T = $t;
            type R = R;

            #[inline(always)]
            fn get(&self) -> $t {
                // SAFETY: 1. The register lies within its frame and is aligned, as `Frame::at` has seen, which alone makes registers; the
                // frame is mapped as device memory, as the caller of `Frame::new` says. 2. What the read does changes no memory, by the
                // same caller.
                unsafe { load::$t(self.address) }
            }
        }

        impl<R: RegisterLongName> Writeable for Register<$t, R> {
            type T = $t;
            type R = R;

            #[inline(always)]
            fn set(&self, value: $t) {
                // SAFETY: 1. The register lies within its frame and is aligned, as `Frame::at` has seen, which alone makes registers; the
                // frame is mapped as device memory, as the caller of `Frame::new` says. 2. What the write does changes no memory that
                // the program uses, by the same caller.
                unsafe { store::$t(self.address, value) };
            }
        }
    )* };
}

access!(u8, u16, u32, u64);

#[cfg(test)]
mod tests {
    use super::fake::{Bus, Memory};
    use super::*;

    #[test]
    fn a_register_is_read_and_written_where_its_offset_says() {
        let memory = Bus::attach(0x1000, 16, Memory::new(16));
        let frame = fake::frame::<16>(0x1000);
        const THIRD: Offset<u32> = Offset::new(8);
        frame.at(THIRD).set(7);
        assert_eq!(frame.at(THIRD).get(), 7);
        assert_eq!(frame.at(Offset::<u8>::new(8)).get(), 7);
        assert_eq!(memory.borrow().words(), [0, 0, 7, 0]);
    }

    #[test]
    #[should_panic(expected = "is_multiple_of")]
    fn a_register_beyond_its_frame_is_refused() {
        fake::frame::<16>(0x1000).at(Offset::<u32>::new(16));
    }

    #[test]
    #[should_panic(expected = "is_multiple_of")]
    fn a_register_that_is_not_aligned_is_refused() {
        fake::frame::<16>(0x1000).at(Offset::<u32>::new(2));
    }
}
