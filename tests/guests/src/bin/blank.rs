//! Looks whether all of its RAM is zeros, but for what its image and its device tree lie in.
//!
//! The guest looks at first, and with each `l` that is typed, and prints `blank <MiB>`, or how much
//! is not. With an `f` it fills all of that, and prints `filled`.

#![no_std]
#![no_main]

use stasis_guests::exception::catch;
use stasis_guests::{println, runtime, uart};

stasis_guests::entry!(main, runtime::no_irq);

/// The first block, well behind the image and the device tree, and bytes of each: what stage 2 maps
/// at once.
const FIRST: u64 = 0x4080_0000;
const BLOCK: u64 = 2 << 20;
/// Bytes of which one word is looked at.
const LINE: u64 = 64;

fn main() {
    let end = end();
    look(end);
    loop {
        match uart::get() {
            b'l' => look(end),
            b'f' => {
                words(end).for_each(|word| {
                    // SAFETY: It is aligned, in RAM that is mapped, and nothing of Rust's.
                    unsafe { (word as *mut u64).write_volatile(!word) }
                });
                println!("filled");
            }
            _ => {}
        }
    }
}

/// Returns the end of RAM: the first block that is not there.
fn end() -> u64 {
    let is_there = |block: &u64| {
        let fault = catch(|| {
            let _ = read(*block);
        });
        fault.is_none()
    };
    (0..).map(|n| FIRST + n * BLOCK).find(|block| !is_there(block)).unwrap_or(FIRST)
}

/// Returns the address of a word of each line, another one in each of eight lines.
fn words(end: u64) -> impl Iterator<Item = u64> {
    (FIRST..end).step_by(LINE as usize).map(|line| line + line / LINE % 8 * 8)
}

fn look(end: u64) {
    match words(end).filter(|word| read(*word) != 0).count() {
        0 => println!("blank {} MiB", (end - FIRST) >> 20),
        some => println!("FAULT {some} lines are not zeros"),
    }
}

fn read(address: u64) -> u64 {
    // SAFETY: It is aligned, in RAM that is mapped, and nothing of Rust's. Where there is no RAM,
    // the exception is caught.
    unsafe { (address as *const u64).read_volatile() }
}
