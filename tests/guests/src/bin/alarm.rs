//! Drives a PL031 (ARM DDI 0224B) that it was given: an alarm each second, and a line for each.
//!
//! Told so by a `c` on its UART, it crashes in the midst of the next alarm's interrupt: when it is
//! born again, the interrupt must come again. Told by a `q`, it is quiet from then on, and nothing
//! but its alarms wakes it; by an `l`, it says how many of these alarms were late by a second.

#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use stasis_guests::mmio::{read32, write32};
use stasis_guests::sysreg::{unmask_irqs, wfi};
use stasis_guests::{gic, msr, println, timer, uart};

stasis_guests::entry!(main, irq);

/// The first device that a guest is given, and its interrupt.
const DEVICE: usize = 0x0c00_0000;
const ALARM: u32 = 144;
const DR: usize = DEVICE;
const MR: usize = DEVICE + 0x04;
const IMSC: usize = DEVICE + 0x10;
const ICR: usize = DEVICE + 0x1c;
/// An address at which there is nothing.
const NOWHERE: u64 = 0x0b00_0000;

const PRIORITY: u8 = 0xa0;

static COUNT: AtomicU32 = AtomicU32::new(0);
static TO_CRASH: AtomicBool = AtomicBool::new(false);
static IS_QUIET: AtomicBool = AtomicBool::new(false);
static LATE: AtomicU32 = AtomicU32::new(0);

fn main() {
    println!("born");
    gic::init();
    gic::enable(ALARM, PRIORITY);
    gic::enable(timer::VIRTUAL, PRIORITY);
    write32(ICR, 1);
    write32(IMSC, 1);
    set_alarm();
    set_timer();
    unmask_irqs();
    let mut told = 0;
    loop {
        let count = COUNT.load(Relaxed);
        if count != told && !IS_QUIET.load(Relaxed) {
            told = count;
            println!("alarm {count}");
        }
        if read32(uart::FR) & uart::FR_RXFE == 0 {
            match uart::get() {
                b'c' => TO_CRASH.store(true, Relaxed),
                b'q' => {
                    IS_QUIET.store(true, Relaxed);
                    println!("quiet");
                }
                b'l' => println!("{} late", LATE.load(Relaxed)),
                _ => {}
            }
        }
        wfi();
    }
}

fn set_alarm() {
    write32(MR, read32(DR) + 1);
}

fn set_timer() {
    msr!("CNTV_CVAL_EL0", timer::now() + timer::frequency() / 20);
    msr!("CNTV_CTL_EL0", timer::ENABLE);
}

fn irq() {
    let iar = read32(gic::GICC_IAR);
    match iar & 0x3ff {
        ALARM if TO_CRASH.load(Relaxed) => {
            println!("crashing");
            // SAFETY: It is the end; nothing of Rust's runs after it.
            unsafe { asm!("msr vbar_el1, {}", "isb", "brk #0", in(reg) NOWHERE, options(noreturn)) }
        }
        ALARM => {
            if IS_QUIET.load(Relaxed) && read32(DR) > read32(MR) {
                LATE.fetch_add(1, Relaxed);
            }
            write32(ICR, 1);
            set_alarm();
            COUNT.fetch_add(1, Relaxed);
        }
        timer::VIRTUAL if IS_QUIET.load(Relaxed) => msr!("CNTV_CTL_EL0", 0u64),
        timer::VIRTUAL => set_timer(),
        _ => {}
    }
    write32(gic::GICC_EOIR, iar);
}
