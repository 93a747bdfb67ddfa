//! The bus of tests: what a driver reads and writes goes to a model of its device.
//!
//! Each thread has a bus of its own. An access where nothing is attached panics, as it would end in
//! an abort on the machine.

use super::Frame;
use std::boxed::Box;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// A model of a device.
pub trait Device {
    /// Returns what the register of `bytes` bytes at `offset` reads as, and does what the read
    /// entails.
    fn read(&mut self, offset: usize, bytes: usize) -> u64;
    /// Writes the register of `bytes` bytes at `offset`, and does what the write entails.
    fn write(&mut self, offset: usize, bytes: usize, value: u64);
}

type Attached = (Range<usize>, Rc<RefCell<dyn Device>>);

std::thread_local! {
    static BUS: RefCell<Vec<Attached>> = const { RefCell::new(Vec::new()) };
}

/// The bus of the calling thread.
pub struct Bus;

impl Bus {
    /// Puts a device on the bus, in the place of what was there before, and returns it, for the
    /// test to look at.
    pub fn attach<D: Device + 'static>(base: usize, len: usize, device: D) -> Rc<RefCell<D>> {
        let device = Rc::new(RefCell::new(device));
        let range = base..base + len;
        BUS.with_borrow_mut(|bus| {
            bus.retain(|(other, _)| other.end <= range.start || range.end <= other.start);
            bus.push((range, device.clone()));
        });
        device
    }

    fn find(address: usize) -> (usize, Rc<RefCell<dyn Device>>) {
        let found = BUS.with_borrow(|bus| {
            let (range, device) = bus.iter().find(|(range, _)| range.contains(&address))?;
            Some((address - range.start, device.clone()))
        });
        found.unwrap_or_else(|| panic!("abort: there is nothing at {address:#x}"))
    }
}

/// Returns the frame at `base` on the bus.
pub fn frame<const LEN: usize>(base: usize) -> Frame<LEN> {
    // SAFETY: 1. No frame is device memory in tests: loads and stores look the address up on the
    // bus. 2. What a model does at an access changes its own fields alone.
    unsafe { Frame::new(base) }
}

macro_rules! accesses {
    ($($t:ident),*) => {
        pub mod load { $(
            /// # Safety
            ///
            /// None: it is unsafe as the machine's is.
            pub unsafe fn $t(address: usize) -> $t {
                let (offset, device) = super::Bus::find(address);
                let value = device.borrow_mut().read(offset, size_of::<$t>());
                value.try_into().expect("a register has no bits beyond its width")
            }
        )* }
        pub mod store { $(
            /// # Safety
            ///
            /// None: it is unsafe as the machine's is.
            pub unsafe fn $t(address: usize, value: $t) {
                let (offset, device) = super::Bus::find(address);
                device.borrow_mut().write(offset, size_of::<$t>(), value.into());
            }
        )* }
    };
}

accesses!(u8, u16, u32, u64);

/// # Safety
///
/// None: it is unsafe as the machine's is.
pub unsafe fn load_at<const AT: usize>(base: usize) -> u32 {
    // SAFETY: it has no condition.
    unsafe { load::u32(base + AT) }
}

/// # Safety
///
/// None: it is unsafe as the machine's is.
pub unsafe fn store_at<const AT: usize>(base: usize, value: u32) {
    // SAFETY: it has no condition.
    unsafe { store::u32(base + AT, value) };
}

/// Registers that keep what is written to them, and do nothing.
pub struct Memory(Box<[u8]>);

impl Memory {
    /// Returns `len` bytes of zeros.
    pub fn new(len: usize) -> Self {
        Self(vec![0; len].into())
    }

    /// Returns all of it as words.
    pub fn words(&self) -> Vec<u32> {
        self.0.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }
}

impl Device for Memory {
    fn read(&mut self, offset: usize, bytes: usize) -> u64 {
        let mut value = [0; 8];
        value[..bytes].copy_from_slice(&self.0[offset..][..bytes]);
        u64::from_le_bytes(value)
    }

    fn write(&mut self, offset: usize, bytes: usize, value: u64) {
        self.0[offset..][..bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }
}
