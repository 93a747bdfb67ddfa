//! A guest that writes memory, and tells what that takes: for the bench, on a machine whose count
//! is one of instructions.
//!
//! What it does is typed: `o`, it writes to each of [`PAGES`] pages once; `l`, it goes over
//! [`LOOPED`] pages again and again until something else is typed; `f`, it fills [`FILLED`] bytes
//! again and again for [`FILL_SECONDS`] seconds. Of `o` it prints `writer <what> <n> slow, median
//! <ticks>`: how many writes took more than [`SLOW`] ticks beyond the fastest of all so far, and
//! what they took beyond it. Of `l` it prints that of the writes that took half as much again as
//! the median of the last `o`, at least: what they wrote to had to be kept. Of `f` it prints
//! `writer filled <n> pages`.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use stasis_guests::mmio::{read32, write32};
use stasis_guests::sysreg::wfi;
use stasis_guests::{gic, println, runtime, timer, uart};

stasis_guests::entry!(main, runtime::no_irq);

/// Where the pages begin: a block of stage 2, well behind the image and the device tree.
const START: usize = 0x4100_0000;
const PAGE: usize = 4096;
/// Pages that `o` writes.
const PAGES: usize = 2048;
/// Pages that `l` goes over: more than a checkpoint writes out in one turn on the core, so that
/// some are not written out when the guest comes to them.
const LOOPED: usize = 16384;
/// Bytes that `f` fills.
const FILLED: usize = 200 << 20;
/// Seconds for which `f` goes on.
const FILL_SECONDS: u64 = 2;
/// Ticks beyond the fastest write that an exit takes at least.
const SLOW: u64 = 40;
/// Ticks up to which a write is counted by what it took; those that had to wait take more.
const MOST: usize = 8192;

/// How many writes took as many ticks.
static TOOK: [AtomicU32; MOST] = [const { AtomicU32::new(0) }; MOST];
/// Ticks of the fastest write of all so far, which has not left to Stasis. In a round in which each
/// write has, there is none.
static LEAST: AtomicU32 = AtomicU32::new(u32::MAX);

/// The UART's SPI.
const UART_INTID: u32 = 33;

fn is_typed() -> bool {
    read32(uart::FR) & uart::FR_RXFE == 0
}

fn next_byte() -> u8 {
    while !is_typed() {
        wfi();
    }
    uart::get()
}

/// Writes a word to each of the first `pages` pages, and notes what that took.
fn go_over(pages: usize, number: u64) {
    for page in 0..pages {
        let before = timer::now();
        // SAFETY: it is RAM that nothing else is in.
        unsafe { ((START + page * PAGE) as *mut u64).write_volatile(number) };
        let took = timer::now() - before;
        TOOK[(took as usize).min(MOST - 1)].fetch_add(1, Relaxed);
    }
}

/// Prints what the writes took that took more than `beyond` ticks beyond the fastest of all so far,
/// forgets all writes, and returns the median.
fn tell(what: &str, beyond: u64) -> u64 {
    let took = || (0..).zip(TOOK.iter().map(|count| u64::from(count.load(Relaxed))));
    let fastest: u64 = took().find(|(_, count)| *count > 0).map_or(0, |(ticks, _)| ticks);
    let least = u64::from(LEAST.fetch_min(fastest as u32, Relaxed)).min(fastest);
    let slow = || took().filter(|(ticks, _)| *ticks > least + beyond);
    let count: u64 = slow().map(|(_, count)| count).sum();
    let (mut passed, mut median) = (0, 0);
    for (ticks, here) in slow() {
        passed += here;
        if passed * 2 >= count {
            median = ticks - least;
            break;
        }
    }
    TOOK.iter().for_each(|count| count.store(0, Relaxed));
    println!("writer {what} {count} slow, median {median}");
    median
}

/// Fills the memory for some seconds, and returns how many pages that were.
fn fill() -> u64 {
    let end = timer::now() + timer::frequency() * FILL_SECONDS;
    let mut pages = 0;
    while timer::now() < end {
        let page = START + pages as usize * PAGE % FILLED;
        for word in 0..PAGE / 8 {
            // SAFETY: it is RAM that nothing else is in.
            unsafe { (page as *mut u64).add(word).write_volatile(pages) };
        }
        pages += 1;
    }
    pages
}

fn main() {
    gic::init();
    gic::enable(UART_INTID, 0xa0);
    write32(uart::IMSC, uart::INT_RX | uart::INT_RT);
    let mut number = 0;
    go_over(LOOPED, number);
    let mut once = tell("first", SLOW);
    loop {
        match next_byte() {
            b'o' => {
                number += 1;
                go_over(PAGES, number);
                once = tell("once", SLOW);
            }
            b'l' => {
                while !is_typed() {
                    number += 1;
                    go_over(LOOPED, number);
                }
                tell("again", once + once / 2);
            }
            b'f' => println!("writer filled {} pages", fill()),
            _ => {}
        }
    }
}
