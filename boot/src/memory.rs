//! EL2's own memory: the heap, the final page tables, and the pool that guests' RAM comes from.

use crate::machine::Machine;
use buddy_system_allocator::Heap;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use spin::mutex::SpinMutex;
use stasis_arch::boot::{MAX_CORES, STACK_STRIDE};
use stasis_hw::paging::{Attributes, MapError, PAGE_SIZE, Translation};
use stasis_run::tables::HeapTables;
use stasis_vm::range::{Pool, Range};

/// Blocks of up to 2^(this - 1) bytes.
const HEAP_ORDER: usize = 24;

struct LockedHeap(SpinMutex<Heap<HEAP_ORDER>>);

#[global_allocator]
static HEAP: LockedHeap = LockedHeap(SpinMutex::new(Heap::empty()));

// SAFETY: the heap hands out disjoint blocks of the size and alignment asked for; the lock makes its
// methods exclusive. Interrupts are masked at EL2, so the lock's holder is never interrupted.
unsafe impl GlobalAlloc for LockedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().alloc(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller's: the block came from `alloc` with this layout.
            unsafe { self.0.lock().dealloc(block, layout) };
        }
    }
}

/// The address of a symbol of the linker script.
macro_rules! symbol {
    ($name:ident) => {{
        unsafe extern "C" {
            static $name: u8;
        }
        &raw const $name as u64
    }};
}

/// `start..end`, both symbols of the linker script.
macro_rules! section {
    ($start:ident, $end:ident) => {
        Range { start: symbol!($start), end: symbol!($end) }
    };
}

/// Gives the heap its memory.
///
/// # Safety
///
/// Once, before anything is allocated.
pub unsafe fn init_heap() {
    let heap = section!(__heap_start, __heap_end);
    // SAFETY: the linker script keeps this range for the heap alone.
    unsafe { HEAP.0.lock().init(heap.start as usize, heap.len() as usize) };
}

/// All of the image, with its memory.
pub fn image() -> Range {
    section!(__image_start, __image_end)
}

/// EL2's final translation: the image's regions with W^X, all other RAM as data, the devices, and
/// nothing where a stack ends.
pub fn map(machine: &Machine) -> Result<Translation, MapError> {
    let tables = &mut HeapTables;
    let mut map = Translation::new(tables)?;
    let mut one_to_one = |range: Range, attributes| {
        map.map(tables, range.start, range.start, range.len(), attributes)
    };

    one_to_one(section!(__text_start, __text_end), Attributes::code())?;
    one_to_one(section!(__rodata_start, __rodata_end), Attributes::read_only())?;
    one_to_one(section!(__data_start, __data_end), Attributes::data())?;
    let stacks = symbol!(__stacks_start);
    for core in 0..MAX_CORES as u64 {
        let stack = Range::new(stacks + core * STACK_STRIDE as u64, STACK_STRIDE as u64);
        let guarded = Range { start: stack.start + PAGE_SIZE, end: stack.end };
        one_to_one(guarded, Attributes::data())?;
    }
    one_to_one(section!(__emergency_stacks_start, __emergency_stacks_end), Attributes::data())?;
    one_to_one(section!(__heap_start, __heap_end), Attributes::data())?;

    let mut ram = machine.mappable_ram();
    ram.remove(image());
    for range in ram.free() {
        one_to_one(*range, Attributes::data())?;
    }

    let mut devices = Pool::new();
    let gic = machine.gic.iter().flat_map(|gic| [gic.gicd, gic.gicc, gic.gich]);
    let others = [machine.uart.device].into_iter().chain(machine.rtc).chain(machine.watchdog);
    let others = others.chain(machine.virtio.clone());
    let others = others.chain(machine.sd_hosts.iter().map(|host| host.device));
    gic.chain(others.map(|device| device.frame))
        .for_each(|frame| devices.add(frame.outward(PAGE_SIZE)));
    for range in devices.free() {
        one_to_one(*range, Attributes::device())?;
    }
    Ok(map)
}
