//! A guest that has memory of each kind that a checkpoint may find, for the bench: with each byte
//! that is typed, [`COUNT`] pages become of another kind.
//!
//! The guest prints `pages <kind>` when they are: `first` and `untouched`, they were never written;
//! `zero`, they were, but with zeros; `alike`, they hold a byte each, over and over; `random`, they
//! hold what no program could write shorter.

#![no_std]
#![no_main]

use stasis_guests::mmio::{read32, write32};
use stasis_guests::random::Random;
use stasis_guests::sysreg::wfi;
use stasis_guests::{gic, println, runtime, uart};

stasis_guests::entry!(main, runtime::no_irq);

/// A block of stage 2, well behind the image and the device tree.
const BLOCK: *mut u64 = 0x4100_0000 as *mut u64;
/// Words of a page.
const PAGE: usize = 4096 / 8;
/// Pages that are written; the bench has the same constant.
const COUNT: usize = 128;

/// The UART's SPI.
const UART_INTID: u32 = 33;

fn fill(count: usize, mut word: impl FnMut(usize) -> u64) {
    for n in 0..count {
        // SAFETY: The block is RAM that nothing else is in.
        unsafe { BLOCK.add(n).write_volatile(word(n)) };
    }
}

/// Sleeps meanwhile, so as not to fill the log of what Stasis does.
fn wait_for_a_byte() {
    while read32(uart::FR) & uart::FR_RXFE != 0 {
        wfi();
    }
    uart::get();
}

/// Writes content to another page of the block: it is one of which some pages changed, in each
/// phase, and each of its pages is known by itself.
fn touch() {
    // SAFETY: The block is RAM that nothing else is in.
    unsafe { BLOCK.add(COUNT * PAGE).write_volatile(1) };
}

/// Says that the memory is so, and waits for a byte.
fn phase(kind: &str) {
    touch();
    println!("pages {kind}");
    wait_for_a_byte();
}

fn main() {
    gic::init();
    gic::enable(UART_INTID, 0xa0);
    write32(uart::IMSC, uart::INT_RX | uart::INT_RT);
    phase("first");
    phase("untouched");
    fill(COUNT * PAGE, |_| 0);
    phase("zero");
    fill(COUNT * PAGE, |n| (n / PAGE + 1) as u64 * 0x0101_0101_0101_0101);
    phase("alike");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    fill(COUNT * PAGE, |_| random.next());
    phase("random");
}
