//! EL2's own memory: its heap, and its translations.

use buddy_system_allocator::Heap;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use spin::mutex::SpinMutex;
use stasis_arch::boot::{MAX_CORES, STACK_STRIDE};
use stasis_arch::regions::{Region, regions};
use stasis_host::board::Machine;
use stasis_hw::paging::{Attributes, MapError, PAGE_SIZE, Translation};
use stasis_memory::range::Range;
use stasis_run::tables::HeapTables;

/// The order of the heap: it has blocks of up to 2^(`HEAP_ORDER` - 1) bytes.
const HEAP_ORDER: usize = 24;

struct LockedHeap(SpinMutex<Heap<HEAP_ORDER>>);

#[global_allocator]
static HEAP: LockedHeap = LockedHeap(SpinMutex::new(Heap::empty()));

// SAFETY: the heap returns disjoint blocks of the size and the alignment that were asked for, and
// the lock makes its methods exclusive. Interrupts are masked at EL2, so the holder of the lock is
// never interrupted.
unsafe impl GlobalAlloc for LockedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().alloc(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller of `dealloc` says that the block came from `alloc` with this
            // layout.
            unsafe { self.0.lock().dealloc(block, layout) };
        }
    }
}

/// Gives the heap its memory.
///
/// # Safety
///
/// This is called once, before anything is allocated.
pub unsafe fn init_heap() {
    let heap = &regions().heap;
    // SAFETY: the linker script keeps this range for the heap alone, and the caller calls this
    // once.
    unsafe { HEAP.0.lock().init(heap.start as usize, (heap.end - heap.start) as usize) };
}

/// Returns the physical addresses of the image, with its heap and stacks.
pub fn image() -> Range {
    let Region { start, end } = regions().image;
    Range { start, end }
}

/// Returns a translation of the image's regions alone. Nothing is both writable and executable, and
/// nothing is mapped where a stack ends.
fn map_image() -> Result<Translation, MapError> {
    let mut map = Translation::new(&mut HeapTables)?;
    let regions = regions();
    for (Region { start, end }, attributes) in [
        (regions.text, Attributes::code()),
        (regions.rodata, Attributes::read_only()),
        (regions.data, Attributes::data()),
        (regions.emergency_stacks, Attributes::data()),
        (regions.heap, Attributes::data()),
    ] {
        one_to_one(&mut map, Range { start, end }, attributes)?;
    }
    for core in 0..MAX_CORES as u64 {
        let start = regions.stacks.start + core * STACK_STRIDE as u64;
        let guarded = Range { start: start + PAGE_SIZE, end: start + STACK_STRIDE as u64 };
        one_to_one(&mut map, guarded, Attributes::data())?;
    }
    Ok(map)
}

fn one_to_one(map: &mut Translation, range: Range, attributes: Attributes) -> Result<(), MapError> {
    map.map(&mut HeapTables, range.start, range.start, range.len(), attributes)
}

/// Returns a translation of the image and of these devices, for a boot that knows nothing else of
/// the machine.
pub fn map_early(devices: &[Range]) -> Result<Translation, MapError> {
    let mut map = map_image()?;
    for device in devices {
        one_to_one(&mut map, *device, Attributes::device())?;
    }
    Ok(map)
}

/// Returns EL2's final translation: the image's regions, all other RAM as data, and the devices.
/// Nothing is both writable and executable, and nothing is mapped where a stack ends.
pub fn map(machine: &Machine) -> Result<Translation, MapError> {
    let mut map = map_image()?;
    let mut ram = machine.mappable_ram();
    ram.remove(image());
    for range in ram.free() {
        one_to_one(&mut map, *range, Attributes::data())?;
    }

    let devices = machine.device_frames();
    for range in devices.free() {
        one_to_one(&mut map, *range, Attributes::device())?;
    }
    Ok(map)
}
