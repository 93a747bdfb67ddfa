//! A real-time guest: the interrupts of its virtual timer are due each 10 ms, on a schedule that
//! never moves.
//!
//! After every 20 it prints a [`Beat`](stasis_guests::pace::Beat): how late they came, by its own
//! clock, and a hash over its working set, which each tick changes (`stasis_guests::workload`). The
//! ticks are counted in the interrupt handler, so what the guest does besides does not delay them.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use stasis_guests::mmio::{read32, write32};
use stasis_guests::pace::Pace;
use stasis_guests::sysreg::{mask_irqs, unmask_irqs, wfi};
use stasis_guests::{gic, msr, println, timer, workload};

stasis_guests::entry!(main, irq);

/// Interrupts of the timer in a second.
const RATE: u64 = 100;
/// Ticks from one line to the next.
const TICKS_PER_LINE: u64 = 20;
const PRIORITY: u8 = 0x80;

static mut WORKING_SET: [u64; workload::SMALL] = [0; workload::SMALL];
/// Of the interrupt handler; main takes it with IRQs masked.
static mut PACE: Pace = Pace::new(0, 1);
static TICKS: AtomicU64 = AtomicU64::new(0);

/// Does something to the pace, with IRQs masked.
fn with_pace<T>(action: impl FnOnce(&mut Pace) -> T) -> T {
    let pace = &raw mut PACE;
    // SAFETY: There is one CPU, whoever calls this has IRQs masked, and no action calls it again.
    // So this is the only reference.
    action(unsafe { &mut *pace })
}

fn main() {
    let set = &raw mut WORKING_SET;
    // SAFETY: This is the only reference to the working set; the interrupt handler does not touch
    // it.
    let words = unsafe { &mut *set };
    workload::fill(words);
    println!("pulse: {} words, {RATE} ticks per second", words.len());

    gic::init();
    gic::enable(timer::VIRTUAL, PRIORITY);
    with_pace(|pace| *pace = Pace::new(timer::now(), timer::frequency() / RATE));
    msr!("CNTV_CVAL_EL0", with_pace(|pace| pace.deadline()));
    msr!("CNTV_CTL_EL0", timer::ENABLE);

    let mut done = 0;
    loop {
        mask_irqs();
        // Looked at with IRQs masked, or one that came in between would be slept over.
        if TICKS.load(Relaxed) == done {
            wfi();
        }
        unmask_irqs();
        while done < TICKS.load(Relaxed) {
            done += 1;
            workload::tick(words, done);
            if done.is_multiple_of(TICKS_PER_LINE) {
                let hash = workload::hash(words);
                mask_irqs();
                let beat = with_pace(|pace| pace.tell(timer::now(), timer::frequency(), hash));
                unmask_irqs();
                // The handler may have counted on meanwhile; the hash is of this tick.
                println!("{}", stasis_guests::pace::Beat { number: done, ..beat });
            }
        }
    }
}

fn irq() {
    let iar = read32(gic::GICC_IAR);
    if iar == timer::VIRTUAL {
        let (number, next) = with_pace(|pace| (pace.beat(timer::now()), pace.deadline()));
        msr!("CNTV_CVAL_EL0", next);
        TICKS.store(number, Relaxed);
    } else {
        println!("FAULT GICC_IAR is {iar:#x}");
    }
    if iar != gic::SPURIOUS {
        write32(gic::GICC_EOIR, iar);
    }
}
