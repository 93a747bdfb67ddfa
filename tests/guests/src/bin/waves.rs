//! Two CPUs that write memory as fast as they can, so that one can tell whether a checkpoint of it
//! is of one instant.
//!
//! Each has every second page of some MiB, and goes over its pages in waves. A cell of a page must
//! have the number of the last wave before it gets that of the present one. So memory that is newer
//! or older than the registers, by one store, is seen when the guest goes on from both. Each wave
//! is written in another of the [`WAYS`]. The first CPU prints `waves <n> <n>`, and `FAULT <what>`
//! once something is wrong.

#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use stasis_guests::println;
use stasis_guests::runtime::{EL0_ALIAS, map_for_el0, no_irq};
use stasis_guests::second::Second;

stasis_guests::entry!(main, no_irq);

/// First address of the pages: in the midst of a block of stage 2.
const START: usize = 0x4110_0000;
const PAGE: usize = 4096;
/// Bits of an address that say where in the RAM it is, which begins at a multiple of 1 GiB, as does
/// its alias.
const IN_RAM: usize = 0x3fff_ffff;
/// Pages of both CPUs: they write in the same blocks at the same time.
const PAGES: usize = 1536;
/// Offsets of a page's cells: its first word, one in the midst, and its last.
const CELLS: [usize; 3] = [0, 2048, 4088];
/// Waves between two lines.
const LINE: u64 = 50;

/// How cells are written.
const WAYS: [fn(&Wave); 6] =
    [stores, pairs, exclusives, as_el0, zeroed_before, Wave::past_the_caches];

/// Number of each CPU's last whole wave.
static DONE: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
/// Address and content of the first cell that was wrong; 0 if there is none.
static WRONG: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// A wave of one CPU.
struct Wave {
    cpu: usize,
    number: u64,
}

impl Wave {
    /// Addresses of the CPU's pages, in order.
    fn pages(&self) -> impl Iterator<Item = usize> {
        (START + self.cpu * PAGE..START + PAGES * PAGE).step_by(2 * PAGE)
    }

    /// Looks at a cell before it is written.
    fn look(&self, cell: usize) {
        // SAFETY: it is memory that nothing else is in.
        let found = unsafe { (cell as *const u64).read_volatile() };
        if found != self.number - 1 {
            wrong(cell, found);
        }
    }

    /// Looks at each cell, and calls `write` with its address.
    fn each(&self, write: impl Fn(usize)) {
        for cell in self.pages().flat_map(|page| CELLS.map(|offset| page + offset)) {
            self.look(cell);
            write(cell);
        }
    }

    /// Writes with the data cache off: by registers alone, for a stack in the cache would not be
    /// found.
    fn past_the_caches(&self) {
        for page in self.pages() {
            for line in lines(page) {
                // SAFETY: what is in the cache gets to memory.
                unsafe { asm!("dc civac, {}", in(reg) line, options(nostack, preserves_flags)) };
            }
        }
        let (start, end) = (START + self.cpu * PAGE, START + PAGES * PAGE);
        let (cell, found): (usize, u64);
        // SAFETY: the memory is that of `pages`, the cache has nothing of it, and is on again
        // before anything else is accessed.
        unsafe {
            asm!(
                "mrs {on}, sctlr_el1",
                "bic {off}, {on}, #4",
                "dsb sy",
                "msr sctlr_el1, {off}",
                "isb",
                "2: cmp {cell}, {end}",
                "b.hs 4f",
                "ldr {found}, [{cell}]",
                "cmp {found}, {old}",
                "b.ne 4f",
                "str {new}, [{cell}]",
                "ldr {found}, [{cell}, #2048]",
                "cmp {found}, {old}",
                "b.ne 4f",
                "str {new}, [{cell}, #2048]",
                "ldr {found}, [{cell}, #4088]",
                "cmp {found}, {old}",
                "b.ne 4f",
                "str {new}, [{cell}, #4088]",
                "add {cell}, {cell}, #8192",
                "b 2b",
                "4: dsb sy",
                "msr sctlr_el1, {on}",
                "isb",
                on = out(reg) _,
                off = out(reg) _,
                cell = inout(reg) start => cell,
                end = in(reg) end,
                old = in(reg) self.number - 1,
                new = in(reg) self.number,
                found = out(reg) found,
                options(nostack),
            );
        }
        if cell < end {
            wrong(cell, found);
        }
    }
}

fn wrong(cell: usize, found: u64) {
    if WRONG[0].load(Relaxed) == 0 {
        WRONG[1].store(found, Relaxed);
        WRONG[0].store(cell as u64, Relaxed);
    }
}

fn stores(wave: &Wave) {
    // SAFETY: the cell is memory that nothing else is in.
    wave.each(|cell| unsafe { (cell as *mut u64).write_volatile(wave.number) });
}

/// Stores the cell and the word beside it, which is no cell.
fn pairs(wave: &Wave) {
    wave.each(|cell| {
        let cell = cell & !15;
        // SAFETY: both words are memory that nothing else is in.
        unsafe {
            asm!("stp {0}, {0}, [{1}]", in(reg) wave.number, in(reg) cell, options(nostack, preserves_flags));
        }
    });
}

fn exclusives(wave: &Wave) {
    // SAFETY: the cell is memory that nothing else is in, but atomics.
    wave.each(|cell| unsafe {
        asm!(
            "2: ldxr {old}, [{cell}]",
            "add {old}, {old}, #1",
            "stxr {failed:w}, {old}, [{cell}]",
            "cbnz {failed:w}, 2b",
            old = out(reg) _,
            failed = out(reg) _,
            cell = in(reg) cell,
            options(nostack),
        );
    });
}

/// Stores with the rights of EL0.
fn as_el0(wave: &Wave) {
    wave.each(|cell| {
        let alias = EL0_ALIAS + (cell & IN_RAM);
        // SAFETY: the alias is the cell.
        unsafe {
            asm!("sttr {}, [{}]", in(reg) wave.number, in(reg) alias, options(nostack, preserves_flags));
        }
    });
}

/// Returns the addresses of a page's cache lines, which are also the blocks of DC ZVA on these
/// CPUs.
fn lines(page: usize) -> impl Iterator<Item = usize> {
    (page..page + PAGE).step_by(64)
}

/// Zeroes each page by DC ZVA first.
fn zeroed_before(wave: &Wave) {
    for page in wave.pages() {
        CELLS.iter().for_each(|offset| wave.look(page + offset));
        for line in lines(page) {
            // SAFETY: this block is memory that nothing else is in.
            unsafe { asm!("dc zva, {}", in(reg) line, options(nostack, preserves_flags)) };
        }
        for offset in CELLS {
            // SAFETY: the cell is memory that nothing else is in.
            unsafe { ((page + offset) as *mut u64).write_volatile(wave.number) };
        }
    }
}

/// Makes waves for ever. The first CPU prints.
fn make_waves(cpu: u64) -> u64 {
    let cpu = cpu as usize;
    for number in 1.. {
        WAYS[number as usize % WAYS.len()](&Wave { cpu, number });
        DONE[cpu].store(number, Relaxed);
        if cpu == 0 && number % LINE == 0 {
            let (cell, found) = (WRONG[0].load(Relaxed), WRONG[1].load(Relaxed));
            if cell != 0 {
                println!("FAULT {cell:#x} has {found}");
            }
            println!("waves {number} {}", DONE[1].load(Relaxed));
        }
    }
    0
}

fn main() {
    map_for_el0();
    if Second::on(1) == 0 {
        Second::context();
        Second::begin(make_waves, 1);
    }
    make_waves(0);
}
