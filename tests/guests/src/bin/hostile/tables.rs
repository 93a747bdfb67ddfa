//! Translation tables in devices, where there is nothing, and full of garbage.

use core::arch::asm;
use core::cell::UnsafeCell;
use stasis_guests::exception::catch;
use stasis_guests::random::Random;
use stasis_guests::{println, runtime};

/// The first address that TTBR1 translates.
const HIGH: u64 = 0xffff_ff80_0000_0000;
/// TCR_EL1: 39 bits through TTBR1, of pages of 4 KiB, walked through the caches.
const TTBR1_WALKS: u64 = 25 << 16 | 1 << 24 | 1 << 26 | 3 << 28 | 2 << 30;
/// TCR_EL1.EPD1: no walks through TTBR1.
const EPD1: u64 = 1 << 23;

/// A table of any level.
#[repr(C, align(4096))]
struct Table(UnsafeCell<[u64; 512]>);
// SAFETY: One CPU writes it, and the walks of the same CPU read it.
unsafe impl Sync for Table {}
static TABLE: Table = Table(UnsafeCell::new([0; 512]));

/// Makes the attack.
pub fn attack() {
    misplaced();
    malformed();
    // SAFETY: As it was.
    unsafe {
        asm!("msr tcr_el1, {}", "msr ttbr1_el1, xzr", "tlbi vmalle1", "dsb nsh", "isb", in(reg) runtime::TCR);
    }
}

fn misplaced() {
    println!("translation tables in odd places");
    for table in
        [0x0800_0000, 0x0801_0000, 0x0900_0000, 0x0b00_0000, 0x7fff_f000, 0xff_ffff_f000, !0 << 1]
    {
        walk_from(table);
        read(HIGH);
    }
}

/// Tables of descriptors that are reserved, contiguous where they can't be, that lead to devices,
/// to nothing, beyond the address size, and back to the same table.
fn malformed() {
    println!("malformed descriptors");
    const ACCESSED: u64 = 1 << 10;
    let mut random = Random(0xde5c);
    let table = TABLE.0.get();
    for index in 0..512 {
        let bits = random.next();
        let descriptor = match index % 8 {
            0 => bits,
            // A table: this one, or where there is none.
            1 => table as u64 | 3,
            2 => bits & 0x0000_ffff_ffff_f000 | 3,
            3 => bits & 0x0000_0000_7fff_f000 | 3,
            // A block or a page, of a device or of whatever is there; some with the Contiguous bit.
            4 => bits & 0x0010_0000_3fe0_0000 | ACCESSED | 1,
            5 => bits & 0x0010_ffff_ffff_f000 | ACCESSED | 3,
            // Reserved where a block is not allowed, and bits that are to be 0.
            6 => bits & 0x0000_ffff_ffff_f000 | ACCESSED | 1,
            _ => bits | ACCESSED | 1,
        };
        // SAFETY: The table is ours, and nothing but walks looks at it.
        unsafe { table.cast::<u64>().add(index).write_volatile(descriptor) };
    }
    walk_from(table as u64);
    for index in 0..512 {
        for below in [0, index << 21, (index << 21 | index << 12) + 8] {
            read(HIGH | index << 30 | below);
        }
    }
}

fn walk_from(table: u64) {
    // SAFETY: Rust's memory is translated by TTBR0; what TTBR1 translates is used here alone.
    unsafe {
        asm!("dsb ishst", "msr ttbr1_el1, {}", "msr tcr_el1, {}", "tlbi vmalle1", "dsb nsh", "isb",
            in(reg) table, in(reg) runtime::TCR & !EPD1 | TTBR1_WALKS);
    }
}

/// Lets the CPU translate the address, and reads whatever that leads to.
fn read(address: u64) {
    // SAFETY: A read. It has no effect on memory that Rust knows of.
    let _ = catch(|| unsafe {
        asm!("at s1e1r, {0}", "at s1e0w, {0}", "ldr {1}, [{0}]", in(reg) address, out(reg) _);
    });
}
