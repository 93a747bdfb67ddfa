//! Counts steps, and comes to grief in the way that it is told to: by a byte on its UART.
//!
//! - `r` resets the machine.
//! - `o` switches it off, by SMC: a call for who is behind EL2, if nobody stops it there.
//! - `s` reads from where nothing is, another page in each fourth step: [`STRAYS`] of them. It
//!   survives that.
//! - `x` takes an exception to a handler that is not there.
//! - `f` starts the watchdog, and feeds it from then on.
//! - `w` starts the watchdog, and hangs with interrupts masked.
//! - `m` writes [`MORE`] bytes of memory more, each of its pages in another way.
//! - `c` says whether all of that is as it was written.

#![no_std]
#![no_main]

use core::arch::asm;
use core::ops::Range;
use stasis_guests::exception::catch;
use stasis_guests::mmio::{read8, read32, write32};
use stasis_guests::psci::{SYSTEM_OFF, SYSTEM_RESET, hvc, smc};
use stasis_guests::{println, runtime, timer, uart};

/// The watchdog's control frame (Arm Base System Architecture, appendix A).
const WCS: usize = 0x0910_0000;
const WOR: usize = WCS + 0x8;
/// The watchdog's refresh frame.
const WRR: usize = WCS + 0x1000;
/// An address at which there is nothing.
const NOWHERE: u64 = 0x0b00_0000;
/// Pages of it that are read.
const STRAYS: usize = 16;
/// Where memory is written, behind the image and the device tree.
const HOARD: usize = 0x4040_0000;
/// Bytes that are written at once.
const MORE: usize = 4 << 20;
/// Milliseconds of a step.
const STEP: u64 = 50;

stasis_guests::entry!(main, runtime::no_irq);

fn main() {
    println!("born");
    let mut feeds = false;
    let mut strays = 0..0;
    let mut held = 0;
    for step in 1_u64.. {
        println!("step {step}");
        timer::spin_ms(STEP);
        if feeds {
            write32(WRR, 0);
        }
        if step.is_multiple_of(4)
            && let Some(page) = strays.next()
        {
            catch(|| {
                read8(NOWHERE as usize + page * 0x1000);
            });
            println!("{} strays are left", strays.len());
        }
        if read32(uart::FR) & uart::FR_RXFE != 0 {
            continue;
        }
        match uart::get() {
            b'r' => {
                hvc(SYSTEM_RESET.into(), [0; 3]);
            }
            b'o' => {
                smc(SYSTEM_OFF.into(), [0; 3]);
            }
            b's' => strays = 0..STRAYS,
            b'x' => crash(),
            b'f' => {
                start_watchdog();
                feeds = true;
                println!("feeding");
            }
            b'w' => {
                start_watchdog();
                println!("hanging");
                loop {
                    core::hint::spin_loop();
                }
            }
            b'm' => {
                words(held..held + MORE).for_each(write);
                held += MORE;
                println!("hoard of {} MiB", held >> 20);
            }
            b'c' => {
                let is = if words(0..held).all(is_written) { "whole" } else { "spoiled" };
                println!("hoard of {} MiB is {is}", held >> 20);
            }
            _ => {}
        }
    }
}

/// Returns the addresses of the words of the hoard in these bytes of it.
fn words(bytes: Range<usize>) -> impl Iterator<Item = usize> {
    bytes.step_by(size_of::<usize>()).map(|offset| HOARD + offset)
}

/// Writes a word of the hoard.
fn write(address: usize) {
    // SAFETY: it is RAM that nothing else is in.
    unsafe { (address as *mut usize).write_volatile(!address) };
}

/// Returns whether a word of the hoard is as it was written.
fn is_written(address: usize) -> bool {
    // SAFETY: it is RAM that nothing else is in.
    unsafe { (address as *const usize).read_volatile() == !address }
}

/// A second in all.
fn start_watchdog() {
    write32(WOR, (timer::frequency() / 2) as u32);
    write32(WCS, 1);
}

fn crash() {
    // SAFETY: It is the end; nothing of Rust's runs after it.
    unsafe { asm!("msr vbar_el1, {}", "isb", "brk #0", in(reg) NOWHERE, options(noreturn)) }
}
