//! The memory that a controller of tests moves data to and from, behind caches that are not
//! coherent with it.
//!
//! What the driver writes is in the caches until they are flushed, or until they write it back by
//! themselves, over what the controller has put there meanwhile. What the controller writes stays
//! hidden from the driver until the caches are flushed.

use crate::sdhci::dma::{CardMemory, Dma};
use spin::mutex::SpinMutex;
use std::boxed::Box;
use std::cell::RefCell;
use std::ops::Range;
use std::vec;
use std::vec::Vec;

/// Memory as the controller sees it, and what the driver's caches have of it.
pub struct Memory {
    /// Where the driver has it.
    base: usize,
    /// Where the controller has it.
    bus: u32,
    behind: Vec<u8>,
    /// What the caches have loaded, or have written back: what differs in the driver's memory from
    /// this is dirty.
    cached: Vec<u8>,
    /// What the controller finds instead, at whatever address: the driver is wrong about the bus.
    elsewhere: Option<Vec<u8>>,
}

std::thread_local! {
    static MEMORY: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

/// Bytes of a cache line.
const LINE: usize = 64;

impl Memory {
    /// Calls `action` with the lines of so many bytes at `offset`: the driver's, the memory's, and
    /// what the caches know.
    fn lines(&mut self, bytes: Range<usize>, action: impl Fn(&mut [u8], &mut [u8], &mut [u8])) {
        for start in (bytes.start / LINE * LINE..bytes.end).step_by(LINE) {
            let line = start..(start + LINE).min(self.behind.len());
            let ours = core::ptr::with_exposed_provenance_mut::<u8>(self.base + line.start);
            // SAFETY: 1. The line lies in the `CardMemory` that was leaked in `attach_memory`,
            // whose address was exposed by `Dma::new`. 2. The driver has no reference to it while
            // it calls the caches or the controller.
            let ours = unsafe { core::slice::from_raw_parts_mut(ours, line.len()) };
            action(ours, &mut self.behind[line.clone()], &mut self.cached[line]);
        }
    }

    /// Writes dirty lines back and drops all lines, so that they are loaded again.
    fn flush(&mut self, bytes: Range<usize>) {
        self.lines(bytes, |ours, behind, cached| {
            if ours != cached {
                behind.copy_from_slice(ours);
            }
            ours.copy_from_slice(behind);
            cached.copy_from_slice(behind);
        });
    }

    /// Writes dirty lines back, as caches do at any time.
    pub fn evict(&mut self) {
        self.lines(0..self.behind.len(), |ours, behind, cached| {
            if ours != cached {
                behind.copy_from_slice(ours);
                cached.copy_from_slice(ours);
            }
        });
    }

    /// Makes the controller's addresses lead to other memory from now on.
    pub fn lead_elsewhere(&mut self) {
        self.elsewhere = Some(vec![0; self.behind.len()]);
    }

    /// Returns what the controller finds at `address`.
    pub fn at(&mut self, address: u32, len: usize) -> &mut [u8] {
        if let Some(elsewhere) = &mut self.elsewhere {
            return &mut elsewhere[..len];
        }
        let start = address.checked_sub(self.bus).expect("DMA below the memory") as usize;
        self.behind.get_mut(start..start + len).expect("DMA beyond the memory")
    }
}

/// Calls `action` with the memory that was attached last.
pub fn with_memory<T>(action: impl FnOnce(&mut Memory) -> T) -> T {
    MEMORY.with_borrow_mut(|memory| action(memory.as_mut().expect("there is no memory for DMA")))
}

/// Flushes the caches, as the driver asks for it.
fn flush(start: usize, len: usize) {
    with_memory(|memory| {
        let offset = start - memory.base;
        memory.flush(offset..offset + len);
    });
}

/// Returns the way to new memory, which controllers have at `bus`.
pub fn attach_memory(bus: u64) -> Option<Dma> {
    let memory: &'static SpinMutex<CardMemory> =
        Box::leak(Box::new(SpinMutex::new(CardMemory::new())));
    let len = size_of::<CardMemory>();
    MEMORY.set(Some(Memory {
        base: memory.as_mut_ptr().addr(),
        bus: bus as u32,
        // What was there before is anything, and the caches know it.
        behind: vec![0; len],
        cached: vec![0; len],
        elsewhere: None,
    }));
    // SAFETY: 1. The model's controller finds the memory there. 2. Its caches are flushed by
    // `flush`.
    unsafe { Dma::new(memory, |_, size| (size == len).then_some(bus), flush) }
}
