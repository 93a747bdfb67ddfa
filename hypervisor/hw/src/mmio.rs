//! The MMIO cell: a device's register as an address, never as a reference.
//!
//! A reference to device memory lets the compiler read the memory whenever it likes. So
//! [`Register`] holds an address, and each access is one `ldr` or `str` (`machine`). Volatile
//! accesses do not suffice: the compiler may choose forms with writeback for them, which a
//! hypervisor below us could not emulate. The field accessors of tock-registers work on
//! [`Register`] through [`Readable`] and [`Writeable`].
//!
//! In tests the accesses go to a bus with models of devices (`fake`).

#[cfg(test)]
pub(crate) mod fake;
#[cfg(not(test))]
mod machine;

#[cfg(test)]
use fake::{load, load_at, store, store_at};
#[cfg(not(test))]
use machine::{load, load_at, store, store_at};

use core::marker::PhantomData;
use tock_registers::RegisterLongName;
use tock_registers::interfaces::{Readable, Writeable};

/// Frame of a device: `LEN` bytes of device memory. `LEN` is a constant, so that the compiler can
/// check the bounds of a register whose offset is one.
///
/// A frame is an address, so it is [`Send`] and [`Sync`]. The driver says which core may do what
/// with it.
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

    /// Returns the register at an offset that is part of its type. A register that does not lie
    /// within the frame, or is not aligned, does not compile.
    #[inline(always)]
    pub fn fixed<const AT: usize, R: RegisterLongName>(
        self,
        _: Fixed<AT, R>,
    ) -> FixedRegister<AT, R> {
        const { assert!(AT.is_multiple_of(4) && AT + 4 <= LEN && AT <= 0x3ffc) };
        FixedRegister { base: self.base, kind: PhantomData }
    }

    /// Returns element `index` of an array of registers that starts at an offset that is part of
    /// its type.
    ///
    /// # Panics
    ///
    /// If the register does not lie within the frame.
    #[inline(always)]
    pub fn element<const AT: usize, R: RegisterLongName>(
        self,
        array: Fixed<AT, R>,
        index: usize,
    ) -> FixedRegister<AT, R> {
        assert!(index < (LEN - AT) / 4);
        let FixedRegister { base, kind } = self.fixed(array);
        FixedRegister { base: base + 4 * index, kind }
    }

    /// Returns the register at `offset`.
    ///
    /// # Panics
    ///
    /// If the register does not lie within the frame, or is not aligned.
    #[inline(always)]
    pub fn at<T, R: RegisterLongName>(self, offset: Offset<T, R>) -> Register<T, R> {
        assert!(
            offset.bytes.is_multiple_of(size_of::<T>()) && offset.bytes + size_of::<T>() <= LEN
        );
        Register { address: self.base + offset.bytes, kind: PhantomData }
    }
}

/// Offset of a register in its frame, with the register's width `T` and layout `R`.
pub struct Offset<T, R: RegisterLongName = ()> {
    bytes: usize,
    kind: PhantomData<(T, R)>,
}

impl<T, R: RegisterLongName> Offset<T, R> {
    /// Returns the offset of the register `bytes` behind the start of its frame.
    pub const fn new(bytes: usize) -> Self {
        Self { bytes, kind: PhantomData }
    }

    /// Returns the offset of element `index` of an array of registers that starts here.
    #[inline(always)]
    pub const fn index(self, index: usize) -> Self {
        Self::new(self.bytes + index * size_of::<T>())
    }
}

/// Offset of a register of 32 bits in its frame, with the register's layout `R`, as part of a type:
/// then the instruction that accesses the register has the offset, and no other one adds it.
pub struct Fixed<const AT: usize, R: RegisterLongName = ()> {
    kind: PhantomData<R>,
}

impl<const AT: usize, R: RegisterLongName> Fixed<AT, R> {
    /// The offset: `AT` bytes behind the start of the frame.
    pub const HERE: Self = Self { kind: PhantomData };
}

/// One register of a device at an offset that is part of its type. Each [`get`](Readable::get) is
/// one load, and each [`set`](Writeable::set) one store.
pub struct FixedRegister<const AT: usize, R: RegisterLongName = ()> {
    base: usize,
    kind: PhantomData<R>,
}

impl<const AT: usize, R: RegisterLongName> Readable for FixedRegister<AT, R> {
    type T = u32;
    type R = R;

    #[inline(always)]
    fn get(&self) -> u32 {
        // SAFETY: 1. `Frame::fixed` made the register, as nothing else does, and asserted that it
        // is aligned and lies within its frame, which is mapped as device memory, by the caller of
        // `Frame::new`. 2. What the driver's read does changes no memory that the program uses, by
        // the caller of `Frame::new`.
        unsafe { load_at::<AT>(self.base) }
    }
}

impl<const AT: usize, R: RegisterLongName> Writeable for FixedRegister<AT, R> {
    type T = u32;
    type R = R;

    #[inline(always)]
    fn set(&self, value: u32) {
        // SAFETY: 1. `Frame::fixed` made the register, as nothing else does, and asserted that it
        // is aligned and lies within its frame, which is mapped as device memory, by the caller of
        // `Frame::new`. 2. What the driver's write does changes no memory that the program uses,
        // by the caller of `Frame::new`.
        unsafe { store_at::<AT>(self.base, value) };
    }
}

/// One register of a device. Each [`get`](Readable::get) is one load, and each
/// [`set`](Writeable::set) one store.
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
                // SAFETY: 1. `Frame::at` made the register, as nothing else does, and asserted that
                // it is aligned and lies within its frame, which is mapped as device memory, by the
                // caller of `Frame::new`. 2. What the driver's read does changes no memory that the
                // program uses, by the caller of `Frame::new`.
                unsafe { load::$t(self.address) }
            }
        }

        impl<R: RegisterLongName> Writeable for Register<$t, R> {
            type T = $t;
            type R = R;

            #[inline(always)]
            fn set(&self, value: $t) {
                // SAFETY: 1. `Frame::at` made the register, as nothing else does, and asserted that
                // it is aligned and lies within its frame, which is mapped as device memory, by the
                // caller of `Frame::new`. 2. What the driver's write does changes no memory that
                // the program uses, by the caller of `Frame::new`.
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
        assert_eq!(frame.fixed(Fixed::<8>::HERE).get(), 7);
        frame.element(Fixed::<4>::HERE, 2).set(9);
        assert_eq!(memory.borrow().words(), [0, 0, 7, 9]);
        frame.fixed(Fixed::<12>::HERE).set(0);
        assert_eq!(memory.borrow().words(), [0, 0, 7, 0]);
    }

    #[test]
    #[should_panic(expected = "is_multiple_of")]
    fn a_register_beyond_its_frame_is_refused() {
        fake::frame::<16>(0x1000).at(Offset::<u32>::new(16));
    }

    #[test]
    #[should_panic(expected = "index < (LEN - AT) / 4")]
    fn an_element_beyond_its_frame_is_refused() {
        fake::frame::<16>(0x1000).element(Fixed::<4>::HERE, 3);
    }

    #[test]
    #[should_panic(expected = "is_multiple_of")]
    fn a_register_that_is_not_aligned_is_refused() {
        fake::frame::<16>(0x1000).at(Offset::<u32>::new(2));
    }
}
