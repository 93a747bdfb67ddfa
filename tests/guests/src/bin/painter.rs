//! Writes where it has not written before: with each byte that is typed, to one more block of its
//! RAM, each in another way.
//!
//! Before that it looks at all blocks: those that it has written hold what it wrote, and the others
//! are zeros. It prints `painted <blocks>`, or `FAULT <what>`.

#![no_std]
#![no_main]

use core::arch::asm;
use stasis_guests::second::Second;
use stasis_guests::{println, runtime, uart};

stasis_guests::entry!(main, runtime::no_irq);

/// The first block, well behind the image and the device tree, and bytes of each: what stage 2 maps
/// at once.
const FIRST: u64 = 0x4080_0000;
const BLOCK: u64 = 2 << 20;
/// What is written lies in the midst of a block, but for what crosses into the next one.
const MIDDLE: u64 = BLOCK / 2;
const CROSSING: u64 = BLOCK - 4;

/// A name, where it writes in its block, and how it writes a value there.
type Way = (&'static str, u64, fn(u64, u64));

const WAYS: [Way; 8] = [
    ("a store", MIDDLE, store),
    ("a pair", MIDDLE, |address, value| {
        // SAFETY: The block is RAM that nothing else is in, as for all that follow.
        unsafe { asm!("stp {0}, xzr, [{1}]", in(reg) value, in(reg) address) }
    }),
    ("a vector", MIDDLE, |address, value| {
        // SAFETY: As before.
        unsafe {
            asm!("fmov d0, {0}", "st1 {{v0.2d}}, [{1}]", in(reg) value, in(reg) address, out("v0") _)
        }
    }),
    ("an exclusive", MIDDLE, |address, value| {
        // SAFETY: As before.
        unsafe {
            asm!("2: ldaxr {0}, [{1}]", "stlxr {0:w}, {2}, [{1}]", "cbnz {0:w}, 2b",
                out(reg) _, in(reg) address, in(reg) value)
        }
    }),
    ("zeros by line", MIDDLE, |address, value| {
        // SAFETY: As before.
        unsafe { asm!("dc zva, {}", in(reg) address) }
        store(address, value);
    }),
    ("an invalidated line", MIDDLE, |address, value| {
        // SAFETY: As before; the line is clean.
        unsafe { asm!("dc civac, {0}", "dsb sy", "dc ivac, {0}", "dsb sy", in(reg) address) }
        store(address, value);
    }),
    ("another CPU", MIDDLE, |address, value| {
        // Both have read it, and then each writes in turn.
        Second::ask(load, address);
        let write = |address| {
            store(address, !address);
            load(address)
        };
        Second::ask(write, address);
        store(address, value);
    }),
    ("two blocks at once", CROSSING, store),
];

fn load(address: u64) -> u64 {
    // SAFETY: It is RAM.
    unsafe { (address as *const u64).read_unaligned() }
}

fn store(address: u64, value: u64) {
    // SAFETY: The block is RAM that nothing else is in.
    unsafe { asm!("str {0}, [{1}]", in(reg) value, in(reg) address) }
}

fn main() {
    Second::on(0);
    Second::context();
    let places = WAYS.iter().zip(0..).map(|(way, n)| FIRST + n * BLOCK + way.1);
    for painted in 0..=WAYS.len() {
        for (n, address) in places.clone().enumerate() {
            let expected = if n < painted { address } else { 0 };
            let found = load(address);
            if found != expected {
                println!("FAULT {}: {found:#x}, not {expected:#x}", WAYS[n].0);
            }
        }
        println!("painted {painted}");
        uart::get();
        if let (Some((_, _, write)), Some(address)) =
            (WAYS.get(painted), places.clone().nth(painted))
        {
            write(address, address);
        }
    }
}
